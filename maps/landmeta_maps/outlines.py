"""Outlines of the patches of a class raster, tile by tile, so that a whole scene takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landmeta.legend import NODATA

Outlines = NDArray[np.object_]
Ints = NDArray[np.int64]

_SIDE = 1024  # pixels of a tile's side
_TOLERANCE = 1.5
"""Pixels (VW's, the root of a triangle's area): steps of one pixel, up to four long, go; corners stay."""

_AT_ONCE = 1000  # patches of several tiles that are made whole at a time
_NONE = -1


def smoothed_outlines(codes: NDArray[np.uint8], least: int) -> Iterator[tuple[Outlines, Ints]]:
    """Polygons of the patches of a class raster, part by part, and the code of each.

    Pixels of a code that touch by a side are one patch; one of fewer than `least` pixels is left out. Steps
    of one pixel are smoothed away, each common border once, so that polygons neither overlap nor leave gaps
    (Visvalingam-Whyatt on a coverage); only pixels at a border change their class by it. Tiles of 1,024 px
    are smoothed one by one: on the lines where they meet all corners stay, and on the map's own edge. Patches
    within one tile come first, then those of several.

    Args:
        codes: Class codes (y, x), 255 = nodata.
        least: Pixels of the smallest patch.

    Yields:
        Polygons in pixels, x to the east and y to the south from the raster's corner, and their codes.
    """
    seams = _Seams(codes)
    for row in range(0, codes.shape[0], _SIDE):
        for col in range(0, codes.shape[1], _SIDE):
            ids, found = _patches(codes[row : row + _SIDE, col : col + _SIDE])
            outlines = _smoothed(ids, len(found), Affine.translation(col, row))
            sizes = np.bincount(ids.ravel() - 1, minlength=len(found))
            within = seams.cross(ids, found, outlines, sizes, row, col) & (found != NODATA) & (sizes >= least)
            yield outlines[within], found[within]
        seams.end_row()
    yield from seams.joined(least)


def _patches(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int32], Ints]:
    """Number from 1 on (y, x) of the patch of each pixel, and the code of each patch; nodata has some too."""
    ids, found = np.zeros(codes.shape, np.int32), list[int]()
    for code in np.unique(codes).tolist():
        mask = codes == code
        patches, count = ndimage.label(mask)
        ids[mask] = patches[mask] + len(found)
        found += [code] * count
    return ids, np.array(found, np.int64)


def _smoothed(ids: NDArray[np.int32], count: int, place: Affine) -> Outlines:
    """Outline of each patch; on the tile's edge each corner of a pixel is kept."""
    outlines = np.empty(count, object)
    # One by one: the coordinates come as Python's numbers, which take several times the room of a geometry.
    for outline, number in rasterio.features.shapes(ids, connectivity=4, transform=place):
        outlines[int(number) - 1] = shapely.geometry.shape(outline)
    # GDAL gives no vertex where two neighbours meet along a straight side; a coverage needs it.
    fine = shapely.transform(shapely.segmentize(outlines, 1.0), np.rint)
    smoothed: Outlines = shapely.coverage_simplify(fine, _TOLERANCE, simplify_boundary=False)
    return smoothed


