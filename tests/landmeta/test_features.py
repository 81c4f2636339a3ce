"""Folding fixed norms into the convolutions and working by rows change no number."""

import pytest
import torch

from landmeta.features import (
    FoldedNetwork,
    blocks_of,
    by_pixel,
    dense_features,
    feature_maps,
    fold,
    fold_block,
    mean_and_deviation,
    spectral_logits,
    spectral_maps,
)
from landmeta.networks import ResNet12, pool_before
from landmeta.norms import FrozenMoments, PooledMoments


@pytest.fixture(scope="module")
def network():
    made = ResNet12(3, (4, 6, 8, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def moments(network, images):
    pooled = PooledMoments()
    network.features(images, pooled)
    return pooled.measured


def test_a_folded_network_gives_the_features_of_frozen_moments(network, images, moments):
    other = images.flip(0) * 0.7  # not what was measured
    for got, expected in zip(
        fold(network, moments).features(other),
        network.features(other, FrozenMoments(moments)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [1, 3])
def test_a_folded_network_can_be_run_in_two_parts(network, images, moments, first):
    early = fold(network, moments, stop=first).features(images)
    late = fold(network, moments, first).features(pool_before(early[-1], first))
    for got, expected in zip([*early, *late], fold(network, moments).features(images), strict=True):
        torch.testing.assert_close(got, expected)


def test_gradients_through_folded_blocks_are_those_of_the_convolutions(network, images, moments):
    free = ResNet12(3, network.widths)
    free.load_state_dict(network.state_dict())
    weights = [p for name, p in free.named_parameters() if p.dim() == 4]
    folded = FoldedNetwork(tuple(fold_block(b, moments) for b in blocks_of(free)))
    got = torch.autograd.grad(folded.features(images)[-1].square().mean(), weights)
    loss = free.features(images, FrozenMoments(moments))[-1].square().mean()
    for a, b in zip(got, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_spectral_logits_are_the_weighted_spectral_maps(images):
    image, weight = images[:1], torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("kf,fyx->kyx", weight, spectral_maps(image)[0])
    torch.testing.assert_close(spectral_logits(image, weight), expected, rtol=1e-4, atol=1e-5)


def test_mean_and_deviation_are_those_of_each_image(images):
    mean, deviation = mean_and_deviation(images)
    torch.testing.assert_close(mean[1, 2], images[1, 2].mean())
    torch.testing.assert_close(deviation[1, 2], images[1, 2].std(correction=0))


def test_dense_features_of_a_window_have_all_groups(network, images):
    vectors = dense_features(feature_maps(network, images))
    assert vectors.shape == (2, 3 + 3 + 3 + 4 + 6 + 8 + 10, 64, 48)


@pytest.mark.parametrize("classes", [2, 5, 9])
def test_logits_have_the_same_bits_whatever_the_threads(threads, classes):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 13, 136, 136, generator=generator)
    deep = torch.randn(1, 320, 68, 68, generator=generator).contiguous(memory_format=torch.channels_last)
    spectral, weight = (torch.randn(classes, n, generator=generator) for n in (104, 320))
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append((spectral_logits(images, spectral), by_pixel(deep, weight)))
    for several in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], several, strict=True))
    torch.testing.assert_close(found[0][1], torch.einsum("ck,nkyx->ncyx", weight, deep))
