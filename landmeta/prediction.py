"""The mapping engine: any mapping model over any imagery, block by block, on the imagery's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landmeta.classmap import PROBABILITY_NODATA, PROBABILITY_SCALE
from landmeta.classmap import ClassMap as ClassMap
from landmeta.legend import NODATA, Legend
from landmeta.raster import Imagery
from landmeta.sampling import lead

_BLOCK = 512  # pixels of a block without its halo: 40 % of the work is halo, memory stays below 1 GB


@runtime_checkable
class MappingModel(Protocol):
    """What the engine needs of a model; it knows nothing else (DESIGN, Values)."""

    @property
    def legend(self) -> Legend:
        """Classes in the order of the logits."""
        ...

    @property
    def stride(self) -> int:
        """Pixels per cell of the logits."""
        ...

    @property
    def align(self) -> int:
        """Window sides must be multiples of this."""
        ...

    @property
    def context(self) -> int:
        """Pixels of halo that the model wants around a block."""
        ...

    def prepare(self, blocks: Any = None) -> Any:
        """State frozen for the region, or None."""
        ...

    def logits(self, window: Tensor, state: Any) -> Tensor:
        """(band, y, x) -> (class, y / stride, x / stride)."""
        ...


@dataclass(frozen=True, slots=True)
class BlockWindow:
    """A block of the map: its core's rows and columns on the grid, and the window to read for it."""

    row: int
    col: int
    height: int
    width: int
    read_row: int
    read_col: int
    read_height: int
    read_width: int


def plan_blocks(imagery: Imagery, *, align: int, context: int, block: int = _BLOCK) -> list[BlockWindow]:
    """Blocks with halo that cover the grid exactly once, on the file's own `align` grid; metadata only."""
    return [
        BlockWindow(row, col, height, width, read_row, read_col, read_height, read_width)
        for row, height, read_row, read_height in _spans(
            imagery.shape[0], lead(imagery)[0], align, context, block
        )
        for col, width, read_col, read_width in _spans(
            imagery.shape[1], lead(imagery)[1], align, context, block
        )
    ]


def _spans(
    side: int, before: int, align: int, context: int, block: int
) -> Iterator[tuple[int, int, int, int]]:
    """(start, length, start to read, length to read) along one axis."""
    halo = -(-context // align) * align
    for corner in range(-before, side, block):
        start, end = max(corner, 0), min(corner + block, side)
        read = -(-(end - corner) // align) * align + 2 * halo
        yield start, end - start, corner - halo, read


def predict(
    ensemble: MappingModel,
    imagery: Imagery,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    block: int = _BLOCK,
) -> ClassMap:
    """Map the imagery: class codes, class probabilities and the winner's probability of every pixel.

    A pixel is nodata where any band is. Memory for the model's work is bounded by the block; the result
    holds 2 bytes a class and pixel.

    Raises:
        ImageryError: A file is gone or damaged.
    """
    classes, shape = len(ensemble.legend), imagery.shape
    codes = np.full(shape, NODATA, dtype=np.uint8)
    shares = np.full((classes, *shape), PROBABILITY_NODATA, dtype=np.uint16)
    confidence = np.full(shape, PROBABILITY_NODATA, dtype=np.uint16)
    state = ensemble.prepare()
    blocks = plan_blocks(
        imagery, align=ensemble.align * ensemble.stride, context=ensemble.context, block=block
    )
    for done, window in enumerate(blocks):
        if progress is not None:
            progress("map", done, len(blocks))
        place = np.s_[window.row : window.row + window.height, window.col : window.col + window.width]
        probability, valid = _block_probabilities(ensemble, state, imagery, window)
        if not valid.any():
            continue
        scaled = np.rint(probability / PROBABILITY_SCALE).astype(np.uint16)
        winner = probability.argmax(axis=0)
        codes[place] = np.where(valid, np.array(ensemble.legend.codes, dtype=np.uint8)[winner], NODATA)
        shares[(slice(None), *place)] = np.where(valid, scaled, PROBABILITY_NODATA)
        confidence[place] = np.where(valid, scaled.max(axis=0), PROBABILITY_NODATA)
    if progress is not None:
        progress("map", len(blocks), len(blocks))
    return ClassMap(codes, shares, confidence, imagery.grid, ensemble.legend)


def _block_probabilities(
    model: MappingModel, state: Any, imagery: Imagery, window: BlockWindow
) -> tuple[Float[np.ndarray, "class y x"], np.ndarray]:
    """Softmax over the class models on the core of a block, and where the imagery is valid."""
    pixels = imagery.read(window.read_row, window.read_col, window.read_height, window.read_width)
    top, left = window.row - window.read_row, window.col - window.read_col
    core = np.s_[..., top : top + window.height, left : left + window.width]
    valid: np.ndarray = np.asarray(np.isfinite(pixels[core]).all(axis=0))
    if not valid.any():
        return np.zeros((len(model.legend), *valid.shape), np.float32), valid
    logits = model.logits(torch.from_numpy(pixels), state)
    if model.stride > 1:
        logits = torch.nn.functional.interpolate(logits[None], scale_factor=model.stride, mode="bilinear")[0]
    probability: np.ndarray = torch.softmax(logits, dim=0).numpy()[core]
    return probability, valid
