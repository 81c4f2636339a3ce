"""How a run learns its tasks: algorithm, engine, loss and precision, from its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landmeta.devices import choose_device
from landmeta.learning.algorithms import (
    ALGORITHMS,
    MakeOptimizer,
    cycled_minibatches,
    inner_settings,
    reptile_direction,
)
from landmeta.learning.engines import Outer, outer_gradient
from landmeta.learning.inner import Inner, adapt
from landmeta.learning.learner import Batch, BinaryLoss, Learner, Params, cross_entropy
from landmeta.metatraining import NumberedTask, Training
from landmeta.networks import Network
from landmeta.norms import initial_state
from landmeta.task_scores import TaskOutcome
from landmeta.train_config import DeviceConfig, TrainConfig

_MINIBATCHES = 4313
"""Keeps Reptile's draws of minibatches apart from those of tiles."""

_OUTSIDE = ("order", "minibatch", "optimizer", "last_step_only")
"""Options that are not the rule's."""


def set_up_device(settings: DeviceConfig) -> str:
    """Set threads and the precision of matrix products for this process; returns `cpu` or `cuda`.

    Raises:
        DeviceError: CUDA is asked for where torch sees none.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return choose_device(settings.device, tf32=settings.precision == "tf32")


@dataclass(frozen=True, slots=True)
class TrainingMethod:
    """The outer gradient of tasks while training, and what becomes of tasks at test.

    Attributes:
        config: Settings of the run.
        training: Inner loop of training.
        test: Inner loop of validation and test.
        device: `cpu` or `cuda`.
    """

    config: TrainConfig
    training: Inner
    test: Inner
    device: str

    @classmethod
    def of(cls, config: TrainConfig, network: Network, device: str = "cpu") -> TrainingMethod:
        """The method of a run for networks like this one."""
        inner, validation = config.inner, config.validation
        options = {key: value for key, value in inner.options.items() if key not in _OUTSIDE}

        def loop(steps: int, rate: float) -> Inner:
            return inner_settings(
                inner.algorithm,
                network,
                rate=rate,
                steps=steps,
                order=inner.options.get("order"),
                affine=inner.adapt_affine,
                rule=ALGORITHMS[inner.algorithm].rule(rate, **options) if options else None,
            )

        test = loop(validation.inner_steps or inner.steps, validation.inner_rate or inner.rate)
        return cls(config, loop(inner.steps, inner.rate), test, device)

    def initial_learned(self, network: Network) -> Params:
        """What the inner rule learns besides the network, as it is at first."""
        theta = {name: value.detach() for name, value in network.named_parameters()}
        return self.training.rule.initial(theta, self.training.adapted, self.config.seed)

    def outer_gradient(self, training: Training, tasks: Sequence[NumberedTask]) -> Outer:
        """The outer gradient at the network as it is; nothing is changed."""
        learner = self._learner(training)
        theta = learner.parameters()
        with self._precision():
            if ALGORITHMS[self.config.inner.algorithm].displacement:
                outer = self._reptile(learner, theta, tasks)
            else:
                outer = outer_gradient(
                    learner,
                    self.training,
                    theta,
                    training.learned,
                    [task.tensors for task in tasks],
                    engine=self.config.inner.engine,
                    chunk=self.config.inner.chunk or None,
                )
        kept = {layer: outer.state[layer] for layer, held in initial_state(training.network).items() if held}
        return replace(outer, state=kept)

    def _reptile(self, learner: Learner, theta: Params, tasks: Sequence[NumberedTask]) -> Outer:
        """Reptile learns from support and query alike, in minibatches."""
        options, batches = self.config.inner.options, []
        for task in tasks:
            rng = np.random.default_rng((_MINIBATCHES, self.config.seed, task.number))
            both = task.tensors.support, task.tensors.query
            every = Batch(torch.cat([b.images for b in both]), torch.cat([b.targets for b in both]))
            size = options.get("minibatch", len(every.targets))
            batches.append(cycled_minibatches(every, size, self.training.steps, rng))
        last = options.get("last_step_only", False)
        return reptile_direction(
            learner, self.training.adapted, theta, batches, optimizer=self._optimizer(), last_step_only=last
        )

    def _optimizer(self) -> MakeOptimizer:
        rate = self.config.inner.rate
        if self.config.inner.options.get("optimizer", "sgd") == "adam":
            return partial(torch.optim.Adam, lr=rate, betas=(0.0, 0.999))
        return partial(torch.optim.SGD, lr=rate)

    @torch.no_grad()
    def outcome(self, training: Training, task: NumberedTask, *, ensemble: bool = False) -> TaskOutcome:
        """Adapt to a task's support and predict its queries.

        Args:
            training: Whose network and learned rule are judged; they are left untouched.
            task: With support and query.
            ensemble: Also adapt a model of each class, and let them vote.
        """
        learner, support, query = self._learner(training), task.tensors.support, task.tensors.query
        theta, state = learner.parameters(), learner.initial_state()
        with self._precision():
            adapted = self._predict(learner, training, task, support.targets)
            before = learner.predict(theta, state, query.images, support.images)
        loss = float(learner.loss(adapted.float(), query.targets))
        return TaskOutcome(
            loss,
            _flat(adapted),
            _flat(before),
            query.targets.long().cpu().numpy(),
            **(self._votes(learner, training, task) if ensemble else {}),
        )

    def _predict(self, learner: Learner, training: Training, task: NumberedTask, targets: Tensor) -> Tensor:
        """Logits of the queries after adaptation to the support with these targets."""
        support = Batch(task.tensors.support.images, targets)
        theta, state = learner.parameters(), learner.initial_state()
        phi, state = adapt(learner, self.test, theta, training.learned, state, support)
        return learner.predict(phi, state, task.tensors.query.images, support.images)

    def _votes(self, learner: Learner, training: Training, task: NumberedTask) -> dict[str, Any]:
        """Logits (query, class) of a model adapted to each class, and the true positions."""
        classes, like = np.array(task.task.classes), task.tensors.support.targets
        columns = []
        with self._precision():
            for code in classes:
                targets = torch.from_numpy(task.task.support_codes == code).to(like)
                columns.append(_flat(self._predict(learner, training, task, targets)))
        positions = (task.task.query_codes[:, None] == classes).argmax(1)
        return {"classes": np.stack(columns, 1), "positions": positions}

    def _learner(self, training: Training) -> Learner:
        weight = self.config.inner.pos_weight or float(self.config.tasks.ways)
        loss = BinaryLoss(weight) if self.config.logits == 1 else cross_entropy
        return Learner(training.network, loss, self.config.inner.protocol)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        bf16 = self.config.device.precision == "bf16"
        with torch.autocast(self.device, torch.bfloat16) if bf16 else nullcontext():
            yield


def _flat(logits: Tensor) -> np.ndarray:
    """(query,) of a single logit, else (query, class)."""
    values: np.ndarray = logits.float().cpu().numpy()
    return values[:, 0] if values.shape[1] == 1 else values
