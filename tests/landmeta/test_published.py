"""METEOR's published adaptation: its settings, its gradient, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from landmeta import published
from landmeta.bands import BandSet
from landmeta.checkpoints import load_start
from landmeta.legend import LandClass, Legend
from landmeta.networks import ResNet12
from landmeta.prediction import predict
from landmeta.published import PublishedEnsemble, adapt_class, adapt_published, adapted_parameters
from landmeta.raster import imagery_of_array


def make_network(seed=0):
    return ResNet12(3, (4, 4, 4, 4), generator=torch.Generator().manual_seed(seed)).requires_grad_(False)


def test_the_settings_are_those_published():
    assert (published.STEPS, published.RATE, published.MINIBATCH, published.TILE) == (60, 0.4, 8, 128)


def test_adaptation_leaves_the_start_and_the_norms_as_they_were():
    network, tiles = make_network(), torch.rand(6, 3, 32, 32)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    adapted = adapt_class(network, tiles, torch.arange(6) % 2, torch.Generator().manual_seed(0), steps=2)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not any("norm" in k for k in adapted)
    assert any(not torch.equal(before[k], v) for k, v in adapted.items())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_step_is_plain_gradient_descent_on_eight_draws_with_replacement(seed):
    """Also where the minibatch holds a tile more than once, here always: there are three tiles."""
    network = make_network()
    tiles = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    positive = torch.tensor([1, 0, 0])
    batch = torch.randint(3, (8,), generator=torch.Generator().manual_seed(seed))
    weights = {k: v.clone().requires_grad_(True) for k, v in adapted_parameters(network).items()}
    logits = torch.func.functional_call(network, weights, (tiles[batch],))[:, 0]
    loss = F.binary_cross_entropy_with_logits(logits, positive[batch].float())
    grads = torch.autograd.grad(loss, list(weights.values()))
    got = adapt_class(network, tiles, positive, torch.Generator().manual_seed(seed), steps=1)
    for (name, weight), grad in zip(weights.items(), grads, strict=True):
        torch.testing.assert_close(got[name], weight.detach() - 0.4 * grad, rtol=1e-4, atol=1e-5)


def test_class_models_tell_bright_tiles_from_dark_ones(stripes):
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(8, 3, 32, 32, generator=generator)
    target = torch.arange(8) % 2
    tiles = torch.where(target[:, None, None, None] == 1, texture.cumsum(3) / 32, texture)
    legend, bands = stripes[1].legend, BandSet(("B02", "B03", "B04"))
    model = adapt_published(make_network(), tiles, target, torch.zeros(3), legend, bands, steps=30)
    assert (model.tile_logits(tiles).argmax(dim=1) == target).float().mean() >= 0.75
    assert model.logits(tiles[0], None).shape == (2, 32, 32)


def test_the_model_computes_where_its_tensors_are_wherever_the_images_are(stripes):
    # Tensors of the device "meta" have no values; mixed with others they fail as those of a GPU do.
    tiles, target = torch.rand(4, 3, 32, 32), torch.arange(4) % 2
    legend, bands = stripes[1].legend, BandSet(("B02", "B03", "B04"))
    made = adapt_published(make_network(), tiles, target, torch.zeros(3), legend, bands, steps=1).to("meta")
    assert made.logits(tiles[0]).device.type == "meta"
    assert made.tile_logits(tiles).device.type == "meta"


class Unblended(PublishedEnsemble):
    """The same models, their blocks cut."""

    overlap = 0


def test_blocks_with_moments_of_their_own_show_no_step_where_they_touch() -> None:
    """The scene gets brighter, so that blocks have other moments; steps between rows, borders over others."""
    rng = np.random.default_rng(0)
    scene = 0.3 * rng.random((3, 256, 128)) + np.linspace(0, 1, 256)[:, None]
    imagery = imagery_of_array(scene.astype(np.float32), ("B02", "B03", "B04"))
    network = make_network()
    models = tuple(
        {name: value + 0.01 * k for name, value in adapted_parameters(network).items()} for k in range(2)
    )

    def step_at_border(model: PublishedEnsemble) -> float:
        share = predict(model, imagery, block=128).probabilities[0].astype(float)
        steps = abs(np.diff(share, axis=0)).mean(axis=1)
        return float(steps[127] / np.delete(steps, 127).mean())

    legend = Legend((LandClass(1, "low", "#000000"), LandClass(2, "high", "#ffffff")))
    parts = (network, models, torch.zeros(3), legend, imagery.bands)
    assert step_at_border(Unblended(*parts)) > 3
    assert step_at_border(PublishedEnsemble(*parts)) < 1.5


@pytest.mark.parametrize("shape", [(120, 120), (168, 296)])
def test_the_logits_have_the_same_bits_whatever_the_threads(stripes, threads, shape) -> None:
    """With the shipped start, whose channels are many enough to be divided among threads."""
    network = load_start()[0].for_bands(stripes[0].bands.names).requires_grad_(False)
    models = tuple({n: v * (1 + k) for n, v in adapted_parameters(network).items()} for k in range(2))
    model = PublishedEnsemble(network, models, torch.zeros(4), stripes[1].legend, stripes[0].bands)
    window = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    found = []
    for count in (1, 2):
        threads(count)
        found.append(model.logits(window))
    assert torch.equal(*found)
