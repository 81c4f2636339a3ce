"""Meta-training, a loop to read: draw tasks, differentiate through adaptation, step; now and then validate.

What an inner step is and how one differentiates through it belongs to `landmeta.learning`, where tasks come
from to the caller; here is what happens to the shared initialization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from landmeta.errors import TrainingError
from landmeta.learning.engines import Outer
from landmeta.learning.learner import TaskTensors
from landmeta.norms import keep_state
from landmeta.processes import ALONE, Processes
from landmeta.task_scores import TaskScores
from landmeta.tasks import Task
from landmeta.train_config import OuterConfig, TrainConfig, ValidationConfig

End = Literal["finished", "stopped early", "interrupted"]
"""Why a run ended: all steps taken, no improvement for long, or asked to."""


@dataclass(frozen=True, slots=True)
class NumberedTask:
    """A task with its number in the source, so that errors can name it, and its tiles as tensors."""

    number: int
    task: Task
    tensors: TaskTensors

    def describe(self) -> str:
        """Such as `task 12 (region 8 summer, classes 1 4 6 9, target 4)`."""
        place = " ".join((self.task.region, self.task.season)).strip()
        target = "" if self.task.target is None else f", target {self.task.target}"
        return f"task {self.number} (region {place}, classes {' '.join(map(str, self.task.classes))}{target})"


@dataclass(slots=True)
class Training:
    """All that outer steps change, and so all that a run needs to go on from where it was.

    Attributes:
        network: Its parameters are the shared initialization, its buffers the running state of the norms.
        learned: What the inner rule learns besides (rates, masks), by name.
        optimizer: Of both; the first group holds the network's parameters, the second the learned ones.
        step: Outer steps taken.
        validated: Step of the latest validation, -1 before the first.
        best: Its loss, or its balanced accuracy with the sign turned; the least so far.
        best_step: Step of that validation.
        stale: Validations since then.
        waited: The same, counted anew whenever the rate falls.
        falls: How often the rate fell to a tenth on a plateau.
    """

    network: nn.Module
    learned: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    validated: int = -1
    best: float = math.inf
    best_step: int = -1
    stale: int = 0
    waited: int = 0
    falls: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What one outer step came to, over all processes: mean query loss, gradient norm, rate."""

    loss: float
    gradient_norm: float
    rate: float


@runtime_checkable
class Method(Protocol):
    """How tasks are learned: `landmeta.training_method.TrainingMethod`, or a few lines in a test."""

    def outer_gradient(self, training: Training, tasks: Sequence[NumberedTask]) -> Outer:
        """The outer gradient at the network as it is; nothing is changed."""
        ...


@runtime_checkable
class Watch(Protocol):
    """Who is told what happens and keeps what must be kept; the same calls reach every process."""

    def stepped(self, training: Training, step: Step) -> None:
        """An outer step was taken."""

    def validated(self, training: Training, scores: TaskScores, improved: bool) -> None:
        """The network was validated; `improved` if it is the best so far."""

    def save(self, training: Training) -> None:
        """A state to go on from is due."""

    def stop(self) -> bool:
        """Whether this process was asked to end the run."""


def meta_train(
    training: Training,
    batches: Iterator[Sequence[NumberedTask]],
    method: Method,
    config: TrainConfig,
    watch: Watch,
    *,
    validate: Callable[[], TaskScores],
    processes: Processes = ALONE,
) -> End:
    """Train until all steps are taken, nothing improves any more, or someone asks to stop.

    Args:
        training: Changed in place.
        batches: For each step from `training.step` on, this process's share of its tasks.
        method: Gives the outer gradient of tasks.
        config: Settings of the run.
        watch: Is told of every step and validation, and saves.
        validate: Scores of the network as it is, the same in all processes.
        processes: Those that share the tasks.

    Raises:
        TrainingError: A loss or gradient that is no number, or a process that is gone. `training` is then
            as it was before that step.
    """
    outer, validation = config.outer, config.validation
    while True:
        if validation_is_due(training, outer.steps, validation):
            scores = validate()
            improved = judge(training, scores, config)
            watch.validated(training, scores, improved)
            watch.save(training)
        if training.step >= outer.steps:
            return "finished"
        if validation.patience and training.stale >= validation.patience:
            return "stopped early"

        batch = next(batches)
        gradient = method.outer_gradient(training, batch)
        mean, loss, stopped = mean_over_processes(gradient, outer.tasks, processes, stop=watch.stop())
        if not all_finite(mean, loss):
            raise no_number(training, batch, method, processes)
        step = take_step(training, mean, loss, outer)

        watch.stepped(training, step)
        if stopped or training.step % config.save_every == 0:
            watch.save(training)
        if stopped:
            return "interrupted"


def validation_is_due(training: Training, steps: int, settings: ValidationConfig) -> bool:
    """Every so many steps, and after the last one; not twice at the same step."""
    if not settings.every or training.validated == training.step:
        return False
    return training.step % settings.every == 0 or training.step >= steps


