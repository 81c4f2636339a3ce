"""Cloud-optimised GeoTIFFs of a map: how each file is laid out, and how plain files become them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.io import DatasetReader, DatasetWriter

from landmeta.classmap import PROBABILITY_NODATA, PROBABILITY_SCALE
from landmeta.errors import OutputError
from landmeta.legend import NODATA, Legend
from landmeta_maps._atomic import replacing
from landmeta_maps.color import palette
from landmeta_maps.sidecars import remove_sidecars

BLOCK = 512
"""Side of the tiles in every file, pixels."""

GDAL_ERRORS = (rasterio.errors.RasterioError, CPLE_BaseError)
"""What rasterio raises: not all that GDAL reports becomes an error of rasterio's own kind."""


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

    Raises:
        OutputError: the file cannot be written whole, as on a full disk.
    """
    with replacing(path) as part:
        try:
            with rasterio.open(raw) as source:
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
            _require_whole(part)
        except (*GDAL_ERRORS, SystemError) as error:  # the last is how an error without a number arrives
            raise unwritable(path, error) from error
        remove_sidecars(path)


def unwritable(path: Path, error: BaseException) -> OutputError:
    """The error of a raster or folder that cannot be written, with the first cause that GDAL names."""
    while error.__cause__ is not None:
        error = error.__cause__
    # GDAL seldom names the disk: it speaks of seeking and of directories.
    msg = f"cannot write {path}, the disk may be full: {' '.join(str(error).split())}"
    return OutputError(msg, "choose a folder with write permission and free space with --out")


def _require_whole(part: Path) -> None:
    """See that all blocks are there: GDAL is silent where the last bytes of a file find no room."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())  # network drives and quotas refuse what was written no earlier than here
        size = os.fstat(file.fileno()).st_size
    with rasterio.open(part) as image:
        levels = len(image.overviews(1))
    for level in (None, *range(levels)):
        with rasterio.open(part, **({} if level is None else {"overview_level": level})) as image:
            for end in _block_ends(image):
                if not 0 < end <= size:
                    msg = f"{size} bytes are there, the last blocks are missing"
                    raise rasterio.errors.RasterioIOError(msg)


def _block_ends(image: DatasetReader) -> Iterator[int]:
    """Byte at which each block of a level ends, 0 where it is missing; bands share their blocks."""
    (high, wide), tag = image.block_shapes[0], partial(image.get_tag_item, dm="TIFF", bidx=1)
    for row in range(-(-image.height // high)):
        for col in range(-(-image.width // wide)):
            start, length = tag(f"BLOCK_OFFSET_{col}_{row}"), tag(f"BLOCK_SIZE_{col}_{row}")
            yield int(start) + int(length) if start and length else 0
