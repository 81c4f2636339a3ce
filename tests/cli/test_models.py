"""`landmeta models`: what it lists and shows, brings in and hands out, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from landmeta.checkpoints import load_network, save_network
from landmeta.networks import build_network

NETWORK = {"name": "resnet12", "bands": ["B02", "B03", "B08"], "widths": [4, 4, 4, 4], "norm": "gn", "out": 1}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "models" / "mine.safetensors"
    network = build_network(NETWORK, generator=torch.Generator().manual_seed(0))
    save_network(network, path, NETWORK, {"training": {"steps": 7}})
    return path


def meteor_file(path, bands=13):
    """A small state dict with METEOR's names."""
    tensors = {"classifier.weight": torch.ones(1, 4), "classifier.bias": torch.zeros(1)}
    for i, cin in enumerate((bands, 4, 4, 4), start=1):
        shapes = {"conv1": (4, cin, 3, 3), "conv2": (4, 4, 3, 3), "conv3": (4, 4, 3, 3)}
        shapes |= {"downsample.0": (4, cin, 1, 1)} | dict.fromkeys(
            ("bn1", "bn2", "bn3", "downsample.1"), (4,)
        )
        for name, shape in shapes.items():
            tensors[f"layer{i}.0.{name}.weight"] = torch.full(shape, 0.5)
            if len(shape) == 1:
                tensors[f"layer{i}.0.{name}.bias"] = torch.zeros(shape)
    torch.save(tensors, path)
    return path


def test_the_list_names_the_starter_and_every_checkpoint_below_a_folder(landmeta, checkpoint):
    said = landmeta("models", "list", checkpoint.parents[1])
    assert said.code == 0
    assert "starter" in said.out
    assert f"{checkpoint}" in said.out
    assert "resnet12 4-4-4-4 gn" in said.out
    rows = json.loads(landmeta("models", "list", checkpoint.parent, "--json").out)
    assert [row["kind"] for row in rows] == ["start", "network"]
    assert rows[1]["bands"] == NETWORK["bands"]


def test_a_file_that_is_not_ours_is_listed_as_that(landmeta, checkpoint):
    (checkpoint.parent / "odd.safetensors").write_bytes(b"odd")
    assert "not ours" in landmeta("models", "list", checkpoint.parent).out


@pytest.mark.parametrize("model", ["starter", None])
def test_show_tells_network_bands_and_training(landmeta, checkpoint, model):
    said = landmeta("models", "show", model or checkpoint)
    assert said.code == 0, said.err
    assert "network.name" in said.out
    assert "training.steps" in said.out
    told = json.loads(landmeta("models", "show", model or checkpoint, "--json").out)
    assert told["parameters"] > 100
    assert len(told["file_sha256"]) == 64


def test_a_tampered_checkpoint_is_refused_in_one_line(landmeta, checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    out = checkpoint.with_name("x.safetensors")
    for command in (("show", checkpoint), ("export", checkpoint, "--out", out)):
        said = landmeta("models", *command)
        assert said.code == 2
        assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "hint"]
        assert "was changed" in said.err
    assert not out.exists()


def test_meteor_is_imported_for_some_of_its_bands(landmeta, tmp_path):
    file, out = meteor_file(tmp_path / "resnet12.pth"), tmp_path / "m" / "meteor.safetensors"
    said = landmeta("models", "import", "meteor", file, "--bands", "B4,B3,B2", "--out", out)
    assert said.code == 0, said.err
    network, header = load_network(out)
    assert header["network"]["bands"] == ["B04", "B03", "B02"]
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1)
    assert header["source"]["file"] == "resnet12.pth"


def test_a_file_with_code_is_refused_in_one_line_and_nothing_is_written(landmeta, tmp_path):
    torch.save({"layer1.0.conv1.weight": slice(3)}, tmp_path / "bad.pth")
    said = landmeta("models", "import", "meteor", tmp_path / "bad.pth", "--out", tmp_path / "out.safetensors")
    assert said.code == 2
    assert len(said.err.splitlines()) == 2
    assert not (tmp_path / "out.safetensors").exists()


def test_a_network_is_exported_as_a_plain_state_dict(landmeta, checkpoint, tmp_path):
    said = landmeta("models", "export", checkpoint, "--out", tmp_path / "plain.safetensors")
    assert said.code == 0, said.err
    stored = load_file(tmp_path / "plain.safetensors")
    network, _ = load_network(checkpoint)
    assert all(torch.equal(stored[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (("show", "nothing.safetensors"), "no checkpoint"),
        (("import", "meteor", "nothing.pth"), "is no file"),
        (("export", "starter", "--out", "x.onnx"), "expected 'landmeta-network-1'"),
        (("export", "starter", "--out", "x.pth"), "no known format"),
    ],
)
def test_wrong_use_is_one_line_and_a_hint(landmeta, command, part):
    said = landmeta("models", *command)
    assert said.code == 2
    assert part in said.err
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "hint"]
