import math

import pytest
import torch

from landmeta.learning.algorithms import inner_settings
from landmeta.learning.inner import (
    Inner,
    MetaSgd,
    Sgd,
    SparseMask,
    SparseRelu,
    adapt,
    adapted_names,
    inner_step,
    mask_sparsity,
    parting_steps,
)
from landmeta.learning.learner import Batch, BinaryLoss, Learner, cross_entropy


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_zero_steps_return_the_parameters(make_network, make_tasks):
    learner = Learner(make_network())
    inner = inner_settings("maml", learner.network, rate=0.1, steps=0)
    theta, (task,) = learner.parameters(), make_tasks(1)
    phi, _ = adapt(learner, inner, theta, {}, learner.initial_state(), task.support)
    assert phi == theta


def test_the_order_of_support_images_does_not_matter(make_network, make_tasks):
    learner = Learner(make_network("tbn"))
    inner = inner_settings("maml", learner.network, rate=0.1, steps=2)
    theta, (task,) = learner.parameters(), make_tasks(1)
    turned = Batch(task.support.images.flip(0), task.support.targets.flip(0))
    found = [adapt(learner, inner, theta, {}, {}, batch)[0] for batch in (task.support, turned)]
    torch.testing.assert_close(*found)


def test_steps_follow_the_gradient_at_the_current_parameters(make_network, make_tasks):
    learner = Learner(make_network())
    inner = inner_settings("maml", learner.network, rate=0.1, steps=2)
    (task,), state = make_tasks(1), learner.initial_state()
    phi = learner.parameters()
    for _ in range(2):
        leaves = {name: value.detach().requires_grad_() for name, value in phi.items()}
        loss = learner.support_loss(leaves, state, task.support)[0]
        grads = torch.autograd.grad(loss, [leaves[n] for n in inner.adapted])
        phi |= {n: phi[n] - 0.1 * g for n, g in zip(inner.adapted, grads, strict=True)}
    found = adapt(learner, inner, learner.parameters(), {}, state, task.support)[0]
    torch.testing.assert_close(found, phi)


def test_a_minibatch_for_each_step(make_network, make_tasks):
    learner = Learner(make_network())
    inner = inner_settings("fomaml", learner.network, rate=0.1)
    batches = [task.support for task in make_tasks(3)]
    phi = learner.parameters()
    for batch in batches:
        phi, _ = inner_step(learner, inner, phi, {}, {}, batch)
    found = adapt(learner, inner, learner.parameters(), {}, {}, batches)[0]
    torch.testing.assert_close(found, phi, rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["in", "none", "tbn", "cbn", "tasknorm_i"])
def test_steps_that_part_from_one_start_are_those_taken_one_by_one(norm, make_network, make_tasks):
    learner, (task,) = Learner(make_network(norm)), make_tasks(1)
    inner = inner_settings("fomaml", learner.network, rate=0.1)
    theta, state, images = learner.parameters(), learner.initial_state(), task.support.images
    targets = torch.eye(3, len(images), dtype=images.dtype)
    runs = []
    learner.network.register_forward_hook(lambda *_: runs.append(1))
    parted, after = parting_steps(learner, inner, theta, {}, state, images, targets)
    assert len(runs) == 1
    for target, found in zip(targets, parted, strict=True):
        alone = inner_step(learner, inner, theta, {}, state, Batch(images, target))
        torch.testing.assert_close((found, after), alone, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("norm", "moves"), [("in", False), ("ln", False), ("tasknorm_i", False), ("tbn", True)]
)
def test_gain_and_offset_of_batch_norms_adapt_and_of_others_do_not(norm, moves, make_network):
    network = make_network(norm)
    assert ("blocks.0.norm1.weight" in adapted_names(network)) is moves
    assert "blocks.0.norm1.weight" in adapted_names(network, affine=True)
    assert "blocks.0.norm1.weight" not in adapted_names(network, affine=False)


def test_head_and_body_share_out_all_names(make_network):
    network = make_network()
    head, body = adapted_names(network, "head"), adapted_names(network, "body")
    assert set(head) == {"classifier.weight", "classifier.bias"}
    assert sorted(head + body) == sorted(adapted_names(network))


def test_rules_move_by_rate_times_gradient():
    params, grads = {"w": values(1, 2, 3), "still": values(5)}, {"w": values(1, -1, 2)}
    moved = Sgd(0.5).update(params, grads, {})
    assert torch.equal(moved["w"], values(0.5, 2.5, 2))
    assert torch.equal(moved["still"], values(5))
    moved = MetaSgd(0.5).update(params, grads, {"w": values(1, 0, -1)})
    assert torch.equal(moved["w"], values(0, 2, 5))
    moved = SparseMask(0.5).update(params, grads, {"w": values(0.1, -0.1, 0)})
    assert torch.equal(moved["w"], values(0.5, 2, 2))
    moved = SparseRelu(0.5).update(params, grads, {"w": values(1, -1, 0.5)})
    assert torch.equal(moved["w"], values(0, 2, 2))


