"""Where imagery lies: its georeference, its extent in degrees, and windows of it that hold a region."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj import Transformer
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from landmeta._imagery.files import RasterFile
from landmeta.errors import ImageryError, RegionError

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""

DEGREES = "EPSG:4326"
_EDGE_POINTS = 24
_MARGIN = 0.02
_SNAP = 1e-4


def check_georeference(file: RasterFile, *, require_crs: bool = True) -> None:
    """Refuse a file that has no place on Earth or whose rows do not run east and follow each other south.

    Raises:
        ImageryError: no CRS, no geotransform, rotated or south-up.
    """
    at = file.transform
    if file.crs is None:
        if require_crs:
            msg = f"{file.path} has no CRS, so it has no place on the map"
            raise ImageryError(msg, "write it into the file, for example with gdal_edit -a_srs EPSG:32630")
        return
    if at.is_identity:
        msg = f"{file.path} has a CRS but no geotransform, so the place of its pixels is not known"
        raise ImageryError(msg, "georeference it, for example with gdalwarp or gdal_edit -a_ullr")
    if abs(at.b) + abs(at.d) > 1e-9 * max(abs(at.a), abs(at.e)):
        msg = f"{file.path} is rotated against its CRS, expected rows that run east"
        raise ImageryError(msg, "gdalwarp writes it on an upright grid")
    if at.a <= 0 or at.e >= 0:
        msg = f"{file.path} is stored south-up or mirrored, expected the northernmost row first"
        raise ImageryError(msg, "gdalwarp writes it with north up")
    _require_place(file)


def _require_place(file: RasterFile) -> None:
    """Refuse a CRS, or a place in it, that no degrees belong to: of a drawing, or a wrong one."""
    grid = GeoBox(file.shape, file.transform, file.crs)
    # One point will do: the corners of a whole hemisphere are no places either.
    left, bottom, right, top = grid.boundingbox.bbox
    xs, ys = (v.ravel() for v in np.meshgrid(np.linspace(left, right, 5), np.linspace(bottom, top, 5)))
    try:
        _, latitudes = transform_points(xs, ys, _crs_of(grid), DEGREES)
        known = bool((np.abs(latitudes) < 90 + _SNAP).any())
    except ProjError:
        known = False
    if not known:
        msg = f"{file.path} lies nowhere on Earth by its CRS ({str(file.crs)[:60]})"
        hint = "write the right one into the file, for example with gdal_edit -a_srs EPSG:32630"
        raise ImageryError(msg, hint)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def transform_points(
    xs: NDArray[np.float64], ys: NDArray[np.float64], source: CRS | str, target: CRS | str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in another CRS, x before y in both; infinite where the projection is not defined."""
    out: Any = _transformer(_text(source), _text(target)).transform(xs, ys)
    return np.asarray(out[0], float), np.asarray(out[1], float)


def transform_geometry(geometry: BaseGeometry, source: CRS | str, target: CRS | str) -> BaseGeometry:
    """A geometry in another CRS, vertex by vertex."""

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(transform_points(points[:, 0], points[:, 1], source, target), axis=1)

    moved: BaseGeometry = shapely.transform(geometry, move)
    return moved


def _text(crs: CRS | str) -> str:
    return crs if isinstance(crs, str) else crs.to_wkt()


def outline(grid: GeoBox, margin: float = 0.0) -> BaseGeometry:
    """Outline of a grid in its own CRS with points along its edges, widened by a share of its sides."""
    left, bottom, right, top = grid.boundingbox.bbox
    wide, high = (right - left) * margin, (top - bottom) * margin
    return _ring((left - wide, bottom - high, right + wide, top + high))


def _ring(bounds: Bounds) -> BaseGeometry:
    frame = shapely.box(*bounds)
    spacing = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / _EDGE_POINTS
    ring: BaseGeometry = shapely.segmentize(frame, spacing)
    return ring


def degrees_extent(grid: GeoBox) -> Bounds:
    """West, south, east, north of a grid in degrees; one of them passes 180 where the grid crosses it."""
    return _bounds(_outline_degrees(grid))


