from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landmeta.errors import NetworkError
from landmeta.learning.algorithms import inner_settings
from landmeta.learning.engines import ENGINES, outer_gradient
from landmeta.learning.inner import Inner, MetaSgd, Sgd, SparseMask
from landmeta.learning.learner import Batch, BinaryLoss, Learner, TaskTensors
from landmeta.norms import NORMS

OTHERS = [name for name in ENGINES if name != "loop"]


def gradients(learner, inner, tasks, engine, chunk=None, state=None):
    theta = learner.parameters()
    learned = inner.rule.initial(theta, inner.adapted)
    return outer_gradient(learner, inner, theta, learned, tasks, engine=engine, chunk=chunk, state=state)


def assert_same(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found.theta, expected.theta, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.learned, expected.learned, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.losses, expected.losses, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.state, expected.state, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("steps", [1, 3, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", NORMS)
def test_engines_agree_for_every_norm(norm, steps, make_conv4, make_tasks):
    network, tasks = make_conv4(norm), make_tasks(2, images=3)
    learner = Learner(network, BinaryLoss(4.0))
    inner = inner_settings("maml", network, rate=0.1, steps=steps)
    expected = gradients(learner, inner, tasks, "loop")
    for engine in OTHERS:
        assert_same(gradients(learner, inner, tasks, engine), expected)


@pytest.mark.parametrize("engine", OTHERS)
def test_engines_agree_on_resnet12_with_adapted_norms_in_chunks(engine, make_network, make_tasks):
    network, tasks = make_network(), make_tasks()
    inner = inner_settings("maml", network, rate=0.1, steps=2, affine=True)
    learner = Learner(network)
    assert_same(gradients(learner, inner, tasks, engine, 2), gradients(learner, inner, tasks, "loop"))


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("rule", [MetaSgd((0.01, 0.2)), MetaSgd(0.1, per="tensor"), SparseMask(0.2)])
@pytest.mark.parametrize("order", [1, 2])
def test_engines_agree_on_what_rules_learn(engine, rule, order, make_conv4, make_tasks):
    network, tasks = make_conv4(), make_tasks(images=3)
    inner = inner_settings("maml", network, rate=0.1, steps=2, order=order, rule=rule)
    learner = Learner(network)
    expected = gradients(learner, inner, tasks, "loop")
    assert any(g.abs().max() > 0 for g in expected.learned.values())
    assert_same(gradients(learner, inner, tasks, engine), expected)


@pytest.mark.parametrize("norm", ["in", "cbn", "tasknorm_i"])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_outer_gradients_through_two_steps_are_finite_differences(norm, engine, make_conv4, make_tasks):
    network, tasks = make_conv4(norm), make_tasks(2, images=3)
    learner, inner = Learner(network), inner_settings("maml", network, rate=0.1, steps=2)
    theta, step = learner.parameters(), 1e-6
    found = outer_gradient(learner, inner, theta, {}, tasks, engine=engine).theta
    generator = torch.Generator().manual_seed(0)
    along = {n: torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in theta.items()}

    def loss(sign):
        moved = {name: value + sign * step * along[name] for name, value in theta.items()}
        return outer_gradient(learner, inner, moved, {}, tasks).losses.mean()

    slope = (loss(1) - loss(-1)) / (2 * step)
    torch.testing.assert_close(sum((found[n] * along[n]).sum() for n in theta), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_loss_of_a_fourth_power_gives_what_is_derived_by_hand(engine):
    """METHODS 3.1: w^4, rate 0.1, two steps from 1: phi_2 = 0.5136; by METEOR's rule it would be 0.6173."""

    class Power(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, images, normalize):
            del normalize
            return self.w**4 + 0 * images.sum()

    learner = Learner(Power(), loss=lambda logits, targets: logits + 0 * targets.sum())
    empty = Batch(torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    found = gradients(learner, Inner(Sgd(0.1), ("w",), 2), [TaskTensors(empty, empty)], engine)
    assert float(found.losses) == pytest.approx(0.5136**4)
    # d phi_2 / d w = (1 - 1.2 w^2) (1 - 1.2 phi_1^2) with phi_1 = 0.6
    assert float(found.theta["w"]) == pytest.approx(4 * 0.5136**3 * -0.2 * 0.568)


def test_the_gradient_is_the_mean_over_tasks(make_conv4, make_tasks):
    network, tasks = make_conv4(), make_tasks(2)
    learner, inner = Learner(network), inner_settings("maml", network, rate=0.1)
    both = gradients(learner, inner, tasks, "loop").theta
    each = [gradients(learner, inner, [task], "loop").theta for task in tasks]
    torch.testing.assert_close(both, {n: (each[0][n] + each[1][n]) / 2 for n in both})


def test_parameters_that_have_no_part_get_a_gradient_of_zero(make_conv4, make_tasks):
    network = make_conv4("tasknorm_i")
    learner = Learner(network, protocol="meteor")
    network.register_parameter("idle", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    inner = inner_settings("fomaml", network, rate=0.1)
    inner = replace(inner, adapted=tuple(name for name in inner.adapted if name != "idle"))
    assert torch.equal(
        gradients(learner, inner, make_tasks(1), "loop").theta["idle"], torch.zeros(2).double()
    )


@pytest.mark.parametrize("engine", ["loop", "checkpoint", "hvp"])
def test_running_moments_that_tasks_share_go_from_task_to_task(engine, make_network, make_tasks):
    network = make_network("cbn", state="global")
    learner, tasks = Learner(network), make_tasks(2)
    inner = inner_settings("maml", network, rate=0.1)
    after_first = gradients(learner, inner, tasks[:1], engine).state
    expected = gradients(learner, inner, tasks[1:], engine, state=after_first).state
    torch.testing.assert_close(gradients(learner, inner, tasks, engine).state, expected)


@pytest.mark.parametrize("engine", ["vmap", "threads"])
def test_tasks_that_hang_on_each_other_are_not_taken_at_once(engine, make_network, make_tasks):
    network = make_network("cbn", state="global")
    inner = inner_settings("maml", network, rate=0.1)
    with pytest.raises(NetworkError, match="starts from the state") as error:
        gradients(Learner(network), inner, make_tasks(2), engine)
    assert "engine" in error.value.hint


@pytest.mark.parametrize("norm", ["in", "tasknorm_i"])
def test_threads_give_the_same_bits_however_many_they_are(norm, make_network, make_tasks):
    network, tasks = make_network(norm), make_tasks(5)
    inner = inner_settings("maml", network, rate=0.1, steps=2)
    before, found = torch.get_num_threads(), {}
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found[count] = gradients(Learner(network), inner, tasks, "threads")
        assert torch.get_num_threads() == count
    torch.set_num_threads(before)
    for count in (2, 3):
        torch.testing.assert_close(found[count].theta, found[1].theta, rtol=0, atol=0)
        torch.testing.assert_close(found[count].losses, found[1].losses, rtol=0, atol=0)


def single(task: TaskTensors) -> TaskTensors:
    """The task in float32."""
    return TaskTensors(*(Batch(b.images.float(), b.targets) for b in (task.support, task.query)))


def test_threads_compute_in_the_precision_of_the_caller(make_network, make_tasks):
    network, tasks = make_network().float(), [single(task) for task in make_tasks(2)]
    inner = inner_settings("maml", network, rate=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        low = gradients(Learner(network), inner, tasks, "threads")
        expected = gradients(Learner(network), inner, tasks, "loop")
    assert not torch.equal(low.losses, gradients(Learner(network), inner, tasks, "threads").losses)
    torch.testing.assert_close(low.losses, expected.losses, rtol=1e-2, atol=1e-2)


def test_a_failure_on_a_thread_reaches_the_caller(make_network, make_tasks):
    network, before = make_network(), torch.get_num_threads()
    inner = inner_settings("maml", network, rate=0.1)
    tasks = make_tasks(2)
    broken = TaskTensors(Batch(tasks[1].support.images[:, :1], tasks[1].support.targets), tasks[1].query)
    with pytest.raises(RuntimeError, match="channels"):
        gradients(Learner(network), inner, [tasks[0], broken], "threads")
    assert torch.get_num_threads() == before


def test_vmap_refuses_tasks_of_several_sizes(make_network, make_tasks):
    network = make_network()
    inner = inner_settings("maml", network, rate=0.1)
    with pytest.raises(NetworkError, match="one size"):
        gradients(Learner(network), inner, make_tasks(1) + make_tasks(1, images=3), "vmap")


def test_vmap_refuses_norms_that_would_give_wrong_gradients_silently(make_tasks):
    class Native(nn.Sequential):
        def forward(self, images, normalize):
            del normalize
            return super().forward(images)

    network = Native(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(),
                     nn.Linear(4 * 14 * 14, 1)).double()  # fmt: skip
    inner = Inner(Sgd(0.1), tuple(name for name, _ in network.named_parameters()))
    with pytest.raises(NetworkError, match="batch_norm") as error:
        gradients(Learner(network), inner, make_tasks(2), "vmap")
    assert "loop" in error.value.hint


def test_an_unknown_engine_is_named_beside_those_that_exist(make_network, make_tasks):
    network = make_network()
    with pytest.raises(NetworkError, match="'fast'") as error:
        gradients(Learner(network), inner_settings("maml", network, rate=0.1), make_tasks(1), "fast")
    assert "checkpoint" in error.value.hint


def test_nothing_given_is_changed(make_conv4, make_tasks):
    network, tasks = make_conv4("cbn"), make_tasks(2)
    learner, inner = Learner(network), inner_settings("maml", network, rate=0.1)
    theta, state = learner.parameters(), learner.initial_state()
    before = {n: v.clone() for n, v in theta.items()}
    moments = {n: {k: v.clone() for k, v in s.items()} for n, s in state.items()}
    for engine in ENGINES:
        outer_gradient(learner, inner, theta, {}, tasks, engine=engine, state=state)
    torch.testing.assert_close(theta, before, rtol=0, atol=0)
    torch.testing.assert_close(state, moments, rtol=0, atol=0)


def test_a_network_that_is_no_network_of_ours_is_taken_by_vmap_as_by_the_loop(make_tasks):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 3, dtype=torch.float64)[None])

        def forward(self, images, normalize=None):
            del normalize
            return F.linear(torch.tanh(images.mean(dim=(2, 3)) * 3), self.weight)

    learner, inner, tasks = Learner(Plain()), Inner(Sgd(0.5), ("weight",), 2), make_tasks(2)
    assert_same(gradients(learner, inner, tasks, "vmap"), gradients(learner, inner, tasks, "loop"))