def test_the_gradient_of_a_mask_goes_straight_through():
    scores, grads = values(0.1, -0.1).requires_grad_(), {"w": values(3, 4)}
    moved = SparseMask(0.5).update({"w": values(1, 1)}, grads, {"w": scores})["w"]
    (found,) = torch.autograd.grad((moved * values(1, 10)).sum(), scores)
    assert torch.equal(found, -0.5 * grads["w"] * values(1, 10))


@pytest.mark.parametrize(("straight", "second"), [(True, -40.0), (False, 0.0)])
def test_the_gradient_of_a_relu_rate_passes_where_it_is_off_as_published(straight, second):
    scores, grads = values(0.1, -0.1).requires_grad_(), {"w": values(3, 4)}
    moved = SparseRelu(0.5, straight=straight).update({"w": values(1, 1)}, grads, {"w": scores})["w"]
    (found,) = torch.autograd.grad((moved * values(1, 10)).sum(), scores)
    assert torch.equal(found, values(-3, second))


def test_initial_masks_are_off_for_about_half_of_the_weights():
    theta = {"conv": torch.zeros(40, 30, 3, 3), "bias": torch.zeros(1000)}
    for draw in ("uniform", "kaiming"):
        scores = SparseMask(0.1, draw=draw).initial(theta, theta, seed=1)
        assert all(abs(float(s.mean())) < 1e-6 for s in scores.values())
        assert mask_sparsity(scores)[""] == pytest.approx(0.5, abs=0.05)
    assert float(scores["conv"].abs().max()) <= math.sqrt(6 / 270) * 1.1
    shifted = SparseMask(0.1, shift=1.0).initial(theta, theta)
    assert mask_sparsity(shifted) == {"conv": 0.0, "bias": 0.0, "": 0.0}


def test_initial_rates_are_drawn_from_their_range_by_seed():
    theta = {"w": torch.zeros(1000)}
    rates = MetaSgd((0.005, 0.1)).initial(theta, theta, seed=3)["w"]
    assert 0.005 <= float(rates.min()) < 0.01 < 0.09 < float(rates.max()) <= 0.1
    assert torch.equal(rates, MetaSgd((0.005, 0.1)).initial(theta, theta, seed=3)["w"])
    assert torch.equal(MetaSgd(0.3).initial(theta, theta)["w"], torch.full((1000,), 0.3))
    assert MetaSgd(0.3, per="tensor").initial(theta, theta)["w"].shape == ()
    assert SparseRelu(0.3).initial(theta, theta)["w"].unique().tolist() == pytest.approx([0.3])


def test_positives_weigh_more_while_training():
    logits, targets = values(0, 0)[:, None], values(1, 0)
    assert float(BinaryLoss()(logits, targets)) == pytest.approx(math.log(2))
    assert float(BinaryLoss(4.0)(logits, targets)) == pytest.approx(2.5 * math.log(2))


def test_an_n_way_network_adapts_by_cross_entropy(make_network, make_tasks):
    network = make_network(outputs=3)
    learner = Learner(network, cross_entropy)
    inner = inner_settings("maml", network, rate=0.5, steps=5)
    (task,) = make_tasks(1)
    batch = Batch(task.support.images, torch.tensor([0, 1, 2, 1]))
    phi, state = adapt(learner, inner, learner.parameters(), {}, learner.initial_state(), batch)
    before = learner.support_loss(learner.parameters(), {}, batch)[0]
    assert learner.support_loss(phi, state, batch)[0] < before


@pytest.mark.parametrize("protocol", ["fair", "meteor"])
@pytest.mark.parametrize("norm", ["in", "cbn", "tasknorm_i"])
def test_a_fair_prediction_does_not_depend_on_the_other_queries(norm, protocol, make_network, make_tasks):
    network = make_network(norm)
    learner = Learner(network, protocol=protocol)
    (task,) = make_tasks(1)
    inner = Inner(Sgd(0.1), adapted_names(network), steps=2, order=1)
    phi, state = adapt(learner, inner, learner.parameters(), {}, learner.initial_state(), task.support)
    images = task.query.images
    whole = learner.predict(phi, state, images, task.support.images)[:1]
    alone = learner.predict(phi, state, images[:1], task.support.images)
    assert torch.allclose(whole, alone, atol=1e-12) is (protocol == "fair" or norm == "in")


def test_tasknorm_takes_its_context_from_the_support_by_the_adapted_parameters(make_network, make_tasks):
    learner = Learner(make_network("tasknorm_i"))
    task, other = make_tasks(2)
    theta, state = learner.parameters(), learner.initial_state()
    support, images = task.support.images, task.query.images
    context = learner(theta, state, support, "context")[1]
    expected = learner(theta, context, images, "query")[0]
    torch.testing.assert_close(learner.predict(theta, state, images, support), expected)
    assert not torch.allclose(learner.predict(theta, state, images, other.support.images), expected)
