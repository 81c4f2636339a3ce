"""Conv4 as METHODS 1.4 counts it, and its two classifiers."""

import pytest
import torch
import torch.nn.functional as F

from landmeta.errors import NetworkError
from landmeta.networks import Conv4
from landmeta.norms import NORMS


def make(**settings):
    return Conv4(3, (4, 4, 4, 4), generator=torch.Generator().manual_seed(0), **settings)


def images(n=3, side=64):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("filters", "features", "count"), [(64, 1600, 121_093), (32, 800, 32_901)])
def test_parameter_counts_of_the_miniimagenet_networks(filters, features, count):
    network = Conv4(3, (filters,) * 4, 5, side=84)
    assert network.classifier.in_features == features
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("side", "cells"), [(84, [42, 21, 10, 5]), (128, [64, 32, 16, 8]), (28, [14, 7, 3, 1])]
)
def test_sizes_of_the_blocks(side, cells):
    assert [x.shape[-1] for x in make().features(images(1, side))] == cells


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_gives_logits(norm):
    assert make(norm=norm, outputs=2)(images()).shape == (3, 2)


@torch.no_grad()
def test_a_block_is_convolution_norm_rectifier_pool():
    network, x = make(), images()
    network.convolutions[0].bias.uniform_(-1, 1)
    y = F.batch_norm(network.convolutions[0](x), None, None, training=True)
    torch.testing.assert_close(network.features(x)[0], F.max_pool2d(F.relu(y), 2))


def test_with_the_mean_of_the_cells_an_image_has_the_mean_of_its_logits():
    network = make(outputs=2)
    torch.testing.assert_close(network.dense(images()).mean(dim=(2, 3)), network(images()))


def test_with_flattened_cells_the_dense_logits_of_an_image_of_that_side_are_its_own():
    network = make(outputs=2, side=64)
    dense = network.dense(images())
    assert dense.shape == (3, 2, 1, 1)
    torch.testing.assert_close(dense[..., 0, 0], network(images()))
    assert network.dense(images(side=96)).shape == (3, 2, 3, 3)


def test_an_image_of_another_side_is_refused():
    with pytest.raises(NetworkError, match="images of 96 x 96 pixels, expected 64 x 64"):
        make(side=64)(images(side=96))
