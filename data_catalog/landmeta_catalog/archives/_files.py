"""Header and pixels of one image file of an archive, with errors that name the file."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from landmeta.errors import DataError
from landmeta_catalog.archives.base import Place

_opening = threading.Lock()
_AGAIN = "copy or download the file again"
# A JPEG that ends early is only a warning to its library, and the rest of it grey. Folders here hold
# thousands of files: listing them at every opening would cost more than reading.
_OPTIONS = {"GDAL_ERROR_ON_LIBJPEG_WARNING": True, "GDAL_DISABLE_READDIR_ON_OPEN": True}


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image says; `place` is None without CRS or transform."""

    shape: tuple[int, int]
    count: int
    dtype: str
    place: Place | None
    descriptions: tuple[str | None, ...]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The rasterio dataset at `path`; its errors become a DataError of one line that names the file."""
    try:
        if path.stat().st_size == 0:
            msg = f"{path} is an empty file (0 bytes)"
            raise DataError(msg, _AGAIN)
        with rasterio.Env(**_OPTIONS), _open(path) as dataset:
            yield dataset
    except FileNotFoundError as error:
        msg = f"{path} does not exist"
        raise DataError(msg, "the archive changed while it was read: start again") from error
    except (RasterioError, OSError) as error:
        msg = f"{path} cannot be read: it is truncated, damaged or no image ({_cause(error)})"
        raise DataError(msg, _AGAIN) from error


def _open(path: Path) -> Any:
    # Tiles without georeference are usual here; the lock is there because filters belong to the process.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _cause(error: BaseException) -> str:
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    return " ".join(str(root).split())[:160].rstrip(".")


def read_header(path: Path) -> Header:
    """Header of an image.

    Raises:
        DataError: the file is empty, gone or no image.
    """
    with opened(path) as dataset:
        return _header(dataset)


def read_image(path: Path, *, bands: int, side: int) -> npt.NDArray[Any]:
    """Pixels (band, y, x) of an image of known size.

    Raises:
        DataError: the file is empty, truncated, gone, no image or of other size.
    """
    with opened(path) as dataset:
        require(_header(dataset), path, bands=bands, side=side)
        return np.asarray(dataset.read())


def _header(dataset: Any) -> Header:
    shape = int(dataset.height), int(dataset.width)
    place = None
    if dataset.crs and not dataset.transform.is_identity:
        code = dataset.crs.to_epsg()
        crs = f"EPSG:{code}" if code else str(dataset.crs.to_wkt())
        place = Place(crs, tuple(dataset.transform)[:6], shape)
    return Header(shape, dataset.count, dataset.dtypes[0], place, dataset.descriptions)


def require(header: Header, path: Path, *, bands: int, side: int) -> None:
    """Check the number of bands and the size.

    Raises:
        DataError: names the file, what it has and what was expected.
    """
    if header.count != bands:
        msg = f"{path} has {header.count} band(s), expected {bands}"
        raise DataError(msg, "give the archive as published")
    if header.shape != (side, side):
        msg = f"{path} is {header.shape[1]} x {header.shape[0]} px, expected {side} x {side}"
        raise DataError(msg, "give the archive as published")


def same_place(places: dict[Path, Place | None]) -> Place | None:
    """The one place of the files of a patch.

    Raises:
        DataError: two of the files have different CRS or grids.
    """
    (first, place), *others = places.items()
    for path, other in others:
        if other == place:
            continue
        what = [p.crs if p else "no CRS" for p in (place, other)]
        if what[0] == what[1] and place and other:
            what = [f"upper left {p.transform[2]:.1f}, {p.transform[5]:.1f}" for p in (place, other)]
        msg = f"{path} lies elsewhere than {first.name} ({what[1]}, not {what[0]})"
        raise DataError(msg, "the files of one patch must share CRS and grid")
    return place