class _Seams:
    """Parts of patches at the edges of tiles, and which of them are of one patch.

    Tiles come row by row, from the left. A part has a number among all those kept, and along the lines where
    tiles meet there is the number and the code of each pixel, `_NONE` where it has none. The edge of the
    raster is the edge of tiles too: what lies there waits for the end as well.
    """

    def __init__(self, raster: NDArray[np.uint8]) -> None:
        self._raster = raster
        self._outlines: list[Outlines] = []
        self._codes: list[Ints] = []
        self._sizes: list[Ints] = []
        self._links: list[Ints] = [np.empty((2, 0), np.int64)]
        self._count = 0
        nothing = np.full((2, raster.shape[1]), _NONE)
        self._above, self._below = nothing, nothing.copy()
        self._left = nothing[:, :0]

    def cross(
        self, ids: NDArray[np.int32], codes: Ints, outlines: Outlines, sizes: Ints, row: int, col: int
    ) -> NDArray[np.bool_]:
        """Keep the parts at the edges of a tile; True for each patch that lies within it."""
        edges = [ids[0], ids[-1], ids[:, 0], ids[:, -1]]
        at_edge = np.unique(np.concatenate(edges)) - 1
        at_edge = at_edge[codes[at_edge] != NODATA]
        numbers = np.full(len(codes), _NONE)
        numbers[at_edge] = self._count + np.arange(len(at_edge))
        self._count += len(at_edge)
        lines = (col, col + ids.shape[1]), (row, row + ids.shape[0])
        bent = [_without_straight(outline, self._raster, *lines) for outline in outlines[at_edge]]
        self._outlines.append(np.array(bent, object))
        self._codes.append(codes[at_edge])
        self._sizes.append(sizes[at_edge])
        top, bottom, left, right = (np.stack([numbers[line - 1], codes[line - 1]]) for line in edges)
        across = slice(col, col + ids.shape[1])
        self._link(self._above[:, across], top)
        if col:
            self._link(self._left, left)
        self._below[:, across], self._left = bottom, right
        within = np.ones(len(codes), bool)
        within[at_edge] = False
        return within

    def end_row(self) -> None:
        """The tiles that come next lie below those there were."""
        self._above, self._below = self._below, np.full_like(self._below, _NONE)

    def _link(self, one: Ints, other: Ints) -> None:
        """Note which parts on the two sides of a line between tiles touch and are of one code."""
        same = (one[0] != _NONE) & (other[0] != _NONE) & (one[1] == other[1])
        self._links.append(np.unique(np.stack([one[0][same], other[0][same]]), axis=1))

    def joined(self, least: int) -> Iterator[tuple[Outlines, Ints]]:
        """The patches of several tiles that have at least so many pixels."""
        one, other = np.concatenate(self._links, axis=1)
        links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self._count, self._count))
        count, patch = connected_components(links, directed=False)
        outlines, codes = np.concatenate(self._outlines), np.concatenate(self._codes)
        sizes = np.bincount(patch, weights=np.concatenate(self._sizes), minlength=count)
        order = np.argsort(patch, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(patch[order])) + 1)
        kept = [members for members in parts if len(members) and sizes[patch[members[0]]] >= least]
        for begin in range(0, len(kept), _AT_ONCE):
            chosen = kept[begin : begin + _AT_ONCE]
            whole = [shapely.coverage_union_all(outlines[members]) for members in chosen]
            yield np.array(whole, object), codes[[members[0] for members in chosen]]


def _without_straight(
    outline: shapely.Polygon, raster: NDArray[np.uint8], xs: tuple[int, int], ys: tuple[int, int]
) -> shapely.Polygon:
    """The outline without the vertices on the edges of its tile, at `xs` and `ys`, where no border turns.

    The codes on both sides of the edge decide, so that the outlines there lose the same vertices.
    """
    rings = [_bends(ring, raster, xs, ys) for ring in shapely.get_rings(outline)]
    return shapely.Polygon(rings[0], rings[1:])


def _bends(
    ring: shapely.LinearRing, raster: NDArray[np.uint8], xs: tuple[int, int], ys: tuple[int, int]
) -> NDArray[np.float64]:
    vertices = shapely.get_coordinates(ring)[:-1]
    x, y = vertices.astype(np.int64).T
    across, down = np.isin(y, ys) & ~np.isin(x, xs), np.isin(x, xs) & ~np.isin(y, ys)
    straight = np.zeros(len(vertices), bool)
    straight[across] = _same_on_both_sides(raster, y[across], x[across])
    straight[down] = _same_on_both_sides(raster.T, x[down], y[down])
    return vertices[~straight]


def _same_on_both_sides(raster: NDArray[np.uint8], line: Ints, place: Ints) -> NDArray[np.bool_]:
    """Whether the pixels before and after a place along a line between rows are alike, above and below."""
    above, below = np.maximum(line - 1, 0), np.minimum(line, raster.shape[0] - 1)  # beyond it there are none
    same: NDArray[np.bool_] = raster[above, place - 1] == raster[above, place]
    same &= raster[below, place - 1] == raster[below, place]
    return same
