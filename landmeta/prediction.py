"""The mapping engine: any mapping model over any imagery, block by block, on the imagery's own grid."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache, partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landmeta.blocks.blending import blend
from landmeta.blocks.folder import BlockFolder
from landmeta.blocks.plan import BlockWindow, plan_blocks
from landmeta.classmap import PROBABILITY_NODATA, PROBABILITY_SCALE
from landmeta.classmap import ClassMap as ClassMap
from landmeta.classmap import MapBlock as MapBlock
from landmeta.legend import NODATA, Legend
from landmeta.raster import Imagery

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 512  # pixels of a block without its halo: a third of the work is halo, memory stays at about 1 GB


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

    @property
    def overlap(self) -> int:
        """Pixels by which blocks reach into their neighbours to be blended; 0 where blocks agree anyway."""
        ...

    def prepare(self) -> Any:
        """State frozen for the region, or None."""
        ...

    def logits(self, window: Tensor, state: Any) -> Tensor:
        """(band, y, x) on the CPU -> (class, y / stride, x / stride) on any device."""
        ...


def windows_of(model: MappingModel, imagery: Imagery, block: int | None = None) -> list[BlockWindow]:
    """The blocks in which a model maps imagery, in the order in which they are mapped; metadata only.

    `block` is the side of a block without halo and overlap, pixels; by default BLOCK.

    Raises:
        ValueError: `block` does not suit the model's grid or overlap.
    """
    return plan_blocks(
        imagery,
        align=model.align * model.stride,
        context=model.context,
        overlap=model.overlap,
        block=BLOCK if block is None else block,
    )


def predict(
    model: MappingModel,
    imagery: Imagery,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    block: int | None = None,
) -> ClassMap:
    """Map the imagery in memory: 3 bytes a pixel and 2 more a class. `map_blocks` needs no more than a block.

    Raises:
        ImageryError: A file is gone or damaged.
    """
    classes, shape = len(model.legend), imagery.shape
    codes = np.full(shape, NODATA, dtype=np.uint8)
    shares = np.full((classes, *shape), PROBABILITY_NODATA, dtype=np.uint16)
    confidence = np.full(shape, PROBABILITY_NODATA, dtype=np.uint16)
    for part in map_blocks(model, imagery, progress=progress, block=block):
        rows, cols = part.codes.shape
        place = np.s_[part.row : part.row + rows, part.col : part.col + cols]
        codes[place], confidence[place] = part.codes, part.confidence
        shares[(slice(None), *place)] = part.probabilities
    return ClassMap(codes, shares, confidence, imagery.grid, model.legend)


def map_blocks(
    model: MappingModel,
    imagery: Imagery,
    *,
    folder: BlockFolder | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    block: int | None = None,
    wanted: Callable[[BlockWindow], bool] | None = None,
) -> Iterator[MapBlock]:
    """Map the imagery block by block: class codes, class probabilities and the winner's probability.

    A pixel is nodata where any band is; blocks of nodata alone are left out. Memory is bounded by the block,
    whatever the size of the raster; a model with overlap keeps two rows of blocks, to blend them. While one
    is used the next is computed and the one after it is read, each in a thread of its own. Blocks that
    `folder` holds are taken from it, the others put into it. Blocks that are not `wanted` are neither read
    nor mapped.

    Raises:
        ImageryError: A file is gone or damaged.
        OutputError: `folder` cannot be written.
    """
    windows = [w for w in windows_of(model, imagery, block) if wanted is None or wanted(w)]
    finished = _finished(model, imagery, windows, folder, progress)
    with closing(finished):
        if model.overlap:
            yield from blend(finished, windows, model.overlap, model.legend)
        else:
            yield from (found for _, found in finished if found is not None)


def _finished(
    model: MappingModel,
    imagery: Imagery,
    windows: Sequence[BlockWindow],
    folder: BlockFolder | None,
    progress: Callable[[str, int, int], None] | None,
) -> Generator[tuple[BlockWindow, MapBlock | None], None, None]:
    """Windows with their blocks, in order, None for those without data; see `map_blocks`."""
    missing = [w for w in windows if folder is None or w.corner not in folder]
    unread = {w.corner for w in missing}
    prepared = cache(model.prepare)  # once, and only if some block has to be computed
    reads = one_ahead(partial(read_window, imagery), missing)

    def finish(window: BlockWindow) -> MapBlock | None:
        pixels = next(reads) if window.corner in unread else None
        found = _stored(folder, window)
        if found is _ABSENT:
            found = map_window(
                model, prepared(), read_window(imagery, window) if pixels is None else pixels, window
            )
            if folder is not None:
                folder.put(window.corner, found)
        return found if isinstance(found, MapBlock) else None

    with closing(reads), closing(one_ahead(finish, windows)) as blocks:  # the last of these is closed first
        for done, (window, found) in enumerate(zip(windows, blocks, strict=True)):
            if progress is not None:
                progress("map", done, len(windows))
            yield window, found
    if progress is not None:
        progress("map", len(windows), len(windows))


_ABSENT = object()


def _stored(folder: BlockFolder | None, window: BlockWindow) -> object:
    """The block of a window that an earlier run has finished (None: without data), else _ABSENT."""
    if folder is None or window.corner not in folder:
        return _ABSENT
    try:
        return folder.get(window.corner)
    except KeyError:  # cut short when a machine went down
        return _ABSENT


def one_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """`work` of each item in order, in a thread of its own: the next is made while one is used.

    At most one result waits to be taken, so memory is bounded by two of them.
    """
    worker = ThreadPoolExecutor(1, "landmeta-ahead")
    waiting: Future[Result] | None = None
    try:
        for item in items:
            ready, waiting = waiting, worker.submit(work, item)
            if ready is not None:
                yield ready.result()
        if waiting is not None:
            yield waiting.result()
    finally:
        worker.shutdown(cancel_futures=True)


def read_window(imagery: Imagery, window: BlockWindow) -> Float[np.ndarray, "band y x"]:
    """Pixels of a window with its halo, NaN where there is no data, mirrored beyond the imagery's edge."""
    return imagery.read_mirrored(window.read_row, window.read_col, window.read_height, window.read_width)


def map_window(
    model: MappingModel, state: Any, pixels: Float[np.ndarray, "band y x"], window: BlockWindow
) -> MapBlock | None:
    """The block of a window from its pixels (halo included); None where no pixel of its core has data."""
    top, left = window.row - window.read_row, window.col - window.read_col
    core = np.s_[..., top : top + window.height, left : left + window.width]
    valid: np.ndarray = np.asarray(np.isfinite(pixels[core]).all(axis=0))
    if not valid.any():
        return None
    logits = model.logits(torch.from_numpy(pixels), state)
    if model.stride > 1:
        cells = logits[:, None]  # not classes as channels, see `Ensemble`: the same bits whatever the threads
        logits = torch.nn.functional.interpolate(cells, scale_factor=model.stride, mode="bilinear")[:, 0]
    probability = torch.softmax(logits, dim=0)[core].cpu().numpy()
    codes = np.array(model.legend.codes, dtype=np.uint8)[probability.argmax(axis=0)]
    counts = np.rint(probability / PROBABILITY_SCALE).astype(np.uint16)
    return MapBlock(window.row, window.col, codes, counts, counts.max(axis=0)).within(valid)
