from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from landmeta.errors import CheckpointError, TrainingError
from landmeta.learning.engines import Outer
from landmeta.learning.learner import Batch, TaskTensors
from landmeta.metatraining import (
    NumberedTask,
    Training,
    judge,
    make_optimizer,
    mean_over_processes,
    meta_train,
    rate_factor,
    take_step,
)
from landmeta.networks import build_network
from landmeta.processes import Processes
from landmeta.run_state import load_training, read_notes, save_training
from landmeta.task_scores import TaskScores
from landmeta.tasks import Task
from landmeta.train_config import parse_config

NETWORK = {"name": "resnet12", "bands": ["B02", "B03"], "widths": [4, 4, 4, 4], "norm": "cbn"}


def settings(**tables):
    tables["outer"] = {"steps": 6, "tasks": 2, "rate": 1e-2, **tables.get("outer", {})}
    tables["validation"] = {"every": 0, **tables.get("validation", {})}
    return parse_config({"out": "r", "data": {"store": "s"}, **tables})


def draw_task(number):
    generator = torch.Generator().manual_seed(number)
    images, targets = torch.rand(4, 2, 16, 16, generator=generator), torch.tensor([1.0, 0, 0, 0])
    rows, codes = np.arange(4), np.array([1, 2, 3, 4])
    task = Task("8", "summer", (1, 2, 3, 4), 1, rows, rows, codes, codes, "patch")
    return NumberedTask(number, task, TaskTensors(Batch(images, targets), Batch(images, targets)))


def batches(first_step=0, tasks=2):
    for step in itertools.count(first_step):
        yield [draw_task(step * tasks + i) for i in range(tasks)]


class Plain:
    """Plain supervised gradients of the queries, as the simplest method; `broken` tasks have no number."""

    def __init__(self, broken=()):
        self.broken = [draw_task(number).tensors.query.images for number in broken]

    def outer_gradient(self, training, tasks):
        losses = []
        for task in (numbered.tensors for numbered in tasks):
            logits = training.network(task.query.images)[:, 0]
            scale = training.learned["scale"] if training.learned else 1.0
            bad = any(torch.equal(task.query.images, images) for images in self.broken)
            loss = F.binary_cross_entropy_with_logits(logits * scale, task.query.targets)
            losses.append(loss * (math.nan if bad else 1.0))
        names, parameters = zip(*training.network.named_parameters(), strict=True)
        found = torch.autograd.grad(sum(losses) / len(losses), [*parameters, *training.learned.values()])
        network = dict(zip(names, found, strict=False))
        learned = dict(zip(training.learned, found[len(names) :], strict=True))
        state = {"block1.norm1": {k: v + 1.0 for k, v in _buffers(training.network).items()}}
        return Outer(network, learned, torch.stack(losses).detach(), {**_all_buffers(training), **state})


def _buffers(network):
    return dict(network.blocks[0].norm1.named_buffers())


def _all_buffers(training):
    from landmeta.norms import initial_state

    return initial_state(training.network)


class Watch:
    """Remembers what it was told; saves to `path`; asks to stop after step `stop_after`."""

    def __init__(self, path=None, stop_after=None):
        self.path, self.stop_after = path, stop_after
        self.steps, self.scores, self.saved, self.taken = [], [], [], 0

    def stepped(self, training, step):
        self.taken = training.step
        self.steps.append(step)

    def validated(self, training, scores, improved):
        self.scores.append((training.step, scores.loss, improved))

    def save(self, training):
        self.saved.append(training.step)
        if self.path is not None:
            save_training(training, self.path, {"note": training.step})

    def stop(self):
        return self.stop_after is not None and self.taken + 1 >= self.stop_after


def new(config, *, learned=True):
    network = build_network(NETWORK, generator=torch.Generator().manual_seed(0))
    extra = {"scale": torch.ones((), requires_grad=True)} if learned else {}
    return Training(network, extra, make_optimizer(network, extra, config.outer))


def scores_of(losses):
    values = iter(losses)
    return lambda: TaskScores(1, next(values), 0.5, 0.1, 0.5, 0.5, 0.1, 0.5, 0.5)


def never():
    pytest.fail("no validation is due")


def same(a, b):
    left, right = (t.network.state_dict() | t.learned for t in (a, b))
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_run_stopped_and_resumed_equals_the_undisturbed_one_bit_for_bit(tmp_path, optimizer, stop_after):
    config = settings(outer={"optimizer": optimizer, "schedule": "cosine", "warmup": 2})
    whole, first, second = new(config), new(config), new(config)
    assert meta_train(whole, batches(), Plain(), config, Watch(), validate=never) == "finished"
    watch = Watch(tmp_path / "state.safetensors", stop_after)
    assert meta_train(first, batches(), Plain(), config, watch, validate=never) == "interrupted"
    assert watch.saved == [stop_after]
    load_training(second, tmp_path / "state.safetensors")
    assert second.step == stop_after
    meta_train(second, batches(stop_after), Plain(), config, Watch(), validate=never)
    assert same(whole, second)
    assert not same(whole, first)


