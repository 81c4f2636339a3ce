"""One raster file: what its header says, whether its pixels are there, and reading a window of it."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from landmeta.bands import canonical
from landmeta.errors import ImageryError

CACHE_BYTES = 128_000_000
"""GDAL's block cache while landmeta reads; its own default is a share of the machine's memory."""

_LOOKED_AT = (32, 1 << 16)
"""How many parts of a file its fingerprint takes in, spread from its head to its tail, and their bytes."""
_BY_THE_WAY = (".aux.xml", ".ovr")  # written by any GIS that looks at a file
_OPEN_FILES = 32
_BLOCKS_CHECKED = 200_000
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class RasterFile:
    """Header of one file; per-band tuples have one entry a band, alpha bands included."""

    path: Path
    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    descriptions: tuple[str | None, ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    alpha: tuple[int, ...]
    masked: bool

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.dtypes)

    def read(self, indexes: tuple[int, ...], row: int, col: int, rows: int, cols: int) -> NDArray[Any]:
        """Numbers as stored, (band, y, x), of a window inside the file; `indexes` count from 1.

        Raises:
            ImageryError: the file is gone, truncated or damaged.
        """
        window = Window(col, row, cols, rows)
        with reading(self.path):
            values: NDArray[Any] = _handles.get(self.path).read(list(indexes), window=window)
            return values

    def read_mask(self, row: int, col: int, rows: int, cols: int) -> NDArray[np.bool_]:
        """True (y, x) where the file's own mask band says that there is no data."""
        with reading(self.path):
            mask = _handles.get(self.path).dataset_mask(window=Window(col, row, cols, rows))
            return np.asarray(mask == 0)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Limit GDAL's cache and turn its errors into an ImageryError that names `path`."""
    try:
        # rasterio hands the number on as bytes, other than GDAL's own option, where small ones are MB.
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            yield
    except (RasterioError, OSError) as error:
        if isinstance(error, ImageryError):
            raise
        if isinstance(error, FileNotFoundError):
            msg = f"{path} is not there (any more)"
            hint = "put it back; every worker of a cluster needs it under this path"
            raise ImageryError(msg, hint) from error
        msg = f"{path} cannot be read to its end: it is truncated or damaged ({_cause(error)})"
        raise ImageryError(msg, "copy or download the file again") from error


def _cause(error: BaseException) -> str:
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return " ".join(str(root).split())[:160].rstrip(".")


class _Handles(threading.local):
    """The files that this thread has open, least recently used first.

    GDAL's handles may not be shared between threads, nor with a forked process.
    """

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[int, str, int, int], Any] = OrderedDict()

    def get(self, path: Path) -> Any:
        state = path.stat()
        key = (os.getpid(), str(path), state.st_mtime_ns, state.st_size)
        if key in self.open:
            self.open.move_to_end(key)
            return self.open[key]
        self.open[key] = _open(path)
        while len(self.open) > _OPEN_FILES:
            self.open.popitem(last=False)[1].close()
        return self.open[key]


_handles = _Handles()


def _open(path: Path) -> Any:
    # Missing georeferencing is reported by the callers as an error of their own, so not warned of here;
    # the lock is there because warning filters belong to the process.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def inspect(path: Path) -> RasterFile:
    """Header of the raster at `path`, after checking that its pixels can be read.

    Raises:
        ImageryError: the path is missing, empty, truncated or no raster.
    """
    _require_content(path)
    try:
        with _open(path) as dataset:
            file = _header(path, dataset)
            _require_blocks(path, dataset)
    except RasterioError as error:
        raise _unreadable(path, error) from error
    _probe(file)
    return file


def _require_content(path: Path) -> None:
    if not path.exists():
        msg = f"{path} does not exist"
        raise ImageryError(msg, "--imagery takes a raster, several rasters or a folder of them")
    if path.stat().st_size == 0:
        msg = f"{path} is an empty file (0 bytes)"
        raise ImageryError(msg, "copy or download the file again")


def _unreadable(path: Path, error: Exception) -> ImageryError:
    with path.open("rb") as stream:
        tiff = stream.read(4) in _TIFF_MAGIC
    if tiff:
        msg = f"{path} begins as a TIFF but cannot be opened: it is truncated or damaged ({_cause(error)})"
        return ImageryError(msg, "copy or download the file again")
    msg = f"{path} is no raster that GDAL can read"
    return ImageryError(msg, "--imagery takes GeoTIFF, JPEG 2000, VRT and other georeferenced rasters")


