import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap

from landmeta.learning.kernels import TwiceDifferentiable, convolve, normalize_groups

DOUBLE = torch.float64


def rand(*shape, seed=0, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=DOUBLE).requires_grad_(requires_grad)


def inputs(groups_of_weights=None, channels=4):
    """Images, weight and bias of a norm; a weight for each of so many tasks if given."""
    shape = (channels,) if groups_of_weights is None else (groups_of_weights, channels)
    images = rand(4, channels, 3, 3, requires_grad=True)
    return images, rand(*shape, seed=1, requires_grad=True), rand(*shape, seed=2, requires_grad=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_and_its_two_derivatives_are_those_of_torch(stride):
    images, weight = rand(2, 3, 5, 5, requires_grad=True), rand(4, 3, 3, 3, seed=1, requires_grad=True)
    bias = rand(4, seed=2, requires_grad=True)

    def convolved(*tensors):
        return convolve(*tensors, (stride, stride), (1, 1))

    expected = torch.conv2d(images, weight, bias, stride, 1)
    torch.testing.assert_close(convolved(images, weight, bias), expected)
    with torch.no_grad():
        alone = vmap(convolved, in_dims=(0, None, None))(images[:, None], weight, bias)[:, 0]
    torch.testing.assert_close(alone, expected)
    assert gradcheck(convolved, (images, weight, bias))
    assert gradgradcheck(convolved, (images, weight, bias), fast_mode=True)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_and_its_two_derivatives_are_those_of_torch(groups):
    tensors = inputs()

    def normalized(images, weight, bias):
        return normalize_groups(images, groups, weight, bias)

    expected = torch.group_norm(tensors[0], groups, *tensors[1:])
    torch.testing.assert_close(normalized(*tensors), expected)
    torch.testing.assert_close(normalize_groups(tensors[0], groups), torch.group_norm(tensors[0], groups))
    assert gradcheck(normalized, tensors)
    assert gradgradcheck(normalized, tensors, fast_mode=True)


def test_weights_of_each_task_apply_to_its_share_of_the_images():
    images, gain, offset = inputs(groups_of_weights=2)
    kernel = rand(2, 5, 4, 3, 3, seed=3, requires_grad=True)
    halves = images.chunk(2)
    expected = torch.cat([torch.conv2d(x, w, padding=1) for x, w in zip(halves, kernel, strict=True)])
    torch.testing.assert_close(convolve(images, kernel, padding=(1, 1)), expected)
    parts = zip(halves, gain, offset, strict=True)
    expected = torch.cat([torch.group_norm(x, 2, w, b) for x, w, b in parts])
    torch.testing.assert_close(normalize_groups(images, 2, gain, offset), expected)

    def both(images, kernel, gain, offset):
        return normalize_groups(convolve(images, kernel, padding=(1, 1))[:, :4], 2, gain, offset)

    assert gradgradcheck(both, (images, kernel, gain, offset), fast_mode=True)


def test_a_weight_that_tasks_share_gives_each_of_them_its_own_gradient():
    images, kernel = rand(4, 3, 5, 5), rand(2, 3, 3, 3, seed=1, requires_grad=True)
    shared = kernel.expand(2, *kernel.shape)
    loss = (convolve(images, shared, padding=(1, 1)) ** 3).sum()
    (each,) = torch.autograd.grad(loss, shared)
    for part, found in zip(images.chunk(2), each, strict=True):
        (expected,) = torch.autograd.grad((torch.conv2d(part, kernel, padding=1) ** 3).sum(), kernel)
        torch.testing.assert_close(found, expected)


def network_loss(kernel, images, gain, offset):
    maps = torch.group_norm(torch.conv2d(images, kernel, padding=1), 2, gain, offset)
    maps = torch.tanh(torch.conv2d(maps, kernel, padding=1))
    return (torch.group_norm(maps, 2, gain, offset) ** 3).sum()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # by torch itself
def test_hessian_products_by_tangents_are_those_of_torch_with_and_without_vmap():
    _, gain, offset = (t.detach() for t in inputs())
    kernels, along, images = rand(3, 4, 4, 3, 3), rand(3, 4, 4, 3, 3, seed=1), rand(3, 2, 4, 3, 3, seed=2)

    def product(kernel, direction, images):
        return jvp(lambda k: grad(network_loss)(k, images, gain, offset), (kernel,), (direction,))

    expected = [product(*each) for each in zip(kernels, along, images, strict=True)]
    with TwiceDifferentiable():
        found = [product(*each) for each in zip(kernels, along, images, strict=True)]
        at_once = vmap(product)(kernels, along, images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(list(zip(*at_once, strict=True)), expected)


def test_an_outer_gradient_outside_of_vmap_is_that_of_a_loop():
    _, gain, offset = (t.detach().requires_grad_() for t in inputs())
    kernel, images = rand(4, 4, 3, 3, requires_grad=True), rand(3, 2, 4, 3, 3, seed=2)

    def after_a_step(images):
        moved = [t - 0.01 * g for t, g in zip((kernel, gain, offset), gradients(images), strict=True)]
        return network_loss(moved[0], images, *moved[1:])

    def gradients(images):
        return grad(lambda t: network_loss(t[0], images, *t[1:]))([kernel, gain, offset])

    leaves = (kernel, gain, offset)
    expected = torch.autograd.grad(sum(after_a_step(x) for x in images), leaves)
    with TwiceDifferentiable():
        found = torch.autograd.grad(vmap(after_a_step)(images).sum(), leaves)
    torch.testing.assert_close(found, expected)


def test_autocast_convolves_in_low_precision_and_normalizes_in_single():
    images, kernel = rand(2, 4, 5, 5).float(), rand(4, 4, 3, 3).float()
    with torch.autocast("cpu", torch.bfloat16), TwiceDifferentiable():
        maps = torch.conv2d(images, kernel, padding=1)
        assert maps.dtype == torch.bfloat16
        assert torch.group_norm(maps, 2).dtype == torch.float32
        each = torch.nn.functional.linear(images[:, :, 0, 0], torch.rand(2, 3, 4), torch.rand(2, 3))
    assert each.dtype == torch.bfloat16
    assert each.shape == (2, 3)


def test_convolutions_in_groups_stay_those_of_torch():
    images, kernel = rand(1, 4, 5, 5), rand(4, 1, 3, 3)
    with TwiceDifferentiable():
        found = torch.conv2d(images, kernel, padding="same", groups=4)
    torch.testing.assert_close(found, torch.conv2d(images, kernel, padding="same", groups=4))
