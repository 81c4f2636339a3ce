"""The connected patches of a label raster of any size, and pixels drawn from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landmeta._labels.classes import MOST_CLASSES
from landmeta._labels.draw import Draw
from landmeta._labels.pixels import Covered, Ints
from landmeta.errors import LabelError

_CORNERS_TOUCH = np.ones((3, 3), np.int8)
_TRACED = 1 << 24  # pixels of the frame about all patches that are outlined exactly
_MOST_OUTLINES = 20_000
"""Patches that are outlined exactly; speckle of millions is for no one to look at."""


@dataclass(frozen=True, slots=True)
class Patches:
    """Labelled pixels of a raster, at most so many a class, and the patches that they lie in.

    Attributes:
        pixels: The pixels kept, from the top left; `owner` is the patch of each, 0..n-1.
        patch_code: Code of each patch.
        boxes: First row and column of each patch and the ones after its last, (patch, 4); a part of a cut
            one may be smaller than its box, what of the patch's own lies within the square.
        counts: Labelled pixels of each code in the whole raster, by code.
    """

    pixels: Covered
    patch_code: Ints
    boxes: Ints
    counts: dict[int, int]

    @property
    def whole(self) -> bool:
        """Whether all labelled pixels were kept."""
        return len(self.pixels.rows) == sum(self.counts.values())


def find_patches(
    strips: Iterable[tuple[int, int, Ints]],
    width: int,
    rng: np.random.Generator,
    *,
    most: int,
    largest: int | None = None,
) -> Patches:
    """Patches of pixels of one code that touch, corners included, and at most `most` pixels a code of them.

    Where a code has more, each of its pixels is as likely to be kept as any other. The memory needed is that
    of a strip, of the pixels kept and of 170 bytes a patch.

    Args:
        strips: First row, first column and codes (y, x) of adjoining strips of one width, 0 = no label.
        width: Columns of the whole grid.
        rng: Draws the pixels.
        most: Pixels kept of a code.
        largest: Patches of more pixels than a square of so many a side are cut on a grid of such squares.

    Raises:
        LabelError: there are more codes than a map can have classes.
    """
    pieces, draws = _Pieces(), dict[int, Draw]()
    for top, left, codes in strips:
        present = set(np.unique(codes).tolist()) - {0}
        if len(present | draws.keys()) > MOST_CLASSES:
            msg = f"the label raster has more than {MOST_CLASSES} different codes, too many for classes"
            raise LabelError(msg, "--labels takes a raster of class codes, not an image or heights")
        for code in sorted(present):
            rows, cols, piece = pieces.add(code, codes == code, top, left)
            draws.setdefault(code, Draw(most, rng)).add(rows * width + cols, piece)
        pieces.end_strip()
    counts = {code: draws[code].seen for code in sorted(draws)}
    if not counts:
        nothing = np.empty(0, np.int64)
        return Patches(Covered(nothing, nothing, nothing), nothing, np.empty((0, 4), np.int64), counts)
    place, piece = np.concatenate([draw.kept() for draw in draws.values()], axis=1)
    order = np.argsort(place)
    return _numbered(place[order], piece[order], pieces, counts, width, largest)


def _numbered(
    place: Ints, piece: Ints, pieces: _Pieces, counts: dict[int, int], width: int, largest: int | None
) -> Patches:
    """The patches of the pixels kept, large ones cut, in the order of their first pixels."""
    of_piece, codes, sizes, boxes = pieces.joined()
    rows, cols, patch = place // width, place % width, of_piece[piece]
    square = np.zeros_like(place)
    if largest is not None:
        across = width // largest + 1
        square = np.where(sizes[patch] > largest**2, rows // largest * across + cols // largest + 1, 0)
    _, first, inverse = np.unique(square * len(sizes) + patch, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    first = np.sort(first)
    found, square = boxes[patch[first]], square[first]
    if largest is not None:
        corner = np.stack([(square - 1) // across, (square - 1) % across], axis=1) * largest
        cut = np.hstack([np.maximum(found[:, :2], corner), np.minimum(found[:, 2:], corner + largest)])
        found = np.where(square[:, None] > 0, cut, found)
    return Patches(Covered(rows, cols, rank[inverse]), codes[patch[first]], found, counts)


class _Pieces:
    """Pieces of patches within strips, with what joins them to those of the strip before."""

    def __init__(self) -> None:
        self._count = 0
        self._codes: list[Ints] = []
        self._sizes: list[Ints] = []
        self._boxes: list[Ints] = []
        self._links: list[Ints] = [np.empty((2, 0), np.int64)]
        self._above: dict[int, Ints] = {}
        self._below: dict[int, Ints] = {}

    def add(self, code: int, mask: NDArray[np.bool_], top: int, left: int) -> tuple[Ints, Ints, Ints]:
        """Find the pieces of one code in a strip: row and column of its pixels and the piece of each."""
        found, count = ndimage.label(mask, _CORNERS_TOUCH)
        flat = np.flatnonzero(mask)
        own = found.ravel()[flat].astype(np.int64) - 1
        rows, cols = flat // mask.shape[1] + top, flat % mask.shape[1] + left
        self._codes.append(np.full(count, code, np.int64))
        self._sizes.append(np.bincount(own, minlength=count))
        self._boxes.append(_boxes(own, (rows, cols, rows + 1, cols + 1), count))
        first, last = (
            np.where(line > 0, line + (self._count - 1), -1).astype(np.int64) for line in found[[0, -1]]
        )
        if code in self._above:
            self._link(self._above[code], first)
        self._below[code] = last
        piece = own + self._count
        self._count += count
        return rows, cols, piece

    def _link(self, above: Ints, below: Ints) -> None:
        """Join the pieces on two adjoining lines that touch, corners included."""
        wide = len(above)
        for right in (-1, 0, 1):
            upper = above[max(0, -right) : wide - max(0, right)]
            lower = below[max(0, right) : wide - max(0, -right)]
            touch = (upper >= 0) & (lower >= 0)
            self._links.append(np.unique(np.stack([upper[touch], lower[touch]]), axis=1))

    def end_strip(self) -> None:
        """What was the current strip is from now on the one before."""
        self._above, self._below = self._below, {}

    def joined(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Patch of each piece, and code, pixels and box of each patch."""
        one, other = np.concatenate(self._links, axis=1)
        links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self._count, self._count))
        count, patch = connected_components(links, directed=False)
        codes, sizes = np.empty(count, np.int64), np.zeros(count, np.int64)
        codes[patch] = np.concatenate(self._codes)
        np.add.at(sizes, patch, np.concatenate(self._sizes))
        patch = patch.astype(np.int64)
        return patch, codes, sizes, _boxes(patch, np.concatenate(self._boxes).T, count)