def judge(training: Training, scores: TaskScores, config: TrainConfig) -> bool:
    """Note a validation in the state of the run; returns whether it is the best so far."""
    by_loss = config.validation.metric == "loss"
    score = scores.loss if by_loss else -scores.balanced_accuracy
    training.validated = training.step
    if score < training.best:
        training.best, training.best_step, training.stale, training.waited = score, training.step, 0, 0
        return True
    training.stale += 1
    training.waited += 1
    if config.outer.schedule == "plateau" and training.waited >= config.outer.plateau_patience:
        training.falls, training.waited = training.falls + 1, 0
    return False


def mean_over_processes(
    gradient: Outer, tasks: int, processes: Processes, *, stop: bool = False
) -> tuple[Outer, float, bool]:
    """The gradient, mean loss and norm state over the tasks of all processes, and whether any wants to stop.

    A process contributes by its share of the `tasks`; all of it travels in one message.
    """
    share = len(gradient.losses) / tasks
    flat = {("network", name): share * value for name, value in gradient.theta.items()}
    flat |= {("learned", name): share * value for name, value in gradient.learned.items()}
    states = ((layer, key, value) for layer, kept in gradient.state.items() for key, value in kept.items())
    flat |= {(layer, key): share * value for layer, key, value in states}
    wishes = gradient.losses.new_tensor([float(gradient.losses.sum()) / tasks, float(stop)])
    summed = processes.sum({**flat, ("wishes", ""): wishes})
    loss, stops = summed["wishes", ""].tolist()
    mean = Outer(
        {name: summed["network", name] for name in gradient.theta},
        {name: summed["learned", name] for name in gradient.learned},
        gradient.losses,
        {layer: {key: summed[layer, key] for key in kept} for layer, kept in gradient.state.items()},
    )
    return mean, loss, stops > 0


def all_finite(gradient: Outer, loss: float) -> bool:
    """Whether loss and gradients are numbers."""
    tensors = [*gradient.theta.values(), *gradient.learned.values()]
    return math.isfinite(loss) and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def no_number(
    training: Training, batch: Sequence[NumberedTask], method: Method, processes: Processes
) -> TrainingError:
    """The error that names the tasks whose loss or gradient is no number, each computed again by itself."""
    named = []
    for task in batch:
        alone = method.outer_gradient(training, [task])
        if not all_finite(alone, float(alone.losses.sum())):
            named.append(task.describe())
    found = [name for names in processes.gather(named) for name in names]
    told = "; ".join(found) or "no task by itself, the sum of their gradients"
    msg = f"the loss or its gradient is no number at outer step {training.step + 1}: {told}"
    return TrainingError(msg, "lower inner.rate or outer.rate, set outer.clip_norm, or look at these tiles")


def take_step(training: Training, gradient: Outer, loss: float, settings: OuterConfig) -> Step:
    """One step of the optimizer, clipped and with the rate of its schedule."""
    parameters = dict(training.network.named_parameters())
    for name, parameter in parameters.items():
        found = gradient.theta.get(name)  # None and not 0: else weights that never train would decay
        parameter.grad = None if found is None else found.to(parameter.dtype)
    for name, tensor in training.learned.items():
        tensor.grad = gradient.learned[name]
    limit = settings.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(parameters.values(), limit)
    if settings.clip_value:
        nn.utils.clip_grad_value_(parameters.values(), settings.clip_value)
    factor = rate_factor(training, settings)
    rates = (settings.rate * factor, (settings.learned_rate or settings.rate) * factor)
    for group, rate in zip(training.optimizer.param_groups, rates, strict=False):
        group["lr"] = rate
    training.optimizer.step()
    keep_state(training.network, gradient.state)
    training.step += 1
    return Step(loss, float(norm), rates[0])


def rate_factor(training: Training, settings: OuterConfig) -> float:
    """What the schedule makes of the rate at this step, from 0 to 1."""
    warm = min(1.0, (training.step + 1) / (settings.warmup + 1))
    if settings.schedule == "plateau":
        return warm * 0.1**training.falls
    past = (training.step - settings.warmup) / (settings.steps - settings.warmup)
    left = 1 - max(0.0, past)
    if settings.schedule == "linear":
        return warm * left
    return warm * (0.5 - 0.5 * math.cos(math.pi * left)) if settings.schedule == "cosine" else warm


def make_optimizer(
    network: nn.Module, learned: dict[str, Tensor], settings: OuterConfig
) -> torch.optim.Optimizer:
    """Adam or plain gradient descent; weight decay on the network alone."""
    groups = [
        {"params": list(network.parameters()), "weight_decay": settings.weight_decay},
        {"params": list(learned.values()), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.rate)
    return torch.optim.Adam(groups, settings.rate)
