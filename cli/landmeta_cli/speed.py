"""The scene on which `landmeta bench speed` measures: simulated, 1000 x 1000 px, 5 classes x 5 tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from landmeta.labels import Labels
    from landmeta.raster import Imagery
    from landmeta_catalog.simulate import Scene
    from landmeta_cli.console import Progress

_SIDE, _TILE, _CLASSES, _PER_CLASS = 1000, 128, 5, 5


def speed_run(*, repeats: int, threads: int, progress: Progress) -> dict[str, Any]:
    """Simulate the scene, label its purest tiles and time ours against the naive reference."""
    from landmeta.bench.speed import run_speed
    from landmeta_catalog.simulate import simulate_scene

    scene = simulate_scene(0, _SIDE, per_class=0, nodata_corner=False)
    imagery, labels = tile_task(scene)
    return run_speed(imagery, labels, repeats=repeats, threads=threads, progress=progress)


def tile_task(scene: Scene) -> tuple[Imagery, Labels]:
    """Imagery of the scene and the pixels of the purest 128 px tiles of its five largest classes."""
    from landmeta.labels import Labels
    from landmeta.legend import Legend
    from landmeta.raster import imagery_of_array
    from landmeta_catalog.simulate import BANDS, SCALE

    corners = [(r, c) for r in range(0, _SIDE - _TILE, _TILE) for c in range(0, _SIDE - _TILE, _TILE)]
    known = sorted(scene.legend, key=lambda c: -int((scene.truth == c.code).sum()))[:_CLASSES]
    pixels: list[np.ndarray] = []  # (row, col, code, group) of each tile's pixels
    for land_class in reversed(known):  # the rarest choose first
        share = [(scene.truth[r : r + _TILE, c : c + _TILE] == land_class.code).mean() for r, c in corners]
        for i in sorted(np.argsort(share)[-_PER_CLASS:], reverse=True):
            row, col = corners.pop(int(i))
            grid = np.mgrid[row : row + _TILE, col : col + _TILE].reshape(2, -1)
            same = np.ones(_TILE**2, dtype=np.int64)
            pixels.append(np.stack([*grid, same * land_class.code, same * len(pixels)]))
    legend = Legend(tuple(sorted(known, key=lambda c: c.code)))
    rows, cols, codes, groups = np.concatenate(pixels, axis=1)
    reflectance = scene.image.astype(np.float32) * np.float32(SCALE)
    return imagery_of_array(reflectance, BANDS, scene.grid), Labels(
        legend, rows, cols, codes, groups, _no_footprints()
    )


def _no_footprints() -> Any:
    import geopandas as gpd

    return gpd.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
