"""Writing a map of any size: blocks into plain files first, cloud-optimised GeoTIFFs when all are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from landmeta.classmap import PROBABILITY_NODATA, MapBlock
from landmeta.errors import OutputError
from landmeta.legend import NODATA, Legend
from landmeta_maps.areas import class_areas_ha, row_counts
from landmeta_maps.cog import GDAL_ERRORS, finish, raw_codes, raw_shares, unwritable
from landmeta_maps.sidecars import write_sidecars
from landmeta_maps.summary import MapSummary, overview_grid, overview_step

CACHE_BYTES = 64 * 2**20
"""GDAL's block cache while a map is written; its own choice is a share of the machine's memory."""


def write_map(blocks: Iterable[MapBlock], grid: GeoBox, legend: Legend, folder: Path) -> MapSummary:
    """Write `landcover.tif`, `probabilities.tif` and `confidence.tif`, with class names beside the first.

    Memory is bounded by the block and the overview, not by the map; the disk holds the map once more without
    compression (3 bytes a pixel and 2 more a class) until the files are finished. Pixels in no block are
    nodata. Sidecars of older files of the same names are removed.

    Raises:
        OutputError: the folder is missing, cannot be written, or the disk is full.
    """
    if not folder.is_dir():
        msg = f"{folder} is no folder"
        raise OutputError(msg, "make it first or choose another with --out")
    raw = {name: folder / f".{name}.raw.tif" for name in ("landcover", "probabilities", "confidence")}
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            summary = _write_raw(blocks, grid, legend, raw)
            finish(raw["landcover"], folder / "landcover.tif", overviews="MODE", predictor="NO")
            for name in ("probabilities", "confidence"):
                finish(raw[name], folder / f"{name}.tif", overviews="AVERAGE", predictor="STANDARD")
    except (OSError, *GDAL_ERRORS) as error:
        if isinstance(error, OutputError):
            raise
        raise unwritable(folder, error) from error
    finally:
        for path in raw.values():
            path.unlink(missing_ok=True)
    write_sidecars(legend, folder / "landcover.tif")
    return summary


@contextmanager
def stability_raster(grid: GeoBox, folder: Path) -> Iterator[Callable[[int, int, np.ndarray], None]]:
    """Give a function that takes blocks of `landmeta.stability` and writes them into `stability.tif`.

    The file is on the map's grid, uint16 x 1e-4, nodata 65535 wherever no block was measured; without any
    block there is no file.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    raw, target, taken = folder / ".stability.raw.tif", folder / "stability.tif", []
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            with raw_shares(raw, grid, ["origin shift"], "share of shifts that keep the class") as image:

                def put(row: int, col: int, shares: np.ndarray) -> None:
                    image.write(shares, 1, window=Window(col, row, shares.shape[1], shares.shape[0]))
                    taken.append((row, col))

                yield put
            if taken:
                finish(raw, target, overviews="AVERAGE", predictor="STANDARD")
    except GDAL_ERRORS as error:
        raise unwritable(target, error) from error
    finally:
        raw.unlink(missing_ok=True)


def _write_raw(blocks: Iterable[MapBlock], grid: GeoBox, legend: Legend, raw: dict[str, Path]) -> MapSummary:
    gather = _Gather(grid, legend)
    with ExitStack() as stack:
        codes = stack.enter_context(raw_codes(raw["landcover"], grid, legend))
        shares = stack.enter_context(raw_shares(raw["probabilities"], grid, legend.names))
        confidence = stack.enter_context(raw_shares(raw["confidence"], grid, ["confidence"]))
        for block in blocks:
            _put(codes, block, block.codes[np.newaxis])
            _put(shares, block, block.probabilities)
            _put(confidence, block, block.confidence[np.newaxis])
            gather.add(block)
    return gather.summary()


def _put(image: DatasetWriter, block: MapBlock, values: np.ndarray) -> None:
    image.write(values, window=Window(block.col, block.row, values.shape[2], values.shape[1]))


class _Gather:
    """Areas and overview of the blocks seen so far."""

    def __init__(self, grid: GeoBox, legend: Legend) -> None:
        self.grid, self.legend = grid, legend
        self.small = overview_grid(grid)
        self.counts = np.zeros((grid.shape[0], len(legend)), np.int64)
        self.codes = np.full(self.small.shape, NODATA, np.uint8)
        self.confidence = np.full(self.small.shape, PROBABILITY_NODATA, np.uint16)

    def add(self, block: MapBlock) -> None:
        rows, cols = block.codes.shape
        self.counts[block.row : block.row + rows] += row_counts(block.codes, self.legend)
        step = overview_step(self.grid)
        # the first pixels of the block that the overview takes, and where they go there
        row, col = (-(-(start - step // 2) // step) for start in (block.row, block.col))
        top, left = row * step + step // 2 - block.row, col * step + step // 2 - block.col
        for whole, part in ((self.codes, block.codes), (self.confidence, block.confidence)):
            taken = part[top::step, left::step]
            whole[row : row + taken.shape[0], col : col + taken.shape[1]] = taken

    def summary(self) -> MapSummary:
        areas = class_areas_ha(self.counts, self.grid)
        return MapSummary(self.grid, self.legend, areas, self.codes, self.confidence, self.small)
