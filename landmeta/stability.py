"""How much of a map hangs on where its grids happen to begin, and nothing on the ground."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from landmeta.blocks.plan import BlockWindow, plan_blocks
from landmeta.classmap import encode_probability
from landmeta.legend import NODATA
from landmeta.prediction import MappingModel, map_window, read_window
from landmeta.raster import Imagery

BLOCKS = 4
"""Blocks of 128 px on which stability is measured unless told otherwise."""

PASSED_OVER = 64
"""Blocks without data that are passed over at most."""

Put = Callable[[int, int, np.ndarray], None]
"""Takes the first row and column of a block and its shares, uint16 (y, x) x 1e-4, 65535 = nodata."""

_SIDE = 128  # pixels of a sampled block: 256 cells of stride 8
_SHIFTS = (1, 63)  # of the raster's origin, pixels, smallest and largest
_ORIGINS = 2  # shifts of the origin that every block is mapped under


def stability(
    model: MappingModel,
    imagery: Imagery,
    *,
    blocks: int = BLOCKS,
    seed: int = 0,
    put: Put | None = None,
    wanted: Callable[[BlockWindow], bool] | None = None,
    inside: Callable[[BlockWindow], Bool[np.ndarray, "y x"]] | None = None,
) -> dict[str, float] | None:
    """Share of pixels that keep their class when nothing but a grid moves, on blocks spread over the imagery.

    `origin_shift`: the raster begins 1 to 63 px elsewhere, so that every pooling window of the network holds
    other pixels; the mean over two shifts drawn anew for each block. `block_shift`: the blocks in which the
    map is made begin elsewhere, a multiple of `align`; it is 1 for a model whose moments are frozen, up to
    rounding at the edge of its context, and looked at on one block.

    Args:
        model: An adapted model. One whose blocks are blended is measured within single blocks.
        imagery: What is mapped.
        blocks: How many blocks of 128 px to measure on, drawn at random; as many as there are cover the
            imagery. Each costs as much as mapping three of them with their halo. For one without data
            another is drawn, up to `PASSED_OVER` times.
        seed: Of the blocks and shifts drawn.
        put: Takes, block by block, the share of origin shifts under which each pixel keeps its class.
        wanted: Tells which blocks may be drawn, as in `map_blocks`; by default all.
        inside: Tells which pixels of a block are mapped, bool (y, x); the others count as nodata.

    Returns:
        The two shares, 0..1; None where no block drawn has data.
    """
    rng, state = np.random.default_rng(seed), model.prepare()
    align, largest = model.align * model.stride, _SHIFTS[1]
    kept_sum, pixels, block_share = 0.0, 0, None
    found = _with_data(model, state, imagery, rng, wanted, inside, at_most=blocks + PASSED_OVER)
    for window, codes, valid in islice(found, blocks):
        origins = rng.integers(*_SHIFTS, (_ORIGINS, 2), endpoint=True)
        kept = _kept(model, state, imagery, window, codes, origins)
        kept_sum, pixels = kept_sum + float(kept[valid].sum()), pixels + int(valid.sum())
        if block_share is None:
            grid = align * rng.integers(1, max(largest // align, 1), (1, 2), endpoint=True)
            block_share = float(_kept(model, state, imagery, window, codes, grid)[valid].mean())
        if put is not None:
            put(window.row, window.col, encode_probability(np.where(valid, kept, np.nan)))
    if block_share is None:
        return None
    return {"origin_shift": kept_sum / pixels, "block_shift": block_share}


def _with_data(
    model: MappingModel,
    state: object,
    imagery: Imagery,
    rng: np.random.Generator,
    wanted: Callable[[BlockWindow], bool] | None,
    inside: Callable[[BlockWindow], Bool[np.ndarray, "y x"]] | None,
    *,
    at_most: int,
) -> Iterator[tuple[BlockWindow, UInt8[np.ndarray, "y x"], Bool[np.ndarray, "y x"]]]:
    """Blocks drawn at random that have data, their classes and where they count; of so many looked at."""
    align = model.align * model.stride
    windows = plan_blocks(imagery, align=align, context=model.context, block=_SIDE)
    drawn = (windows[index] for index in rng.permutation(len(windows)))
    for window in islice((w for w in drawn if wanted is None or wanted(w)), at_most):
        codes = _codes(model, state, imagery, window, (0, 0))
        if codes is None:
            continue
        valid = codes != NODATA
        if inside is not None:
            valid &= inside(window)
        if valid.any():
            yield window, codes, valid


def _kept(
    model: MappingModel,
    state: object,
    imagery: Imagery,
    window: BlockWindow,
    codes: UInt8[np.ndarray, "y x"],
    shifts: Int[np.ndarray, "shift 2"],
) -> Float[np.ndarray, "y x"]:
    """Share of the shifts under which each pixel keeps its class."""
    moved = [_codes(model, state, imagery, window, (int(down), int(right))) for down, right in shifts]
    shares: Float[np.ndarray, "y x"] = np.mean([codes == found for found in moved], axis=0)
    return shares


def _codes(
    model: MappingModel, state: object, imagery: Imagery, window: BlockWindow, shift: Sequence[int]
) -> UInt8[np.ndarray, "y x"] | None:
    """Classes of a block, read in a window that begins `shift` pixels earlier; None without data."""
    align, (down, right) = model.align * model.stride, shift
    more = tuple(-(-s // align) * align for s in shift)
    moved = BlockWindow(
        window.row,
        window.col,
        window.height,
        window.width,
        window.read_row - down,
        window.read_col - right,
        window.read_height + more[0],
        window.read_width + more[1],
    )
    found = map_window(model, state, read_window(imagery, moved), moved)
    return None if found is None else found.codes
