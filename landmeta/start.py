"""The meta-learned start: a ResNet-12 and what the closed-form heads need to know beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from landmeta.bands import SENTINEL2
from landmeta.features import (
    Standardization,
    dense_features,
    fold,
    group_sizes,
    mean_and_deviation,
    spectral_maps,
    standardize,
)
from landmeta.heads import Heads, class_balanced_weights, fit_ridge
from landmeta.networks import ResNet12
from landmeta.norms import Moments, Normalize, own_moments

GROUPS = 7
"""Feature groups: reflectances, logarithms, contrasts, four depths."""

_SPECTRAL = 3  # of these


class Start(nn.Module):
    """Everything that is meta-learned; adaptation reads it and never changes it.

    Attributes:
        network: Feature extractor for the 13 Sentinel-2 bands.
        log_scale: Logarithm of the weight of each feature group in the heads' kernel, shape (7,).
        log_ridge: Intercept and slope of log ridge against log samples a class, shape (2,).
        log_temperature: Logarithm of the factor from head outputs to softmax logits, shape ().
    """

    def __init__(self, widths: Sequence[int], *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.network = ResNet12(len(SENTINEL2), widths, generator=generator)
        self.log_scale = nn.Parameter(torch.zeros(GROUPS))
        self.log_ridge = nn.Parameter(torch.tensor([-1.0, -0.5]))
        self.log_temperature = nn.Parameter(torch.tensor(1.5))

    def for_bands(self, names: Sequence[str]) -> ResNet12:
        """The network for a subset of the 13 bands, in the order given."""
        return self.network.select_bands([SENTINEL2.index(n) for n in names])

    def standardization(self, sample: Float[Tensor, "n feature"], bands: int) -> Standardization:
        """Standardize features by an unlabelled sample of the region and the learned group scales."""
        return standardize(sample, group_sizes(bands, self.network.widths), self.log_scale.exp())

    def tile_standardization(self, sample: Float[Tensor, "n feature"], bands: int) -> Standardization:
        """`standardization` for `tile_features`: each of their groups has the scale of its maps."""
        sizes, scale = group_sizes(bands, self.network.widths), self.log_scale.exp()
        depths = sizes[_SPECTRAL:]
        return standardize(
            sample,
            (*sizes, *sizes, *depths, *depths),
            torch.cat([scale, scale, scale[_SPECTRAL:], scale[_SPECTRAL:]]),
        )

    def ridge(self, target: Int[Tensor, " n"]) -> Tensor:
        """Ridge penalty for a support set: falls with the samples of its smallest class."""
        smallest = torch.unique(target, return_counts=True)[1].min().clamp(max=500).float()
        ridge: Tensor = (self.log_ridge[0] + self.log_ridge[1] * smallest.log()).exp()
        return ridge

    def fit_heads(
        self, features: Float[Tensor, "n feature"], target: Int[Tensor, " n"], classes: int
    ) -> Heads:
        """Fit the one-vs-all heads on standardized support features, outputs as softmax logits."""
        heads = fit_ridge(features, target, classes, self.ridge(target))
        factor = self.log_temperature.exp()
        return Heads(heads.weight * factor, heads.bias * factor)


def spread(images: Float[Tensor, "n band y x"], names: Sequence[str]) -> Float[Tensor, "n 13 y x"]:
    """Place bands at their Sentinel-2 positions with zeros for the missing: same result as `for_bands`."""
    full = images.new_zeros(images.shape[0], len(SENTINEL2), *images.shape[2:])
    full[:, [SENTINEL2.index(n) for n in names]] = images
    return full


def feature_maps(
    start: Start,
    images: Float[Tensor, "n band y x"],
    names: Sequence[str],
    normalize: Normalize = own_moments,
) -> list[Tensor]:
    """Spectral and deep feature maps of small windows, differentiable in the start's tensors.

    The spectral maps have the images' grid, the deep ones strides 1, 2, 4 and 8.
    """
    # Contrasts only of the bands that are there, never of the zeros that `spread` puts in.
    return [spectral_maps(images), *start.network.features(spread(images, names), normalize)]


def pixel_vectors(maps: Sequence[Tensor]) -> Float[Tensor, "pixel feature"]:
    """Feature vectors of every pixel (image, y, x), the deep maps resampled to the images' grid."""
    return dense_features(maps).permute(0, 2, 3, 1).flatten(0, 2)


def image_vectors(maps: Sequence[Tensor]) -> Float[Tensor, "n feature"]:
    """Feature vectors of whole images: the mean of each map."""
    return torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)


def tile_features(
    network: ResNet12, tiles: Float[Tensor, "n band y x"], moments: Moments
) -> Float[Tensor, "n feature"]:
    """Feature vectors of whole tiles: means, then standard deviations, of the maps over each tile.

    The depths come twice: normalized by the moments of the tile itself, which tell its pattern, and by those
    of all tiles, in `moments`, which tell how it differs from the others.
    """
    own = [spectral_maps(tiles), *network.features(tiles)]
    maps = [*own, *fold(network, moments).features(tiles)]
    mean, deviation = zip(*(mean_and_deviation(m) for m in maps), strict=True)
    few = len(own)
    return torch.cat([*mean[:few], *deviation[:few], *mean[few:], *deviation[few:]], dim=1)


def balanced_cross_entropy(logits: Float[Tensor, "n class"], target: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross entropy in which every class counts the same: the loss behind balanced accuracy."""
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return (loss * class_balanced_weights(target, logits.shape[1])).sum()