def _boxes(owner: Ints, sides: Sequence[Ints] | Ints, count: int) -> Ints:
    """The box, (owner, 4), about all boxes of each owner; `sides` are those of one box each, (4, box)."""
    low, high = np.full((2, count), np.iinfo(np.int64).max), np.zeros((2, count), np.int64)
    for axis in (0, 1):
        np.minimum.at(low[axis], owner, sides[axis])
        np.maximum.at(high[axis], owner, sides[axis + 2])
    return np.concatenate([low, high]).T


def outlines(patches: Patches, grid: GeoBox) -> NDArray[np.object_]:
    """Outline of each patch in the grid's CRS; its bounding box where pixels are left out or patches many."""
    pixels, at, count = patches.pixels, grid.transform, len(patches.boxes)
    top, left = int(pixels.rows.min()), int(pixels.cols.min())
    high, wide = int(pixels.rows.max()) + 1 - top, int(pixels.cols.max()) + 1 - left
    if not patches.whole or high * wide > _TRACED or count > _MOST_OUTLINES:
        first_row, first_col, last_row, last_col = patches.boxes.T
        boxes: NDArray[np.object_] = shapely.box(
            at.c + first_col * at.a, at.f + last_row * at.e, at.c + last_col * at.a, at.f + first_row * at.e
        )
        return boxes
    image = np.full((high, wide), -1, np.int32)
    image[pixels.rows - top, pixels.cols - left] = pixels.owner
    corner = Affine(at.a, 0, at.c + left * at.a, 0, at.e, at.f + top * at.e)
    # Patches may touch at corners in their own right, so rings are traced along edges only and then joined.
    traced = list(rasterio.features.shapes(image, mask=image >= 0, transform=corner, connectivity=4))
    rings = np.array([shapely.geometry.shape(geometry) for geometry, _ in traced], object)
    owner = np.array([int(value) for _, value in traced])
    out = np.empty(count, object)
    for patch, members in _runs(owner):
        out[patch] = rings[members[0]] if len(members) == 1 else shapely.MultiPolygon(list(rings[members]))
    return out


def _runs(owner: Ints) -> Iterator[tuple[int, Ints]]:
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.r_[True, owner[order][1:] != owner[order][:-1]])
    for members in np.split(order, starts[1:]):
        yield int(owner[members[0]]), members
