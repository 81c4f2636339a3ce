"""Header and pixels of one image file of an archive, with errors that name the file."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from landmeta.errors import DataError
from landmeta_catalog.archives.base import Place

if TYPE_CHECKING:
    from pyproj import Transformer

_opening = threading.Lock()
_PICTURES = ("PNG", "GIF")
"""Formats whose palette is of colours; in a TIFF it usually is of classes."""
_AGAIN = "copy or download the file again"
# A JPEG that ends early is only a warning to its library, and the rest of it grey; of a PNG GDAL's quick way
# of reading makes up the rest. Folders here hold thousands of files: listing them at every opening would
# cost more than reading.
_OPTIONS = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
    "GDAL_DISABLE_READDIR_ON_OPEN": True,
}


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image says; `place` is None without CRS or transform."""

    shape: tuple[int, int]
    dtype: str
    place: Place | None
    descriptions: tuple[str | None, ...]
    colors: tuple[str, ...]
    """What each band shows: gray, red, green, blue, alpha, undefined, ..."""
    scale: float
    offset: float
    nodata: float | None

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.colors)


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


def read_image(path: Path, check: Callable[[Header], object]) -> tuple[Header, npt.NDArray[Any]]:
    """Header and pixels (band, y, x) of an image; pictures with a palette become red, green, blue.

    `check` sees the header before any pixel is read, and raises what is wrong with it.

    Raises:
        DataError: the file is empty, truncated, gone or no image.
    """
    with opened(path) as dataset:
        header = _header(dataset)
        check(header)
        values = np.asarray(dataset.read())
        if header.count > dataset.count:
            table = np.zeros((256, 3), np.uint8)
            for code, color in dataset.colormap(1).items():
                table[code] = color[:3]
            values = table[values[0]].transpose(2, 0, 1)
        return header, values


def read_square(path: Path, *, bands: int, side: int) -> npt.NDArray[Any]:
    """Pixels (band, y, x) of an image of known size.

    Raises:
        DataError: the file is empty, truncated, gone, no image or of other size.
    """
    return read_image(path, lambda header: require(header, path, bands=bands, side=side))[1]


def _header(dataset: Any) -> Header:
    shape = int(dataset.height), int(dataset.width)
    place = None
    if dataset.crs and not dataset.transform.is_identity:
        a, b, c, d, e, f, *_ = dataset.transform
        place = Place(_crs_name(dataset.crs.to_wkt()), (a, b, c, d, e, f), shape)
        _require_place(place, dataset.name)
    colors = tuple(color.name for color in dataset.colorinterp)
    descriptions = dataset.descriptions
    if colors == ("palette",) and dataset.driver in _PICTURES:
        colors, descriptions = ("red", "green", "blue"), (None, None, None)
    return Header(
        shape=shape,
        dtype=dataset.dtypes[0],
        place=place,
        descriptions=descriptions,
        colors=colors,
        scale=dataset.scales[0],
        offset=dataset.offsets[0],
        nodata=dataset.nodata,
    )


def _require_place(place: Place, name: str) -> None:
    """Refuse what no degrees belong to: a CRS of a drawing, a corner beyond it or one that is no number."""
    from pyproj.exceptions import ProjError

    try:
        corner = to_degrees(place.crs).transform(place.transform[2], place.transform[5])
        known = all(map(math.isfinite, (*corner, *place.transform)))
    except ProjError:
        known = False
    if not known:
        msg = f"{name} lies nowhere on Earth by its CRS and geotransform ({place.crs[:60]})"
        raise DataError(msg, "write the right ones into the file, for example with gdal_edit -a_srs")


@lru_cache(maxsize=32)
def to_degrees(crs: str) -> Transformer:
    """From a CRS to (longitude, latitude).

    Raises:
        pyproj.exceptions.ProjError: no degrees belong to the CRS.
    """
    from pyproj import Transformer

    return Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)


@lru_cache(maxsize=256)
def _crs_name(wkt: str) -> str:
    code = CRS.from_wkt(wkt).to_epsg()
    return f"EPSG:{code}" if code else wkt


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
