"""Where adaptation looks: windows around labelled pixels, a sample of the region, features at points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.features import spectral_maps
from landmeta.labels import Labels
from landmeta.networks import ALIGN, CONTEXT, STRIDES
from landmeta.raster import Imagery

SUPPORT_LIMIT = 400
"""Labelled pixels a class beyond which the heads no longer improve; more are thinned evenly over groups."""

_CORE = 128  # pixels of a label window without its halo
_BLOCK, _BLOCKS = 128, 24  # unlabelled windows from which moments and feature scales are measured


@dataclass(frozen=True, slots=True)
class Window:
    """A window (band, y, x) and labelled pixels in it; `order` are their places among all samples."""

    image: Float[Tensor, "band y x"]
    rows: Int[Tensor, " sample"]
    cols: Int[Tensor, " sample"]
    order: Int[Tensor, " sample"]


def lead(imagery: Imagery) -> tuple[int, int]:
    """Pixels from the grid's corner back to the last corner on the file's own `ALIGN` grid.

    Blocks start there, so that a map of a part equals the same part of the whole map.
    """
    return imagery.origin[0] % ALIGN, imagery.origin[1] % ALIGN


def label_windows(
    imagery: Imagery, rows: Int[np.ndarray, " sample"], cols: Int[np.ndarray, " sample"]
) -> list[Window]:
    """Read each aligned window that holds labelled pixels, with `CONTEXT` pixels of halo."""
    top, left = lead(imagery)
    block_row, block_col = (rows + top) // _CORE, (cols + left) // _CORE
    windows = []
    for r, c in sorted(set(zip(block_row.tolist(), block_col.tolist(), strict=True))):
        order = np.flatnonzero((block_row == r) & (block_col == c))
        row, col = r * _CORE - top - CONTEXT, c * _CORE - left - CONTEXT
        side = _CORE + 2 * CONTEXT
        image = torch.from_numpy(imagery.read(row, col, side, side))
        inside = [torch.from_numpy(v) for v in (rows[order] - row, cols[order] - col, order)]
        windows.append(Window(image, inside[0], inside[1], inside[2]))
    return windows


def region_sample(
    imagery: Imagery, rng: np.random.Generator, labels: Labels | None = None
) -> tuple[Float[Tensor, " band"], Float[Tensor, "n band y x"]]:
    """Mean reflectance of the region (to fill nodata) and unlabelled blocks spread over it.

    Blocks are drawn without regard to labels: moments of class-balanced support would misstate an
    imbalanced region. Only where none drawn is half full of data are they those around labelled pixels.
    """
    corners = _corners(imagery.shape)
    chosen = [corners[i] for i in sorted(rng.permutation(len(corners))[: 4 * _BLOCKS])]
    height, width = (min(_BLOCK, -(-side // ALIGN) * ALIGN) for side in imagery.shape)
    blocks: list[np.ndarray] = []
    for row, col in chosen:
        block = imagery.read(row, col, height, width)
        if np.isfinite(block).all(axis=0).mean() > 0.5 or len(chosen) == 1:
            blocks.append(block)
        if len(blocks) == _BLOCKS:
            break
    if not blocks:
        around = chosen if labels is None else _label_corners(labels, height, width)
        blocks = [imagery.read(row, col, height, width) for row, col in around[:_BLOCKS]]
    stack = np.stack(blocks)
    fill = np.nan_to_num(np.nanmean(np.where(np.isfinite(stack), stack, np.nan), axis=(0, 2, 3)))
    return torch.from_numpy(fill.astype(np.float32)), torch.from_numpy(stack)


def group_tiles(
    imagery: Imagery, labels: Labels, rng: np.random.Generator, *, side: int = 128, limit: int = 15
) -> tuple[Float[Tensor, "n band y x"], Int[Tensor, " n"], Int[np.ndarray, " n"]]:
    """Whole tiles around the label groups, at most `limit` a class: images, class indices and group ids."""
    groups, first = np.unique(labels.groups, return_index=True)
    position = {code: i for i, code in enumerate(labels.legend.codes)}
    target = np.array([position[int(labels.codes[i])] for i in first])
    chosen = np.sort(thin_groups(target, groups, limit, rng))
    tiles = []
    for group in groups[chosen]:
        mine = labels.groups == group
        row, col = (int(v[mine].mean()) - side // 2 for v in (labels.rows, labels.cols))
        tiles.append(imagery.read(row, col, side, side))
    return torch.from_numpy(np.stack(tiles)), torch.from_numpy(target[chosen]), groups[chosen]


def _corners(shape: tuple[int, int]) -> list[tuple[int, int]]:
    rows, cols = (max(1, side // _BLOCK) for side in shape)
    return [(r * shape[0] // rows, c * shape[1] // cols) for r in range(rows) for c in range(cols)]


def _label_corners(labels: Labels, height: int, width: int) -> list[tuple[int, int]]:
    """Corners of blocks about labelled pixels: where data is rare in a raster, it is there."""
    spread = np.linspace(0, len(labels.rows) - 1, min(_BLOCKS, len(labels.rows))).astype(np.int64)
    centres = zip(labels.rows[spread].tolist(), labels.cols[spread].tolist(), strict=True)
    return sorted({(row - height // 2, col - width // 2) for row, col in centres})


def thin(labels: Labels, limit: int, rng: np.random.Generator) -> Int[np.ndarray, " sample"]:
    """Indices of at most `limit` samples a class, the same number from each group as far as it has them."""
    return thin_groups(labels.codes, labels.groups, limit, rng)


def thin_groups(
    codes: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"], limit: int, rng: np.random.Generator
) -> Int[np.ndarray, " sample"]:
    """`thin` for bare arrays of class codes and group ids."""
    kept = []
    for code in np.unique(codes):
        index = rng.permutation(np.flatnonzero(codes == code))
        order = np.argsort(groups[index], kind="stable")
        sizes = np.unique(groups[index], return_counts=True)[1]
        rank = np.concatenate([np.arange(size) for size in sizes])  # how many of its group come before it
        kept.append(index[order][np.argsort(rank, kind="stable")[:limit]])
    return np.sort(np.concatenate(kept))


def sample_maps(
    maps: Sequence[Tensor], rows: Int[Tensor, " sample"], cols: Int[Tensor, " sample"]
) -> Float[Tensor, "sample feature"]:
    """Feature vectors at pixels of one window, equal to `dense_features` there, without the dense array."""
    groups = [maps[0][0, :, rows, cols].T]
    for values, stride in zip(maps[1:], STRIDES, strict=True):
        # Block 4's padded pool centres cell j at pixel 8 j - 0.5, the others at s j + (s - 1) / 2.
        shift = 0.0 if stride == STRIDES[-1] else 0.5
        v, u = ((at + 0.5) / stride - shift for at in (rows, cols))
        groups.append(_bilinear(values[0], v, u))
    return torch.cat(groups, dim=1)


def sample_features(
    image: Float[Tensor, "1 band y x"],
    depths: Sequence[Tensor],
    rows: Int[Tensor, " sample"],
    cols: Int[Tensor, " sample"],
) -> Float[Tensor, "sample feature"]:
    """`sample_maps` with the spectral group computed at the asked pixels alone, not over the window."""
    spectral = spectral_maps(image[:, :, rows, cols][..., None])[0, :, :, 0].T
    nothing = image.new_zeros(1, 0, *image.shape[2:])
    return torch.cat([spectral, sample_maps([nothing, *depths], rows, cols)], dim=1)


def _bilinear(values: Float[Tensor, "channel v u"], v: Tensor, u: Tensor) -> Float[Tensor, "sample channel"]:
    height, width = values.shape[1:]
    v, u = v.clamp(0, height - 1), u.clamp(0, width - 1)
    top, left = v.floor().long().clamp(max=max(height - 2, 0)), u.floor().long().clamp(max=max(width - 2, 0))
    low, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    a, b = v - top, u - left
    upper = values[:, top, left] * (1 - b) + values[:, top, right] * b
    lower = values[:, low, left] * (1 - b) + values[:, low, right] * b
    return (upper * (1 - a) + lower * a).T
