"""Our outer gradients beside those of an independent implementation, torchopt."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchopt

from landmeta.learning.algorithms import inner_settings
from landmeta.learning.engines import ENGINES, outer_gradient
from landmeta.learning.learner import Learner


def loss(network, batch):
    return F.binary_cross_entropy_with_logits(network(batch.images)[:, 0], batch.targets)


def by_torchopt(network, tasks, names, rate, steps):
    """Mean gradient of all parameters, the inner steps by torchopt's functional SGD."""
    parameters = dict(network.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for task in tasks:
        theta = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        optimizer = torchopt.sgd(lr=rate, moment_requires_grad=True)
        phi = {name: theta[name] for name in names}
        state = optimizer.init(phi)
        for _ in range(steps):
            value = functional_loss(network, {**theta, **phi}, task.support)
            grads = torch.autograd.grad(value, list(phi.values()), create_graph=True)
            grads = dict(zip(phi, grads, strict=True))
            updates, state = optimizer.update(grads, state, params=phi, inplace=False)
            phi = torchopt.apply_updates(phi, updates, inplace=False)
        query = functional_loss(network, {**theta, **phi}, task.query)
        for name, gradient in zip(theta, torch.autograd.grad(query, list(theta.values())), strict=True):
            total[name] += gradient / len(tasks)
    return total


def functional_loss(network, params, batch):
    logits = torch.func.functional_call(network, params, (batch.images,))
    return F.binary_cross_entropy_with_logits(logits[:, 0], batch.targets)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("norm", ["in", "tbn"])
def test_maml_gives_the_gradient_of_torchopt(norm, steps, engine, make_conv4, make_tasks):
    network, tasks = make_conv4(norm), make_tasks(2, images=3)
    inner = inner_settings("maml", network, rate=0.1, steps=steps)
    learner = Learner(network)
    found = outer_gradient(learner, inner, learner.parameters(), {}, tasks, engine=engine).theta
    expected = by_torchopt(network, tasks, inner.adapted, 0.1, steps)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_maml_gives_the_gradient_of_torchopts_own_meta_optimizer(make_conv4, make_tasks):
    network, (task,) = make_conv4("tbn"), make_tasks(1, images=3)
    inner = inner_settings("maml", network, rate=0.1, steps=2)
    learner = Learner(network)
    expected = outer_gradient(learner, inner, learner.parameters(), {}, [task]).theta
    leaves = dict(network.named_parameters())
    optimizer = torchopt.MetaSGD(network, lr=0.1)
    for _ in range(2):
        optimizer.step(loss(network, task.support))
    found = torch.autograd.grad(loss(network, task.query), list(leaves.values()))
    torch.testing.assert_close(dict(zip(leaves, found, strict=True)), expected, rtol=1e-9, atol=1e-9)
