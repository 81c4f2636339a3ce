"""How much of a map hangs on where its grids happen to begin, and nothing on the ground."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from landmeta.prediction import BlockWindow, MappingModel, map_window, plan_blocks, read_window
from landmeta.raster import Imagery

_SIDE = 128  # pixels of a sampled block: 256 cells of stride 8
_SHIFTS = (1, 63)  # of the raster's origin, pixels, smallest and largest


def stability(
    model: MappingModel, imagery: Imagery, *, blocks: int = 4, seed: int = 0
) -> dict[str, float] | None:
    """Share of pixels that keep their class when nothing but a grid moves, on blocks spread over the imagery.

    `origin_shift`: the raster begins 1 to 63 px elsewhere, so that every pooling window of the network holds
    other pixels. `block_shift`: the blocks in which the map is made begin elsewhere, a multiple of `align`;
    it is 1 for a model whose moments are frozen, up to rounding at the edge of its context.

    Args:
        model: An adapted model.
        imagery: What is mapped.
        blocks: How many blocks of 128 px to look at.
        seed: Of the blocks and shifts drawn.

    Returns:
        The two shares, 0..1; None where the imagery has no data in any block drawn.
    """
    align = model.align * model.stride
    windows = plan_blocks(imagery, align=align, context=model.context, block=_SIDE)
    rng = np.random.default_rng(seed)
    state = model.prepare()
    kept = {"origin_shift": [0, 0], "block_shift": [0, 0]}
    for index in rng.permutation(len(windows))[:blocks]:
        window = windows[index]
        codes = _codes(model, state, imagery, window, (0, 0))
        if codes is None:
            continue
        for name, step, (low, high) in (
            ("origin_shift", 1, _SHIFTS),
            ("block_shift", align, (1, max(_SHIFTS[1] // align, 1))),
        ):
            shift = tuple(int(step * s) for s in rng.integers(low, high, 2, endpoint=True))
            moved = _codes(model, state, imagery, window, (shift[0], shift[1]))
            if moved is not None:
                kept[name][0] += int((moved == codes).sum())
                kept[name][1] += codes.size
    if not kept["origin_shift"][1]:
        return None
    return _shares(kept)


def _shares(kept: Mapping[str, list[int]]) -> dict[str, float]:
    return {name: same / of for name, (same, of) in kept.items() if of}


def _codes(
    model: MappingModel, state: object, imagery: Imagery, window: BlockWindow, shift: tuple[int, int]
) -> Int[np.ndarray, " pixel"] | None:
    """Classes of the valid pixels of a block, read in a window that begins `shift` pixels earlier."""
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
    if found is None:
        return None
    valid = found.confidence != np.iinfo(found.confidence.dtype).max
    codes: Int[np.ndarray, " pixel"] = found.codes[valid].astype(np.int64)
    return codes
