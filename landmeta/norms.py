"""Normalization layers whose source of moments is an argument, never hidden state (METHODS 2).

A network calls `normalize(layer, images)` for each of its norm layers. The callable decides where the
moments come from: `own_moments` is instance norm as published, `PooledMoments` measures the moments of
many windows at once, and `FrozenMoments` applies what was measured, so that a map has no seams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPS = 1e-5

Moments: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and biased variance, each of shape (channel,), by the name of the norm layer."""


class InstanceNorm(nn.Module):
    """Affine parameters of one instance-norm layer; `name` is its key in `Moments`."""

    def __init__(self, channels: int, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Float[Tensor, "n channel y x"]) -> Float[Tensor, "n channel y x"]:
        """Normalize each image and channel by its own moments (instance norm, METHODS 1.2)."""
        return own_moments(self, images)


Normalize: TypeAlias = Callable[[InstanceNorm, Tensor], Tensor]


def own_moments(layer: InstanceNorm, images: Tensor) -> Tensor:
    """Instance norm: moments over (y, x) of each image and channel, biased variance."""
    return F.instance_norm(images, weight=layer.weight, bias=layer.bias, eps=EPS)


def _apply(layer: InstanceNorm, images: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    gain = layer.weight / torch.sqrt(variance + EPS)
    shift = layer.bias - mean * gain
    return torch.addcmul(shift[:, None, None], images, gain[:, None, None])


@dataclass(slots=True)
class PooledMoments:
    """Normalize by moments over all images of the batch and keep them in `measured`."""

    measured: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, layer: InstanceNorm, images: Tensor) -> Tensor:
        """Measure the moments of `images` (n, channel, y, x) over (n, y, x) and apply them."""
        variance, mean = torch.var_mean(images, dim=(0, 2, 3), correction=0)
        self.measured[layer.name] = (mean, variance)
        return _apply(layer, images, mean, variance)


@dataclass(frozen=True, slots=True)
class FrozenMoments:
    """Normalize every image by the same given moments: the output of a pixel depends on its context only."""

    moments: Moments

    def __call__(self, layer: InstanceNorm, images: Tensor) -> Tensor:
        """Apply the stored moments of `layer` to `images` (n, channel, y, x)."""
        return _apply(layer, images, *self.moments[layer.name])
