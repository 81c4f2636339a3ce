"""Meta-learning algorithms by name: what adapts, by which rule, and how the outer step follows (METHODS 3).

All but Reptile are `engines.outer_gradient` with other settings; Reptile moves towards what tasks adapt to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from landmeta.errors import NetworkError
from landmeta.learning.engines import Outer
from landmeta.learning.inner import Inner, InnerRule, Order, Part, adapted_names, constant
from landmeta.learning.inner_rules import MetaSgd, Sgd, SparseMask, SparseRelu
from landmeta.learning.learner import Batch, Learner, Params
from landmeta.norms import State


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A composition: `rule(rate)` moves `part`; the outer gradient has `order`; or Reptile's displacement."""

    rule: Callable[[float], InnerRule] = Sgd
    part: Part = "all"
    order: Order = 2
    displacement: bool = False


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        "maml": Algorithm(),
        "fomaml": Algorithm(order=1),
        "reptile": Algorithm(order=1, displacement=True),
        "anil": Algorithm(part="head"),
        "boil": Algorithm(part="body"),
        "meta_sgd": Algorithm(rule=MetaSgd),
        "sparse_maml": Algorithm(rule=SparseMask),
        "sparse_fomaml": Algorithm(rule=SparseMask, order=1),
        "sparse_relu_maml": Algorithm(rule=SparseRelu, order=1),
    }
)
"""Algorithms by the name that settings use. `sparse_fomaml` is what sparse-MAML published."""


def inner_settings(
    name: str,
    network: nn.Module,
    *,
    rate: float,
    steps: int = 1,
    order: Order | None = None,
    affine: bool | None = None,
    rule: InnerRule | None = None,
) -> Inner:
    """The inner loop of an algorithm.

    Args:
        name: One of `ALGORITHMS`.
        network: The network to adapt.
        rate: Inner rate, or its initial value where it is learned.
        steps: Inner steps.
        order: Of the outer gradient; by default the algorithm's.
        affine: Whether gain and offset of norms adapt; None: those of batch norms only (METHODS 1.2), but all
            under Reptile, which trains nothing that does not adapt (TaskNorm's pooling stays as it is).
        rule: Another rule than the algorithm's with that rate, such as one with other options.

    Raises:
        NetworkError: No algorithm has this name.
    """
    if name not in ALGORITHMS:
        msg = f"algorithm {name!r} is unknown"
        raise NetworkError(msg, f"algorithm = one of {', '.join(ALGORITHMS)}")
    algorithm = ALGORITHMS[name]
    if affine is None and algorithm.displacement:
        affine = True
    names = adapted_names(network, algorithm.part, affine)
    return Inner(rule or algorithm.rule(rate), names, steps, order or algorithm.order)


MakeOptimizer: TypeAlias = Callable[[list[Tensor]], torch.optim.Optimizer]

REPTILE_ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.999))
"""Inner optimizer of Reptile as published on miniImageNet: Adam without momentum."""


def reptile_direction(
    learner: Learner,
    adapted: Sequence[str],
    theta: Mapping[str, Tensor],
    tasks: Sequence[Iterable[Batch]],
    *,
    optimizer: MakeOptimizer = REPTILE_ADAM,
    state: State | None = None,
    last_step_only: bool = False,
) -> Outer:
    """Theta minus the mean of what tasks adapt to, as if it were a gradient of what moves (METHODS 3.3).

    Plain descent along it with rate eps is Reptile's theta + eps (mean phi - theta).

    Args:
        learner: The function to adapt.
        adapted: Names of the parameters that move.
        theta: The network's parameters.
        tasks: Minibatches of each task, one a step.
        optimizer: Makes the inner optimizer, a fresh one for every task.
        state: State of the norms to start from; by default the network's.
        last_step_only: Follow the displacement of the last step alone, the finite-difference FOMAML of OR
            and of paper 002; the last minibatch then should hold images that the others do not.
    """
    start = state or learner.initial_state()
    total = {name: torch.zeros_like(theta[name]) for name in adapted}
    losses = []
    for batches in tasks:
        displacement, loss = _displacement(
            learner, adapted, theta, batches, optimizer, start, last_step_only=last_step_only
        )
        losses.append(loss)
        for name, value in displacement.items():
            total[name].sub_(value, alpha=1 / len(tasks))
    return Outer(total, {}, torch.stack(losses), start)


def _displacement(
    learner: Learner,
    adapted: Sequence[str],
    theta: Mapping[str, Tensor],
    batches: Iterable[Batch],
    optimizer: MakeOptimizer,
    state: State,
    *,
    last_step_only: bool,
) -> tuple[Params, Tensor]:
    """How far a task's parameters moved, and its loss before the last step."""
    phi = {name: value.detach() for name, value in theta.items()}
    phi |= {name: theta[name].detach().clone().requires_grad_() for name in adapted}
    origin = {name: theta[name].detach() for name in adapted}
    inner = optimizer([phi[name] for name in adapted])
    loss = torch.zeros(())
    for batch in batches:
        if last_step_only:
            origin = {name: phi[name].detach().clone() for name in adapted}
        inner.zero_grad()
        loss, state = learner.support_loss(phi, state, batch)
        loss.backward()
        inner.step()
        state = constant(state)
    return {name: phi[name].detach() - origin[name] for name in adapted}, loss.detach()


def cycled_minibatches(support: Batch, size: int, steps: int, rng: np.random.Generator) -> Iterable[Batch]:
    """Minibatches that run through the shuffled support again and again (METHODS 3.3).

    No image comes twice before all have come once; a minibatch may straddle two rounds.
    """
    count = len(support.targets)
    rounds = [rng.permutation(count) for _ in range(-(-size * steps // count))]
    order = torch.from_numpy(np.concatenate(rounds)[: size * steps]).to(support.targets.device)
    for rows in order.split(size):
        yield Batch(support.images[rows], support.targets[rows])


def linear_rate(step: int, steps: int, first: float, last: float) -> float:
    """Reptile's eps at a step counted from 0: `first` at the start, `last` at step `steps`."""
    return first + (last - first) * step / steps
