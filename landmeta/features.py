"""The feature vector of a pixel: reflectances, their contrasts, and ResNet-12 features of four depths.

A head on these features is linear, so a map never holds them at full resolution: each depth is projected
by the head's weights at its own stride and only the class logits are brought to the pixel grid. Where the
moments of the norms are fixed they are folded into the convolutions, which saves a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from landmeta.networks import ALIGN, SLOPE, STRIDES, Block, ResNet12, pool_before, upsample
from landmeta.norms import FrozenMoments, Moments, Normalize, own_moments

PHASE = 5
"""Pixels, down and right, by which the pooling windows are moved for the second of the two passes.

Every pool of the network then begins at another pixel. The mean of both passes hangs less on where the
raster happens to begin (docs/design/0005-moments-and-phases.md)."""

_FLOOR, _CEILING = 0.002, 1.6  # reflectances outside are sensor artefacts (HLS has some below 0 and above 1)
_ROWS = 16  # rows of a block whose spectral maps are held at a time


def spectral_maps(images: Float[Tensor, "n band y x"]) -> Float[Tensor, "n spectral y x"]:
    """Reflectances, their logarithms and all normalized differences (a - b) / (a + b) of band pairs."""
    r = images.clamp(_FLOOR, _CEILING)
    i, j = torch.triu_indices(r.shape[1], r.shape[1], offset=1, device=r.device)
    first, second = r[:, i], r[:, j]
    return torch.cat([r, r.log(), (first - second) / (first + second)], dim=1)


def spectral_logits(
    images: Float[Tensor, "1 band y x"], weight: Float[Tensor, "class spectral"]
) -> Float[Tensor, "class y x"]:
    """`weight` applied to `spectral_maps`, some rows at a time: the maps of a whole block fit no cache."""
    parts = [by_pixel(spectral_maps(rows), weight)[0] for rows in images.split(_ROWS, dim=2)]
    return torch.cat(parts, dim=1)


def by_pixel(
    maps: Float[Tensor, "1 feature y x"], weight: Float[Tensor, "class feature"]
) -> Float[Tensor, "1 class y x"]:
    """`weight` applied to the feature vector of every pixel, with the same bits whatever the threads.

    A product for each row of pixels is computed by one thread. A single product, or a convolution, divides
    its sums among the threads where there are few classes, and rounds accordingly.
    """
    rows = maps[0].transpose(0, 1)
    return torch.bmm(weight.expand(len(rows), -1, -1), rows).transpose(0, 1)[None]


def fill_nodata(
    images: Float[Tensor, "n band y x"], fill: Float[Tensor, " band"]
) -> Float[Tensor, "n band y x"]:
    """Put `fill` in place of NaN, so that nodata carries no contrast of its own."""
    return torch.where(images.isnan(), fill[:, None, None], images)


def mean_and_deviation(maps: Float[Tensor, "n channel y x"]) -> list[Float[Tensor, "n channel"]]:
    """Mean and standard deviation of every map over each image."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0)
    return [mean, variance.sqrt()]


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


@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """A block whose moments are fixed: its norms are part of the convolutions, only rectifying is left.

    `weights` of the three convolutions and the shortcut; `biases` of the convolutions, the shortcut's is in
    the last one's.
    """

    weights: tuple[Tensor, Tensor, Tensor, Tensor]
    biases: tuple[Tensor, Tensor, Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """(n, channel_in, y, x) -> (n, channel, y, x), as `Block` with `FrozenMoments`."""
        y = F.leaky_relu(F.conv2d(x, self.weights[0], self.biases[0], padding=1), SLOPE, inplace=True)
        y = F.leaky_relu(F.conv2d(y, self.weights[1], self.biases[1], padding=1), SLOPE, inplace=True)
        y = F.conv2d(y, self.weights[2], self.biases[2], padding=1)
        y += F.conv2d(x, self.weights[3])
        return F.leaky_relu(y, SLOPE, inplace=True)


def fold_block(block: Block, moments: Moments) -> FoldedBlock:
    """Fold the norms of a block into its convolutions; differentiable in their weights."""
    frozen, weights, shifts = FrozenMoments(moments), [], []
    for convolution, norm in (
        (block.conv1, block.norm1),
        (block.conv2, block.norm2),
        (block.conv3, block.norm3),
        (block.shortcut, block.norm_shortcut),
    ):
        gain, shift = frozen.affine(norm)
        weights.append(convolution.weight * gain[:, None, None, None])
        shifts.append(shift)
    return FoldedBlock(
        (weights[0], weights[1], weights[2], weights[3]), (shifts[0], shifts[1], shifts[2] + shifts[3])
    )


@dataclass(frozen=True, slots=True)
class FoldedNetwork:
    """The last blocks of a network with fixed moments, `first` being the index of the first of them."""

    blocks: tuple[FoldedBlock, ...]
    first: int = 0

    def features(self, x: Float[Tensor, "n channel v u"]) -> list[Tensor]:
        """Outputs of the blocks; `x` enters the first of them, images or pooled outputs of the one before."""
        outputs: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(pool_before(x, self.first + i) if i else x)
            outputs.append(x)
        return outputs


def second_pass(network: FoldedNetwork, shared: Float[Tensor, "n channel y x"]) -> list[Tensor]:
    """Outputs of all blocks of a network but the first, in the second of the map's two passes.

    `shared` is the first block's output, before which no pool comes, with sides that are multiples of
    `ALIGN`. The outputs begin `PHASE` pixels later, and end so that whole cells are pooled.
    """
    later = shared[..., PHASE : PHASE - ALIGN, PHASE : PHASE - ALIGN]
    return FoldedNetwork(network.blocks[1:], 1).features(pool_before(later, 1))


def fold(network: ResNet12, moments: Moments, first: int = 0, stop: int = len(STRIDES)) -> FoldedNetwork:
    """Blocks `first` to before `stop` with `moments` folded in, laid out for inference on a CPU."""
    blocks = []
    for block in blocks_of(network)[first:stop]:
        folded = fold_block(block, moments)
        # Channels last: half the time of the default layout, also where the images are in that one.
        w = [v.detach().contiguous(memory_format=torch.channels_last) for v in folded.weights]
        blocks.append(FoldedBlock((w[0], w[1], w[2], w[3]), folded.biases))
    return FoldedNetwork(tuple(blocks), first)


def blocks_of(network: ResNet12) -> list[Block]:
    """The four blocks, shallow to deep."""
    return [b for b in network.blocks if isinstance(b, Block)]
