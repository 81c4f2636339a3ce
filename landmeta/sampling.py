"""Where adaptation looks: windows around labelled pixels, a sample of the region, features at points."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.features import PHASE, FoldedNetwork, fill_nodata, fold, second_pass, spectral_maps
from landmeta.labels import Labels
from landmeta.networks import ALIGN, STRIDES, ResNet12
from landmeta.norms import Moments, PooledMoments
from landmeta.raster import Imagery

SUPPORT_LIMIT = 400
"""Labelled pixels a class beyond which the heads no longer improve; more are thinned (`thin`)."""

_CORE = 128  # most pixels of a label window's side without its halo
# A third of the map's halo (networks.CONTEXT): what lies further away moves a feature very little, and 48
# pixels around a tile of 128 would triple the work. The second pass has `PHASE` pixels less of it before, and
# `ALIGN - PHASE` after.
_HALO = 16
_BLOCK, _BLOCKS = 128, 12  # unlabelled windows from which moments and feature scales are measured
_SAMPLE = 4096  # pixels of them whose features are standardized
_FEW = 256  # of them: then data is rare in the windows, and they are taken from where it is
_SMALL = 48  # pixels of a side below which the edge of the imagery is nearly all that a network sees


@dataclass(frozen=True, slots=True)
class Window:
    """A window (band, y, x) and labelled pixels in it; `order` are their places among all samples."""

    image: Float[Tensor, "band y x"]
    rows: Int[Tensor, " sample"]
    cols: Int[Tensor, " sample"]
    order: Int[Tensor, " sample"]


def lead(imagery: Imagery, align: int = ALIGN) -> tuple[int, int]:
    """Pixels from the grid's corner back to the last corner on the file's own grid of `align` pixels.

    Blocks start there, so that a map of a part equals the same part of the whole map.
    """
    return imagery.origin[0] % align, imagery.origin[1] % align


def label_windows(
    imagery: Imagery, rows: Int[np.ndarray, " sample"], cols: Int[np.ndarray, " sample"], halo: int = _HALO
) -> list[Window]:
    """Read what surrounds labelled pixels, at least `halo` (a multiple of `ALIGN`) pixels on every side.

    Pixels that share a block of an aligned grid share a window.
    """
    top, left = lead(imagery)
    v, u = rows + top, cols + left  # on the file's own grid
    blocks, block_of = np.unique(np.stack([v // _CORE, u // _CORE]), axis=1, return_inverse=True)
    windows = []
    for i in range(blocks.shape[1]):
        order = np.flatnonzero(block_of.ravel() == i)
        row, height = _aligned(v[order], halo)
        col, width = _aligned(u[order], halo)
        row, col = row - top, col - left
        image = torch.from_numpy(imagery.read_mirrored(row, col, height, width))
        inside = [torch.from_numpy(a) for a in (rows[order] - row, cols[order] - col, order)]
        windows.append(Window(image, inside[0], inside[1], inside[2]))
    return windows


def _aligned(at: Int[np.ndarray, " sample"], halo: int) -> tuple[int, int]:
    """Start and length of the aligned span around positions along one axis."""
    start = int(at.min()) // ALIGN * ALIGN - halo
    end = -(-(int(at.max()) + 1) // ALIGN) * ALIGN + halo
    return start, end - start


def region_sample(
    imagery: Imagery, rng: np.random.Generator, labels: Labels | None = None
) -> tuple[Float[Tensor, " band"], list[Window]]:
    """Mean reflectance of the region (to fill nodata) and unlabelled windows with pixels, spread over it.

    They are drawn without regard to labels: moments of class-balanced support would misstate an imbalanced
    region. Only where none drawn is half full of data are they those around labelled pixels. Very small
    imagery is seen with its mirror image around it, as label windows and the map see it.
    """
    pad = _HALO if max(imagery.shape) < _SMALL else 0
    shape = imagery.shape[0] + 2 * pad, imagery.shape[1] + 2 * pad
    corners = _corners(shape)
    chosen = [corners[i] for i in sorted(rng.permutation(len(corners))[: 4 * _BLOCKS])]
    height, width = (min(_BLOCK, -(-side // ALIGN) * ALIGN) for side in shape)
    blocks: list[np.ndarray] = []
    for row, col in chosen:
        read = imagery.read_mirrored if pad else imagery.read
        block = read(row - pad, col - pad, height, width)
        if np.isfinite(block).all(axis=0).mean() > 0.5 or len(chosen) == 1:
            blocks.append(block)
        if len(blocks) == _BLOCKS:
            break
    if not blocks:
        around = chosen if labels is None else _label_corners(labels, height, width)
        blocks = [imagery.read(row, col, height, width) for row, col in around[:_BLOCKS]]
    stack = np.stack(blocks)
    with warnings.catch_warnings():
        # A band without data has no mean: it is filled with 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        fill = np.nan_to_num(np.nanmean(np.where(np.isfinite(stack), stack, np.nan), axis=(0, 2, 3)))
    return torch.from_numpy(fill.astype(np.float32)), _probed(torch.from_numpy(stack))


def _probed(blocks: Float[Tensor, "n band y x"]) -> list[Window]:
    """The blocks as windows, with pixels that have data on a regular pattern."""
    width = blocks.shape[3]
    full = [block.isfinite().all(dim=0).flatten().nonzero()[:, 0] for block in blocks]
    step = blocks[:, 0].numel() // _SAMPLE | 1  # odd: an even one meets a few columns only
    picked = [valid[valid % step == 0] for valid in full]
    if sum(map(len, picked)) < _FEW:
        step = sum(map(len, full)) // _SAMPLE | 1
        picked = [valid[::step] for valid in full]
    windows, count = [], 0
    for block, valid in zip(blocks, picked, strict=True):
        order = torch.arange(count, count + len(valid))
        windows.append(Window(block, valid // width, valid % width, order))
        count += len(valid)
    return windows


@dataclass(frozen=True, slots=True)
class RegionFeatures:
    """What the heads are fitted on.

    Attributes:
        moments: Moments of all norm layers, measured on the unlabelled blocks.
        sample: Feature vectors of unlabelled pixels in the first of the map's two passes, (n, feature).
        labelled: Feature vectors of the labelled pixels, the mean of both passes, (sample, feature).
    """

    moments: Moments
    sample: Tensor
    labelled: Tensor


@dataclass(frozen=True)
class Region:
    """A network and what it sees of a region: unlabelled windows of one size, and label windows."""

    network: ResNet12
    fill: Float[Tensor, " band"]
    blocks: list[Window]
    windows: list[Window]

    def features(self, tell: Callable[[str, int, int], None] | None = None) -> RegionFeatures:
        """Measure the moments on the blocks, then compute the feature vectors of sample and labels."""
        with torch.inference_mode():
            moments, sample = self._measure()
            folded, labelled = fold(self.network, moments), []
            for i, window in enumerate(self.windows):
                if tell is not None:
                    tell("features", i, len(self.windows))
                image = self.image(window)
                spectral = _spectral(image, window.rows, window.cols)
                depths = depths_of_both_passes(folded, image, window.rows, window.cols)
                labelled.append(torch.cat([spectral, depths], dim=1))
        return RegionFeatures(moments, sample, in_order(labelled, self.windows) if labelled else sample[:0])

    def _measure(self) -> tuple[Moments, Float[Tensor, "n feature"]]:
        pooled, images = PooledMoments(), torch.cat([self.image(b) for b in self.blocks])
        images = images.contiguous(memory_format=torch.channels_last)  # a CPU convolves these faster
        depths = self.network.features(images, pooled)
        vectors = [
            sample_features(images[i : i + 1], [d[i : i + 1] for d in depths], block.rows, block.cols)
            for i, block in enumerate(self.blocks)
        ]
        return pooled.measured, torch.cat(vectors)

    def image(self, window: Window) -> Float[Tensor, "1 band y x"]:
        """A window without nodata, as a batch of one on the network's device."""
        return fill_nodata(window.image[None].to(self.fill.device), self.fill)


