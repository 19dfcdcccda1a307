"""What is said to be sent against what the kernel counts."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from tests.helpers.processes import ROOT
from vice.experiments.benchmark.kernels.traffic import Sizes, payload, sent
from vice.models import build_embedder


def test_sizes_of_a_model():
    model = build_embedder("resnet18", "fpn", 16)
    sizes = Sizes.of(model, 32, synchronised=True)
    state = model.state_dict()
    named = dict(model.named_parameters())
    assert sizes.parameters == sum(value.numel() for value in named.values())
    kept = sum(v.numel() * v.element_size() for name, v in state.items() if name not in named)
    assert sizes.buffers == kept
    assert len(sizes.normalized) == sum("running_mean" in name for name in state)


def test_what_is_sent_grows_as_the_algorithms_say():
    sizes = Sizes(parameters=1000, buffers=80, normalized=(8, 16), prototypes=4, iterations=2)
    assert payload(sizes)["gradients"] == ("sum", 4000)
    assert payload(sizes)["batch statistics"] == ("gather of a node", 4 * (17 + 33))
    assert set(sent(sizes, 1).values()) == {0}
    eight = sent(sizes, 8)
    assert eight["gradients"] == 2 * 7 * 4000
    assert eight["buffers"] == 7 * 80
    assert eight["Sinkhorn"] == 2 * 7 * (2 * 2 * 4 * 4)
    # Two nodes of four: each rank's numbers go to the three others of its node.
    assert eight["batch statistics"] == 8 * 3 * 200


@pytest.mark.slow
def test_the_wire_carries_what_is_expected():
    """In a network namespace of its own, where nobody else is counted."""
    script = textwrap.dedent(
        """
        import fcntl, socket, struct
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            # The loopback interface of a new namespace is down.
            fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
        from vice.experiments.benchmark.kernels.traffic import count, sent
        if __name__ == "__main__":
            sizes, measured = count(2)
            print(measured / sum(sent(sizes, 2).values()))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["unshare", "--net", sys.executable, "-"]
    try:
        done = subprocess.run(
            [*command[:3], "-c", script], env=environment, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if "Operation not permitted" in done.stderr:
        pytest.skip("no network namespaces for this user")
    assert done.returncode == 0, done.stderr[-2000:]
    # Headers of TCP and of gloo come on top.
    assert 1.0 <= float(done.stdout) < 1.05


def test_sums_over_regions_are_all_that_is_exchanged_of_them():
    assert torch.equal(
        torch.tensor([size for _, size in payload(Sizes(0, 0)).values()][-2:]),
        torch.tensor([3 * 2 * 128 * 4, 4 + 133 * 8]),
    )
