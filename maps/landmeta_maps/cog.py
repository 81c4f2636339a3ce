"""Cloud-optimised GeoTIFFs of a map: how each file is laid out, and how plain files become them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetWriter

from landmeta.classmap import PROBABILITY_NODATA, PROBABILITY_SCALE
from landmeta.legend import NODATA, Legend
from landmeta_maps._atomic import replacing
from landmeta_maps.color import palette
from landmeta_maps.sidecars import remove_sidecars

BLOCK = 512
"""Side of the tiles in every file, pixels."""


@contextmanager
def raw_codes(path: Path, grid: GeoBox, legend: Legend) -> Iterator[DatasetWriter]:
    """A plain file of class codes to write blocks into: uint8, nodata 255, with the legend's palette."""
    with rasterio.open(path, "w", **_profile(grid, "uint8", 1, NODATA)) as image:
        image.write_colormap(1, palette(legend))
        image.set_band_description(1, "land cover")
        yield image


@contextmanager
def raw_shares(
    path: Path, grid: GeoBox, names: Sequence[str], quantity: str = "probability"
) -> Iterator[DatasetWriter]:
    """A plain file of shares 0..1 to write blocks into: uint16 x 1e-4, nodata 65535, bands named."""
    profile = _profile(grid, "uint16", len(names), PROBABILITY_NODATA)
    with rasterio.open(path, "w", **profile, interleave="band") as image:
        image.scales = (PROBABILITY_SCALE,) * len(names)
        image.offsets = (0.0,) * len(names)
        for band, name in enumerate(names, start=1):
            image.set_band_description(band, name)
            image.update_tags(band, quantity=quantity)
        yield image


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
        "SPARSE_OK": True,  # what no block covers takes no room
        "BIGTIFF": "IF_SAFER",
    }


def finish(raw: Path, path: Path, *, overviews: str, predictor: str) -> None:
    """Copy a plain file to `path` by GDAL's COG driver, with overviews by MODE or AVERAGE.

    GDAL's own choice of overviews blends class codes where a raster has no palette.
    """
    with rasterio.open(raw) as source, replacing(path) as part:
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
