"""Batch normalization folded into convolutions, where a CPU computes a network without gradients.

In evaluation mode a batch normalization scales and shifts each channel, which the convolution
before it does as well by other weights and a bias. What it saves are passes over memory: on a CPU a
small convolution takes not much longer than the normalization and the activation after it. Values
are those of the plain network up to rounding; the network itself, its state and its names stay as
they are.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as module_hooks
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vice.models.network_snapshot import NORMS, Snapshot
from vice.models.plain import is_plain

logger = logging.getLogger(__name__)

#: Side of the image on which a folded network is held against the plain one, in pixels.
SIDE = 64
#: Norm of the difference between their maps, at most, in units of the plain map's.
TOLERANCE = 1e-3
#: oneDNN's names of activations.
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "hardtanh"}


class Folding:
    """Calls a network, folded wherever no gradient is asked for on a CPU.

    That takes finite images, and a network in evaluation mode without hooks that nobody traces,
    compiles, exports or watches. It is folded anew whenever its modules, their attributes (numbers,
    texts, functions, and tuples, lists and dictionaries of such; not those that begin with an
    underscore), or values of its tensors are others, which takes as long as some calls of it: it is
    for networks that nothing trains. Of changes through ``.data`` or NumPy all values of
    normalizations are looked at, and three of each convolution. Where numbers of a network overflow
    within, it may return some that the plain network does not. What it returns depends on the
    network and the images alone, not on earlier calls. A copy of it holds no folded network.
    """

    def __init__(self) -> None:
        self._known: dict[torch.dtype, tuple[Snapshot, nn.Module | None]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Folding:
        return Folding()

    def __reduce__(self) -> tuple[type[Folding], tuple[()]]:
        return Folding, ()

    def __call__(self, network: nn.Module, images: Tensor) -> Any:
        """What the network returns.

        Args:
            network: Of images.
            images: (B, 3, H, W) float.
        """
        return self.of(network, images)(images)

    def of(self, network: nn.Module, images: Tensor) -> nn.Module:
        """The folded network, or the given one."""
        if network.training or not _may_fold(images):
            return network
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else images.dtype
        # float16: weights that a gain is folded into leave its range, and overflow is common.
        if dtype == torch.float16:
            return network
        known, folded = self._known.get(dtype, (None, None))
        if known is not None and known.holds(network):
            return folded or network
        try:
            now = Snapshot(network)
        except Exception as error:
            # Tensors without memory: sparse ones, and those of lazy modules.
            logger.debug("%s is not folded: %s", type(network).__name__, error)
            return network
        if not now.usable:
            return network
        folded = _fold(network, dtype)
        self._known[dtype] = now, folded
        return folded or network


def _may_fold(images: Tensor) -> bool:
    return (
        type(images) is Tensor
        and images.device.type == "cpu"
        and images.dtype == torch.float32
        and not is_plain()
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.onnx.is_in_onnx_export()
        # Modes: they look at, or change, what a network does, and would meet another one.
        and not torch._C._len_torch_function_stack()
        and not torch._C._len_torch_dispatch_stack()
        # Transforms (vmap, jvp): without gradients they go on all the same.
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not module_hooks._global_forward_hooks
        and not module_hooks._global_forward_pre_hooks
        # NaN: oneDNN's activations return numbers for it.
        and bool(images.sum().isfinite())
    )


def _fold(network: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    """A network in the place of another one, for a precision; None where there is none."""
    # Generator of its own: a training's own must not be drawn from.
    generator = torch.Generator().manual_seed(0)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.random.fork_rng(devices=[]),
    ):
        image = torch.randn(1, 3, SIDE, SIDE, generator=generator)
        for activate in (True, False):
            try:
                folded = _copy(network)
                calls, wanted = _calls(folded, image)
                triples = list(_triples(calls))
                if not triples:
                    return None
                own = _replace(folded, triples, activate=activate)
                if not _alike(folded(image), wanted):
                    raise ValueError("its maps differ")
                # Once, instead of at every call.
                for conv in own:
                    conv.to(dtype)
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    folded(image)
            except Exception as error:
                logger.debug("%s is not folded: %s", type(network).__name__, error)
            else:
                return folded
    return None


def _copy(network: nn.Module) -> nn.Module:
    """Modules and buffers of its own, and the network's parameters."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in network.parameters()})


_Triple: TypeAlias = tuple[nn.Conv2d, nn.Module, nn.Module | None]


class _Call(NamedTuple):
    """What a module was given and what it returned, and how often that had been written to."""

    module: nn.Module
    given: Any
    given_version: int
    returned: Any
    version: int


