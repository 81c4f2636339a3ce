import torch

from landmeta.norms import FrozenMoments, InstanceNorm, PooledMoments, own_moments


def make_layer(channels=3):
    layer = InstanceNorm(channels, "layer")
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.uniform_(-1, 1)
    return layer.requires_grad_(False).double()


def images(n=4, seed=0):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_instance_norm_does_not_see_the_other_images():
    layer, x = make_layer(), images()
    torch.testing.assert_close(own_moments(layer, x)[:1], own_moments(layer, x[:1]))


def test_instance_norm_ignores_gain_and_offset_of_an_image():
    layer, x = make_layer(), images() + 10
    torch.testing.assert_close(own_moments(layer, 3 * x + 1), own_moments(layer, x), rtol=1e-3, atol=1e-3)


def test_pooled_moments_of_one_image_equal_its_own():
    layer, x = make_layer(), images(1)
    torch.testing.assert_close(PooledMoments()(layer, x), own_moments(layer, x))


def test_pooled_moments_equal_torch_batch_norm():
    layer, x = make_layer(), images()
    expected = torch.nn.functional.batch_norm(x, None, None, layer.weight, layer.bias, training=True)
    torch.testing.assert_close(PooledMoments()(layer, x), expected)


def test_frozen_moments_repeat_what_was_measured_and_do_not_follow_the_image():
    layer, x = make_layer(), images()
    pooled = PooledMoments()
    expected = pooled(layer, x)
    frozen = FrozenMoments(pooled.measured)
    torch.testing.assert_close(frozen(layer, x), expected)
    torch.testing.assert_close(frozen(layer, x[:1, :, :4]), expected[:1, :, :4])
