from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from landmeta.errors import DeviceError
from landmeta.learning.algorithms import ALGORITHMS
from landmeta.learning.learner import Batch, TaskTensors
from landmeta.metatraining import NumberedTask, Training, make_optimizer, meta_train
from landmeta.networks import build_network
from landmeta.task_scores import score_tasks
from landmeta.tasks import Task
from landmeta.train_config import DeviceConfig, parse_config
from landmeta.training_method import TrainingMethod, set_up_device

NETWORK = {"name": "resnet12", "bands": ["B02", "B03"], "widths": [4, 4, 4, 8], "norm": "gn"}
CODES = np.array([1, 1, 2, 2, 3, 3, 4, 4])


class Quiet:
    """Keeps the losses and nothing else."""

    def __init__(self):
        self.losses = []

    def stepped(self, training, step):
        self.losses.append(step.loss)

    def validated(self, training, scores, improved):
        pass

    def save(self, training):
        pass

    def stop(self):
        return False


def draw_task(number, target="one-vs-all"):
    """Four classes that differ in the brightness of the first band, the first one positive."""
    generator = torch.Generator().manual_seed(number)
    batches = []
    for _ in range(2):
        images = torch.rand(8, 2, 16, 16, generator=generator)
        images[:, 0] += torch.from_numpy(CODES)[:, None, None]
        classes = torch.from_numpy(CODES) - 1
        batches.append(Batch(images, classes if target == "all-classes" else (classes == 0).float()))
    task = Task("8", "fall", (1, 2, 3, 4), 1, np.arange(8), np.arange(8), CODES, CODES, "patch")
    return NumberedTask(number, task, TaskTensors(*batches))


def new(norm="gn", **tables):
    tables["outer"] = {"steps": 3, "tasks": 2, "rate": 1e-2, **tables.get("outer", {})}
    tables.setdefault("validation", {"every": 0})
    config = parse_config({"out": "r", "data": {"store": "s"}, **tables})
    settings = {**NETWORK, "norm": norm, "out": config.logits}
    network = build_network(settings, generator=torch.Generator().manual_seed(0))
    method = TrainingMethod.of(config, network)
    learned = method.initial_learned(network)
    return config, Training(network, learned, make_optimizer(network, learned, config.outer)), method


def steps(target="one-vs-all"):
    for step in itertools.count():
        yield [draw_task(2 * step, target), draw_task(2 * step + 1, target)]


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_trains_network_and_rule(algorithm):
    config, training, method = new(inner={"algorithm": algorithm, "steps": 2})
    before = {
        name: p.clone() for name, p in (dict(training.network.named_parameters()) | training.learned).items()
    }
    watch = Quiet()
    meta_train(training, steps(), method, config, watch, validate=lambda: None)
    after = dict(training.network.named_parameters()) | training.learned
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(not torch.equal(before[name], training.learned[name]) for name in training.learned)
    assert np.isfinite(watch.losses).all()


def test_judging_leaves_the_network_untouched_and_does_not_hang_on_the_order_of_queries():
    _, training, method = new(norm="cbn", inner={"steps": 2})
    before = {name: t.clone() for name, t in training.network.state_dict().items()}
    task = draw_task(1)
    first = method.outcome(training, task, ensemble=True)
    assert all(torch.equal(before[name], t) for name, t in training.network.state_dict().items())
    query = Batch(task.tensors.query.images.flip(0), task.tensors.query.targets.flip(0))
    turned = NumberedTask(1, task.task, TaskTensors(task.tensors.support, query))
    again = method.outcome(training, turned)
    np.testing.assert_allclose(again.logits[::-1], first.logits, rtol=1e-4, atol=1e-5)
    assert first.classes.shape == (8, 4)
    assert first.positions.tolist() == (CODES - 1).tolist()


def test_all_classes_have_a_logit_each():
    config, training, method = new(tasks={"target": "all-classes"})
    meta_train(training, steps("all-classes"), method, config, Quiet(), validate=lambda: None)
    outcome = method.outcome(training, draw_task(0, "all-classes"))
    assert outcome.logits.shape == outcome.unadapted.shape == (8, 4)
    assert 0 <= score_tasks([outcome]).balanced_accuracy <= 1


def test_batch_norm_keeps_the_running_state_of_training():
    config, training, method = new(norm="cbn")
    meta_train(training, steps(), method, config, Quiet(), validate=lambda: None)
    assert training.network.state_dict()["blocks.0.norm1.running_mean"].abs().sum() > 0


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_half_precision_gives_finite_gradients_in_single_precision(algorithm):
    _, training, method = new(device={"precision": "bf16"}, inner={"algorithm": algorithm})
    outer = method.outer_gradient(training, next(steps()))
    assert all(g.dtype == torch.float32 and bool(g.isfinite().all()) for g in outer.theta.values())
    assert any(g.abs().sum() > 0 for g in outer.theta.values())


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert set_up_device(DeviceConfig()) == "cpu"
    with pytest.raises(DeviceError, match="no CUDA device"):
        set_up_device(DeviceConfig(device="cuda"))