def _calls(network: nn.Module, image: Tensor) -> tuple[list[_Call], Any]:
    """All calls of modules without children that do anything, in turn, and what is returned."""
    calls: list[_Call] = []
    versions: list[int] = []

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        versions.append(given[0]._version)

    def after(module: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
        calls.append(_Call(module, given[0], versions.pop(), returned, returned._version))

    leaves = [
        module
        for module in network.modules()
        if not module._modules and not isinstance(module, nn.Identity)
    ]
    hooks = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    hooks += [leaf.register_forward_hook(after) for leaf in leaves]
    try:
        return calls, network(image)
    finally:
        for hook in hooks:
            hook.remove()


def _triples(calls: Sequence[_Call]) -> Iterator[_Triple]:
    """Convolutions, the normalization of what each returns, and an activation of that or None.

    Each is called once, and what is between them is as it was returned. That nothing else takes it
    is not to be seen here.
    """
    times = Counter(call.module for call in calls)

    def follower(call: _Call) -> _Call | None:
        given = [other for other in calls if other.given is call.returned]
        taken = given and times[given[0].module] == 1
        return given[0] if taken and given[0].given_version == call.version else None

    for call in calls:
        if not isinstance(call.module, nn.Conv2d) or times[call.module] > 1:
            continue
        norm = follower(call)
        if norm is None or type(norm.module) not in NORMS or norm.module.running_mean is None:
            continue
        activation = follower(norm)
        known = activation is not None and type(activation.module) in _ACTIVATIONS
        yield call.module, norm.module, activation.module if activation and known else None


class _Activated(nn.Module):
    """A convolution and its activation, if it has one, in one call of oneDNN."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        self.name = "none" if activation is None else _ACTIVATIONS[type(activation)]
        self.bounds = []
        if isinstance(activation, nn.ReLU6):
            self.bounds = [float(activation.min_val), float(activation.max_val)]

    def forward(self, images: Tensor) -> Tensor:
        return self.convolve(images, self.conv.weight, self.conv.padding)

    def convolve(self, images: Tensor, weight: Tensor, padding: Any) -> Tensor:
        """As the convolution, by other weights and with another padding."""
        conv = self.conv
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            images.to(weight.dtype), weight, conv.bias, padding, conv.stride,
            conv.dilation, conv.groups, self.name, self.bounds, "",
        )  # fmt: skip
        return found


class _ActivatedSame(_Activated):
    """The same for TensorFlow's SAME padding, which may be wider behind an image than before it.

    oneDNN pads both sides alike. A kernel with one more tap before it, a zero, gives the same sums
    with a padding that is one wider before the image, so that the image need not be copied.
    """

    def forward(self, images: Tensor) -> Tensor:
        above, below = self._padding(images, 0)
        before, behind = self._padding(images, 1)
        more = below - above, behind - before
        weight = self.conv.weight
        if any(more):
            weight = F.pad(weight, (more[1], 0, more[0], 0))
        return self.convolve(images, weight, [above + more[0], before + more[1]])

    def _padding(self, images: Tensor, axis: int) -> tuple[int, int]:
        """What is added before and behind, along height (0) or width (1); as wide, or one wider."""
        size, stride = images.shape[2 + axis], self.conv.stride[axis]
        both = max((-(-size // stride) - 1) * stride + self.conv.kernel_size[axis] - size, 0)
        return both // 2, both - both // 2


def _in_one_call(conv: nn.Conv2d) -> type[_Activated] | None:
    """What computes a convolution and its activation; None where oneDNN is asked for less."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    if type(conv) is nn.Conv2d:
        return _Activated
    layers = sys.modules.get("timm.layers")
    is_same = layers is not None and type(conv) is layers.Conv2dSame
    return _ActivatedSame if is_same and conv.dilation == (1, 1) else None


def _replace(network: nn.Module, triples: Sequence[_Triple], *, activate: bool) -> list[nn.Module]:
    """Puts folded convolutions in the place of plain ones, and nothing in that of the rest."""
    names = {module: name for name, module in network.named_modules()}

    def put(old: nn.Module, new: nn.Module) -> None:
        parent, _, child = names[old].rpartition(".")
        setattr(network.get_submodule(parent), child, new)

    own = []
    for conv, norm, activation in triples:
        folded = fuse_conv_bn_eval(conv, norm).requires_grad_(False)
        own.append(folded)
        kind = _in_one_call(conv) if activate else None
        if kind is _ActivatedSame or (kind is not None and activation is not None):
            put(conv, kind(folded, activation))
            if activation is not None:
                put(activation, nn.Identity())
        else:
            put(conv, folded)
        put(norm, nn.Identity())
    return own


def _alike(found: Any, wanted: Any) -> bool:
    pairs: list[tuple[Tensor, Tensor]] = (
        [(found, wanted)] if isinstance(wanted, Tensor) else list(zip(found, wanted, strict=True))
    )
    return all(
        # NaN: not alike.
        float((one - other).norm()) <= TOLERANCE * float(other.norm())
        for one, other in pairs
    )
