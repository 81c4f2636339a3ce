from functools import partial

import numpy as np
import pytest
import torch

from landmeta.errors import NetworkError
from landmeta.learning.algorithms import (
    ALGORITHMS,
    cycled_minibatches,
    inner_settings,
    linear_rate,
    reptile_direction,
)
from landmeta.learning.engines import outer_gradient
from landmeta.learning.inner import adapt
from landmeta.learning.learner import Batch, Learner


def outer(name, network, tasks, steps=2, **options):
    learner = Learner(network)
    inner = inner_settings(name, network, rate=0.2, steps=steps, **options)
    theta = learner.parameters()
    learned = inner.rule.initial(theta, inner.adapted)
    phi = adapt(learner, inner, theta, learned, learner.initial_state(), tasks[0].support)[0]
    return inner, phi, outer_gradient(learner, inner, theta, learned, tasks)


def query_gradient(network, phi, task):
    learner = Learner(network)
    leaves = {name: value.detach().requires_grad_() for name, value in phi.items()}
    loss = learner.query_loss(leaves, learner.initial_state(), task)[0]
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def test_first_order_maml_is_the_gradient_at_the_adapted_parameters(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(1)
    _, phi, found = outer("fomaml", network, tasks, steps=3)
    torch.testing.assert_close(found.theta, query_gradient(network, phi, tasks[0]))


def test_second_order_maml_is_another_gradient(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(1)
    first, second = (outer(name, network, tasks)[2].theta for name in ("fomaml", "maml"))
    assert not torch.allclose(first["blocks.0.conv1.weight"], second["blocks.0.conv1.weight"], rtol=1e-3)


def test_anil_adapts_the_head_only_and_learns_the_body(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(1)
    _, phi, found = outer("anil", network, tasks)
    theta = Learner(network).parameters()
    moved = {name for name in theta if not torch.equal(phi[name], theta[name])}
    assert moved == {"classifier.weight", "classifier.bias"}
    assert all(float(found.theta[name].abs().max()) > 0 for name in theta if "conv" in name)


def test_boil_adapts_the_body_only_and_learns_the_head(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(1)
    inner, phi, found = outer("boil", network, tasks)
    theta = Learner(network).parameters()
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(phi[name], theta[name])
        assert float(found.theta[name].abs().max()) > 0
    assert all(not torch.equal(phi[name], theta[name]) for name in inner.adapted)


def test_masks_learn_by_the_first_order_formula(make_network, make_tasks):
    """METHODS 3.6: dLq/dm = -rate (sum of g_k) o dLq/dphi_K."""
    network, tasks = make_network(), make_tasks(1)
    inner, phi, found = outer("sparse_fomaml", network, tasks, steps=3)
    theta, at_query = Learner(network).parameters(), query_gradient(network, phi, tasks[0])
    scores = inner.rule.initial(theta, inner.adapted)
    for name in inner.adapted:
        moving = scores[name] >= 0  # where the sum of gradients shows in how far the parameter moved
        moved = (theta[name] - phi[name]) / 0.2
        expected = -0.2 * moved * at_query[name]
        torch.testing.assert_close(found.learned[name][moving], expected[moving])
        assert torch.equal(phi[name][~moving], theta[name][~moving])
        if (~moving).any():
            assert float(found.learned[name][~moving].abs().max()) > 0


def test_meta_sgd_learns_a_rate_for_every_weight(make_network, make_tasks):
    inner, _, found = outer("meta_sgd", make_network(), make_tasks(1), steps=1)
    assert set(found.learned) == set(inner.adapted)
    assert all(found.learned[n].shape == found.theta[n].shape for n in inner.adapted)


def test_meta_sgd_at_its_initial_rate_is_maml(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(1)
    found, expected = (outer(name, network, tasks)[2] for name in ("meta_sgd", "maml"))
    torch.testing.assert_close(found.theta, expected.theta)


@pytest.mark.parametrize("name", [n for n, a in ALGORITHMS.items() if not a.displacement])
def test_every_algorithm_gives_finite_gradients_of_every_parameter(name, make_network, make_tasks):
    network = make_network()
    _, _, found = outer(name, network, make_tasks(1), steps=1)
    assert set(found.theta) == {n for n, _ in network.named_parameters()}
    assert all(bool(g.isfinite().all()) for g in (*found.theta.values(), *found.learned.values()))


def test_reptile_follows_how_far_plain_steps_move(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(2)
    learner = Learner(network)
    inner = inner_settings("reptile", network, rate=0.1, steps=3)
    theta = learner.parameters()
    found = reptile_direction(
        learner,
        inner.adapted,
        theta,
        [[task.support] * 3 for task in tasks],
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )
    phi = [adapt(learner, inner, theta, {}, {}, task.support)[0] for task in tasks]
    expected = {name: theta[name] - (phi[0][name] + phi[1][name]) / 2 for name in theta}
    torch.testing.assert_close(found.theta, expected)
    assert found.losses.shape == (2,)


def test_the_last_step_alone_is_the_gradient_of_the_last_minibatch(make_network, make_tasks):
    network, (task,) = make_network(), make_tasks(1)
    learner = Learner(network)
    inner = inner_settings("fomaml", network, rate=0.1, steps=2)
    theta = learner.parameters()
    found = reptile_direction(
        learner,
        inner.adapted,
        theta,
        [[task.support, task.support, task.query]],
        optimizer=partial(torch.optim.SGD, lr=0.1),
        last_step_only=True,
    )
    expected = outer_gradient(learner, inner, theta, {}, [task]).theta
    for name in inner.adapted:
        torch.testing.assert_close(found.theta[name], 0.1 * expected[name])


def test_reptile_moves_gains_and_offsets_unless_told_not_to(make_network):
    network = make_network()
    everything = {name for name, _ in network.named_parameters()}
    assert set(inner_settings("reptile", network, rate=0.1).adapted) == everything
    without = inner_settings("reptile", network, rate=0.1, affine=False).adapted
    assert everything - set(without) == {name for name in everything if "norm" in name}


def test_a_task_of_reptile_does_not_hang_on_the_one_before(make_network, make_tasks):
    network, tasks = make_network(), make_tasks(2)
    learner, names = Learner(network), inner_settings("reptile", network, rate=0.1).adapted

    def moved(chosen):
        batches = [[task.support] * 2 for task in chosen]
        return reptile_direction(learner, names, learner.parameters(), batches).theta

    both, first, second = moved(tasks), moved(tasks[:1]), moved(tasks[1:])
    torch.testing.assert_close(both, {n: (first[n] + second[n]) / 2 for n in both})


def test_minibatches_go_through_all_images_before_one_comes_again():
    batch = Batch(torch.arange(5.0).reshape(5, 1, 1, 1), torch.arange(5))
    drawn = list(cycled_minibatches(batch, 2, 5, np.random.default_rng(0)))
    order = torch.cat([part.targets for part in drawn])
    assert [len(part.targets) for part in drawn] == [2] * 5
    assert sorted(order[:5].tolist()) == sorted(order[5:].tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(torch.cat([part.images for part in drawn]).flatten(), order.float())


def test_a_linear_rate_goes_from_first_to_last():
    assert [linear_rate(i, 4, 1.0, 0.0) for i in (0, 2, 4)] == [1.0, 0.5, 0.0]


def test_an_unknown_algorithm_is_named_beside_those_that_exist(make_network):
    with pytest.raises(NetworkError, match="'mamml'") as error:
        inner_settings("mamml", make_network(), rate=0.1)
    assert "maml" in error.value.hint
