"""Engines that take one task after the other: `loop`, `checkpoint`, `hvp`.

The query's graph ends at phi_K: its gradient there is taken first and then led back through the steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.autograd.function import once_differentiable

from landmeta.learning.engines.run import Result, Run, added, image_by_image, laid
from landmeta.learning.inner import Inner, Step, adapt, constant, inner_step, support_gradient
from landmeta.learning.kernels.calling import call
from landmeta.learning.learner import Batch, Learner, Params, TaskTensors
from landmeta.norms import State, next_task_state

Product: TypeAlias = Callable[[Learner, Inner, Params, State, Batch, Params], Params]
"""The Hessian of a support loss by all parameters, times a direction in the adapted ones."""


def loop(run: Run, tasks: Sequence[TaskTensors]) -> Result:
    """The graph of all steps of one task at a time."""
    return _one_by_one(run, tasks, inner_step, chunk=None)


def checkpointed(run: Run, tasks: Sequence[TaskTensors]) -> Result:
    """The graph of one step at a time, made anew for the backward pass."""
    return _step_by_step(run, tasks, _product_by_graph)


def hessian_products(run: Run, tasks: Sequence[TaskTensors]) -> Result:
    """No graph of gradients at all: products with the steps' Hessians, forward over reverse."""
    return _step_by_step(run, tasks, _product_by_tangents)


def _step_by_step(run: Run, tasks: Sequence[TaskTensors], product: Product) -> Result:
    chunk = run.chunk if image_by_image(run.learner.network) else None
    return _one_by_one(run, tasks, partial(_kept_step, product, chunk), chunk)


def _one_by_one(run: Run, tasks: Sequence[TaskTensors], step: Step, chunk: int | None) -> Result:
    """Task after task, each with its backward pass at once."""
    state, states, losses = run.state, [], []
    total: list[Tensor] = []
    for task in tasks:
        support = Batch(laid(task.support.images), task.support.targets)
        state = next_task_state(run.learner.network, run.state, state)
        phi, state = adapt(run.learner, run.inner, run.theta, run.learned, state, support, step)
        loss, to_phi, state = _query_gradient(run.learner, phi, state, task, chunk)
        to_phi = [gradient / len(tasks) for gradient in to_phi]
        grads = torch.autograd.grad(list(phi.values()), run.leaves, to_phi, materialize_grads=True)
        del phi
        total = added(total, grads)
        states.append(state)
        losses.append(loss)
    return torch.stack(losses), total, run.kept(states)


def _query_gradient(
    learner: Learner, phi: Params, state: State, task: TaskTensors, chunk: int | None
) -> tuple[Tensor, list[Tensor], State]:
    """Query loss, its gradients by phi in their order, and the state after the query."""
    fixed = {name: value.detach().requires_grad_() for name, value in phi.items()}
    total: list[Tensor] = []
    losses, after = [], state
    for share, part in _parts(task.query, chunk):
        loss, after = learner.query_loss(fixed, state, TaskTensors(task.support, part))
        grads = torch.autograd.grad(loss * share, list(fixed.values()), materialize_grads=True)
        total = added(total, grads)
        losses.append(loss.detach() * share)
    return torch.stack(losses).sum(), total, constant(after)


def _parts(batch: Batch, size: int | None) -> list[tuple[float, Batch]]:
    """A batch in parts of at most `size` images, each with its share of the mean loss."""
    count = len(batch.targets)
    images, targets = (v.split(size or count) for v in (laid(batch.images), batch.targets))
    return [(len(t) / count, Batch(i, t)) for i, t in zip(images, targets, strict=True)]


def _kept_step(
    product: Product,
    chunk: int | None,
    learner: Learner,
    inner: Inner,
    params: Params,
    learned: Params,
    state: State,
    batch: Batch,
) -> tuple[Params, State]:
    """An inner step of which only parameters and gradients are kept."""
    parts, after = _parts(batch, chunk), state
    total: list[Tensor] = []
    with torch.no_grad():
        for share, part in parts:
            grads, after = support_gradient(learner, inner, params, state, part)
            total = added(total, [value * share for value in grads.values()])
    grads = dict(zip(inner.adapted, total, strict=True))
    if inner.order == 1:
        return inner.rule.update(params, grads, learned), after
    plan = _StepPlan(learner, inner, tuple(params), tuple(learned), state, parts, product)
    moved = call(_StepFunction, plan, *params.values(), *learned.values(), *grads.values())
    return {**params, **dict(zip(inner.adapted, moved, strict=True))}, after


