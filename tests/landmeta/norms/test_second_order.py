"""Second derivatives of every norm: two inner steps against finite differences (METHODS 2.11, 7 and 9.2)."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

from landmeta.norms import NORMS, NormPass, initial_state, make_norm

from .conftest import seeded, uniform

RATE, STEPS, TASKS = 0.3, 2, 2
OPTIONS = {"gn": {"groups": 2}}


class TinyNetwork(nn.Module):
    """Two convolutions with norms and a linear head; smooth, so that finite differences are sharp."""

    def __init__(self, kind):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False)
        self.norm1, self.norm2 = (make_norm(kind, 4, n, **OPTIONS.get(kind, {})) for n in ("norm1", "norm2"))
        self.head = nn.Linear(4, 1)

    def forward(self, images, normalize):
        y = torch.tanh(normalize(self.norm1, self.conv1(images)))
        y = torch.tanh(normalize(self.norm2, self.conv2(y)))
        return self.head(y.mean(dim=(2, 3)))[:, 0]


def make_case(kind):
    """A network, its parameters and some tasks (images, targets of support and query), all float64."""
    network = TinyNetwork(kind).double().requires_grad_(False)
    theta = {
        name: p + torch.randn(p.shape, generator=seeded(i), dtype=p.dtype) / 2
        for i, (name, p) in enumerate(network.named_parameters())
    }
    batches = uniform(TASKS, 2, 4, 2, 8, 8, seed=1)
    targets = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64).expand(TASKS, 2, 4)
    return network, theta, (batches, targets)


def run(network, params, state, images, mode):
    normalize = NormPass(state, mode)
    return functional_call(network, params, (images, normalize)), normalize.updated


def loss_of(network, params, state, images, targets):
    return F.binary_cross_entropy_with_logits(run(network, params, state, images, "context")[0], targets)


def inner_gradient(network, params, state, images, targets):
    return grad(lambda p: loss_of(network, p, state, images, targets))(params)


def outer_loss(network, theta, images, targets):
    """Query loss of one task after the inner steps; a norm with a context gets it from the support."""
    state, phi = initial_state(network), theta
    for _ in range(STEPS):
        gradient = inner_gradient(network, phi, state, images[0], targets[0])
        # Affine and pooling parameters included: what the inner loop moves is where native norms go wrong.
        phi = {name: p - RATE * gradient[name] for name, p in phi.items()}
    mode = "context"
    if hasattr(network.norm1, "a"):
        state, mode = run(network, phi, state, images[0], "context")[1], "query"
    logits = run(network, phi, state, images[1], mode)[0]
    return F.binary_cross_entropy_with_logits(logits, targets[1])


def mean_loss(network, theta, tasks):
    return torch.stack([outer_loss(network, theta, *task) for task in zip(*tasks, strict=True)]).mean()


def in_the_loop(network, theta, tasks):
    return grad(lambda p: mean_loss(network, p, tasks))(theta)


def by_autograd(network, theta, tasks):
    leaves = {name: p.clone().requires_grad_(True) for name, p in theta.items()}
    mean_loss(network, leaves, tasks).backward()
    return {name: p.grad for name, p in leaves.items()}


def gradient_inside_vmap(network, theta, tasks):
    each = vmap(grad(lambda p, x, y: outer_loss(network, p, x, y)), in_dims=(None, 0, 0))(theta, *tasks)
    return {name: g.mean(0) for name, g in each.items()}


def gradient_outside_vmap(network, theta, tasks):
    losses = vmap(lambda p, x, y: outer_loss(network, p, x, y), in_dims=(None, 0, 0))
    return grad(lambda p: losses(p, *tasks).mean())(theta)


ENGINES = [in_the_loop, by_autograd, gradient_inside_vmap, gradient_outside_vmap]


def slope(network, theta, tasks, direction, step=1e-5):
    """Central difference of the mean query loss along a direction in the space of all parameters."""
    up, down = ({k: p + s * direction[k] for k, p in theta.items()} for s in (step, -step))
    return (mean_loss(network, up, tasks) - mean_loss(network, down, tasks)) / (2 * step)


@pytest.mark.parametrize("kind", NORMS)
def test_outer_gradients_equal_finite_differences_in_the_loop_and_under_vmap(kind):
    network, theta, tasks = make_case(kind)
    gradients = [engine(network, theta, tasks) for engine in ENGINES]
    for seed in (200, 300):
        direction = {
            name: torch.randn(p.shape, generator=seeded(seed + i), dtype=p.dtype)
            for i, (name, p) in enumerate(theta.items())
        }
        expected = slope(network, theta, tasks, direction).item()
        for engine, gradient in zip(ENGINES, gradients, strict=True):
            found = sum((gradient[name] * direction[name]).sum().item() for name in theta)
            assert found == pytest.approx(expected, rel=1e-7, abs=1e-9), engine
    for gradient in gradients[1:]:  # every tensor by itself, to the last digits
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", NORMS)
def test_forward_over_reverse_equals_reverse_over_reverse(kind):
    """The product of the Hessian and a vector, as the engine `hvp` takes it, also under vmap over tasks."""
    with warnings.catch_warnings():
        # jvp compiles its own rules by the deprecated torch.jit when it is first used
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))
    network, theta, (images, targets) = make_case(kind)
    state = initial_state(network)
    tangent = {name: torch.randn(p.shape, generator=seeded(9), dtype=p.dtype) for name, p in theta.items()}

    def forward_over_reverse(x, y):
        return jvp(lambda p: inner_gradient(network, p, state, x, y), (theta,), (tangent,))[1]

    def reverse_over_reverse(x, y):
        def along(p):
            gradient = inner_gradient(network, p, state, x, y)
            return sum((g * tangent[name]).sum() for name, g in gradient.items())

        return grad(along)(theta)

    expected = reverse_over_reverse(images[0, 0], targets[0, 0])
    torch.testing.assert_close(
        forward_over_reverse(images[0, 0], targets[0, 0]), expected, rtol=0, atol=1e-11
    )
    batched = vmap(forward_over_reverse)(images[:, 0], targets[:, 0])
    torch.testing.assert_close({name: g[0] for name, g in batched.items()}, expected, rtol=0, atol=1e-11)
