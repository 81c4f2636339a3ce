"""Several raster files as one: a common pixel grid, and windows put together from the files they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from landmeta._imagery.files import RasterFile
from landmeta.errors import ImageryError

Floats = NDArray[np.float32]

_SHIFT = 0.05
"""Share of a pixel that grids may disagree by and still count as the same."""


_POSSIBLE = (-9999.0, 1e6)
"""Floats beyond or at these are fill that the file does not declare, whatever its scale.

Floats hold reflectance (0..1), the numbers of a 16-bit sensor (up to 65,535; down to -1000 where an offset is
taken off) or dB. -9999, -32768, 1e20 and -3.4e38 are what programs put where there is nothing; one of them
would spoil all pixels that the network sees together with it."""

_FILLS = (-9999, -32768)
"""The same of signed integers, which may be dB in any steps: only what is never anything else."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of the mosaic, in pixels from its upper left, and the file and band of each band there."""

    row: int
    col: int
    rows: int
    cols: int
    channels: tuple[tuple[RasterFile, int], ...]

    def read(self, row: int, col: int, rows: int, cols: int) -> Floats:
        """Stored numbers as float32 (band, y, x) of a window in the piece's own pixels, NaN = no data."""
        out = np.empty((len(self.channels), rows, cols), np.float32)
        for file in self.files:
            bands = [i for i, (owner, _) in enumerate(self.channels) if owner is file]
            indexes = tuple(self.channels[i][1] for i in bands)
            raw = file.read(indexes, row, col, rows, cols)
            out[bands] = _blank(raw, tuple(file.nodata[i - 1] for i in indexes))
            if file.masked:
                out[:, file.read_mask(row, col, rows, cols)] = np.nan
            if file.alpha:  # GDAL takes it for a mask beside 1 or 3 bands only
                out[:, (file.read(file.alpha, row, col, rows, cols) == 0).any(axis=0)] = np.nan
        if not self.declares_nodata:
            # Without a declared value 0 in every band is what is outside the swath or the orbit: it is the
            # nodata of Sentinel-2 products and the fill of gdalwarp. A dark pixel is not 0 in all bands.
            out[:, (out == 0).all(axis=0)] = np.nan
        return out

    def nonfinite(self, row: int, col: int, rows: int, cols: int) -> int:
        """Pixels of a window that are no possible number in a band whose nodata value says otherwise."""
        bad = np.zeros((rows, cols), bool)
        for file, index in self.channels:
            nodata = file.nodata[index - 1]
            if np.dtype(file.dtypes[index - 1]).kind in "fi":
                values = file.read((index,), row, col, rows, cols)[0]
                bad |= _impossible(values) & ~_declared(values, nodata)
        return int(bad.sum())

    def zeros(self, row: int, col: int, rows: int, cols: int) -> int:
        """Pixels of a window that are taken as nodata because every band is 0 there."""
        if self.declares_nodata:
            return 0
        zero = np.ones((rows, cols), bool)
        for file, index in self.channels:
            zero &= file.read((index,), row, col, rows, cols)[0] == 0
        return int(zero.sum())

    @property
    def files(self) -> tuple[RasterFile, ...]:
        """The distinct files of the piece, in band order."""
        return tuple({id(file): file for file, _ in self.channels}.values())

    @property
    def declares_nodata(self) -> bool:
        """Whether a file of the piece says which of its pixels hold no data."""
        return any(f.masked or f.alpha or any(v is not None for v in f.nodata) for f in self.files)


def _blank(raw: NDArray[Any], nodata: tuple[float | None, ...]) -> Floats:
    """Float32 copy of stored numbers with nodata and impossible values as NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw.astype(np.float32)
    for band, value in enumerate(nodata):
        if value is not None:
            values[band][_declared(raw[band], value)] = np.nan
    if raw.dtype.kind in "fi":
        values[_impossible(raw)] = np.nan
    return values


def _declared(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Where numbers as stored are the nodata value, which may be NaN."""
    if nodata is None:
        return np.zeros(values.shape, bool)
    # The stored numbers are compared: numpy then takes the value at the file's own precision.
    with np.errstate(over="ignore"):
        return np.asarray(np.isnan(values) if np.isnan(nodata) else values == nodata)


