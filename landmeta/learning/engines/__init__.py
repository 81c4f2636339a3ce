"""Engines: ways to compute the same outer gradient, by speed and memory (METHODS 9).

`loop` takes one task after the other and keeps the graph of one; `vmap` takes several at once, `threads` one
on each thread of a CPU; `checkpoint` computes each step's activations anew for the backward pass; `hvp` keeps
no graph of the steps and multiplies by their Hessians, forward over reverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from landmeta.errors import NetworkError
from landmeta.learning.engines.at_once import together
from landmeta.learning.engines.one_by_one import checkpointed, hessian_products, loop
from landmeta.learning.engines.run import Engine, Run, laid
from landmeta.learning.engines.side_by_side import side_by_side
from landmeta.learning.inner import Inner
from landmeta.learning.learner import Learner, Params, TaskTensors
from landmeta.norms import State

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "loop": loop,
        "vmap": together,
        "threads": side_by_side,
        "checkpoint": checkpointed,
        "hvp": hessian_products,
    }
)
"""Engines by the name that settings use."""


@dataclass(frozen=True, slots=True)
class Outer:
    """What one outer step needs.

    Attributes:
        theta: Gradient of the tasks' mean query loss, by name; zero where a parameter has no part in it.
        learned: The same for what the inner rule learns.
        losses: Query loss of each task.
        state: The norms' state for the network to keep.
    """

    theta: Params
    learned: Params
    losses: Float[Tensor, " task"]
    state: State


def outer_gradient(
    learner: Learner,
    inner: Inner,
    theta: Mapping[str, Tensor],
    learned: Mapping[str, Tensor],
    tasks: Sequence[TaskTensors],
    *,
    engine: str = "loop",
    state: State | None = None,
    chunk: int | None = None,
) -> Outer:
    """Gradient of the mean query loss after adaptation, with respect to theta and what the rule learns.

    Args:
        learner: The function to adapt.
        inner: Settings of the adaptation.
        theta: The network's parameters.
        learned: What the rule learns; `inner.rule.initial` at first.
        tasks: On the device of the parameters.
        engine: One of `ENGINES`; all give the same gradient.
        state: State of the norms to start from; by default the network's.
        chunk: Tasks that `vmap` takes at once, images that `checkpoint` and `hvp` take at once where the
            norms treat each image alone; by default all. Fewer need less memory.

    Raises:
        NetworkError: No engine has this name, or the engine cannot have the network's norms.
    """
    if engine not in ENGINES:
        msg = f"engine {engine!r} is unknown"
        raise NetworkError(msg, f"engine = one of {', '.join(ENGINES)}")
    leaves = {name: laid(value.detach()).requires_grad_() for name, value in theta.items()}
    learned = {name: value.detach().requires_grad_() for name, value in learned.items()}
    run = Run(learner, inner, leaves, learned, state or learner.initial_state(), chunk)
    losses, grads, state = ENGINES[engine](run, tasks)
    count = len(leaves)
    by_name = dict(zip(leaves, grads[:count], strict=True))
    return Outer(by_name, dict(zip(learned, grads[count:], strict=True)), losses, state)
