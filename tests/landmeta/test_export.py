from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from landmeta.errors import CheckpointError
from landmeta.export import export_onnx, export_state_dict
from landmeta.networks import build_network
from landmeta.norms import NormPass, initial_state

SETTINGS = {"name": "resnet12", "bands": ["B02", "B03", "B04"], "widths": [4, 4, 4, 4], "norm": "in"}


def network(**settings):
    return build_network({**SETTINGS, **settings}, generator=torch.Generator().manual_seed(0))


def test_a_plain_state_dict_needs_nothing_of_ours_to_be_read(tmp_path):
    export_state_dict(net := network(), tmp_path / "s.safetensors", {"licence": "MIT"})
    stored = load_file(tmp_path / "s.safetensors")
    assert stored.keys() == net.state_dict().keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in net.state_dict().items())
    with safe_open(tmp_path / "s.safetensors", framework="pt") as file:
        assert file.metadata() == {"licence": "MIT"}
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["in", "gn", "cbn"])
@pytest.mark.parametrize("dense", [False, True])
def test_an_onnx_model_gives_the_same_logits_for_any_number_and_size_of_tiles(tmp_path, norm, dense):
    net = network(norm=norm)
    export_onnx(net, tmp_path / "n.onnx", {"network": SETTINGS, "scaling": "meteor"}, dense=dense)
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["landmeta.network"]) == SETTINGS
    state = NormPass(initial_state(net), "query")
    for shape in ((1, 3, 64, 64), (3, 3, 48, 80)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            ours = (net.dense if dense else net)(images, state)
        (theirs,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-5)


def test_without_the_onnx_packages_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("landmeta.export.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="onnx and onnxscript") as caught:
        export_onnx(network(), tmp_path / "n.onnx", {"network": SETTINGS})
    assert "pip install" in caught.value.hint


def test_a_network_that_needs_a_support_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr("landmeta.export.find_spec", lambda name: object())
    with pytest.raises(CheckpointError, match="support"):
        export_onnx(network(norm="tasknorm_i"), tmp_path / "n.onnx", {"network": SETTINGS})
    assert list(tmp_path.iterdir()) == []
