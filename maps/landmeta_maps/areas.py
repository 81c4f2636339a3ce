"""How much ground the pixels of a class cover."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer

from landmeta.legend import Legend

SQUARE_METRES_PER_HECTARE = 10_000


def class_areas_ha(counts: Int[np.ndarray, "y class"], grid: GeoBox) -> tuple[float, ...]:
    """Mapped area of every class in hectares, from its pixels in each row of `grid`.

    In a projected CRS the area is that of the projection's plane, as GIS count it; in degrees and in Web
    Mercator, whose planes are no measure of area, it is that on the WGS 84 ellipsoid, row by row.
    """
    return tuple((row_pixel_areas(grid) @ counts / SQUARE_METRES_PER_HECTARE).tolist())


def row_counts(codes: np.ndarray, legend: Legend) -> Int[np.ndarray, "y class"]:
    """Pixels of every class in each row of `codes` (y, x), in the legend's order."""
    return np.stack([(codes == code).sum(axis=1) for code in legend.codes], axis=1)


def row_pixel_areas(grid: GeoBox) -> np.ndarray:
    """Area of one pixel in each row of `grid`, square metres, float64 (y,)."""
    crs = CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None
    if crs is None or (crs.is_projected and crs.to_epsg() != 3857):
        unit = crs.axis_info[0].unit_conversion_factor if crs else 1.0
        return np.full(grid.shape[0], abs(grid.affine.determinant) * unit**2)
    return _on_the_ellipsoid(grid, crs)


def _on_the_ellipsoid(grid: GeoBox, crs: CRS) -> np.ndarray:
    to_lonlat = Transformer.from_crs(crs, 4326, always_xy=True)
    geod = Geod(ellps="WGS84")
    areas = np.empty(grid.shape[0])
    for row in range(grid.shape[0]):
        corners = [grid.affine * corner for corner in ((0, row), (1, row), (1, row + 1), (0, row + 1))]
        xs, ys = zip(*corners, strict=True)
        lon, lat = to_lonlat.transform(xs, ys)
        areas[row] = abs(geod.polygon_area_perimeter(lon, lat)[0])
    return areas


def share_text(share: float) -> str:
    """A share 0..1 in words for a table: `12.3 %`, `< 0.1 %`, `0 %`."""
    if not math.isfinite(share) or share <= 0:
        return "0 %"
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
