"""`gn`, `ln`: group norm, and layer norm as group norm of one group (METHODS 2.5, 2.6)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from landmeta.errors import NetworkError
from landmeta.norms.base import EPS, Mode, Norm, NormState


@final
class GroupNorm(Norm):
    """Moments of each image over (channel of the group, y, x), biased variance; affine a channel.

    Args:
        channels: Channels of the images.
        name: Key of the layer's state.
        groups: Must divide the channels; 32, or one a channel where there are fewer.
    """

    def __init__(self, channels: int, name: str, *, groups: int | None = None) -> None:
        super().__init__(channels, name)
        self.groups = min(32, channels) if groups is None else groups
        if self.groups < 1 or channels % self.groups:
            msg = f"{channels} channels of {name} do not divide into {self.groups} groups"
            raise NetworkError(msg, "give norm 'gn' the option groups, a divisor of every width")

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; no state, the same in both modes."""
        del mode
        return torch.group_norm(images, self.groups, self.weight, self.bias, EPS), state


@final
class LayerNorm(Norm):
    """Moments of each image over (channel, y, x), biased variance; affine a channel, not an element."""

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; no state, the same in both modes."""
        del mode
        return torch.group_norm(images, 1, self.weight, self.bias, EPS), state
