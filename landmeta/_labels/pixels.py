"""Which pixels of a grid a label covers: burning shapes, sampling label rasters, joining patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

from landmeta._imagery.extents import transform_geometry, transform_points
from landmeta._imagery.files import RasterFile
from landmeta.errors import LabelError

Ints = NDArray[np.int64]

_STRIP = 1 << 24
"""Pixels of the mask that one polygon is burnt into at a time."""

_MOST_OUTLINES = 20_000
"""Groups that are outlined exactly; speckle of millions is for no one to look at."""

_SIDE = 1024
_EIGHT_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True, slots=True)
class Covered:
    """Labelled pixels: positions on the grid and the index of the owner (shape or class), one a sample."""

    rows: Ints
    cols: Ints
    owner: Ints

    def take(self, keep: NDArray[np.bool_] | Ints) -> Covered:
        """Only the samples chosen."""
        return Covered(self.rows[keep], self.cols[keep], self.owner[keep])


def _join(parts: list[tuple[Ints, Ints, Ints]]) -> Covered:
    if not parts:
        nothing = np.empty(0, np.int64)
        return Covered(nothing, nothing, nothing)
    rows, cols, owner = (np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True))
    return Covered(rows, cols, owner)


def burn(geometry: NDArray[np.object_], grid: GeoBox) -> tuple[Covered, int]:
    """Pixels under each shape, `owner` its index; and how many polygons hold no pixel's centre.

    A polygon has the pixels whose centre is inside, or that of its centroid if there is none; a point
    has the pixel that it is in. Pixels may occur under several shapes.
    """
    points = np.flatnonzero(shapely.get_type_id(geometry) == 0)
    parts = [_containing(shapely.get_x(geometry[points]), shapely.get_y(geometry[points]), points, grid)]
    small = []
    for index in np.setdiff1d(np.arange(len(geometry)), points):
        rows, cols, inside = _polygon(geometry[index], grid)
        parts.append((rows, cols, np.full(len(rows), index)))
        if inside and not len(rows):
            small.append(index)
    centres = shapely.centroid(geometry[np.array(small, int)])
    centre_pixels = _containing(shapely.get_x(centres), shapely.get_y(centres), np.array(small, int), grid)
    return _join([*parts, centre_pixels]), len(centre_pixels[0])


def _containing(
    xs: NDArray[np.float64], ys: NDArray[np.float64], owner: Ints, grid: GeoBox
) -> tuple[Ints, Ints, Ints]:
    at = grid.transform
    rows, cols = np.floor((ys - at.f) / at.e), np.floor((xs - at.c) / at.a)
    inside = (rows >= 0) & (cols >= 0) & (rows < grid.shape[0]) & (cols < grid.shape[1])
    return rows[inside].astype(np.int64), cols[inside].astype(np.int64), owner[inside]


def _polygon(shape: shapely.Polygon, grid: GeoBox) -> tuple[Ints, Ints, bool]:
    """Rows and columns of the pixels whose centre is in the polygon, and whether it meets the grid."""
    at = grid.transform
    first_row, first_col, last_row, last_col = _window(shape.bounds, grid)
    nothing = np.empty(0, np.int64)
    wide = last_col - first_col
    if last_row <= first_row or wide <= 0:
        return nothing, nothing, False
    high = max(1, _STRIP // wide)
    rows, cols = [], []
    for row in range(first_row, last_row, high):
        corner = Affine(at.a, 0, at.c + first_col * at.a, 0, at.e, at.f + row * at.e)
        out_shape = (min(high, last_row - row), wide)
        mask = rasterio.features.rasterize([shape], out_shape=out_shape, transform=corner, dtype="uint8")
        found = np.nonzero(mask)
        rows.append(found[0] + row)
        cols.append(found[1] + first_col)
    return np.concatenate(rows), np.concatenate(cols), True


def _window(
    bounds: tuple[float, float, float, float], grid: GeoBox, margin: int = 0
) -> tuple[int, int, int, int]:
    """First row and column and the ones after the last of the pixels of the grid that meet some bounds."""
    at, (west, south, east, north) = grid.transform, bounds
    return (
        max(0, math.floor((north - at.f) / at.e) - margin),
        max(0, math.floor((west - at.c) / at.a) - margin),
        min(grid.shape[0], math.ceil((south - at.f) / at.e) + margin),
        min(grid.shape[1], math.ceil((east - at.c) / at.a) + margin),
    )


def settle(covered: Covered, classes: Ints, width: int) -> tuple[Covered, int]:
    """Each pixel once, and how many were dropped because shapes of several classes share them.

    Args:
        covered: pixels, some under several shapes.
        classes: class of each shape.
        width: columns of the grid.
    """
    place = covered.rows * width + covered.cols
    order = np.lexsort((covered.owner, place))
    covered, place = covered.take(order), place[order]
    if not len(place):
        return covered, 0
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    of_class = classes[covered.owner]
    agree = np.minimum.reduceat(of_class, starts) == np.maximum.reduceat(of_class, starts)
    return covered.take(starts[agree]), int((~agree).sum())


def sample_raster(file: RasterFile, grid: GeoBox) -> tuple[Covered, Ints]:
    """Pixels of the grid whose centre is in a labelled pixel of a label raster, and the distinct codes.

    `owner` is the position in the codes. 0, the file's nodata and NaN are no label.

    Raises:
        LabelError: the raster holds numbers that are not whole.
    """
    parts: list[tuple[Ints, Ints, Ints]] = []
    for row, col, rows, cols in _blocks(file, grid):
        codes = _codes_at_centres(file, grid, row, col, rows, cols)
        at_rows, at_cols = np.nonzero(codes)
        parts.append((at_rows + row, at_cols + col, codes[at_rows, at_cols]))
    joined = _join(parts)
    distinct, position = np.unique(joined.owner, return_inverse=True)
    return Covered(joined.rows, joined.cols, position.astype(np.int64)), distinct


def _blocks(file: RasterFile, grid: GeoBox) -> Iterator[tuple[int, int, int, int]]:
    """Row, column, rows, columns of blocks of the grid that together hold the label raster."""
    source = CRS(file.crs)
    # A finer label raster has more pixels under a block: smaller blocks then, for the same memory.
    finer = abs(grid.transform.a) / abs(file.transform.a) if source == grid.crs else 1.0
    side = int(np.clip(4 * _SIDE / max(finer, 1.0), 16, _SIDE))
    at, (rows, cols) = file.transform, file.shape
    frame: BaseGeometry = shapely.box(at.c, at.f + rows * at.e, at.c + cols * at.a, at.f)
    if grid.crs is not None and source != grid.crs:
        fine = shapely.segmentize(frame, max(rows * -at.e, cols * at.a) / 64)
        frame = transform_geometry(fine, source, grid.crs)
    # A world-wide raster does not fit into a local projection: then everything is looked at.
    everywhere = (0, 0, *grid.shape)
    first_row, first_col, last_row, last_col = (
        _window(frame.bounds, grid, margin=2) if np.isfinite(frame.bounds).all() else everywhere
    )
    for row in range(first_row, last_row, side):
        for col in range(first_col, last_col, side):
            yield row, col, min(side, last_row - row), min(side, last_col - col)


def _codes_at_centres(file: RasterFile, grid: GeoBox, row: int, col: int, rows: int, cols: int) -> Ints:
    """Codes (y, x) of a block of the grid, 0 = no label."""
    label_rows, label_cols = _label_positions(file, grid, row, col, rows, cols)
    inside = (label_rows >= 0) & (label_cols >= 0)
    inside &= (label_rows < file.shape[0]) & (label_cols < file.shape[1])
    out = np.zeros((rows, cols), np.int64)
    if not inside.any():
        return out
    first_row, first_col = int(label_rows[inside].min()), int(label_cols[inside].min())
    high, wide = int(label_rows[inside].max()) + 1 - first_row, int(label_cols[inside].max()) + 1 - first_col
    stored = file.read((1,), first_row, first_col, high, wide)[0]
    values = stored[label_rows[inside] - first_row, label_cols[inside] - first_col]
    nodata = file.nodata[0]
    labelled = np.isfinite(values) if nodata is None else np.isfinite(values) & (values != nodata)
    values = np.where(labelled, values, 0)
    if (values != np.rint(values)).any():
        msg = (
            f"{file.path} holds {values[values != np.rint(values)][0]:g}, expected whole numbers, class codes"
        )
        raise LabelError(msg, "--labels takes a raster of class codes")
    out[inside] = values.astype(np.int64)
    return out


def _label_positions(
    file: RasterFile, grid: GeoBox, row: int, col: int, rows: int, cols: int
) -> tuple[Ints, Ints]:
    """Row and column in the label raster of the centre of every pixel of a block, (y, x) each."""
    at, label_at = grid.transform, file.transform
    xs = at.c + (col + 0.5 + np.arange(cols)) * at.a
    ys = at.f + (row + 0.5 + np.arange(rows)) * at.e
    east, north = np.meshgrid(xs, ys)
    source = CRS(file.crs)
    if grid.crs is not None and source != grid.crs:
        east, north = transform_points(east, north, grid.crs, source)
    found_rows, found_cols = (north - label_at.f) / label_at.e, (east - label_at.c) / label_at.a
    defined = np.isfinite(found_rows) & np.isfinite(found_cols)
    outside = -1.0
    return (
        np.floor(np.where(defined, found_rows, outside)).astype(np.int64),
        np.floor(np.where(defined, found_cols, outside)).astype(np.int64),
    )


def patches(covered: Covered, width: int, largest: int | None = None) -> Ints:
    """Patch of each pixel: pixels of one class that touch, corners included, numbered from the top left.

    Those of more pixels than a square of `largest` a side are cut on a grid of such squares.
    """
    place = covered.rows * width + covered.cols
    order = np.argsort(place)
    sorted_place = place[order]
    pairs: list[tuple[Ints, Ints]] = []
    for down, right in _EIGHT_NEIGHBOURS:
        wanted = place + down * width + right
        found = np.minimum(np.searchsorted(sorted_place, wanted), len(place) - 1)
        other = order[found]
        # The column is checked too: the neighbour of a row's last pixel is not the next row's first.
        same = (place[other] == wanted) & (covered.cols[other] == covered.cols + right)
        same &= covered.owner[other] == covered.owner
        pairs.append((np.flatnonzero(same), other[same]))
    left, right_side = (np.concatenate(column) for column in zip(*pairs, strict=True))
    links = coo_array((np.ones(len(left), np.int8), (left, right_side)), shape=(len(place), len(place)))
    count, component = connected_components(links, directed=False)
    if largest is not None:
        large = np.bincount(component)[component] > largest**2
        square = covered.rows // largest * (width // largest + 1) + covered.cols // largest + 1
        component = np.where(large, square, 0) * count + component
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(place[first])] = np.arange(len(first))
    numbered: Ints = rank[inverse]
    return numbered


def outlines(covered: Covered, groups: Ints, grid: GeoBox) -> NDArray[np.object_]:
    """Outline of each group 0..n-1 in the grid's CRS; bounding boxes where they are many or far apart."""
    top, left = int(covered.rows.min()), int(covered.cols.min())
    high, wide = int(covered.rows.max()) + 1 - top, int(covered.cols.max()) + 1 - left
    at = grid.transform
    count = int(groups.max()) + 1
    if high * wide > _STRIP or count > _MOST_OUTLINES:
        return _boxes(covered, groups, count, at)
    image = np.full((high, wide), -1, np.int32)
    image[covered.rows - top, covered.cols - left] = groups
    corner = Affine(at.a, 0, at.c + left * at.a, 0, at.e, at.f + top * at.e)
    # Groups may touch at corners in their own right, so rings are traced along edges only and then joined.
    traced = list(rasterio.features.shapes(image, mask=image >= 0, transform=corner, connectivity=4))
    rings = np.array([shapely.geometry.shape(geometry) for geometry, _ in traced], object)
    owner = np.array([int(value) for _, value in traced])
    out = np.empty(count, object)
    for group, members in _runs(owner):
        out[group] = rings[members[0]] if len(members) == 1 else shapely.MultiPolygon(list(rings[members]))
    return out


def _runs(owner: Ints) -> Iterator[tuple[int, Ints]]:
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.r_[True, owner[order][1:] != owner[order][:-1]])
    for members in np.split(order, starts[1:]):
        yield int(owner[members[0]]), members


def _boxes(covered: Covered, groups: Ints, count: int, at: Affine) -> NDArray[np.object_]:
    low = np.full((2, count), np.iinfo(np.int64).max)
    high = np.full((2, count), -1)
    for axis, values in enumerate((covered.rows, covered.cols)):
        np.minimum.at(low[axis], groups, values)
        np.maximum.at(high[axis], groups, values + 1)
    boxes: NDArray[np.object_] = shapely.box(
        at.c + low[1] * at.a, at.f + high[0] * at.e, at.c + high[1] * at.a, at.f + low[0] * at.e
    )
    return boxes
