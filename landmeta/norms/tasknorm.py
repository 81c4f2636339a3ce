"""`tasknorm_i`, `tasknorm_l`: moments of the context pooled with the image's own (METHODS 2.3)."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from landmeta.errors import NetworkError
from landmeta.norms.base import Mode, Norm, NormState, apply_moments, batch_moments


class TaskNorm(Norm):
    """Pooling by alpha = sigmoid(a * images in the context + b); a, b belong to the outer loop.

    In mode `context` the batch is the context, in mode `query` the stored one is: run the support through
    the adapted network in mode `context` before its queries.

    Args:
        channels: Channels of the images.
        name: Key of the layer's state.
        unbiased: Divide sums of squares by one less than their count, as the published code does.
    """

    own_axes: ClassVar[tuple[int, ...]]
    """Axes of the image's own moments."""

    def __init__(self, channels: int, name: str, *, unbiased: bool = True) -> None:
        super().__init__(channels, name)
        self.unbiased = unbiased
        self.a = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.zeros(()))

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; the state is the context of the latest batch in mode `context`.

        Raises:
            NetworkError: Mode `query` before any context.
        """
        if mode == "context":
            state = self._context(images)
        elif not state:
            msg = f"{self.name} has no context to normalize a query by"
            raise NetworkError(msg, "run the support through the network in mode 'context' first")
        own_mean, own_variance = (
            m.reshape(images.shape[0], -1)
            for m in batch_moments(images, self.own_axes, unbiased=self.unbiased)
        )
        alpha = torch.sigmoid(self.a * state["size"] + self.b)
        mean = alpha * state["mean"] + (1 - alpha) * own_mean
        variance = alpha * (state["variance"] + (state["mean"] - mean) ** 2)
        variance = variance + (1 - alpha) * (own_variance + (own_mean - mean) ** 2)
        return apply_moments(self, images, mean, variance), state

    def _context(self, images: Tensor) -> NormState:
        mean, variance = batch_moments(images, (0, 2, 3), unbiased=self.unbiased)
        size = torch.tensor(float(images.shape[0]), dtype=mean.dtype, device=mean.device)
        return {"mean": mean, "variance": variance, "size": size}


@final
class TaskNormI(TaskNorm):
    """The image's own moments are those of instance norm, a mean and a variance a channel."""

    own_axes = (2, 3)


@final
class TaskNormL(TaskNorm):
    """The image's own moments are those of layer norm, one mean and one variance."""

    own_axes = (1, 2, 3)
