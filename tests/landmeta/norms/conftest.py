"""Layers and images in float64: the laws of a norm are exact, so their tests are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from landmeta.norms import Norm, make_norm

CHANNELS = 4


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of 0 to 1 that depend on the seed only."""
    return torch.rand(shape, generator=seeded(seed), dtype=torch.float64)


def make_layer(kind: str, channels: int = CHANNELS, **options: Any) -> Norm:
    """A layer whose parameters are not the neutral ones, so that none can be forgotten."""
    layer = make_norm(kind, channels, "layer", **options).double().requires_grad_(False)
    for i, parameter in enumerate(layer.parameters()):
        parameter.copy_(0.5 + uniform(*parameter.shape, seed=100 + i))
    return layer


def images(n: int = 5, seed: int = 0, channels: int = CHANNELS, side: int = 6) -> Tensor:
    """A batch whose images and channels differ in level and contrast."""
    level, contrast = uniform(n, channels, 1, 1, seed=seed + 1), uniform(n, channels, 1, 1, seed=seed + 2)
    return 3 * level + (0.2 + contrast) * uniform(n, channels, side, side, seed=seed)
