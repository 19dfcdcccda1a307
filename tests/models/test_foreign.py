"""Tensor files of any origin: the numbers of PyTorch's own reader, and no code at any door."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tests.hostile import doors, scripts
from tests.hostile.case import MARKER
from vice.errors import UserError
from vice.models import file_kinds
from vice.models.centroids import Centroids
from vice.models.foreign import read_tensors
from vice.models.load import load_extractor
from vice.models.own_files import read_safetensors
from vice.models.pickled_values import Inert
from vice.models.training_state import read_snapshot

pytest.importorskip("timm")
pytest.importorskip("vissl")


def content():
    base = torch.arange(24.0).view(2, 3, 4)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "state": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "whole": base,
        "turned": base.transpose(0, 2),
        "part": base[1, :, 1:],
        "expanded": torch.ones(1).expand(5, 4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.0),
        **{
            str(dtype): torch.tensor([0, 1, 3]).to(dtype)
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool)
        },
        **{str(dtype): torch.tensor([0, 1, 3]).to(dtype) for dtype in (torch.int8, torch.int16)},
        "plain": [1, 2.5, None, "ä", (1, 2), {3}, b"bytes", 2**100, True],
        "of torch": (torch.Size([1, 2]), torch.float16, torch.device("cuda:3")),
        "ordered": OrderedDict(b=1, a=2),
    }


def alike(one, two):
    if isinstance(one, torch.Tensor):
        same = (one.dtype, one.shape, one.stride()) == (two.dtype, two.shape, two.stride())
        return same and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(alike(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(alike, one, two))
    return one == two


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_the_same_as_pytorch_itself(tmp_path, archive, protocol):
    path = tmp_path / "model.pth"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": archive}
    torch.save(content(), path, **options)
    found, wanted = read_tensors(path), torch.load(path, weights_only=False)
    assert [key for key in wanted if not alike(wanted[key], found[key])] == []
    assert found["state"]._metadata == wanted["state"]._metadata
    # What shares memory goes on sharing it.
    found["whole"][1, 0, 1] = 77
    assert found["turned"][1, 0, 1] == found["part"][0, 0] == 77


def test_the_oldest_layout(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    path = tmp_path / "model.pth"
    path.write_bytes(doors.tar_of(tensors))
    assert alike(torch.load(path, weights_only=False), read_tensors(path))
    assert alike(tensors, read_tensors(path))


def test_types_that_only_newer_archives_hold(tmp_path):
    tensors = {"u": torch.arange(3).to(torch.uint16), "f": torch.ones(4).to(torch.float8_e4m3fn)}
    torch.save(tensors, tmp_path / "m.pth")
    found = read_tensors(tmp_path / "m.pth")
    assert all(found[k].dtype == t.dtype for k, t in tensors.items())
    assert torch.equal(found["u"].int(), tensors["u"].int())
    assert torch.equal(found["f"].float(), tensors["f"].float())


def test_numbers_of_the_other_byte_order(tmp_path):
    torch.save({"w": torch.tensor([1.0, 2.0])}, tmp_path / "little.pth")
    with zipfile.ZipFile(tmp_path / "little.pth") as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as new:
        for name, data in records.items():
            if name.endswith("data/0"):
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(name, b"big" if name.endswith("byteorder") else data)
    assert read_tensors(tmp_path / "big.pth")["w"].tolist() == [1.0, 2.0]


def test_classes_become_records_and_tensors_on_no_device_cost_nothing(tmp_path):
    torch.save({"net": torch.nn.Linear(2, 3), "iteration": 4}, tmp_path / "m.pth")
    net = read_tensors(tmp_path / "m.pth")["net"]
    assert isinstance(net, Inert) and net.kind == "torch.nn.modules.linear.Linear"
    assert net["_parameters"]["weight"].shape == (3, 2)
    with pytest.raises(UserError, match=r"names torch\.nn\.modules\.linear\.Linear"):
        read_snapshot(tmp_path / "m.pth")
    torch.save({"w": torch.zeros(3, 2), "iteration": 4}, tmp_path / "s.torch")
    assert read_snapshot(tmp_path / "s.torch", numbers=False)["w"].device.type == "meta"


@pytest.mark.parametrize("door", doors.DOORS)
def test_no_door_runs_torchscript(tmp_path, monkeypatch, door, rng):
    monkeypatch.chdir(tmp_path)
    action = doors.DOORS[door](scripts.script(), tmp_path, rng)
    for name, value in action.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        action.run()
    assert any(name in str(error.value) for name in action.names)
    assert "\n" not in str(error.value)
    assert not os.path.exists(MARKER)


def test_torchscript_and_packages_are_named(tmp_path):
    path = tmp_path / "model.pth"
    for data, name in ((scripts.script(), "TorchScript"), (scripts._package(), r"torch\.package")):
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"holds code, which is not run: .*{name}.*state_dict"):
            read_tensors(path)


def test_an_archive_that_can_be_read_in_two_ways(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "one")
    torch.save({"w": torch.zeros(2)}, tmp_path / "two")
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    comment = b"\x10\x00" + b"PK\x05\x06" + bytes(12)
    for data in (one + two, b"PK\x03\x04" + one, one[:-2] + comment):
        (tmp_path / "both").write_bytes(data)
        with pytest.raises(UserError, match="is not a whole PyTorch checkpoint"):
            read_tensors(tmp_path / "both")


def test_what_unpacks_to_too_much(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "m.pth", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m/data.pkl", "w", force_zip64=True) as record,
    ):
        for _ in range(90):
            record.write(bytes(2**20))
    with pytest.raises(UserError, match="would unpack to"):
        read_tensors(tmp_path / "m.pth")


#: What files of other kinds hold, and what is said of them.
KINDS = [*((magic + bytes(50), kind) for magic, kind, _ in file_kinds._KINDS if len(magic) < 20)]
KINDS += [(b"", "it is empty"), (b"version https://git-lfs.github.com/spec/v1\noid a\n", "Git LFS")]
KINDS += [(b"weights come later\n" * 9, "it is text")]


@pytest.mark.parametrize("suffix", ["pth", "torch", "bin", "safetensors", ""])
@pytest.mark.parametrize(("data", "said"), KINDS, ids=[said for _, said in KINDS])
def test_what_a_file_is_does_not_hang_on_its_name(data, said, suffix, tmp_path):
    file = tmp_path / f"w.{suffix}"
    file.write_bytes(data)
    run = tmp_path / "run"
    run.mkdir()
    (run / "vice.safetensors").write_bytes(data)
    doors = [f"torchvision:resnet18@{file}", f"random:{file}", str(file), f"random:{run}", str(run)]
    for spec in doors:
        with pytest.raises(UserError, match=f"holds no weights: .*{re.escape(said)}") as error:
            load_extractor(spec)
        assert "header too large" not in str(error.value)
    with pytest.raises(UserError, match=re.escape(said)):
        Centroids.load(file)


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "bin"])
@pytest.mark.parametrize("zipped", [True, False, None])
def test_weights_are_read_as_what_they_are_whatever_their_name(zipped, suffix, tmp_path):
    net, file = torchvision.models.resnet18(), tmp_path / f"w.{suffix}"
    if zipped is None:
        save_file(net.state_dict(), file)
    else:
        torch.save(net.state_dict(), file, _use_new_zipfile_serialization=zipped)
    for spec in (str(file), f"torchvision:resnet18@{file}"):
        assert torch.equal(load_extractor(spec).features.layer1[0].conv1.weight,
                           net.layer1[0].conv1.weight)  # fmt: skip
    with pytest.raises(UserError, match=r"random:.*\(PATH is a run folder or a checkpoint of ViCE"):
        load_extractor(f"random:{file}")


@pytest.mark.parametrize("name", ["w.pth", "w", "w.safetensors"])
def test_a_checkpoint_of_ours_is_one_under_any_name(run_dir, tmp_path, name):
    (tmp_path / name).write_bytes((run_dir / "vice.safetensors").read_bytes())
    for spec in (str(tmp_path / name), f"random:{tmp_path / name}"):
        assert load_extractor(spec).config == load_extractor(str(run_dir)).config


def test_a_file_of_pytorch_in_place_of_ours_is_named(tmp_path):
    torch.save({}, tmp_path / "vice.safetensors")
    with pytest.raises(UserError, match=r"is a file of PyTorch and not of safetensors: give it"):
        read_safetensors(tmp_path / "vice.safetensors")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x1f\x8b" + bytes(50), "packed with gzip: unpack"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "Git LFS .* git lfs pull"),
        (b"<!doctype html><title>404</title>", "web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        ("größe: 3\n".encode() * 200, "text"),
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(50), "cut short"),
        (pickle.dumps({"model": 1}), "pickle of something else"),
    ],
)
def test_files_of_other_programs_are_called_by_their_name(data, said, tmp_path):
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(UserError, match=rf"w\.pth .*{said}"):
        read_tensors(tmp_path / "w.pth")
