"""Cloud-optimised GeoTIFFs of a class map: land cover, probabilities, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetWriter, MemoryFile

from landmeta.classmap import PROBABILITY_NODATA, PROBABILITY_SCALE, ClassMap
from landmeta.errors import OutputError
from landmeta.legend import NODATA
from landmeta_maps._atomic import replacing
from landmeta_maps.color import palette
from landmeta_maps.sidecars import remove_sidecars, write_sidecars

BLOCK = 512
"""Side of the tiles in every file, pixels."""


def write_landcover(class_map: ClassMap, folder: Path) -> None:
    """Write `landcover.tif`, `probabilities.tif` and `confidence.tif` with class names beside the first.

    `landcover.tif`: uint8, palette, nodata 255, overviews by majority. `probabilities.tif`: uint16 x 1e-4,
    nodata 65535, one band a class, named. `confidence.tif`: the same encoding, one band. Each appears whole
    or not at all; sidecars of an older file of the same name (statistics, overviews, masks) are removed.

    Raises:
        OutputError: the folder is missing, cannot be written, or the disk is full.
    """
    if not folder.is_dir():
        msg = f"{folder} is no folder"
        raise OutputError(msg, "make it first or choose another with --out")
    write_codes(class_map, folder / "landcover.tif")
    write_sidecars(class_map.legend, folder / "landcover.tif")
    write_shares(
        class_map.probabilities, class_map.legend.names, class_map.grid, folder / "probabilities.tif"
    )
    write_shares(class_map.confidence[np.newaxis], ["confidence"], class_map.grid, folder / "confidence.tif")


def write_codes(class_map: ClassMap, path: Path) -> None:
    """Write the class codes (uint8, nodata 255) with their palette as a COG.

    Overviews are made by majority: GDAL's own choice blends codes where a raster has no palette.
    """
    profile = _profile(class_map.grid, "uint8", 1, NODATA)
    with MemoryFile() as memory:
        with memory.open(**profile) as image:
            image.write(class_map.codes, 1)
            image.write_colormap(1, palette(class_map.legend))
            image.set_band_description(1, "land cover")
        _save(memory, path, overviews="MODE", predictor="NO")


def write_shares(counts: np.ndarray, names: Sequence[str], grid: GeoBox, path: Path) -> None:
    """Write uint16 (band, y, x) probabilities x 1e-4 (nodata 65535) as a COG with one named band each."""
    profile = _profile(grid, "uint16", len(names), PROBABILITY_NODATA)
    with MemoryFile() as memory:
        with memory.open(**profile, interleave="band") as image:
            image.write(counts)
            _name_bands(image, names)
        _save(memory, path, overviews="AVERAGE", predictor="STANDARD")


def _name_bands(image: DatasetWriter, names: Sequence[str]) -> None:
    image.scales = (PROBABILITY_SCALE,) * len(names)
    image.offsets = (0.0,) * len(names)
    for band, name in enumerate(names, start=1):
        image.set_band_description(band, name)
        image.update_tags(band, quantity="probability")


def _profile(grid: GeoBox, dtype: str, bands: int, nodata: int) -> dict[str, object]:
    rows, cols = grid.shape
    return {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": bands,
        "dtype": dtype,
        "nodata": nodata,
        "crs": None if grid.crs is None else rasterio.CRS.from_wkt(grid.crs.to_wkt()),
        "transform": grid.affine,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
    }


def _save(memory: MemoryFile, path: Path, *, overviews: str, predictor: str) -> None:
    """Copy the raster in memory to `path` by GDAL's COG driver."""
    with memory.open() as source, replacing(path) as part:
        rasterio.shutil.copy(
            source,
            part,
            driver="COG",
            BLOCKSIZE=BLOCK,
            COMPRESS="DEFLATE",
            PREDICTOR=predictor,
            OVERVIEW_RESAMPLING=overviews,
            BIGTIFF="IF_SAFER",
        )
        remove_sidecars(path)
