"""Paper 001's law of scale-invariant weights, whose unit depends on the norm (METHODS 2.11, 6).

Where the output does not change with the length of some weights w: <w, gradient> = 0 and the gradient at c w
is the gradient at w divided by c. Images are large, so that the norm's eps plays no part.
"""

import pytest
import torch
import torch.nn.functional as F

from .conftest import CHANNELS, images, make_layer, uniform

PER_FILTER = ["tbn", "cbn", "tasknorm_i", "in"]
PER_LAYER = ["gn", "ln", "tasknorm_l"]
OPTIONS = {"gn": {"groups": 2}}


def gradient(kind, weight):
    layer, target = make_layer(kind, **OPTIONS.get(kind, {})), uniform(5, CHANNELS, 6, 6, seed=7)

    def loss(weight):
        return (torch.tanh(layer(F.conv2d(1e5 * images(channels=3), weight, padding=1))) * target).sum()

    return torch.func.grad(loss)(weight)


def filters():
    return uniform(CHANNELS, 3, 3, 3, seed=5) - 0.5


@pytest.mark.parametrize("kind", PER_FILTER)
def test_behind_a_norm_of_channels_every_filter_is_orthogonal_to_its_gradient(kind):
    weight = filters()
    products = (weight * gradient(kind, weight)).sum(dim=(1, 2, 3))
    assert products.abs().max() < 1e-9


@pytest.mark.parametrize("kind", PER_LAYER)
def test_behind_a_norm_of_groups_only_all_filters_together_are_orthogonal_to_their_gradient(kind):
    weight = filters()
    products = (weight * gradient(kind, weight)).sum(dim=(1, 2, 3))
    assert products.abs().max() > 1e-3
    assert products.sum().abs() < 1e-9


def test_behind_gn_the_filters_of_one_group_are_orthogonal_to_their_gradient():
    weight = filters()
    products = (weight * gradient("gn", weight)).sum(dim=(1, 2, 3))
    assert products.reshape(2, -1).sum(1).abs().max() < 1e-9


@pytest.mark.parametrize("kind", PER_FILTER + PER_LAYER)
def test_the_gradient_falls_as_the_weights_grow(kind):
    weight = filters()
    expected = gradient(kind, weight) / 3
    torch.testing.assert_close(gradient(kind, 3 * weight), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", PER_FILTER)
def test_behind_a_norm_of_channels_each_filter_may_grow_by_its_own_factor(kind):
    weight, factor = filters(), torch.tensor([0.5, 2.0, 3.0, 7.0], dtype=torch.float64)[:, None, None, None]
    expected = gradient(kind, weight) / factor
    torch.testing.assert_close(gradient(kind, factor * weight), expected, rtol=1e-7, atol=1e-9)


def test_without_a_norm_the_law_does_not_hold():
    weight = filters() * 1e-5
    assert (weight * gradient("none", weight)).sum().abs() > 1e-3
