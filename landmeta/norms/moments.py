"""Where the moments of a map come from: measured over many windows, then frozen, so that it has no seams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from landmeta.norms.base import EPS, Norm, apply_moments, gain_and_shift

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
        count = images.numel() // images.shape[1]
        mean, variance = torch.zeros_like(layer.bias), torch.ones_like(layer.bias)
        # As running moments that forget at once torch measures and applies them in one pass, up to ten times
        # faster than apart. Never differentiated, so its native batch norm is safe here.
        normalized = F.batch_norm(
            images, mean, variance, layer.weight, layer.bias, training=True, momentum=1.0, eps=EPS
        )
        self.measured[layer.name] = (mean, variance * ((count - 1) / count))  # torch keeps the unbiased one
        return normalized


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
