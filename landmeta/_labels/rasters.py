"""Label rasters: the class codes at the pixels of another grid, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from landmeta._imagery.extents import transform_geometry, transform_points
from landmeta._imagery.files import RasterFile
from landmeta._labels.pixels import Ints, window
from landmeta.errors import LabelError

_SIDE = 512  # pixels of a block's side, and rows of a strip
_LARGEST = 2.0**63  # beyond it is no int64; -3.4e38 is what GIS leave where a float raster has no data


def code_strips(file: RasterFile, grid: GeoBox) -> Iterator[tuple[int, int, Ints]]:
    """First row, first column and codes (y, x) of strips of the grid that together hold the label raster.

    A pixel has the code of the label pixel that holds its centre. 0 is no label: so are the file's nodata and
    NaN. Each strip is as wide as all others and begins where the one before it ends.

    Raises:
        LabelError: the raster holds numbers that are not whole, or no 64-bit integers.
    """
    side = _block_side(file, grid)
    first_row, first_col, last_row, last_col = _under(file, grid)
    for row in range(first_row, last_row, side):
        strip = np.zeros((min(side, last_row - row), max(0, last_col - first_col)), np.int64)
        for col in range(first_col, last_col, side):
            wide = min(side, last_col - col)
            at = col - first_col
            strip[:, at : at + wide] = _codes_at_centres(file, grid, row, col, len(strip), wide)
        yield row, first_col, strip


def overlaps(file: RasterFile, grid: GeoBox) -> bool:
    """Whether the label raster holds the centre of any pixel of the grid, whatever is stored there."""
    first_row, first_col, last_row, last_col = _under(file, grid)
    for row in range(first_row, last_row, _SIDE):
        for col in range(first_col, last_col, _SIDE):
            high, wide = min(_SIDE, last_row - row), min(_SIDE, last_col - col)
            if _inside(file, *_label_positions(file, grid, row, col, high, wide)).any():
                return True
    return False


def _block_side(file: RasterFile, grid: GeoBox) -> int:
    """A finer label raster has more pixels under a block: smaller blocks then, for the same memory."""
    middle = grid.shape[0] // 2, grid.shape[1] // 2
    rows, cols = _label_positions(file, grid, *middle, 2, 2)  # in the label raster's own CRS
    finer = max(int(np.ptp(rows)), int(np.ptp(cols)), 1)
    return int(np.clip(8 * _SIDE // finer, 16, _SIDE))


def _under(file: RasterFile, grid: GeoBox) -> tuple[int, int, int, int]:
    """First row and column and the ones after the last of the pixels that the label raster may cover."""
    source, at, (rows, cols) = CRS(file.crs), file.transform, file.shape
    frame: BaseGeometry = shapely.box(at.c, at.f + rows * at.e, at.c + cols * at.a, at.f)
    if grid.crs is not None and source != grid.crs:
        fine = shapely.segmentize(frame, max(rows * -at.e, cols * at.a) / 64)
        frame = transform_geometry(fine, source, grid.crs)
    if not np.isfinite(frame.bounds).all():  # a world-wide raster does not fit into a local projection
        return (0, 0, *grid.shape)
    return window(frame.bounds, grid, margin=2)


def _codes_at_centres(file: RasterFile, grid: GeoBox, row: int, col: int, rows: int, cols: int) -> Ints:
    """Codes (y, x) of a block of the grid, 0 = no label."""
    label_rows, label_cols = _label_positions(file, grid, row, col, rows, cols)
    inside = _inside(file, label_rows, label_cols)
    out = np.zeros((rows, cols), np.int64)
    if not inside.any():
        return out
    first_row, first_col = int(label_rows[inside].min()), int(label_cols[inside].min())
    high, wide = int(label_rows[inside].max()) + 1 - first_row, int(label_cols[inside].max()) + 1 - first_col
    stored = file.read((1,), first_row, first_col, high, wide)[0]
    values = stored[label_rows[inside] - first_row, label_cols[inside] - first_col]
    nodata = file.nodata[0]
    labelled = np.isfinite(values) if nodata is None else np.isfinite(values) & (values != nodata)
    values = np.where(labelled, values, 0)
    strange = values[(values != np.rint(values)) | (abs(values) >= _LARGEST)]
    if len(strange):
        msg = f"{file.path} holds {strange[0]:g}, expected whole numbers, class codes"
        hint = "--labels takes a raster of class codes; gdal_edit -a_nodata says which number is no label"
        raise LabelError(msg, hint)
    out[inside] = values.astype(np.int64)
    return out


def _inside(file: RasterFile, rows: Ints, cols: Ints) -> NDArray[np.bool_]:
    return (rows >= 0) & (cols >= 0) & (rows < file.shape[0]) & (cols < file.shape[1])


def _label_positions(
    file: RasterFile, grid: GeoBox, row: int, col: int, rows: int, cols: int
) -> tuple[Ints, Ints]:
    """Row and column in the label raster of the centre of every pixel of a block, (y, x) each."""
    at, label_at = grid.transform, file.transform
    xs = at.c + (col + 0.5 + np.arange(cols)) * at.a
    ys = at.f + (row + 0.5 + np.arange(rows)) * at.e
    east, north = np.meshgrid(xs, ys)
    source = CRS(file.crs)
    if grid.crs is not None and source != grid.crs:
        east, north = transform_points(east, north, grid.crs, source)
    found_rows, found_cols = (north - label_at.f) / label_at.e, (east - label_at.c) / label_at.a
    defined = np.isfinite(found_rows) & np.isfinite(found_cols)
    outside = -1.0
    return (
        np.floor(np.where(defined, found_rows, outside)).astype(np.int64),
        np.floor(np.where(defined, found_cols, outside)).astype(np.int64),
    )
