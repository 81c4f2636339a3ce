"""The inner loop: one pure step of adaptation, its update rules, and which parameters it moves (METHODS 3).

Gradients are taken with respect to the current parameters phi_k, never to theta, and are never clipped:
clipping belongs to the outer step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from landmeta.learning.inner_rules import MetaSgd as MetaSgd
from landmeta.learning.inner_rules import Sgd as Sgd
from landmeta.learning.inner_rules import SparseMask as SparseMask
from landmeta.learning.inner_rules import SparseRelu as SparseRelu
from landmeta.learning.inner_rules import mask_sparsity as mask_sparsity
from landmeta.learning.learner import Batch, Learner, Params
from landmeta.networks import adaptable, body_names, head_names
from landmeta.norms import State

Order: TypeAlias = Literal[1, 2]
"""1: inner gradients are constants to the outer one; 2: they are differentiated."""

Part: TypeAlias = Literal["all", "head", "body"]
"""What adapts: everything (MAML), the classifier (ANIL), all but the classifier (BOIL)."""


@runtime_checkable
class InnerRule(Protocol):
    """How parameters move along their gradients, by rates or masks that the outer loop may learn."""

    def initial(self, theta: Mapping[str, Tensor], adapted: Iterable[str], seed: int = 0) -> Params:
        """What the outer loop learns besides theta, by name; empty if nothing."""
        ...

    def update(
        self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], learned: Mapping[str, Tensor]
    ) -> Params:
        """All parameters after one step; those without gradient stay."""
        ...


@dataclass(frozen=True, slots=True)
class Inner:
    """Settings of an inner loop.

    Attributes:
        rule: How parameters move.
        adapted: Names of the parameters that move.
        steps: Steps on the whole support.
        order: Of the outer gradient through the steps.
    """

    rule: InnerRule
    adapted: tuple[str, ...]
    steps: int = 1
    order: Order = 2


Gradient: TypeAlias = Callable[[Learner, Inner, Params, State, Batch], tuple[Params, State]]
"""Support gradients of the adapted parameters, and the norms' state after the batch, which is constant."""


def adapted_names(network: nn.Module, part: Part = "all", affine: bool | None = None) -> tuple[str, ...]:
    """Names of the parameters that an inner loop moves.

    Args:
        network: The network to adapt.
        part: All of it, its head or its body.
        affine: Whether gain and offset of norms move; None: those of batch norms only (METHODS 1.2).
    """
    names = adaptable(network, affine)
    if part == "all":
        return names
    chosen = head_names(network) if part == "head" else body_names(network)
    return tuple(name for name in names if name in chosen)


def constant(state: State) -> State:
    """The state without its history: running moments carry no gradient from step to step."""
    return {layer: {key: v.detach() for key, v in values.items()} for layer, values in state.items()}


def support_gradient(
    learner: Learner, inner: Inner, params: Params, state: State, batch: Batch
) -> tuple[Params, State]:
    """Gradients by torch.autograd: with their graph for order 2, where the parameters have one."""
    graph = torch.is_grad_enabled() and any(params[name].requires_grad for name in inner.adapted)
    second = inner.order == 2 and graph
    if not second:
        moving = frozenset(inner.adapted)
        params = {name: value.detach().requires_grad_(name in moving) for name, value in params.items()}
    with torch.enable_grad():
        loss, state = learner.support_loss(params, state, batch)
        wanted = [params[name] for name in inner.adapted]
        gradients = torch.autograd.grad(loss, wanted, create_graph=second)
    return dict(zip(inner.adapted, gradients, strict=True)), constant(state)


def functional_gradient(
    learner: Learner, inner: Inner, params: Params, state: State, batch: Batch
) -> tuple[Params, State]:
    """Support gradients by torch.func, as vmap needs them."""

    def loss(moving: Params) -> tuple[Tensor, State]:
        return learner.support_loss({**params, **moving}, state, batch)

    moving = {name: params[name] for name in inner.adapted}
    if inner.order == 1:
        moving = {name: value.detach() for name, value in moving.items()}
    grads, state = torch.func.grad(loss, has_aux=True)(moving)
    if inner.order == 1:
        grads = {name: value.detach() for name, value in grads.items()}
    return grads, constant(state)


def inner_step(
    learner: Learner,
    inner: Inner,
    params: Params,
    learned: Params,
    state: State,
    batch: Batch,
    gradient: Gradient = support_gradient,
) -> tuple[Params, State]:
    """One step: phi_{k+1} = rule(phi_k, dLs/dphi_k), and the norms' state after the batch. Pure."""
    grads, state = gradient(learner, inner, params, state, batch)
    return inner.rule.update(params, grads, learned), state


def parting_steps(
    learner: Learner,
    inner: Inner,
    params: Params,
    learned: Params,
    state: State,
    images: Tensor,
    targets: Iterable[Tensor],
) -> tuple[list[Params], State]:
    """One first-order step from the same parameters to each of several targets, which run the network once.

    Returns:
        Parameters for each of the targets, the same as `inner_step` gives, and the norms' state after the
        images.
    """
    leaves = {name: value.detach().requires_grad_(name in inner.adapted) for name, value in params.items()}
    wanted = [leaves[name] for name in inner.adapted]
    with torch.enable_grad():
        logits, state = learner(leaves, state, images, "context")
        losses = [learner.loss(logits, target) for target in targets]
    parted = []
    for loss in losses:
        grads = torch.autograd.grad(loss, wanted, retain_graph=loss is not losses[-1])
        parted.append(inner.rule.update(params, dict(zip(inner.adapted, grads, strict=True)), learned))
    return parted, constant(state)


Step: TypeAlias = Callable[[Learner, Inner, Params, Params, State, Batch], tuple[Params, State]]
"""How an engine takes an inner step."""


def adapt(
    learner: Learner,
    inner: Inner,
    theta: Params,
    learned: Params,
    state: State,
    batches: Batch | Iterable[Batch],
    step: Step = inner_step,
) -> tuple[Params, State]:
    """Adapt from `theta`, which is left untouched: phi_K and the norms' state.

    Args:
        learner: The function to adapt.
        inner: Settings; `inner.steps` counts if `batches` is one batch.
        theta: Parameters to start from.
        learned: What the rule learned.
        state: State of the norms to start from.
        batches: The support, for every step the same, or a minibatch for each step.
        step: Of an engine.
    """
    phi = dict(theta)
    for batch in repeat(batches, inner.steps) if isinstance(batches, Batch) else batches:
        phi, state = step(learner, inner, phi, learned, state, batch)
    return phi, state