@dataclass(frozen=True, slots=True)
class _StepPlan:
    """All of an inner step but its tensors: parameters, what the rule learned, support gradients."""

    learner: Learner
    inner: Inner
    params: tuple[str, ...]
    learned: tuple[str, ...]
    state: State
    parts: Sequence[tuple[float, Batch]]
    product: Product

    def named(self, tensors: Sequence[Tensor]) -> tuple[Params, Params, Params]:
        """Parameters, what the rule learned and support gradients, from their tensors in order."""
        names = (*self.params, *self.learned, *self.inner.adapted)
        pairs, ends = list(zip(names, tensors, strict=True)), (len(self.params), len(self.inner.adapted))
        return dict(pairs[: ends[0]]), dict(pairs[ends[0] : -ends[1]]), dict(pairs[-ends[1] :])

    def moved(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The adapted parameters after the step."""
        params, learned, grads = self.named(tensors)
        phi = self.inner.rule.update(params, grads, learned)
        return [phi[name] for name in self.inner.adapted]

    def bent(self, params: Params, along: Params) -> list[Tensor]:
        """The Hessian of the whole batch's loss times `along`, in the order of the parameters."""
        total: list[Tensor] = []
        for share, part in self.parts:
            scaled = {name: value * share for name, value in along.items()}
            bent = self.product(self.learner, self.inner, params, self.state, part, scaled)
            total = added(total, [bent[name] for name in self.params])
        return total


class _StepFunction(Function):
    """The update of an inner step, whose backward pass also goes through the support gradient."""

    @staticmethod
    def forward(ctx: Any, plan: _StepPlan, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        return tuple(plan.moved(tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: _StepPlan = ctx.plan
        with torch.enable_grad():
            inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            moved = plan.moved(inputs)
        by_rule = torch.autograd.grad(moved, inputs, cotangents, materialize_grads=True)
        to_params, to_learned, to_grads = plan.named(by_rule)
        params = plan.named([t.detach() for t in ctx.saved_tensors])[0]
        total = added([v.clone() for v in to_params.values()], plan.bent(params, to_grads))
        return (None, *total, *to_learned.values(), *[None] * len(to_grads))


def _product_by_graph(
    learner: Learner, inner: Inner, params: Params, state: State, batch: Batch, along: Params
) -> Params:
    """Reverse over reverse: the graph of the support gradient, made for this and left at once."""
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        loss = learner.support_loss(leaves, state, batch)[0]
        grads = torch.autograd.grad(loss, [leaves[name] for name in inner.adapted], create_graph=True)
    directions = [along[name] for name in inner.adapted]
    bent = torch.autograd.grad(grads, list(leaves.values()), directions, materialize_grads=True)
    return dict(zip(leaves, bent, strict=True))


def _product_by_tangents(
    learner: Learner, inner: Inner, params: Params, state: State, batch: Batch, along: Params
) -> Params:
    """Forward over reverse: the gradient's tangent along the direction."""
    with forward_ad.dual_level(), torch.enable_grad():
        moving = {name: value.detach().requires_grad_() for name, value in params.items()}
        with warnings.catch_warnings():  # torch compiles its formulas of tangents by means it has deprecated
            warnings.simplefilter("ignore", DeprecationWarning)
            moving |= {name: forward_ad.make_dual(moving[name], along[name]) for name in inner.adapted}
        loss = learner.support_loss(moving, state, batch)[0]
        grads = torch.autograd.grad(loss, list(moving.values()), materialize_grads=True)
        tangents = [forward_ad.unpack_dual(g).tangent for g in grads]
    pairs = zip(params.items(), tangents, strict=True)
    return {name: torch.zeros_like(v) if tangent is None else tangent for (name, v), tangent in pairs}
