"""Imagery: raster files opened as reflectance on one grid, read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from landmeta._imagery.extents import check_georeference, sub_window
from landmeta._imagery.files import drawn_on as drawn_on
from landmeta._imagery.files import fingerprint as fingerprint
from landmeta._imagery.files import inspect
from landmeta._imagery.mosaic import Floats, place
from landmeta._imagery.naming import expand, name_bands
from landmeta._imagery.scaling import ScaleOrigin as ScaleOrigin
from landmeta._imagery.scaling import check_values, choose_scale
from landmeta.bands import BandSet


@runtime_checkable
class PixelSource(Protocol):
    """Where the numbers come from: files (`Mosaic`) or an array in memory."""

    def read(self, row: int, col: int, height: int, width: int) -> Floats:
        """Numbers before scaling, float32 (band, y, x), NaN = no data or outside; any window is allowed."""
        ...


@dataclass(frozen=True)
class Imagery:
    """Reflectance on a grid, from `open_imagery` or `imagery_of_array`; pixels of files are read on demand.

    `grid` has CRS, transform and shape; `bands` are in the order of `read`; `warnings` are one line each.
    `extent` is the rows and columns of all that there is, of which `grid` is the part at `origin`; None where
    that is not known. `scale_from` is where the scale of `bands` is from.
    """

    grid: GeoBox
    bands: BandSet
    paths: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    source: PixelSource = field(kw_only=True, repr=False)
    origin: tuple[int, int] = (0, 0)
    extent: tuple[int, int] | None = None
    scale_from: ScaleOrigin = "given"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return int(self.grid.shape[0]), int(self.grid.shape[1])

    def read(self, row: int, col: int, height: int, width: int) -> Floats:
        """Reflectance (usually 0..1; dB for radar), float32 (band, y, x), of a window in pixels of the grid.

        NaN is nodata, not finite in the file or outside the files. A window may reach over the grid: of
        clipped imagery it then holds what lies there in the files, which a map needs as context.

        Raises:
            ImageryError: a file is gone or damaged.
        """
        values = self.source.read(row + self.origin[0], col + self.origin[1], height, width)
        if self.bands.scale != 1 or self.bands.offset != 0:
            values *= np.float32(self.bands.scale)
            values += np.float32(self.bands.offset)
        return values

    def read_mirrored(self, row: int, col: int, height: int, width: int) -> Floats:
        """`read`, with what lies beyond the edge of all that there is mirrored at it; nodata stays NaN.

        A network takes a border of filled pixels for a thing on the ground, its mirror image for more of the
        same. What a window is too small to mirror repeats its last pixels.
        """
        values = self.read(row, col, height, width)
        if self.extent is None:
            return values
        rows = _mirror(row + self.origin[0], height, self.extent[0])
        cols = _mirror(col + self.origin[1], width, self.extent[1])
        return values if rows is cols is None else values[:, _all(rows, height)][:, :, _all(cols, width)]

    def pick(self, names: Sequence[str]) -> Imagery:
        """The same imagery with the bands `names` only, in that order.

        Raises:
            ImageryError: one of them is not there.
        """
        positions = self.bands.indices(names)
        if positions == tuple(range(len(self.bands))):
            return self
        bands = replace(self.bands, names=tuple(self.bands.names[i] for i in positions))
        return replace(self, bands=bands, source=_Picked(self.source, positions))

    def clip(
        self, region: Geometry | tuple[float, float, float, float], crs: str | int = "EPSG:4326"
    ) -> Imagery:
        """The same imagery on the smallest window of its grid that holds `region`; pixels are not resampled.

        Args:
            region: a geometry with CRS, or west, south, east, north in `crs` (degrees by default).
            crs: CRS of bounds; not used for a geometry.

        Raises:
            RegionError: the region has no area, misses the imagery, or the imagery has no CRS.
        """
        row, col, rows, cols = sub_window(self.grid, region, crs)
        at = self.grid.transform
        corner = Affine(at.a, 0, at.c + col * at.a, 0, at.e, at.f + row * at.e)
        grid = GeoBox((rows, cols), corner, self.grid.crs)
        return replace(self, grid=grid, origin=(self.origin[0] + row, self.origin[1] + col))


def _mirror(start: int, length: int, size: int) -> NDArray[np.int64] | None:
    """Position in a window of what stands at each place of it; None where all of it is inside 0..size-1."""
    low, high = max(0, -start), min(length, size - start)
    if (low, high) == (0, length) or low >= high:
        return None
    at = np.arange(length)
    at = np.where(at < low, 2 * low - at, np.where(at >= high, 2 * (high - 1) - at, at))
    return np.clip(at, low, high - 1)


def _all(at: NDArray[np.int64] | None, length: int) -> NDArray[np.int64]:
    return np.arange(length) if at is None else at


@dataclass(frozen=True, slots=True)
class _Picked:
    source: PixelSource
    positions: tuple[int, ...]

    def read(self, row: int, col: int, height: int, width: int) -> Floats:
        return self.source.read(row, col, height, width)[list(self.positions)]


@dataclass(frozen=True, slots=True)
class _Array:
    values: Floats

    def read(self, row: int, col: int, height: int, width: int) -> Floats:
        out = np.full((len(self.values), height, width), np.nan, np.float32)
        top, left = max(row, 0), max(col, 0)
        inner = self.values[:, top : max(top, row + height), left : max(left, col + width)]
        out[:, top - row : top - row + inner.shape[1], left - col : left - col + inner.shape[2]] = inner
        return out


def imagery_of_array(values: Floats, names: Sequence[str], grid: GeoBox | None = None) -> Imagery:
    """Imagery of reflectance in memory, (band, y, x); NaN = no data; infinite values become NaN.

    Without `grid` the pixels have no place on Earth: one unit a pixel and no CRS.
    """
    if grid is None:
        grid = GeoBox(values.shape[1:], Affine.identity(), None)
    if values.shape != (len(names), *grid.shape):
        msg = (
            f"an array of shape {values.shape} does not fit {len(names)} bands on a {tuple(grid.shape)} grid"
        )
        raise ValueError(msg)
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
    extent = (int(grid.shape[0]), int(grid.shape[1]))
    return Imagery(grid, BandSet(tuple(names)), (), source=_Array(finite), extent=extent)


def open_imagery(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    bands: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    require_crs: bool = True,
) -> Imagery:
    """Open one multiband raster, several single-band files, or tiles (files, folders, VRT) as one image.

    Args:
        paths: file, or files and folders whose rasters are all taken.
        bands: names such as `B2,B3,B4` in the order of the file, or a choice among the names in the file.
        scale: reflectance = number * scale + offset; by default what the file says, else 1e-4 for integers
            and 1 for floats, and then checked against the pixels.
        offset: see `scale`, in reflectance, for example -0.1 for unshifted Sentinel-2 from 2022 on; by
            default what the file says where its scale is taken, else 0.
        require_crs: whether imagery without CRS is refused (benchmarks on bare chips do without).

    Raises:
        ImageryError: nothing there, no raster, damaged, no CRS, rotated, on different grids, bands not
            known or not fitting, or an inferred scale that gives no plausible reflectance.
    """
    # Absolute, as the workers of a cluster have working directories of their own.
    given = [paths] if isinstance(paths, str | PathLike) else paths
    files = [inspect(path.absolute()) for path in expand([Path(path) for path in given])]
    for file in files:
        check_georeference(file, require_crs=require_crs)
    layers, names, notes = name_bands(files, bands)
    band_set, scale_from = choose_scale(layers, names, scale, offset)
    mosaic = place(layers, names)
    notes.extend(check_values(mosaic, band_set, scale_from))
    grid = GeoBox(mosaic.shape, mosaic.transform, mosaic.crs)
    paths_read = tuple(f.path for f, _ in layers)
    return Imagery(
        grid,
        band_set,
        paths_read,
        tuple(notes),
        source=mosaic,
        extent=mosaic.shape,
        scale_from=scale_from,
    )
