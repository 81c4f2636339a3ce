from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F

from landmeta.errors import CheckpointError
from landmeta.meteor_import import METEOR_BANDS, import_meteor

WIDTHS = (64, 128, 256, 512)


def state_dict(bands=15, widths=WIDTHS, seed=0, extra=()):
    """Random weights under exactly the names and shapes of the published network."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) / max(1, torch.Size(shape[1:]).numel()) ** 0.5

    tensors = {}
    for i, (cin, cout) in enumerate(zip((bands, *widths[:3]), widths, strict=True), start=1):
        layer = f"layer{i}.0"
        tensors[f"{layer}.conv1.weight"] = draw(cout, cin, 3, 3)
        tensors[f"{layer}.conv2.weight"] = draw(cout, cout, 3, 3)
        tensors[f"{layer}.conv3.weight"] = draw(cout, cout, 3, 3)
        tensors[f"{layer}.downsample.0.weight"] = draw(cout, cin, 1, 1)
        for norm in ("bn1", "bn2", "bn3", "downsample.1"):
            tensors[f"{layer}.{norm}.weight"] = 1 + 0.1 * draw(cout)
            tensors[f"{layer}.{norm}.bias"] = 0.1 * draw(cout)
            tensors |= {f"{layer}.{norm}.{name}": torch.rand(cout, generator=generator) for name in extra}
    return tensors | {"classifier.weight": draw(1, widths[-1]), "classifier.bias": draw(1)}


def published(tensors, images):
    """The network of METHODS 1.1 on METEOR's names, written with torch's own instance norm."""
    x = images
    for i in range(1, 5):
        layer = f"layer{i}.0."
        names = [name.removeprefix(layer) for name in tensors if name.startswith(layer)]
        t = {name: tensors[layer + name] for name in names}
        y = x
        for k in "123":
            y = F.conv2d(y, t[f"conv{k}.weight"], padding=1)
            y = F.instance_norm(y, weight=t[f"bn{k}.weight"], bias=t[f"bn{k}.bias"])
            y = y if k == "3" else F.leaky_relu(y)
        skip = F.conv2d(x, t["downsample.0.weight"])
        skip = F.instance_norm(skip, weight=t["downsample.1.weight"], bias=t["downsample.1.bias"])
        x = F.leaky_relu(y + skip)
        if i < 4:
            x = F.max_pool2d(x, 2, 2, padding=int(i == 3))
    return F.linear(x.mean((2, 3)), tensors["classifier.weight"], tensors["classifier.bias"])


@pytest.fixture(scope="module")
def meteor(tmp_path_factory):
    path = tmp_path_factory.mktemp("meteor") / "rgb_and_more.pth"
    torch.save(tensors := state_dict(), path)
    return path, tensors


def test_the_imported_network_has_the_published_size_and_logits(meteor):
    path, tensors = meteor
    network, settings = import_meteor(path)
    assert settings["bands"] == list(METEOR_BANDS)
    assert sum(p.numel() for p in network.parameters()) == 8_004_993
    assert len(network.state_dict()) == len(tensors) == 50
    images = torch.rand(2, 15, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(images), published(tensors, images), rtol=1e-4, atol=1e-4)


def test_a_subset_of_bands_is_the_network_with_zeros_for_the_others(meteor):
    path, tensors = meteor
    bands = ("B08", "VV", "B02")
    network, settings = import_meteor(path, bands)
    assert settings["bands"] == list(bands)
    some = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    every = torch.zeros(2, 15, 32, 32)
    every[:, [METEOR_BANDS.index(band) for band in bands]] = some
    with torch.no_grad():
        torch.testing.assert_close(network(some), published(tensors, every), rtol=1e-4, atol=1e-4)


def test_a_file_of_13_bands_of_other_widths_under_state_dict_is_read(tmp_path):
    torch.save({"state_dict": state_dict(13, (8, 8, 16, 16))}, tmp_path / "s.pth")
    network, settings = import_meteor(tmp_path / "s.pth", norm="ln")
    assert (network.bands, network.widths, settings["norm"]) == (13, (8, 8, 16, 16), "ln")


def test_running_moments_make_it_a_batch_norm_network(tmp_path):
    names = ("running_mean", "running_var")
    tensors = state_dict(13, (4, 4, 4, 4), extra=names)
    tensors["layer1.0.bn1.num_batches_tracked"] = torch.tensor(3)
    torch.save(tensors, tmp_path / "s.pth")
    network, settings = import_meteor(tmp_path / "s.pth")
    assert settings["norm"] == "cbn"
    assert torch.equal(
        network.state_dict()["blocks.1.norm2.running_var"], tensors["layer2.0.bn2.running_var"]
    )


class Harmful:
    def __reduce__(self):
        return eval, ("open('harmed', 'w')",)


def refused(tmp_path, content, **options):
    path = tmp_path / "bad.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        import_meteor(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


def test_pickled_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in ({"layer1.0.conv1.weight": Harmful()}, pickle.dumps(Harmful())):
        assert "pickled code" in refused(tmp_path, content)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [b"", b"no file of torch", [1, 2], {"weight": torch.ones(2)}])
def test_what_is_no_state_dict_of_meteor_is_refused(tmp_path, content):
    refused(tmp_path, content)


def test_a_state_dict_that_lacks_or_adds_tensors_is_refused_by_name(tmp_path):
    small = state_dict(13, (4, 4, 4, 4))
    without = {k: v for k, v in small.items() if k != "layer3.0.bn2.bias"}
    assert "no blocks.2.norm2.bias" in refused(tmp_path, without)
    assert "layer5.0.conv1.weight" in refused(tmp_path, small | {"layer5.0.conv1.weight": torch.ones(1)})
    assert "expected (4, 4, 3, 3)" in refused(
        tmp_path, small | {"layer2.0.conv2.weight": torch.ones(4, 4, 1, 1)}
    )
    assert "not finite" in refused(tmp_path, small | {"classifier.bias": torch.tensor([float("nan")])})
    assert "expected 15 or 13 inputs" in refused(tmp_path, state_dict(7, (4, 4, 4, 4)))
    assert "has no band VV" in refused(tmp_path, small, bands=["VV", "B02"])
