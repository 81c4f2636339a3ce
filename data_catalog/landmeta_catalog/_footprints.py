"""Outlines of tiles in longitude and latitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from landmeta_catalog.archives._files import to_degrees
from landmeta_catalog.archives.base import Place

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Window = tuple[int, int, int, int]
"""First row, first column, rows and columns of a tile in its patch."""


def upper_left(place: Place, window: Window) -> tuple[float, float]:
    """Corner of a tile as (x, y) in the CRS of its patch."""
    row, col, *_ = window
    a, b, c, d, e, f = place.transform
    return a * col + b * row + c, d * col + e * row + f


def footprints(tiles: Sequence[tuple[Place | None, Window]]) -> list[BaseGeometry | None]:
    """Outline of every tile, WGS 84 degrees as (longitude, latitude); None without georeference.

    A tile across the 180th meridian becomes two polygons, one at either side of it.
    """
    import shapely

    found: list[BaseGeometry | None] = [None] * len(tiles)
    for crs in {place.crs for place, _ in tiles if place}:
        at = [i for i, (place, _) in enumerate(tiles) if place and place.crs == crs]
        rings = np.stack([_ring(*tiles[i]) for i in at])
        lon, lat = to_degrees(crs).transform(rings[..., 0], rings[..., 1])
        outlines = np.asarray(shapely.polygons(np.stack([lon, lat], axis=-1)), object)
        wide = np.ptp(lon, axis=1) > 180
        for i, outline, across in zip(at, outlines.tolist(), wide.tolist(), strict=True):
            found[i] = _split(outline) if across else outline
    return found


def _ring(place: Place | None, window: Window) -> npt.NDArray[np.float64]:
    """Corners in the CRS of the patch, closed, (5, xy)."""
    assert place is not None
    row, col, rows, cols = window
    corners = ((row, col), (row, col + cols), (row + rows, col + cols), (row + rows, col), (row, col))
    return np.array([upper_left(place, (r, c, 0, 0)) for r, c in corners])


def _split(outline: BaseGeometry) -> BaseGeometry:
    import shapely
    from shapely import affinity, box

    eastern = shapely.transform(outline, lambda xy: np.where(xy < [0, -np.inf], xy + [360, 0], xy))
    parts = eastern.intersection(box(0, -90, 180, 90)), eastern.intersection(box(180, -90, 360, 90))
    return shapely.union_all([parts[0], affinity.translate(parts[1], -360)])
