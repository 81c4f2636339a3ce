"""Engine `vmap`: several tasks at once.

Where every layer treats images alone, the tasks' images follow each other in one batch, and only what has
been adapted has an axis of tasks: the first step, in which all tasks share theta, then runs as one batch.
Other norms need torch.func.vmap. The outer gradient is taken outside of both, so that shared parameters
stay shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landmeta.errors import NetworkError
from landmeta.learning.engines.run import Result, Run, added, image_by_image, laid
from landmeta.learning.inner import Inner, adapt, constant, functional_gradient, inner_step
from landmeta.learning.learner import Batch, Learner, Params, TaskTensors
from landmeta.networks import Conv4, ResNet12
from landmeta.norms import State, norm_layers


def together(run: Run, tasks: Sequence[TaskTensors]) -> Result:
    """As many tasks at a time as the run says, by default all."""
    network = run.learner.network
    if any(layer.shares_state for layer in norm_layers(network)):
        msg = "engine 'vmap' takes tasks at once, but each of them starts from the state the one before left"
        raise NetworkError(msg, "choose engine = 'loop', or norm_options = {state = 'per_task'}")
    in_line = isinstance(network, ResNet12 | Conv4) and image_by_image(network)
    part = _in_line_gradient if in_line else _vectorized_gradient
    losses, states = [], []
    total: list[Tensor] = []
    chunk = run.chunk or len(tasks)
    for start in range(0, len(tasks), chunk):
        loss, grads, state = part(run, _stacked(tasks[start : start + chunk]), 1 / len(tasks))
        total = added(total, grads)
        losses.append(loss.detach())
        states.extend(_unstacked(constant(state), len(loss)))
    return torch.cat(losses), total, run.kept(states)


def _in_line_gradient(run: Run, tasks: TaskTensors, share: float) -> Result:
    """The tasks' images follow each other in one batch; such norms have no state.

    A CPU gains nothing from several weights at once: there the tasks part after the first step.
    """
    count, adapted = len(tasks.support.images), run.inner.adapted
    wide = {name: run.theta[name].expand(count, *run.theta[name].shape) for name in adapted}
    support, theta = _in_line(tasks.support), {**run.theta, **wide}
    step = partial(inner_step, gradient=partial(_gradients, count))
    if tasks.support.images.is_cuda or not run.inner.steps:
        phi, state = adapt(run.learner, run.inner, theta, run.learned, run.state, support, step)
        losses = _losses(run.learner, phi, _in_line(tasks.query), count)
        return losses, run.gradient(losses.sum() * share), state
    phi, state = step(run.learner, run.inner, theta, run.learned, run.state, support)
    losses, to_phi, to_leaves = _rest_in_turn(run, phi, tasks, share)
    outputs = [phi[name] for name in adapted]
    grads = torch.autograd.grad(outputs, run.leaves, to_phi, materialize_grads=True)
    return losses, added(to_leaves, grads), state


def _rest_in_turn(
    run: Run, phi: Params, tasks: TaskTensors, share: float
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Query losses after the steps that are left, their gradients by phi (task, ...) and by the leaves."""
    inner, losses, to_phi = replace(run.inner, steps=run.inner.steps - 1), [], []
    total: list[Tensor] = []
    for i in range(len(tasks.support.images)):
        support, query = (Batch(laid(b.images[i]), b.targets[i]) for b in (tasks.support, tasks.query))
        start = {name: phi[name][i].detach().requires_grad_() for name in inner.adapted}
        theta = {**run.theta, **start}
        moved, state = adapt(run.learner, inner, theta, run.learned, run.state, support)
        loss = run.learner.query_loss(moved, state, TaskTensors(support, query))[0]
        leaves = [*start.values(), *run.leaves]
        grads = torch.autograd.grad(loss * share, leaves, materialize_grads=True)
        to_phi.append(grads[: len(start)])
        total = added(total, grads[len(start) :])
        losses.append(loss.detach())
    return torch.stack(losses), [torch.stack(each) for each in zip(*to_phi, strict=True)], total


def _gradients(
    tasks: int, learner: Learner, inner: Inner, params: Params, state: State, batch: Batch
) -> tuple[Params, State]:
    """Support gradients of all tasks, by parameters (task, ...)."""
    if inner.order == 1:
        moving = frozenset(inner.adapted)
        params = {name: v.detach().requires_grad_(name in moving) for name, v in params.items()}
    loss = _losses(learner, params, batch, tasks).sum()
    wanted = [params[name] for name in inner.adapted]
    grads = torch.autograd.grad(loss, wanted, create_graph=inner.order == 2)
    return dict(zip(inner.adapted, grads, strict=True)), state


def _losses(learner: Learner, params: Params, batch: Batch, tasks: int) -> Tensor:
    """Loss of each task's share of a batch."""
    logits = learner(params, {}, batch.images, "context")[0]
    shares = (v.unflatten(0, (tasks, -1)) for v in (logits, batch.targets))
    losses: Tensor = torch.vmap(learner.loss)(*shares)
    return losses


def _in_line(batch: Batch) -> Batch:
    """The images of all tasks, one task after the other."""
    return Batch(laid(batch.images.flatten(0, 1)), batch.targets.flatten(0, 1))


def _vectorized_gradient(run: Run, tasks: TaskTensors, share: float) -> Result:
    """By torch.func.vmap."""
    axes = (tasks.support.images, tasks.support.targets, tasks.query.images, tasks.query.targets)
    with _NoNativeNorms():
        losses, state = torch.vmap(partial(_task_loss, run))(*axes)
    return losses, run.gradient(losses.sum() * share), state


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
