"""What every engine is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from landmeta.learning.inner import Inner
from landmeta.learning.learner import Learner, Params, TaskTensors
from landmeta.norms import (
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    NoNorm,
    State,
    next_task_state,
    norm_layers,
)

_IMAGE_BY_IMAGE = (InstanceNorm, GroupNorm, LayerNorm, NoNorm)


@dataclass(frozen=True, slots=True)
class Run:
    """An outer gradient to compute; theta and what the rule learned are leaves of the graph."""

    learner: Learner
    inner: Inner
    theta: Params
    learned: Params
    state: State
    chunk: int | None

    @property
    def leaves(self) -> list[Tensor]:
        """Theta and what the rule learned."""
        return [*self.theta.values(), *self.learned.values()]

    def gradient(self, loss: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the leaves; frees the graph."""
        return torch.autograd.grad(loss, self.leaves, materialize_grads=True)

    def kept(self, states: Sequence[State]) -> State:
        """The state to keep: what the last task left where tasks share it, else the mean over tasks."""
        mean: State = {
            layer: {key: torch.stack([s[layer][key] for s in states]).mean(dim=0) for key in values}
            for layer, values in states[-1].items()
        }
        return next_task_state(self.learner.network, mean, states[-1])


def image_by_image(network: nn.Module) -> bool:
    """Whether no image of a batch is normalized by what another one holds."""
    return all(isinstance(layer, _IMAGE_BY_IMAGE) for layer in norm_layers(network))


def laid(values: Tensor) -> Tensor:
    """Images and kernels in the layout in which the kernels compute, so that it is changed only once."""
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values


def added(total: Sequence[Tensor], more: Sequence[Tensor]) -> list[Tensor]:
    """Sums, made in place of `total`; `more` where there is none yet."""
    return [a.add_(b) for a, b in zip(total, more, strict=True)] if total else list(more)


Result: TypeAlias = tuple[Tensor, Sequence[Tensor], State]
"""Query loss of each task, gradients in the order of `Run.leaves`, state to keep."""

Engine: TypeAlias = Callable[[Run, Sequence[TaskTensors]], Result]
