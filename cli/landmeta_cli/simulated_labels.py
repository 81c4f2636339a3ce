"""Labelled tiles of a simulated scene, as an analyst would choose them: for the benchmarks of speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from landmeta.labels import Labels
    from landmeta_catalog.simulate import Scene

CLASSES, PER_CLASS = 5, 5
"""Classes that get labels, and tiles of each."""


def tile_labels(scene: Scene, tile: int, *, width: int | None = None) -> Labels:
    """The pixels of the purest tiles, `tile` pixels a side, of the scene's largest classes.

    Args:
        scene: The scene, square.
        tile: Side of a tile in pixels.
        width: Columns from the west in which tiles lie; all by default.
    """
    from landmeta.labels import Labels
    from landmeta.legend import Legend

    side = len(scene.truth)
    corners = [
        (row, col)
        for row in range(0, side - tile + 1, tile)
        for col in range(0, (width or side) - tile + 1, tile)
    ]
    known = sorted(scene.legend, key=lambda c: -int((scene.truth == c.code).sum()))[:CLASSES]
    pixels: list[np.ndarray] = []  # (row, col, code, group) of each tile's pixels
    for land_class in reversed(known):  # the rarest choose first
        share = [(scene.truth[r : r + tile, c : c + tile] == land_class.code).mean() for r, c in corners]
        for i in sorted(np.argsort(share)[-PER_CLASS:], reverse=True):
            row, col = corners.pop(int(i))
            grid = np.mgrid[row : row + tile, col : col + tile].reshape(2, -1)
            same = np.ones(tile**2, dtype=np.int64)
            pixels.append(np.stack([*grid, same * land_class.code, same * len(pixels)]))
    legend = Legend(tuple(sorted(known, key=lambda c: c.code)))
    rows, cols, codes, groups = np.concatenate(pixels, axis=1)
    return Labels(legend, rows, cols, codes, groups, _no_footprints())


def _no_footprints() -> Any:
    import geopandas as gpd

    return gpd.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