def in_order(parts: Sequence[Tensor], windows: Sequence[Window]) -> Tensor:
    """Rows computed window by window, in the order of the samples."""
    return torch.cat(list(parts))[torch.argsort(torch.cat([w.order for w in windows]))]


def group_tiles(
    imagery: Imagery, labels: Labels, rng: np.random.Generator, *, side: int = 128, limit: int = 15
) -> tuple[Float[Tensor, "n band y x"], Int[Tensor, " n"], Int[np.ndarray, " n"]]:
    """Whole tiles around the label groups, at most `limit` a class: images, class indices and group ids.

    Of a label raster the groups that pixels drawn at random meet first, so large ones, and the tiles about
    these pixels: the middle of a ring is not of its class.
    """
    one_each = _met(labels, limit, rng) if labels.patches else _drawn(labels, limit, rng)
    position = {code: i for i, code in enumerate(labels.legend.codes)}
    target = np.array([position[int(code)] for code in labels.codes[one_each]])
    tiles = []
    for sample in one_each:
        about = sample if labels.patches else labels.groups == labels.groups[sample]
        row, col = (int(v[about].mean()) - side // 2 for v in (labels.rows, labels.cols))
        tiles.append(imagery.read(row, col, side, side))
    return torch.from_numpy(np.stack(tiles)), torch.from_numpy(target), labels.groups[one_each]


def _drawn(labels: Labels, limit: int, rng: np.random.Generator) -> Int[np.ndarray, " group"]:
    """A sample of each of at most `limit` groups a class."""
    groups, first = np.unique(labels.groups, return_index=True)
    chosen: np.ndarray = first[np.sort(thin_groups(labels.codes[first], groups, limit, rng))]
    return chosen


def _met(labels: Labels, limit: int, rng: np.random.Generator) -> Int[np.ndarray, " group"]:
    """The same of the groups that samples drawn at random meet first, and these samples."""
    order = rng.permutation(len(labels))
    met = order[np.sort(np.unique(labels.groups[order], return_index=True)[1])]
    return np.concatenate([met[labels.codes[met] == code][:limit] for code in labels.legend.codes])


def _corners(shape: tuple[int, int]) -> list[tuple[int, int]]:
    rows, cols = (max(1, side // _BLOCK) for side in shape)
    return [(r * shape[0] // rows, c * shape[1] // cols) for r in range(rows) for c in range(cols)]


def _label_corners(labels: Labels, height: int, width: int) -> list[tuple[int, int]]:
    """Corners of blocks about labelled pixels: where data is rare in a raster, it is there."""
    spread = np.linspace(0, len(labels.rows) - 1, min(_BLOCKS, len(labels.rows))).astype(np.int64)
    centres = zip(labels.rows[spread].tolist(), labels.cols[spread].tolist(), strict=True)
    return sorted({(row - height // 2, col - width // 2) for row, col in centres})


def thin(labels: Labels, limit: int, rng: np.random.Generator) -> Int[np.ndarray, " sample"]:
    """Indices of at most `limit` samples a class, the same number from each group as far as it has them.

    Of a label raster pixels are drawn wherever they lie: nearly all of its patches are specks, many of them
    wrong, and alike for each patch hardly a sample would be of the fields and lakes that the map consists of.
    """
    if not labels.patches:
        return thin_groups(labels.codes, labels.groups, limit, rng)
    of_class = [np.flatnonzero(labels.codes == code) for code in np.unique(labels.codes)]
    kept = [rng.choice(index, min(limit, len(index)), replace=False) for index in of_class]
    return np.sort(np.concatenate(kept))


def thin_groups(
    codes: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"], limit: int, rng: np.random.Generator
) -> Int[np.ndarray, " sample"]:
    """`thin` for bare arrays of class codes and group ids.

    Where groups are more than samples, or some give one more than others, these are drawn.
    """
    kept, ties = [], rng.spawn(1)[0]
    for code in np.unique(codes):
        index = rng.permutation(np.flatnonzero(codes == code))
        order = np.argsort(groups[index], kind="stable")
        sizes = np.unique(groups[index], return_counts=True)[1]
        rank = np.concatenate([np.arange(size) for size in sizes])  # how many of its group come before it
        turn = np.repeat(ties.permutation(len(sizes)), sizes)  # else the first of a file would always be kept
        kept.append(index[order][np.lexsort((turn, rank))[:limit]])
    return np.sort(np.concatenate(kept))


def sample_features(
    image: Float[Tensor, "1 band y x"],
    depths: Sequence[Tensor],
    rows: Int[Tensor, " sample"],
    cols: Int[Tensor, " sample"],
) -> Float[Tensor, "sample feature"]:
    """Feature vectors at pixels of one window, equal to `dense_features` there, without the dense array."""
    return torch.cat([_spectral(image, rows, cols), sample_depths(depths, rows, cols)], dim=1)


def _spectral(
    image: Float[Tensor, "1 band y x"], rows: Int[Tensor, " sample"], cols: Int[Tensor, " sample"]
) -> Float[Tensor, "sample feature"]:
    return spectral_maps(image[:, :, rows, cols][..., None])[0, :, :, 0].T


def depths_of_both_passes(
    network: FoldedNetwork,
    image: Float[Tensor, "1 band y x"],
    rows: Int[Tensor, " sample"],
    cols: Int[Tensor, " sample"],
) -> Float[Tensor, "sample feature"]:
    """The mean of the `sample_depths` of both passes of the map (`Ensemble.logits`) over one window."""
    depths = network.features(image)
    vectors = sample_depths(depths, rows, cols)
    again = sample_depths(second_pass(network, depths[0]), rows - PHASE, cols - PHASE, 1)
    shared, pooled = vectors.split([vectors.shape[1] - again.shape[1], again.shape[1]], dim=1)
    return torch.cat([shared, (pooled + again) / 2], dim=1)


def sample_depths(
    depths: Sequence[Tensor], rows: Int[Tensor, " sample"], cols: Int[Tensor, " sample"], first: int = 0
) -> Float[Tensor, "sample feature"]:
    """The part of `sample_features` that comes from block outputs, those from block `first` on."""
    groups = []
    rows, cols = (at.to(depths[0].device) for at in (rows, cols))
    for values, stride in zip(depths, STRIDES[first:], strict=True):
        # Block 4's padded pool centres cell j at pixel 8 j - 0.5, the others at s j + (s - 1) / 2.
        shift = 0.0 if stride == STRIDES[-1] else 0.5
        v, u = ((at + 0.5) / stride - shift for at in (rows, cols))
        groups.append(_bilinear(values[0], v, u))
    return torch.cat(groups, dim=1)


def _bilinear(values: Float[Tensor, "channel v u"], v: Tensor, u: Tensor) -> Float[Tensor, "sample channel"]:
    height, width = values.shape[1:]
    v, u = v.clamp(0, height - 1), u.clamp(0, width - 1)
    top, left = v.floor().long().clamp(max=max(height - 2, 0)), u.floor().long().clamp(max=max(width - 2, 0))
    low, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    a, b = (v - top)[:, None], (u - left)[:, None]
    cells = values.permute(1, 2, 0)
    upper = torch.lerp(cells[top, left], cells[top, right], b)
    lower = torch.lerp(cells[low, left], cells[low, right], b)
    return torch.lerp(upper, lower, a)
