"""The map as polygons: patches below a minimum area joined to their neighbours, stairs of pixels smoothed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.features import sieve

from landmeta.errors import OutputError
from landmeta.legend import NODATA, Legend
from landmeta_maps._atomic import replacing
from landmeta_maps.areas import SQUARE_METRES_PER_HECTARE, row_pixel_areas
from landmeta_maps.outlines import smoothed_outlines
from landmeta_maps.sidecars import write_polygon_style
from landmeta_maps.summary import MapSummary

LAYER = "landcover"
"""Name of the layer in the file."""

BYTES = 15
"""Memory that polygons take, bytes a pixel of a large map, as measured: 7 where patches below half a hectare
are joined, 15 where none are and one pixel in fifty is of another class than those around it."""

_PASSES = 10


def write_polygons(folder: Path, summary: MapSummary, min_area_ha: float) -> int:
    """Write `polygons.gpkg`, and its style `polygons.qml`, beside the finished `landcover.tif` of a map.

    Pixels of a class that touch by a side are one patch. One of less than `min_area_ha` joins its
    largest neighbour, the smallest first; one with no neighbour, amid nodata, is left out.
    Common borders are simplified as one: polygons neither overlap nor leave gaps. Columns are
    `code`, `class` and `area_ha`, measured as the map's areas are.

    Returns:
        How many polygons there are.

    Raises:
        OutputError: the map is gone, or the file cannot be written.
    """
    path = folder / "polygons.gpkg"
    try:
        with rasterio.open(folder / "landcover.tif") as source:
            codes = source.read(1)
        with replacing(path) as part:
            # The driver goes by the name's end, and keeps a journal beside the file.
            named = part.with_name(f".part-{path.name}")
            _remove(named)
            try:
                count = sum(_append(table, named) for table in polygons(codes, summary, min_area_ha))
                named.replace(part)
            finally:
                _remove(named)
            _forget_changes(path)
    except (OSError, RasterioError, RuntimeError) as error:
        if isinstance(error, OutputError):
            raise
        msg = f"cannot write {path}: {error}"
        raise OutputError(msg, "free some space, or leave --min-area out") from error
    write_polygon_style(summary.legend, path)
    return count


def _remove(path: Path) -> None:
    """Remove a file, if it is there, and what SQLite had still to write to it."""
    path.unlink(missing_ok=True)
    _forget_changes(path)


def _forget_changes(path: Path) -> None:
    """Remove what SQLite, open in a GIS, had still to write to an older file; the new one would get it."""
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _append(table: gpd.GeoDataFrame, path: Path) -> int:
    """Add features to the layer, which the first table makes, empty or not; returns how many."""
    begun = path.exists()
    if len(table) or not begun:
        mode = "a" if begun else "w"
        table.to_file(path, layer=LAYER, driver="GPKG", mode=mode, geometry_type="Polygon")
    return len(table)


def polygons(codes: np.ndarray, summary: MapSummary, min_area_ha: float) -> Iterator[gpd.GeoDataFrame]:
    """Polygons of a class map, uint8 (y, x) on the grid of `summary`, as `write_polygons` writes them.

    They come in several tables, of which some may be empty.
    """
    square_metres = row_pixel_areas(summary.grid)
    pixel_ha = float(np.median(square_metres)) / SQUARE_METRES_PER_HECTARE
    least = int(np.ceil(min_area_ha / pixel_ha - 1e-9))
    for outlines, found in smoothed_outlines(without_small(codes, least), least):
        yield _table(outlines, found, summary, square_metres)


def _table(
    outlines: np.ndarray, codes: np.ndarray, summary: MapSummary, square_metres: np.ndarray
) -> gpd.GeoDataFrame:
    """Polygons in pixels as features on the ground; `square_metres` is the area of a pixel of each row."""
    grid = summary.grid
    rows = np.clip(shapely.get_y(shapely.centroid(outlines)).astype(np.int64), 0, len(square_metres) - 1)
    hectares = shapely.area(outlines) * square_metres[rows] / SQUARE_METRES_PER_HECTARE
    return gpd.GeoDataFrame(
        {"code": codes, "class": _names(summary.legend, codes), "area_ha": np.round(hectares, 4)},
        geometry=_placed(outlines, grid.affine),
        crs=None if grid.crs is None else grid.crs.to_wkt(),
    )


def without_small(codes: np.ndarray, least: int) -> np.ndarray:
    """Class codes with patches of fewer than `least` pixels given to a neighbour; nodata stays as it is."""
    valid, least = codes != NODATA, min(least, codes.size - 1)  # more than all pixels leaves none anyway
    # By and by: where all patches are small, one pass with the whole size finds no neighbour to join.
    sizes = [2**i for i in range(1, max(least - 1, 0).bit_length())]
    for size in (*sizes, *([least] * _PASSES if least > 1 else ())):
        sieved = sieve(codes, size, mask=valid, connectivity=4)
        if size == least and np.array_equal(sieved, codes):
            break
        codes = sieved
    return codes


def _names(legend: Legend, codes: np.ndarray) -> np.ndarray:
    names = dict(zip(legend.codes, legend.names, strict=True))
    # Of a list without names pandas makes numbers, and the first table says what the file's columns are.
    return np.array([names[int(code)] for code in codes], object)


def _placed(outlines: np.ndarray, at: Affine) -> np.ndarray:
    placed: np.ndarray = shapely.transform(
        outlines, lambda p: np.stack([at.a * p[:, 0] + at.c, at.e * p[:, 1] + at.f], axis=1)
    )
    return placed
