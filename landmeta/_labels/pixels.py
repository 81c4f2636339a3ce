"""Which pixels of a grid a shape covers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from landmeta._labels.draw import Draw

Ints = NDArray[np.int64]

_STRIP = 1 << 24
"""Pixels of the mask that one polygon is burnt into at a time."""

_AT_ONCE = 200_000  # pixels made points of at a time


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


def burn(
    geometry: NDArray[np.object_], grid: GeoBox, most: Ints, rng: np.random.Generator
) -> tuple[Covered, int, int]:
    """Pixels under each shape, `owner` its index.

    A polygon has the pixels whose centre is inside, or that of its centroid if there is none; a point
    has the pixel that it is in. Pixels may occur under several shapes.

    Args:
        geometry: Polygons and points in the grid's CRS.
        grid: The grid.
        most: Pixels kept of each shape, drawn where there are more.
        rng: Draws them.

    Returns:
        The pixels kept, how many there were, and how many polygons hold no pixel's centre.
    """
    points = np.flatnonzero(shapely.get_type_id(geometry) == 0)
    parts = [_containing(shapely.get_x(geometry[points]), shapely.get_y(geometry[points]), points, grid)]
    small, seen = [], len(parts[0][0])
    for index in np.setdiff1d(np.arange(len(geometry)), points):
        draw = Draw(int(most[index]), rng)
        for rows, cols in _polygon(geometry[index], grid):
            draw.add(rows, cols)
        if draw.seen:
            rows, cols = draw.kept()
            parts.append((rows, cols, np.full(len(rows), index)))
            seen += draw.seen
        else:
            small.append(index)
    centres = shapely.centroid(geometry[np.array(small, int)])
    centre_pixels = _containing(shapely.get_x(centres), shapely.get_y(centres), np.array(small, int), grid)
    found = len(centre_pixels[0])
    return _join([*parts, centre_pixels]), seen + found, found


def _containing(
    xs: NDArray[np.float64], ys: NDArray[np.float64], owner: Ints, grid: GeoBox
) -> tuple[Ints, Ints, Ints]:
    at = grid.transform
    rows, cols = np.floor((ys - at.f) / at.e), np.floor((xs - at.c) / at.a)
    inside = (rows >= 0) & (cols >= 0) & (rows < grid.shape[0]) & (cols < grid.shape[1])
    return rows[inside].astype(np.int64), cols[inside].astype(np.int64), owner[inside]


def _polygon(shape: shapely.Polygon, grid: GeoBox) -> Iterator[tuple[Ints, Ints]]:
    """Rows and columns of the pixels whose centre is in the polygon, strip by strip."""
    at = grid.transform
    first_row, first_col, last_row, last_col = window(shape.bounds, grid)
    wide = last_col - first_col
    if wide <= 0:
        return
    high = max(1, _STRIP // wide)
    for row in range(first_row, last_row, high):
        corner = Affine(at.a, 0, at.c + first_col * at.a, 0, at.e, at.f + row * at.e)
        out_shape = (min(high, last_row - row), wide)
        mask = rasterio.features.rasterize([shape], out_shape=out_shape, transform=corner, dtype="uint8")
        rows, cols = np.nonzero(mask)
        yield rows + row, cols + first_col


def contested(
    covered: Covered, geometry: NDArray[np.object_], classes: Ints, grid: GeoBox
) -> NDArray[np.bool_]:
    """Whether the centre of each pixel is in a polygon of another class than its own."""
    polygons = np.flatnonzero(shapely.get_type_id(geometry) == 3)
    shapes, at = geometry[polygons], grid.transform
    found = np.zeros(len(covered.rows), bool)
    for begin in range(0, len(found), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        xs, ys = at.c + (covered.cols[part] + 0.5) * at.a, at.f + (covered.rows[part] + 0.5) * at.e
        # GEOS prepares what is asked for, not what is in the tree: polygons may have a million vertices.
        centres = shapely.STRtree(np.asarray(shapely.points(xs, ys), object))
        polygon, pixel = centres.query(shapes, predicate="contains")
        other = classes[polygons[polygon]] != classes[covered.owner[part][pixel]]
        found[begin + pixel[other]] = True
    return found


def window(
    bounds: tuple[float, float, float, float], grid: GeoBox, margin: int = 0
) -> tuple[int, int, int, int]:
    """First row and column of the pixels that meet some bounds, and the ones after the last.

    The bounds are in the grid's CRS; `margin` pixels of the grid more are taken on every side.
    """
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
