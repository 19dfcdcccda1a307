"""Graphs of ONNX: ``embed.onnx`` and ``segment.onnx``, of any number of images of any size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vice.errors import UserError, brief
from vice.export.doors import BYTES, Doors, Embed, Segment
from vice.export.facts import KEY, as_text
from vice.export.trials import TRACED, Trial, compare, images

#: Resize with antialiasing, which position embeddings need, is there from 18 on.
OPSET = 18
EMBED_NAME, SEGMENT_NAME = "embed.onnx", "segment.onnx"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def make_onnx(doors: Doors, facts: dict[str, Any]) -> tuple[dict[str, bytes], Trial]:
    """Makes the graphs, which have then computed what the model does.

    Args:
        doors: The model.
        facts: What JSON can hold; goes into the metadata of each, under ``vice``.

    Returns:
        Name to the bytes of each file; how far the graphs are from the model, run by onnxruntime.

    Raises:
        UserError: A package is missing, or the network cannot be exported.
    """
    require()
    graphs = {EMBED_NAME: _graph(Embed(doors), "embedding", facts)}
    if doors.vectors is not None:
        graphs[SEGMENT_NAME] = _graph(Segment(doors), "labels", facts)
    runs = {name: _runner(data) for name, data in graphs.items()}
    return graphs, compare(doors, runs[EMBED_NAME], runs.get(SEGMENT_NAME), "ONNX")


def require() -> None:
    """Imports what ONNX needs.

    Raises:
        UserError: It is not there.
    """
    for name in _NEEDED:
        try:
            __import__(name)
        except ImportError as error:
            raise UserError(
                f"ONNX needs the package {name} ({error}): pip install {' '.join(_NEEDED)}"
            ) from error


def _graph(module: nn.Module, output: str, facts: dict[str, Any]) -> bytes:
    """A module as the bytes of a file."""
    import onnx

    doors: Any = module.doors
    given = images(doors.takes, TRACED)
    high, wide = (1, 2) if doors.takes == BYTES else (2, 3)
    # The exporter of graphs: the older one, which records calls, forgets the number of channels
    # behind each resize, and fails at a batch normalization without scale behind one.
    with _silent(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                (given,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=[output],
                dynamic_shapes=({0: "batch", high: "height", wide: "width"},),
            )
        # Catch-all: what a network of somebody else's does, tracing may raise anything at.
        except Exception as error:
            reason = brief(error.__cause__ or error)
            raise UserError(
                f"this network cannot be exported to ONNX ({reason}); take --to torchscript"
            ) from error
    assert program is not None
    model = program.model_proto
    _name_sizes(model, doors, output)
    entries = {KEY: as_text(facts)}
    onnx.helper.set_model_props(model, entries)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _name_sizes(model: Any, doors: Doors, output: str) -> None:
    """Names the sizes of the output after those of the input, which they are."""
    names = ("batch", "height", "width")
    found = model.graph.output[0].type.tensor_type.shape.dim
    places = (0, 2, 3) if output == "embedding" else (0, 1, 2)
    for place, name in zip(places, names, strict=True):
        found[place].Clear()
        found[place].dim_param = name


def _runner(data: bytes) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Errors alone: it says of each graph which of its parts it can do without.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(batch: Tensor) -> Tensor:
        try:
            (values,) = session.run(None, {"images": batch.numpy()})
        except Exception as error:
            raise UserError(
                f"this network cannot be exported to ONNX: onnxruntime refuses its graph at "
                f"{tuple(batch.shape)} ({brief(error)}); take --to torchscript"
            ) from error
        return torch.from_numpy(values)

    return run


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter tells on standard output and in the log what only its developers need."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
