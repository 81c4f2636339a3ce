"""Moments between those of one window and those of a whole region: a mixture of both, or a smooth field."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from landmeta.norms import FrozenMoments, Moments, Norm
from landmeta.norms.base import EPS, apply_moments

CELL = 16
"""Pixels between the points at which a field of moments is measured; a multiple of all strides."""


@dataclass(frozen=True, slots=True)
class MixedMoments:
    """Normalize each image by the moments of a mixture of its own values and frozen ones."""

    frozen: Moments
    own_share: float

    def __call__(self, layer: Norm, images: Tensor) -> Tensor:
        """Mix by the law of total variance and apply to `images` (n, channel, y, x)."""
        mean, variance = self.frozen[layer.name]
        own_variance, own_mean = torch.var_mean(images, dim=(2, 3), correction=0)
        apart = self.own_share * (1 - self.own_share) * (own_mean - mean).square()
        mixed = torch.lerp(variance.expand_as(own_variance), own_variance, self.own_share) + apart
        return apply_moments(
            layer, images, torch.lerp(mean.expand_as(own_mean), own_mean, self.own_share), mixed
        )


@dataclass(frozen=True, slots=True)
class NeighbourhoodMoments:
    """Normalize each pixel by moments of the square about it, which change smoothly from pixel to pixel.

    They are measured every `CELL` pixels and interpolated, so that one pass does what own moments of many
    windows that overlap do. Mean and mean square are interpolated: the variance is that of a weighted
    neighbourhood, and never negative.

    Attributes:
        side: Of the neighbourhood, pixels of the images; taken as an odd number of cells.
        window: Side of the images, from which the stride of a layer follows.
        frozen: Moments of the layers that keep those of the region.
    """

    side: int
    window: int
    frozen: Moments = field(default_factory=dict)

    def __call__(self, layer: Norm, images: Tensor) -> Tensor:
        """Measure and apply; `images` (n, channel, y, x) of a square window at the layer's stride."""
        if layer.name in self.frozen:
            return FrozenMoments(self.frozen)(layer, images)
        cell = max(1, CELL * images.shape[2] // self.window)
        mean, square = (self._field(v, cell) for v in (images, images.square()))
        deviation = torch.sqrt((square - mean.square()).clamp_min(0) + EPS)
        return torch.addcmul(
            layer.bias[:, None, None], images - mean, layer.weight[:, None, None] / deviation
        )

    def _field(self, values: Float[Tensor, "n channel y x"], cell: int) -> Float[Tensor, "n channel y x"]:
        """Means over the neighbourhoods of all pixels; what lies outside is mirrored."""
        means = F.avg_pool2d(values, cell, ceil_mode=True, count_include_pad=False)
        reach = min(self.side // CELL // 2, means.shape[2] - 1)
        around = F.pad(means, (reach,) * 4, mode="reflect")
        around = F.avg_pool2d(F.avg_pool2d(around, (2 * reach + 1, 1), 1), (1, 2 * reach + 1), 1)
        fine = F.interpolate(around, scale_factor=cell, mode="bilinear") if cell > 1 else around
        return fine[..., : values.shape[2], : values.shape[3]]