def _impossible(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where floats are NaN, infinite or of a size that no measurement has, and signed integers are a fill."""
    if values.dtype.kind == "i":
        return np.isin(values, _FILLS)
    low, high = _POSSIBLE
    with np.errstate(invalid="ignore"):
        return np.asarray(~((values > low) & (values < high)))


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Pieces on one grid. A pixel that several pieces hold is taken from the first that has data."""

    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    pieces: tuple[Piece, ...]

    def read(self, row: int, col: int, height: int, width: int) -> Floats:
        """Stored numbers as float32 (band, y, x), NaN = no data or outside; any window is allowed."""
        bands = len(self.pieces[0].channels)
        out = np.full((bands, height, width), np.nan, np.float32)
        for piece in self.pieces:
            top, left = max(row, piece.row), max(col, piece.col)
            rows = min(row + height, piece.row + piece.rows) - top
            cols = min(col + width, piece.col + piece.cols) - left
            if rows <= 0 or cols <= 0:
                continue
            values = piece.read(top - piece.row, left - piece.col, rows, cols)
            target = out[:, top - row : top - row + rows, left - col : left - col + cols]
            if len(self.pieces) == 1:
                target[...] = values
            else:
                lacking = np.isnan(target)
                whole = ~np.isnan(values).any(axis=0)  # bands of two pieces would make a spectrum of nothing
                np.copyto(target, values, where=lacking.any(axis=0) & whole | lacking.all(axis=0))
        return out


def place(layers: Sequence[tuple[RasterFile, tuple[tuple[str, int], ...]]], names: Sequence[str]) -> Mosaic:
    """Mosaic of files, each given with its (band name, index) pairs; `names` is the band order.

    Files of the same extent complete each other's bands; other files are tiles side by side.

    Raises:
        ImageryError: CRS, resolution or pixel grid differ, a band is there twice or missing at a tile.
    """
    first = layers[0][0]
    corners = [_offset(first, file) for file, _ in layers]
    top, left = min(r for r, _ in corners), min(c for _, c in corners)
    spots: dict[tuple[int, int, int, int], dict[str, tuple[RasterFile, int]]] = {}
    for (file, bands), (row, col) in zip(layers, corners, strict=True):
        spot = spots.setdefault((row - top, col - left, *file.shape), {})
        for name, index in bands:
            if name in spot:
                msg = f"band {name} of one extent comes from two files: {spot[name][0].path} and {file.path}"
                raise ImageryError(msg, "give the files of one date only")
            spot[name] = (file, index)
    pieces = tuple(Piece(*box, channels=_complete(spot, names)) for box, spot in spots.items())
    shape = (max(p.row + p.rows for p in pieces), max(p.col + p.cols for p in pieces))
    at = first.transform
    transform = Affine(at.a, at.b, at.c + left * at.a, at.d, at.e, at.f + top * at.e)
    return Mosaic(shape, transform, first.crs, pieces)


def _complete(
    spot: dict[str, tuple[RasterFile, int]], names: Sequence[str]
) -> tuple[tuple[RasterFile, int], ...]:
    lacking = [name for name in names if name not in spot]
    if lacking:
        path = next(iter(spot.values()))[0].path
        msg = f"the tile of {path} lacks band {', '.join(lacking)}, which others have"
        raise ImageryError(msg, "give tiles that have the same bands and files that have the same extent")
    return tuple(spot[name] for name in names)


def _offset(first: RasterFile, other: RasterFile) -> tuple[int, int]:
    """Rows and columns from the corner of `first` to that of `other`."""
    if first.crs != other.crs:
        msg = f"{other.path} is in {_crs_name(other.crs)}, {first.path} in {_crs_name(first.crs)}"
        raise ImageryError(msg, "reproject to one CRS first, for example with gdalwarp -t_srs")
    a, b = first.transform, other.transform
    reach = max(*first.shape, *other.shape)
    if max(abs(a.a - b.a) / abs(a.a), abs(a.e - b.e) / abs(a.e)) * reach > _SHIFT:
        msg = f"{other.path} has pixels of {b.a:g} x {-b.e:g}, {first.path} of {a.a:g} x {-a.e:g}"
        raise ImageryError(msg, "resample to one resolution first, for example with gdalwarp -tr")
    row, col = (b.f - a.f) / a.e, (b.c - a.c) / a.a
    if max(abs(row - round(row)), abs(col - round(col))) > _SHIFT:
        shift = f"{row % 1:.2f} rows and {col % 1:.2f} columns"
        msg = f"the pixels of {other.path} lie between those of {first.path}, shifted by {shift}"
        raise ImageryError(msg, "bring both to one grid first, for example with gdalwarp -tap")
    return round(row), round(col)


def _crs_name(crs: CRS | None) -> str:
    return crs.to_string()[:60] if crs else "no CRS"
