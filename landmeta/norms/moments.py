"""Where the moments of a map come from: measured over many windows, then frozen, so that it has no seams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from landmeta.norms.base import Norm, apply_moments, gain_and_shift

Moments: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and biased variance, each of shape (channel,), by the name of the norm layer."""


def own_moments(layer: Norm, images: Tensor) -> Tensor:
    """Normalize a batch by the layer's own rule, as in training; instance norm for an instance-norm layer."""
    normalized: Tensor = layer(images)
    return normalized


@dataclass(slots=True)
class PooledMoments:
    """Normalize by moments over all images of the batch and keep them in `measured`."""

    measured: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, layer: Norm, images: Tensor) -> Tensor:
        """Measure the moments of `images` (n, channel, y, x) over (n, y, x) and apply them."""
        variance, mean = torch.var_mean(images, dim=(0, 2, 3), correction=0)
        self.measured[layer.name] = (mean, variance)
        return apply_moments(layer, images, mean, variance)


@dataclass(frozen=True, slots=True)
class FrozenMoments:
    """Normalize every image by the same given moments: the output of a pixel depends on its context only."""

    moments: Moments

    def __call__(self, layer: Norm, images: Tensor) -> Tensor:
        """Apply the stored moments of `layer` to `images` (n, channel, y, x)."""
        return apply_moments(layer, images, *self.moments[layer.name])

    def affine(self, layer: Norm) -> tuple[Tensor, Tensor]:
        """Gain and shift (channel,) that the layer amounts to."""
        return gain_and_shift(layer, *self.moments[layer.name])