def _outline_degrees(grid: GeoBox, margin: float = 0.0) -> BaseGeometry:
    """Outline of a grid in degrees, without a jump at the 180th meridian."""
    ring = transform_geometry(outline(grid, margin), _crs_of(grid), DEGREES)
    if _crs_of(grid).geographic:
        return ring  # no projection has cut it, and it may go all the way round
    first = float(shapely.get_coordinates(ring)[0, 0])

    def unwrap(points: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = first + (points[:, 0] - first + 180) % 360 - 180
        return np.stack([turned, points[:, 1]], axis=1)

    unwrapped: BaseGeometry = shapely.transform(ring, unwrap)
    return unwrapped


def _crs_of(grid: GeoBox) -> CRS:
    if grid.crs is None:
        msg = "the imagery has no CRS, so it has no place on the map"
        raise RegionError(msg, "give imagery with a CRS, and no --region for imagery without")
    return grid.crs


def describe(bounds: Bounds) -> str:
    """Bounds in degrees as a person reads them."""
    return "west {:.4f}, south {:.4f}, east {:.4f}, north {:.4f}".format(*bounds)


def _bounds(geometry: BaseGeometry) -> Bounds:
    west, south, east, north = geometry.bounds
    return float(west), float(south), float(east), float(north)


def sub_window(
    grid: GeoBox, region: Geometry | Bounds, crs: str | int = DEGREES
) -> tuple[int, int, int, int]:
    """Row, column, rows, columns of the smallest window of `grid` that holds its part of `region`.

    Raises:
        RegionError: the region has no area or misses the grid, or the grid has no CRS.
    """
    shape, shape_crs = _as_geometry(region, crs)
    part = _meet(grid, shape, shape_crs)
    if part.is_empty or part.area == 0:
        here = describe(_bounds(transform_geometry(shape, shape_crs, DEGREES)))
        msg = f"the region ({here}) misses the imagery ({describe(degrees_extent(grid))}), all in degrees"
        raise RegionError(msg, _missed(grid, shape, shape_crs))
    left, bottom, right, top = part.bounds
    at = grid.transform
    # The snap keeps bounds that lie on a pixel's edge, but for rounding, from taking in the next pixel.
    first_col, end_col = _span((left - at.c) / at.a, (right - at.c) / at.a, grid.shape[1])
    first_row, end_row = _span((top - at.f) / at.e, (bottom - at.f) / at.e, grid.shape[0])
    return first_row, first_col, end_row - first_row, end_col - first_col


def _missed(grid: GeoBox, shape: BaseGeometry, crs: CRS) -> str:
    """What to do about a region that misses the grid: its degrees may come latitude first."""
    if crs == CRS(DEGREES):
        turned = shapely.transform(shape, lambda points: points[:, ::-1])
        if abs(turned.bounds[1]) <= 90 >= abs(turned.bounds[3]) and _meet(grid, turned, crs).area > 0:
            return "latitude stands before longitude: the order is west,south,east,north"
    return "--region west,south,east,north must overlap the imagery"


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(max(0, math.floor(low + _SNAP)), size - 1)
    return first, min(size, max(first + 1, math.ceil(high - _SNAP)))


def _as_geometry(region: Geometry | Bounds, crs: str | int) -> tuple[BaseGeometry, CRS]:
    if isinstance(region, Geometry):
        if region.crs is None or region.is_empty:
            msg = "the region is empty or has no CRS"
            raise RegionError(msg, "give a region with area, in a file that says its CRS")
        # Borders that cross themselves are common in files of regions and cannot be cut.
        return shapely.make_valid(region.geom), region.crs
    west, south, east, north = region
    if not (west < east and south < north and all(map(math.isfinite, region))):
        msg = f"the region {west:g},{south:g},{east:g},{north:g} has no area"
        raise RegionError(msg, "--region takes west,south,east,north in degrees, west < east, south < north")
    return _ring(region), CRS(crs)


def _meet(grid: GeoBox, shape: BaseGeometry, crs: CRS) -> BaseGeometry:
    """The part of `shape` on the grid, in the grid's CRS.

    Cut in degrees first: far from the imagery its projection may not be defined.
    """
    home, frame = _crs_of(grid), shapely.box(*grid.boundingbox.bbox)
    if crs == home and not home.geographic:  # degrees count from -180 here and from 0 there
        return shape & frame
    near = _outline_degrees(grid, _MARGIN)
    there = shapely.make_valid(transform_geometry(shape, crs, DEGREES))
    turns = [shapely.affinity.translate(there, xoff=turn) & near for turn in (-360, 0, 360)]
    cut = shapely.union_all(turns)
    if cut.is_empty:
        return cut
    west, south, east, north = near.bounds
    fine = shapely.segmentize(cut, max(east - west, north - south) / _EDGE_POINTS)
    return shapely.make_valid(transform_geometry(fine, DEGREES, home)) & frame
