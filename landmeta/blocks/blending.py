"""Overlapping blocks become one map: their class probabilities are averaged under a smooth window.

A model whose logits hang on the block, as with instance-norm moments of its own, disagrees with itself where
blocks touch. Between two neighbours the weight goes over from one to the other along half a sine, over twice
the overlap; the weights of all blocks on a pixel sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from landmeta.blocks.plan import BlockWindow
from landmeta.classmap import MapBlock
from landmeta.legend import NODATA, Legend


def blend(
    found: Iterable[tuple[BlockWindow, MapBlock | None]],
    windows: Sequence[BlockWindow],
    overlap: int,
    legend: Legend,
) -> Iterator[MapBlock]:
    """Cores of the blocks with what their neighbours say of them, each as soon as all of those are there.

    Memory holds the cores whose neighbours are still missing: `bytes_held`, where `found` goes row by row.

    Args:
        found: Blocks in any order, which decides the last bits of sums; None for one without data.
        windows: All blocks that `found` holds.
        overlap: That they were planned with, pixels.
        legend: Classes in the order of the probabilities.
    """
    touching = _touching(windows)
    awaited = {corner: len(others) for corner, others in touching.items()}
    sums: dict[tuple[int, int], np.ndarray] = {}
    for window, block in found:
        if block is not None:
            _add_to_cores(sums, touching[window.corner], window, _weighted(window, block, overlap))
        for other in touching[window.corner]:
            awaited[other.corner] -= 1
        complete = [w for w in touching[window.corner] if awaited[w.corner] == 0 and w.corner in sums]
        for other in complete:
            core = _blended(sums.pop(other.corner), other, legend)
            if core is not None:
                yield core


def bytes_held(windows: Sequence[BlockWindow], classes: int) -> int:
    """Bytes of the cores that wait for their neighbours, the wider the map the more.

    They are two rows of blocks, and three blocks of the row that is begun.
    """
    rows: dict[int, int] = {}
    for window in windows:
        rows[window.row] = rows.get(window.row, 0) + window.pixels
    pixels = 2 * max(rows.values(), default=0) + 3 * max((w.pixels for w in windows), default=0)
    return pixels * (classes + 1) * np.dtype(np.float32).itemsize


def _touching(windows: Sequence[BlockWindow]) -> dict[tuple[int, int], list[BlockWindow]]:
    """Of each block, by its corner, the blocks whose cores it may reach into, itself among them."""
    rows, cols = (
        {at: i for i, at in enumerate(sorted({w.corner[axis] for w in windows}))} for axis in (0, 1)
    )
    placed = {(rows[w.row], cols[w.col]): w for w in windows}
    around = [(v, u) for v in (-1, 0, 1) for u in (-1, 0, 1)]
    return {
        window.corner: [placed[row + v, col + u] for v, u in around if (row + v, col + u) in placed]
        for (row, col), window in placed.items()
    }


def _weighted(window: BlockWindow, block: MapBlock, overlap: int) -> Float32[np.ndarray, "layer y x"]:
    """Counts of the classes times the weight of the block, and that weight itself; 0 where nodata."""
    above, left, below, right = window.shared
    down, across = (
        _weights(length, *shared, overlap)
        for length, shared in ((window.height, (above, below)), (window.width, (left, right)))
    )
    weight = np.where(block.codes == NODATA, np.float32(0), down[:, None] * across)
    return np.concatenate([block.probabilities * weight, weight[None]])


def _weights(length: int, before: int, after: int, overlap: int) -> Float32[np.ndarray, " pixel"]:
    """Weight of a block along one axis: rises about the start of its core, falls about its end."""
    at, total = np.arange(length) + 0.5, np.ones(length)
    for distance, shared in ((at - before, before), (length - after - at, after)):
        if shared:
            total *= (1 + np.sin(np.clip(distance / overlap, -1, 1) * np.pi / 2)) / 2
    return total.astype(np.float32)


def _add_to_cores(
    sums: dict[tuple[int, int], np.ndarray],
    cores: Iterable[BlockWindow],
    window: BlockWindow,
    weighted: Float32[np.ndarray, "layer y x"],
) -> None:
    """Add a block to the sums of the cores that it reaches."""
    for other in cores:
        row, col, height, width = other.core
        top, left = max(row, window.row), max(col, window.col)
        bottom = min(row + height, window.row + window.height)
        right = min(col + width, window.col + window.width)
        if top >= bottom or left >= right:
            continue
        if other.corner not in sums:
            sums[other.corner] = np.zeros((len(weighted), height, width), np.float32)
        there = np.s_[:, top - window.row : bottom - window.row, left - window.col : right - window.col]
        sums[other.corner][:, top - row : bottom - row, left - col : right - col] += weighted[there]


def _blended(sums: Float32[np.ndarray, "layer y x"], window: BlockWindow, legend: Legend) -> MapBlock | None:
    """The core of a block from its sums; None where no pixel has data."""
    valid = sums[-1] > 0
    if not valid.any():
        return None
    mean = sums[:-1] / np.where(valid, sums[-1], 1)
    codes = np.array(legend.codes, dtype=np.uint8)[mean.argmax(axis=0)]
    counts = np.rint(mean).astype(np.uint16)
    return MapBlock(*window.core[:2], codes, counts, counts.max(axis=0)).within(valid)
