"""Tune blocks of the network to a region by gradient steps through the closed-form heads."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from landmeta.ensemble import fill_nodata
from landmeta.networks import Block, ResNet12, pool_before
from landmeta.norms import FrozenMoments, Moments
from landmeta.sampling import Window, sample_maps
from landmeta.start import Start, balanced_cross_entropy

TUNED_BLOCKS = {"standard": 3, "full": 0}
"""First block that an effort tunes; the blocks before it are computed once."""

_STEPS = {"standard": 9, "full": 20}
_RATE = 3e-4


def tune_blocks(
    start: Start,
    network: ResNet12,
    features: tuple[Moments, Tensor, Tensor],
    windows: list[Window],
    fill: Tensor,
    target: Tensor,
    folds: np.ndarray,
    effort: str,
    tell: Callable[[str, int, int], None],
    exclude: int | None = None,
) -> ResNet12:
    """A copy of `network` with its last blocks tuned; norm affine parameters stay fixed (METHODS 1.2).

    Each step fits the heads on all folds but one and descends on the loss of the fold left out: what is
    learned is to separate groups (polygons, tiles) that the heads have not seen. Samples of the fold
    `exclude` take no part.
    """
    moments, sample, vectors = features
    first, steps = TUNED_BLOCKS[effort], _STEPS[effort]
    scaled = start.standardization(sample, fill.shape[0])
    normalize, tuned = FrozenMoments(moments), copy.deepcopy(network)
    tail = [b for b in list(tuned.blocks)[first:] if isinstance(b, Block)]
    weights = [p for b in tail for p in b.parameters() if p.dim() > 1]
    for weight in weights:
        weight.requires_grad_(True)
    order = torch.cat([w.order for w in windows])
    inputs = [_input_of_block(tuned, w, fill, first, normalize) for w in windows]
    fixed = vectors[order].split([len(w.rows) for w in windows])
    optimizer = torch.optim.Adam(weights, _RATE)
    fold = torch.from_numpy(np.asarray(folds))[order]
    choices = [k for k in fold[fold >= 0].unique().tolist() if k != exclude]
    active = fold != (-2 if exclude is None else exclude)
    for step in range(steps if choices else 0):
        tell("tuning", step, steps)
        parts = [_vectors(tail, x, f, w, normalize) for x, f, w in zip(inputs, fixed, windows, strict=True)]
        held = fold == choices[step % len(choices)]
        points, truth = scaled(torch.cat(parts)), target[order]
        train = active & ~held
        heads = start.fit_heads(points[train], truth[train], int(target.max()) + 1)
        optimizer.zero_grad()
        balanced_cross_entropy(heads(points[held]), truth[held]).backward()
        optimizer.step()
    return tuned.requires_grad_(False)


def _input_of_block(
    network: ResNet12, window: Window, fill: Tensor, first: int, normalize: FrozenMoments
) -> Tensor:
    """What block `first` takes in, computed once for all steps."""
    image = fill_nodata(window.image[None], fill)
    if first == 0:
        return image
    with torch.no_grad():
        return pool_before(network.features(image, normalize)[first - 1], first)


def _vectors(tail: list[Block], x: Tensor, fixed: Tensor, window: Window, normalize: FrozenMoments) -> Tensor:
    """Feature vectors of a window's labelled pixels: tuned depths anew, the others as they were."""
    first, depths = 4 - len(tail), []
    for i, block in enumerate(tail):
        x = block(x if i == 0 else pool_before(x, first + i), normalize)
        depths.append(x)
    width = sum(d.shape[1] for d in depths)
    blank = [fixed.new_zeros(1, 0, 2, 2)] * (4 - len(depths))
    empty_spectral = fixed.new_zeros(1, 0, int(window.rows.max()) + 1, int(window.cols.max()) + 1)
    return torch.cat(
        [
            fixed[:, : fixed.shape[1] - width],
            sample_maps([empty_spectral, *blank, *depths], window.rows, window.cols),
        ],
        1,
    )