def test_a_resumed_run_validates_and_falls_on_the_plateau_as_the_undisturbed_one(tmp_path):
    config = settings(
        outer={"schedule": "plateau", "plateau_patience": 1, "steps": 4},
        validation={"every": 1, "patience": 9},
    )
    losses = [1.0, 2.0, 0.5, 0.6, 0.7]
    whole, resumed, watch, again = new(config), new(config), Watch(), Watch()
    meta_train(whole, batches(), Plain(), config, watch, validate=scores_of(losses))
    assert [improved for *_, improved in watch.scores] == [True, False, True, False, False]
    assert [round(math.log10(step.rate)) for step in watch.steps] == [-2, -3, -3, -4]
    assert (whole.best, whole.best_step, whole.stale) == (0.5, 2, 2)
    first = Watch(tmp_path / "s", stop_after=2)
    half = new(config)
    meta_train(half, batches(), Plain(), config, first, validate=scores_of(losses))
    load_training(resumed, tmp_path / "s")
    meta_train(resumed, batches(2), Plain(), config, again, validate=scores_of(losses[2:]))
    assert first.scores + again.scores == watch.scores
    assert same(whole, resumed)


def test_the_rate_falls_after_as_many_validations_without_improvement_counted_anew_each_time():
    config = settings(outer={"schedule": "plateau", "plateau_patience": 2}, validation={"every": 1})
    training, falls = new(config), []
    validate = scores_of([1.0, 1.1, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.9])
    for _ in range(10):
        judge(training, validate(), config)
        falls.append(training.falls)
    assert falls == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_the_run_stops_early_when_validations_no_longer_improve():
    config = settings(outer={"steps": 100}, validation={"every": 2, "patience": 2})
    training, watch = new(config), Watch()
    end = meta_train(training, batches(), Plain(), config, watch, validate=scores_of([1.0, 0.9, 1.1, 1.0]))
    assert (end, training.step, training.best_step) == ("stopped early", 6, 2)


def test_a_loss_that_is_no_number_names_its_task_and_leaves_the_network_as_it_was():
    config = settings()
    training, before = new(config), new(config)
    meta_train(before, batches(), Plain(), settings(outer={"steps": 2}), Watch(), validate=never)
    with pytest.raises(
        TrainingError, match=r"outer step 3: task 5 \(region 8 summer, classes 1 2 3 4, target 1\)$"
    ):
        meta_train(training, batches(), Plain(broken=[5]), config, Watch(), validate=never)
    assert same(training, before)
    assert training.step == 2


def test_clipping_bounds_the_outer_step_only():
    outer = {"optimizer": "sgd", "rate": 1.0, "steps": 1, "clip_norm": 0.01, "weight_decay": 0.0}
    config = settings(outer=outer)
    training, start, watch = new(config), new(config), Watch()
    meta_train(training, batches(), Plain(), config, watch, validate=never)
    pairs = zip(training.network.parameters(), start.network.parameters(), strict=True)
    moved = torch.cat([(a - b).flatten() for a, b in pairs])
    assert torch.linalg.vector_norm(moved).item() == pytest.approx(0.01, 1e-3)
    assert watch.steps[0].gradient_norm > 0.01


def test_weight_decay_pulls_the_network_and_not_what_the_rule_learns():
    config = settings(outer={"optimizer": "sgd", "rate": 0.1, "weight_decay": 1.0})
    learned = {"scale": torch.ones(1, requires_grad=True)}
    optimizer = make_optimizer(torch.nn.Linear(2, 1), learned, config.outer)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1.0, 0.0]


def test_what_has_no_gradient_stays_whatever_the_weight_decay():
    config = settings(outer={"weight_decay": 1.0})
    training, start = new(config), new(config)
    gradient = Plain().outer_gradient(training, next(batches()))
    del gradient.theta["blocks.0.norm1.weight"]
    take_step(training, gradient, 1.0, config.outer)
    before, after = (dict(t.network.named_parameters()) for t in (start, training))
    assert [name for name in before if torch.equal(before[name], after[name])] == ["blocks.0.norm1.weight"]


def test_the_state_of_the_norms_moves_with_the_steps():
    config = settings(outer={"steps": 3})
    training = new(config)
    meta_train(training, batches(), Plain(), config, Watch(), validate=never)
    assert _buffers(training.network)["running_mean"].tolist() == [3.0] * 4


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 0.854, 0.5, 0.146]),
        ("plateau", [0.005, 0.01, 0.01, 0.01, 0.01]),
    ],
)
def test_the_rate_follows_its_schedule(schedule, expected):
    config = settings(outer={"steps": 5, "warmup": 1, "schedule": schedule}, validation={"every": 1})
    training = new(config)
    training.falls = 2
    found = []
    for training.step in range(5):
        found.append(rate_factor(training, config.outer))
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_mean_over_processes_weighs_each_by_its_tasks():
    class Two(Processes):
        """Its peer holds one task with gradient 4 and loss 8, and wants to stop."""

        def sum(self, tensors):
            theirs = {("network", "w"): 4.0 / 3, ("wishes", ""): torch.tensor([8.0 / 3, 1.0])}
            return {key: value + theirs.get(key, 0.0) for key, value in tensors.items()}

    mine = Outer({"w": torch.tensor([1.0])}, {}, torch.tensor([2.0, 5.0]), {})
    mean, loss, stop = mean_over_processes(mine, 3, Two())
    assert mean.theta["w"].item() == pytest.approx(2.0)
    assert (loss, stop) == (pytest.approx(5.0), True)


def test_the_saved_state_of_another_network_is_refused(tmp_path):
    config = settings()
    save_training(new(config), tmp_path / "s", {"note": 1})
    assert read_notes(tmp_path / "s")["note"] == 1
    other = new(config)
    other.network = build_network({**NETWORK, "widths": [8, 4, 4, 4]})
    with pytest.raises(CheckpointError, match="another network") as caught:
        load_training(other, tmp_path / "s")
    assert "\n" not in str(caught.value)
    (tmp_path / "s").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_training(new(config), tmp_path / "s")
