"""Which blocks make a map: where they lie, how far they reach into each other, what is read for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from landmeta.raster import Imagery
from landmeta.sampling import lead


@dataclass(frozen=True, slots=True)
class BlockWindow:
    """A block of the map: its rows and columns on the grid, and the window to read for it.

    `shared` is how far it reaches into its neighbours, pixels above, left, below and right; what remains is
    its core, and cores cover the grid exactly once.
    """

    row: int
    col: int
    height: int
    width: int
    read_row: int
    read_col: int
    read_height: int
    read_width: int
    shared: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the block's first pixel."""
        return self.row, self.col

    @property
    def core(self) -> tuple[int, int, int, int]:
        """Row, column, height and width of the part that no other core covers."""
        above, left, below, right = self.shared
        return self.row + above, self.col + left, self.height - above - below, self.width - left - right

    @property
    def pixels(self) -> int:
        """Pixels of the core: those of all blocks add up to the map's."""
        return self.core[2] * self.core[3]


def plan_blocks(
    imagery: Imagery, *, align: int, context: int, block: int, overlap: int = 0
) -> list[BlockWindow]:
    """Blocks whose cores cover the grid exactly once, aligned to the file's own grid; metadata only.

    Args:
        imagery: What is mapped.
        align: Every window read begins on this grid, and its sides are multiples of it, pixels.
        context: Pixels of halo around a block, at least.
        block: Side of a core, pixels.
        overlap: Pixels that a block reaches beyond its core wherever another block touches it.

    Raises:
        ValueError: `block` or `overlap` is no multiple of `align`, or blocks would reach over neighbours.
    """
    for name, side in (("blocks", block), ("overlaps", overlap)):
        if side % align:
            msg = f"{name} of {side} px are no multiple of {align} px, the grid that the model needs"
            raise ValueError(msg)
    if 2 * overlap > block:
        msg = f"blocks of {block} px overlap by {overlap} px on either side, expected half of it at most"
        raise ValueError(msg)
    (height, width), (above, before) = imagery.shape, lead(imagery, align)
    rows = list(_spans(height, above, align, context, block, overlap))
    cols = list(_spans(width, before, align, context, block, overlap))
    return [
        BlockWindow(
            v.start,
            u.start,
            v.length,
            u.length,
            v.read,
            u.read,
            v.read_length,
            u.read_length,
            (v.before, u.before, v.after, u.after),
        )
        for v in rows
        for u in cols
    ]


@dataclass(frozen=True, slots=True)
class _Span:
    """A block along one axis, pixels: its extent, what is read, how much of it lies in its neighbours."""

    start: int
    length: int
    read: int
    read_length: int
    before: int
    after: int


def _spans(side: int, lead_in: int, align: int, context: int, block: int, overlap: int) -> Iterator[_Span]:
    halo = -(-context // align) * align
    for corner in range(-lead_in, side, block):
        core_start, core_end = max(corner, 0), min(corner + block, side)
        begin = corner - overlap if corner > 0 else corner  # on the grid of `align`
        start, end = max(begin, 0), min(core_end + overlap, side)
        read_length = -(-(end - begin) // align) * align + 2 * halo
        yield _Span(start, end - start, begin - halo, read_length, core_start - start, end - core_end)