def _header(path: Path, dataset: Any) -> RasterFile:
    if dataset.count == 0:
        msg = f"{path} has no bands of its own, perhaps they are in sub-datasets"
        raise ImageryError(msg, "gdal_translate writes one sub-dataset to a GeoTIFF")
    if any(str(dtype).startswith("complex") for dtype in dataset.dtypes):
        msg = f"{path} holds complex numbers, expected reflectance"
        raise ImageryError(msg, "give detected, calibrated imagery")
    # GDAL marks the fourth band of 8 bits as alpha where nobody says what it is: its name is the truth.
    alpha = tuple(
        i
        for i, use in enumerate(dataset.colorinterp, 1)
        if use == ColorInterp.alpha and not canonical(dataset.descriptions[i - 1] or "")
    )
    masks = (band for band in dataset.mask_flag_enums if alpha or MaskFlags.alpha not in band)
    flags = {flag for band in masks for flag in band}
    return RasterFile(
        path=path,
        shape=(dataset.height, dataset.width),
        transform=dataset.transform,
        crs=dataset.crs or None,
        descriptions=dataset.descriptions,
        dtypes=dataset.dtypes,
        nodata=dataset.nodatavals,
        scales=dataset.scales,
        offsets=dataset.offsets,
        alpha=alpha,
        masked=MaskFlags.per_dataset in flags,
    )


def _require_blocks(path: Path, dataset: Any) -> None:
    """Check a TIFF's table of blocks against its size: a file cut short opens, and fails much later."""
    if dataset.driver != "GTiff":
        return
    size = path.stat().st_size
    # Bands stored together share their blocks; a very long table is checked by its last entries.
    bands = 1 if dataset.interleaving == rasterio.enums.Interleaving.pixel else dataset.count
    high, wide = dataset.block_shapes[0]
    down, across = -(-dataset.height // high), -(-dataset.width // wide)
    first_row = max(0, down - max(1, _BLOCKS_CHECKED // (across * bands)))
    for band in range(1, bands + 1):
        for row in range(first_row, down):
            for col in range(across):
                if _block_end(dataset, band, row, col) > size:
                    msg = f"{path} is truncated: {size} bytes, block {row}, {col} of band {band} is missing"
                    raise ImageryError(msg, "copy or download the file again")


def _block_end(dataset: Any, band: int, row: int, col: int) -> int:
    start = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
    length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
    return int(start) + int(length) if start and length else 0


def _probe(file: RasterFile) -> None:
    """Read the first and the last pixel of every band, so that a damaged file is found at once."""
    every = tuple(range(1, file.count + 1))
    file.read(every, 0, 0, 1, 1)
    file.read(every, file.shape[0] - 1, file.shape[1] - 1, 1, 1)


def fingerprint(path: Path) -> list[tuple[str, int, str]]:
    """Path, bytes and checksum of a raster and of the files that it draws on, as a VRT does.

    A file that is no raster, such as the manifest of a tile store, stands for itself.

    A copy of a file, whenever it was made, has the file's checksum; other imagery has another. The checksum
    is of 2 MB spread over a larger file, so that it takes milliseconds for gigabytes. It does not tell that
    single pixels of a large uncompressed file were written anew in place; in a compressed one that nearly
    always moves what follows them.

    Raises:
        ImageryError: the file is gone or damaged.
    """
    with reading(path):
        return [_fingerprint(one) for one in (path, *drawn_on(path))]


def drawn_on(path: Path) -> list[Path]:
    """Other files that a raster takes its pixels from, in VRTs of VRTs too: GDAL lists those of one level."""
    found, waiting = {path.resolve()}, [path]
    while waiting:
        new = _files_of(waiting.pop()) - found
        found |= new
        waiting += [one for one in new if one.suffix.lower() == ".vrt"]
    return sorted(other for other in found - {path.resolve()} if other.is_file())


def _files_of(path: Path) -> set[Path]:
    try:
        with _open(path) as dataset:
            return {Path(name).resolve() for name in dataset.files if not name.endswith(_BY_THE_WAY)}
    except RasterioError:
        return set()


def _fingerprint(path: Path) -> tuple[str, int, str]:
    size, (parts, length) = path.stat().st_size, _LOOKED_AT
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= parts * length:
            digest.update(file.read())
        else:
            for part in range(parts):
                file.seek((size - length) * part // (parts - 1))
                digest.update(file.read(length))
    return str(path.resolve()), size, digest.hexdigest()
