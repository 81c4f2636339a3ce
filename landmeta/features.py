"""The feature vector of a pixel: reflectances, their contrasts, and ResNet-12 features of four depths.

A head on these features is linear, so a map never holds them at full resolution: each depth is projected
by the head's weights at its own stride and only the class logits are brought to the pixel grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from landmeta.networks import STRIDES, ResNet12, upsample
from landmeta.norms import Normalize, own_moments

_FLOOR, _CEILING = 0.002, 1.6  # reflectances outside are sensor artefacts (HLS has some below 0 and above 1)


def spectral_maps(images: Float[Tensor, "n band y x"]) -> Float[Tensor, "n spectral y x"]:
    """Reflectances, their logarithms and all normalized differences (a - b) / (a + b) of band pairs."""
    r = images.clamp(_FLOOR, _CEILING)
    i, j = torch.triu_indices(r.shape[1], r.shape[1], offset=1)
    first, second = r[:, i], r[:, j]
    return torch.cat([r, r.log(), (first - second) / (first + second)], dim=1)


def group_sizes(bands: int, widths: Sequence[int]) -> tuple[int, ...]:
    """Features in each group: reflectances, logarithms, contrasts, then the four depths."""
    return (bands, bands, bands * (bands - 1) // 2, *widths)


def feature_maps(
    network: ResNet12, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
) -> list[Tensor]:
    """Maps of the feature groups, each at its own stride: spectral (1), then depths (1, 2, 4, 8)."""
    return [spectral_maps(images), *network.features(images, normalize)]


def dense_features(maps: Sequence[Tensor]) -> Float[Tensor, "n feature y x"]:
    """All groups on the pixel grid: for sampling labelled pixels of small windows only, it is large."""
    return torch.cat([upsample(m, s) for m, s in zip(maps, (1, *STRIDES), strict=True)], dim=1)


@dataclass(frozen=True, slots=True)
class Standardization:
    """Shift and gain of every feature, measured on the region without labels; `mean`, `gain` (feature,)."""

    mean: Tensor
    gain: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Standardize feature vectors (n, feature)."""
        return (features - self.mean) * self.gain


def standardize(
    sample: Float[Tensor, "n feature"], sizes: Sequence[int], group_scale: Float[Tensor, " group"]
) -> Standardization:
    """Unit variance for each feature, then one learned scale a group divided by the root of its size.

    The division makes the groups comparable whatever the number of bands: the ridge penalty then sees each
    group's kernel, not its number of features.
    """
    variance, mean = torch.var_mean(sample, dim=0, correction=0)
    scale = torch.cat([(s / n**0.5).expand(n) for s, n in zip(group_scale, sizes, strict=True)])
    return Standardization(mean, scale / torch.sqrt(variance + 1e-6))
