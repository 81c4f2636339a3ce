import pytest
import torch

from landmeta.networks import STRIDES, ResNet12, upsample

SMALL = (4, 6, 8, 10)


def make_network(bands=3, widths=SMALL, seed=0):
    return ResNet12(bands, widths, generator=torch.Generator().manual_seed(seed)).requires_grad_(False)


@pytest.mark.parametrize(
    ("bands", "parameters"), [(3, 7_997_313), (12, 8_003_073), (13, 8_003_713), (15, 8_004_993)]
)
def test_parameter_counts_are_those_of_the_published_network(bands, parameters):
    assert sum(p.numel() for p in ResNet12(bands).parameters()) == parameters


def test_block_outputs_lie_at_strides_1_2_4_8_and_the_padded_pool_adds_a_cell():
    sizes = [f.shape[-1] for f in make_network().features(torch.rand(1, 3, 128, 128))]
    assert sizes == [128, 64, 32, 17]


def test_selecting_bands_equals_zeros_in_the_bands_left_out():
    network, images = make_network(bands=5), torch.rand(2, 5, 32, 32)
    kept = [3, 0, 4]
    blanked = torch.zeros_like(images)
    blanked[:, kept] = images[:, kept]
    subset = network.select_bands(kept)
    torch.testing.assert_close(subset(images[:, kept]), network(blanked), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", range(4))
def test_an_impulse_is_not_moved_by_upsampling_to_the_pixel_grid(block):
    """Cells carry their distance to column 40: the minimum must come back at column 40."""
    stride = STRIDES[block]
    cells = 128 // stride + (1 if stride == 8 else 0)
    shift = 0.0 if stride == 8 else 0.5
    centres = (torch.arange(cells) + shift) * stride - 0.5
    ramp = upsample(centres.expand(1, 1, cells, cells).contiguous(), stride)[0, 0, 64]
    inner = torch.arange(8, 120)
    torch.testing.assert_close(ramp[inner], inner.float())


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(make_network(seed=1)(images), make_network(seed=1)(images))
    assert not torch.equal(make_network(seed=1)(images), make_network(seed=2)(images))
