"""How much of a map hangs on where its grids happen to begin, and nothing on the ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from landmeta.classmap import encode_probability
from landmeta.legend import NODATA
from landmeta.prediction import BlockWindow, MappingModel, map_window, plan_blocks, read_window
from landmeta.raster import Imagery

BLOCKS = 4
"""Blocks of 128 px on which stability is measured unless told otherwise."""

Put = Callable[[int, int, np.ndarray], None]
"""Takes the first row and column of a block and its shares, uint16 (y, x) x 1e-4, 65535 = nodata."""

_SIDE = 128  # pixels of a sampled block: 256 cells of stride 8
_SHIFTS = (1, 63)  # of the raster's origin, pixels, smallest and largest
_ORIGINS = 3  # shifts of the origin that every block is mapped under


def stability(
    model: MappingModel, imagery: Imagery, *, blocks: int = BLOCKS, seed: int = 0, put: Put | None = None
) -> dict[str, float] | None:
    """Share of pixels that keep their class when nothing but a grid moves, on blocks spread over the imagery.

    `origin_shift`: the raster begins 1 to 63 px elsewhere, so that every pooling window of the network holds
    other pixels; the mean over three shifts drawn anew for each block. `block_shift`: the blocks in which the
    map is made begin elsewhere, a multiple of `align`; it is 1 for a model whose moments are frozen, up to
    rounding at the edge of its context.

    Args:
        model: An adapted model.
        imagery: What is mapped.
        blocks: How many blocks of 128 px to look at, drawn at random; as many as there are cover the imagery.
            Each costs as much as mapping five of them with their halo.
        seed: Of the blocks and shifts drawn.
        put: Takes, block by block, the share of origin shifts under which each pixel keeps its class.

    Returns:
        The two shares, 0..1; None where the imagery has no data in any block drawn.
    """
    align = model.align * model.stride
    windows = plan_blocks(imagery, align=align, context=model.context, block=_SIDE)
    rng, state = np.random.default_rng(seed), model.prepare()
    sums, pixels = np.zeros(2), 0
    for index in rng.permutation(len(windows))[:blocks]:
        window = windows[index]
        origins = rng.integers(*_SHIFTS, (_ORIGINS, 2), endpoint=True)
        grid = align * rng.integers(1, max(_SHIFTS[1] // align, 1), (1, 2), endpoint=True)
        codes = _codes(model, state, imagery, window, (0, 0))
        if codes is None:
            continue
        valid = codes != NODATA
        kept = [_kept(model, state, imagery, window, codes, shifts) for shifts in (origins, grid)]
        sums += [share[valid].sum() for share in kept]
        pixels += int(valid.sum())
        if put is not None:
            put(window.row, window.col, encode_probability(np.where(valid, kept[0], np.nan)))
    if not pixels:
        return None
    return {"origin_shift": float(sums[0] / pixels), "block_shift": float(sums[1] / pixels)}


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
