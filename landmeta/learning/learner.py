"""A network as a pure function of its parameters, the state of its norms and the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from landmeta.learning.kernels import TwiceDifferentiable
from landmeta.norms import Mode, NormPass, State, TaskNormI, TaskNormL, initial_state, norm_layers

Params: TypeAlias = dict[str, Tensor]
"""Tensors by name: the network's parameters, their gradients, or what an inner rule learns."""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of logits (n, output) and targets (n,)."""

Protocol: TypeAlias = Literal["fair", "meteor"]
"""Whence a query's moments come: `fair` from the support, `meteor` from the query itself (METHODS 2.2, 2.3).

Norms without context (`in`, `gn`, `ln`, `none`) and `tbn` are the same under both.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (n, band, y, x) and their targets (n,): 1 and 0 for one-vs-all, class indices for n-way."""

    images: Float[Tensor, "*task n band y x"]
    targets: Shaped[Tensor, "*task n"]


@dataclass(frozen=True, slots=True)
class TaskTensors:
    """One task: what it is adapted on and what it is judged by."""

    support: Batch
    query: Batch


@dataclass(frozen=True, slots=True)
class BinaryLoss:
    """Binary cross entropy of one logit an image, one class against all others.

    `pos_weight` multiplies the loss of positives: the number of ways when METEOR trains, 1 when it adapts.
    """

    pos_weight: float = 1.0

    def __call__(self, logits: Float[Tensor, "n 1"], targets: Shaped[Tensor, " n"]) -> Float[Tensor, ""]:
        """Mean loss; targets are 1 for the class and 0 for the others."""
        weight = torch.full((), self.pos_weight, dtype=logits.dtype, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), pos_weight=weight)


def cross_entropy(logits: Float[Tensor, "n way"], targets: Shaped[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean cross entropy of an n-way task."""
    return F.cross_entropy(logits, targets)


@dataclass(frozen=True, slots=True)
class Learner:
    """The function that is meta-learned.

    Attributes:
        network: Called as `network(images, normalize=...)`; gives the structure, not the values.
        loss: Of support and query alike.
        protocol: Whence a query's moments come.
    """

    network: nn.Module
    loss: Loss = BinaryLoss()
    protocol: Protocol = "fair"

    def __call__(
        self, params: Mapping[str, Tensor], state: State, images: Tensor, mode: Mode
    ) -> tuple[Tensor, State]:
        """Logits (n, output) of images (n, band, y, x), and the norms' state after them."""
        normalize = NormPass(state, mode)
        with TwiceDifferentiable():
            logits = functional_call(self.network, dict(params), (images,), {"normalize": normalize})
        return logits, normalize.updated

    def parameters(self) -> Params:
        """The network's parameters by name, detached: a point from which to learn."""
        return {name: value.detach() for name, value in self.network.named_parameters()}

    def initial_state(self) -> State:
        """The state that the network keeps."""
        return initial_state(self.network)

    def support_loss(self, params: Mapping[str, Tensor], state: State, batch: Batch) -> tuple[Tensor, State]:
        """Loss of a batch that gives its own moments, and the state after it."""
        logits, state = self(params, state, batch.images, "context")
        return self.loss(logits, batch.targets), state

    def query_loss(
        self, params: Mapping[str, Tensor], state: State, task: TaskTensors
    ) -> tuple[Tensor, State]:
        """Loss of a task's query while training, and the state after it.

        TaskNorm sees the support once more with the adapted parameters, so that they also learn to give
        moments. Conventional batch norm normalizes by the batch, as always in training.
        """
        mode: Mode = "context"
        if self.protocol == "fair" and self._takes_context():
            state, mode = self(params, state, task.support.images, "context")[1], "query"
        logits, state = self(params, state, task.query.images, mode)
        return self.loss(logits, task.query.targets), state

    def ready(self, params: Mapping[str, Tensor], state: State, support: Tensor) -> State:
        """The state to predict with, after adaptation to `support` (n, band, y, x): TaskNorm's context."""
        if self.protocol == "fair" and self._takes_context():
            return self(params, state, support, "context")[1]
        return state

    def predict(
        self, params: Mapping[str, Tensor], state: State, images: Tensor, support: Tensor | None = None
    ) -> Float[Tensor, "n output"]:
        """Logits of query images by adapted parameters.

        `support` are the images they were adapted on; None if `state` is `ready`.
        """
        if support is not None:
            state = self.ready(params, state, support)
        return self(params, state, images, "context" if self.protocol == "meteor" else "query")[0]

    def _takes_context(self) -> bool:
        return any(isinstance(layer, TaskNormI | TaskNormL) for layer in norm_layers(self.network))
