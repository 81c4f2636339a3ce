"""The adapted model of a region: one-vs-all class models on shared features, as a mapping model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landmeta.bands import BandSet
from landmeta.features import (
    PHASE,
    FoldedBlock,
    FoldedNetwork,
    by_pixel,
    fill_nodata,
    fold,
    group_sizes,
    spectral_logits,
)
from landmeta.heads import Heads
from landmeta.legend import Legend
from landmeta.networks import ALIGN, CONTEXT, STRIDES, ResNet12, pool_before, upsample
from landmeta.norms import Moments

_PASSES = ((ALIGN, ALIGN), (PHASE, ALIGN - PHASE))
"""Pixels that each pass leaves out before and after, along both axes."""

_STRIP = 64  # rows in which the first block is computed on a CPU, a multiple of 2
_REACH = 3  # pixels that its three convolutions see on either side

_RIM = 16
"""Pixels of halo that the last block does without: of the 48 around its input it sees 24 and one cell."""


@dataclass(frozen=True)
class Ensemble:
    """Class models adapted to a region (METHODS 4.6), combined by argmax of their logits.

    Attributes:
        network: Features for exactly the region's bands.
        moments: Moments of the norm layers, frozen for the region.
        heads: One linear head a class on raw feature vectors; outputs are calibrated softmax logits.
        fill: Reflectance that stands in for nodata pixels, shape (band,).
        legend: Classes in the order of the heads.
        bands: Bands and scale of the imagery it was adapted on.
    """

    network: ResNet12 = field(repr=False)
    moments: Moments = field(repr=False)
    heads: Heads = field(repr=False)
    fill: Tensor = field(repr=False)
    legend: Legend
    bands: BandSet

    stride = 1
    align = ALIGN
    context = CONTEXT + ALIGN  # the second pass begins later and ends earlier
    overlap = 0  # frozen moments: blocks agree where they touch

    @property
    def classes(self) -> int:
        """Number of class models."""
        return len(self.legend)

    def to(self, device: torch.device | str) -> Ensemble:
        """The same model with its tensors on another device."""
        return replace(
            self,
            network=deepcopy(self.network).to(device),
            moments={name: (m.to(device), v.to(device)) for name, (m, v) in self.moments.items()},
            heads=Heads(self.heads.weight.to(device), self.heads.bias.to(device)),
            fill=self.fill.to(device),
        )

    def prepare(self) -> FoldedNetwork:
        """State for `logits`: the network with the region's moments folded in."""
        return fold(self.network, self.moments)

    @torch.inference_mode()
    def logits(self, window: Float[Tensor, "band y x"], state: FoldedNetwork) -> Float[Tensor, "class y x"]:
        """Logits of every pixel of a window of reflectance; NaN counts as nodata and is filled.

        The sides must be multiples of `align`. Logits of the outer `context` pixels mean nothing: there the
        network sees the window's border, and each of its blocks computes no more than the next one needs.
        The window may be on another device than the model, the logits are on the model's.

        Raises:
            ValueError: A side has no pixel inside of its context.
        """
        height, width = window.shape[1:]
        if min(height, width) <= 2 * self.context:
            msg = (
                f"a window has {height} x {width} px, expected more than twice the context of {self.context}"
            )
            raise ValueError(msg)
        image = fill_nodata(window[None].to(self.fill.device), self.fill)
        sizes = group_sizes(window.shape[0], self.network.widths)
        parts = self.heads.weight.split([sum(sizes[:3]), *sizes[3:]], dim=1)
        total = spectral_logits(image, parts[0]) + self.heads.bias[:, None, None]
        # No pool comes before the first block: both passes share it.
        first, *pooled = _first_block(state.blocks[0], image, parts[1])
        total += first
        for (before, after), cells in zip(_PASSES, pooled, strict=True):
            seen = np.s_[..., before : height - after, before : width - after]
            total[seen] += _deep_logits(state, cells, parts[2:]) / 2
        return total


def _first_block(
    block: FoldedBlock, image: Float[Tensor, "1 band y x"], weight: Float[Tensor, "class channel"]
) -> tuple[Tensor, ...]:
    """Logits (class, y, x) from the first block, then its output as each pass pools it.

    Its maps have full size: a strip of rows at a time they stay in the cache, and memory holds no whole one.
    """
    height, width = image.shape[2:]
    strip = _STRIP if image.device.type == "cpu" else height
    logits, pooled = list[Tensor](), [list[Tensor]() for _ in _PASSES]
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        start = max(top - _REACH, 0)
        values = block(image[..., start : bottom + 1 + _REACH, :])  # a pool may begin in the last row
        logits.append(by_pixel(values[..., top - start : bottom - start, :], weight)[0])
        for (before, after), cells in zip(_PASSES, pooled, strict=True):
            odd = before % 2
            first, end = max(top + odd, before), min(bottom + odd, height - after)
            if first < end:
                part = values[..., first - start : end - start, before : width - after]
                cells.append(pool_before(part, 1))
    return torch.cat(logits, dim=1), *(torch.cat(cells, dim=2) for cells in pooled)


def _deep_logits(
    state: FoldedNetwork, pooled: Float[Tensor, "1 channel v u"], weights: Sequence[Tensor]
) -> Float[Tensor, "class y x"]:
    """Logits from what comes after the first block; the outer `_RIM` pixels lack the last block's part."""
    middle = FoldedNetwork(state.blocks[1:3], first=1).features(pooled)
    logits = _projected(middle, weights[:2], STRIDES[1:3])
    cells = _RIM // STRIDES[2]
    core = middle[-1][..., cells:-cells, cells:-cells]
    last = FoldedNetwork(state.blocks[3:], first=3).features(pool_before(core, 3))
    logits[..., _RIM:-_RIM, _RIM:-_RIM] += _projected(last, weights[2:], STRIDES[3:])
    return logits


def _projected(
    maps: Sequence[Tensor], weights: Sequence[Tensor], strides: Sequence[int]
) -> Float[Tensor, "class y x"]:
    """Logits from block outputs: projected before they are upsampled, so `classes` channels at full size."""
    # Classes stand where a batch does: 3 channels are upsampled with other bits by 1 thread than by 2.
    parts = [
        upsample(by_pixel(values, weight).transpose(0, 1), stride)[:, 0]
        for values, weight, stride in zip(maps, weights, strides, strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
