"""What pages and records say of a map: its areas, and an overview small enough to hold in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from landmeta.classmap import ClassMap
from landmeta.legend import Legend
from landmeta_maps.areas import class_areas_ha, row_counts

LONGEST = 4096
"""Longest side of an overview, pixels: twice that of the images in a page."""


@dataclass(frozen=True, eq=False, slots=True)
class MapSummary:
    """A map of any size in a few megabytes.

    `grid` and `legend` are those of the map, `areas_ha` hectares a class in the legend's order. `codes` uint8
    and `confidence` uint16 (y, x) are every n-th pixel of the map, encoded as in `ClassMap`, and lie on
    `overview_grid`.
    """

    grid: GeoBox
    legend: Legend
    areas_ha: tuple[float, ...]
    codes: np.ndarray
    confidence: np.ndarray
    overview_grid: GeoBox


def summarize(class_map: ClassMap) -> MapSummary:
    """The summary of a map in memory."""
    step = overview_step(class_map.grid)
    return MapSummary(
        class_map.grid,
        class_map.legend,
        class_areas_ha(row_counts(class_map.codes, class_map.legend), class_map.grid),
        class_map.codes[step // 2 :: step, step // 2 :: step],
        class_map.confidence[step // 2 :: step, step // 2 :: step],
        overview_grid(class_map.grid),
    )


def overview_step(grid: GeoBox) -> int:
    """Pixels of the map from one pixel of its overview to the next."""
    return max(1, -(-max(grid.shape) // LONGEST))


def overview_grid(grid: GeoBox) -> GeoBox:
    """The grid of a map's overview, whose cells are centred on the pixels taken (to half a pixel)."""
    step = overview_step(grid)
    rows, cols = (len(range(step // 2, side, step)) for side in grid.shape)
    return GeoBox((rows, cols), grid.affine * Affine.scale(step), grid.crs)
