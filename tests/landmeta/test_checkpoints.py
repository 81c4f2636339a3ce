from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors import SafetensorError

from landmeta import checkpoints
from landmeta.adaptation import adapt_region
from landmeta.checkpoints import (
    load_ensemble,
    load_network,
    load_start,
    read_tensors,
    save_ensemble,
    save_network,
    save_start,
    starter_path,
    write_tensors,
)
from landmeta.errors import CheckpointError, OutputError
from landmeta.networks import build_network
from landmeta.prediction import predict
from landmeta.start import Start


def test_a_start_survives_the_file_up_to_half_precision(tmp_path):
    start = Start((4, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    save_start(start, tmp_path / "s.safetensors", {"steps": 3})
    loaded, header = load_start(tmp_path / "s.safetensors")
    assert header["training"] == {"steps": 3}
    for name, tensor in start.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_the_shipped_starter_is_small_and_says_what_it_was_trained_on():
    assert starter_path().stat().st_size < 20e6
    assert set(load_start()[1]["training"]["trained_on"]) == {"hls_worldcover", "eurosat_rgb", "simulated"}


def test_a_saved_ensemble_makes_the_same_map(stripes, tmp_path):
    ensemble = adapt_region(*stripes[:2]).ensemble
    save_ensemble(ensemble, tmp_path)
    again = load_ensemble(tmp_path)
    assert (predict(again, stripes[0]).codes == predict(ensemble, stripes[0]).codes).all()
    assert json.loads((tmp_path / "model.json").read_text())["bands"]["names"] == ["B02", "B03", "B04", "B08"]


@pytest.fixture(scope="module")
def saved(stripes, tmp_path_factory):
    """Tensors and header of the file of an ensemble."""
    folder = tmp_path_factory.mktemp("saved")
    save_ensemble(adapt_region(*stripes[:2]).ensemble, folder)
    return read_tensors(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("heads.weight", None),
        ("moments.block1.norm1.mean", None),
        ("moments.block1.norm1.", None),
        ("fill", lambda t: t[:-1]),
        ("heads.weight", lambda t: t[:-1]),
        ("network.blocks.0.conv1.weight", lambda t: t[:, :-1]),
    ],
)
def test_an_ensemble_whose_tensors_do_not_fit_is_refused_in_one_line(saved, tmp_path, name, change):
    path, (tensors, header) = tmp_path / "model.safetensors", saved
    changed = {} if change is None else {name: change(tensors[name])}
    write_tensors(path, {k: v for k, v in tensors.items() if not k.startswith(name)} | changed, header)
    with pytest.raises(CheckpointError, match="do not fit the header") as caught:
        load_ensemble(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["bands", "network", "legend"])
def test_an_ensemble_without_an_entry_of_its_header_is_refused(saved, tmp_path, key):
    path, (tensors, header) = tmp_path / "model.safetensors", saved
    write_tensors(path, tensors, {k: v for k, v in header.items() if k != key})
    with pytest.raises(CheckpointError, match=key):
        load_ensemble(tmp_path)


def test_a_full_disk_is_no_defect(tmp_path, monkeypatch):
    # The error of safetensors where the disk is full; /dev/full cannot be renamed to.
    def full(*given, **more):
        msg = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise SafetensorError(msg)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        saved_network(tmp_path / "n.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no tensors at all", pickle.dumps({"weight": 1})])
def test_what_is_not_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_start(path)


def test_a_truncated_starter_is_refused(tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(starter_path().read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_start(path)


NETWORK = {"name": "resnet12", "bands": ["B02", "B03"], "widths": [4, 4, 4, 4], "norm": "cbn", "out": 3}


def saved_network(path):
    network = build_network(NETWORK, generator=torch.Generator().manual_seed(0))
    checksum = save_network(network, path, NETWORK, {"scaling": "meteor", "training": {"steps": 3}})
    return network, checksum


def test_a_network_survives_the_file_to_the_last_bit(tmp_path):
    network, checksum = saved_network(tmp_path / "n.safetensors")
    loaded, header = load_network(tmp_path / "n.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert (header["network"], header["training"], header["sha256"]) == (NETWORK, {"steps": 3}, checksum)
    assert not loaded.training
    assert [p.name for p in tmp_path.iterdir()] == ["n.safetensors"]


def test_the_same_network_has_the_same_file(tmp_path):
    for name in ("a", "b"):
        saved_network(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("place", ["weight", "header"])
def test_a_network_that_was_changed_after_it_was_written_is_refused(tmp_path, place):
    path = tmp_path / "n.safetensors"
    saved_network(path)
    content = bytearray(path.read_bytes())
    if place == "weight":
        content[-3] ^= 1
    else:
        at = content.index(b"meteor")
        content[at : at + 6] = b"rescue"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="was changed after"):
        load_network(path)


def test_a_network_that_does_not_fit_its_header_is_refused(tmp_path):
    network, _ = saved_network(tmp_path / "n.safetensors")
    save_network(network, tmp_path / "n.safetensors", {**NETWORK, "out": 2}, {})
    with pytest.raises(CheckpointError, match="do not fit the header") as caught:
        load_network(tmp_path / "n.safetensors")
    assert "\n" not in str(caught.value)


def test_another_kind_of_checkpoint_is_no_network():
    with pytest.raises(CheckpointError, match="expected 'landmeta-network-1'"):
        load_network(starter_path())
