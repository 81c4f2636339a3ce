"""Engine `vmap`: several tasks at once.

Where every layer treats images alone, the tasks' images follow each other in one batch, and only what has
been adapted has an axis of tasks: the first step, in which all tasks share theta, then runs as one batch.
Other norms need torch.func.vmap. The outer gradient is taken outside of both, so that shared parameters
stay shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landmeta.engines.run import Result, Run, added, image_by_image, laid
from landmeta.errors import NetworkError
from landmeta.inner import Inner, adapt, constant, functional_gradient, inner_step
from landmeta.learner import Batch, Learner, Params, TaskTensors
from landmeta.networks import Conv4, ResNet12
from landmeta.norms import State, norm_layers


def together(run: Run, tasks: Sequence[TaskTensors]) -> Result:
    """As many tasks at a time as the run says, by default all."""
    network = run.learner.network
    if any(layer.shares_state for layer in norm_layers(network)):
        msg = "engine 'vmap' takes tasks at once, but each of them starts from the state the one before left"
        raise NetworkError(msg, "choose engine = 'loop', or norm_options = {state = 'per_task'}")
    in_line = isinstance(network, ResNet12 | Conv4) and image_by_image(network)
    losses_of = _in_one_batch if in_line else _vectorized
    losses, states = [], []
    total: list[Tensor] = []
    chunk = run.chunk or len(tasks)
    for start in range(0, len(tasks), chunk):
        loss, state = losses_of(run, _stacked(tasks[start : start + chunk]))
        total = added(total, run.gradient(loss.sum() / len(tasks)))
        losses.append(loss.detach())
        states.extend(_unstacked(constant(state), len(loss)))
    return torch.cat(losses), total, run.kept(states)


def _in_one_batch(run: Run, tasks: TaskTensors) -> tuple[Tensor, State]:
    """Query losses with the tasks' images in one batch; the norms have no state."""
    learner, count = run.learner, len(tasks.support.images)
    wide = {name: run.theta[name].expand(count, *run.theta[name].shape) for name in run.inner.adapted}
    support, query = _in_line(tasks.support), _in_line(tasks.query)

    def gradient(
        learner: Learner, inner: Inner, params: Params, state: State, batch: Batch
    ) -> tuple[Params, State]:
        if inner.order == 1:
            params = {name: v.detach().requires_grad_(name in wide) for name, v in params.items()}
        loss = _losses(learner, params, batch, count).sum()
        wanted = [params[name] for name in wide]
        return dict(
            zip(wide, torch.autograd.grad(loss, wanted, create_graph=inner.order == 2), strict=True)
        ), state

    step = partial(inner_step, gradient=gradient)
    theta = {**run.theta, **wide}
    phi, state = adapt(learner, run.inner, theta, run.learned, run.state, support, step)
    return _losses(learner, phi, query, count), state


def _losses(learner: Learner, params: Params, batch: Batch, tasks: int) -> Tensor:
    """Loss of each task's share of a batch."""
    logits = learner(params, {}, batch.images, "context")[0]
    shares = (v.unflatten(0, (tasks, -1)) for v in (logits, batch.targets))
    losses: Tensor = torch.vmap(learner.loss)(*shares)
    return losses


def _in_line(batch: Batch) -> Batch:
    """The images of all tasks, one task after the other."""
    return Batch(laid(batch.images.flatten(0, 1)), batch.targets.flatten(0, 1))


def _vectorized(run: Run, tasks: TaskTensors) -> tuple[Tensor, State]:
    """Query losses and states by torch.func.vmap."""
    axes = (tasks.support.images, tasks.support.targets, tasks.query.images, tasks.query.targets)
    with _NoNativeNorms():
        result: tuple[Tensor, State] = torch.vmap(partial(_task_loss, run))(*axes)
    return result


def _task_loss(run: Run, *task: Tensor) -> tuple[Tensor, State]:
    """Query loss of one task under vmap."""
    support, query = Batch(task[0], task[1]), Batch(task[2], task[3])
    step = partial(inner_step, gradient=functional_gradient)
    phi, state = adapt(run.learner, run.inner, run.theta, run.learned, run.state, support, step)
    return run.learner.query_loss(phi, state, TaskTensors(support, query))


def _stacked(tasks: Sequence[TaskTensors]) -> TaskTensors:
    def stack(batches: Sequence[Batch]) -> Batch:
        if len({(b.images.shape, b.targets.shape) for b in batches}) > 1:
            msg = "engine 'vmap' takes tasks of one size at once, found several"
            raise NetworkError(msg, "choose engine = 'loop' or chunk = 1")
        return Batch(torch.stack([b.images for b in batches]), torch.stack([b.targets for b in batches]))

    return TaskTensors(stack([t.support for t in tasks]), stack([t.query for t in tasks]))


def _unstacked(state: State, count: int) -> list[State]:
    return [
        {layer: {key: v[i] for key, v in values.items()} for layer, values in state.items()}
        for i in range(count)
    ]


_NATIVE_NORMS = (
    *(torch.batch_norm, torch.instance_norm, torch.layer_norm),
    *(F.batch_norm, F.instance_norm, F.layer_norm),
)


class _NoNativeNorms(TorchFunctionMode):
    """Refuses torch's own batch, instance and layer norm, which give wrong second derivatives (9.2)."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in _NATIVE_NORMS:
            msg = f"torch.{function.__name__} has wrong second derivatives under engine 'vmap'"
            raise NetworkError(msg, "use a norm of landmeta.norms, or engine 'loop'")
        return function(*args, **(kwargs or {}))
