"""How the images of a folder are laid out: names of their bands, size, and what their numbers mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landmeta.bands import KNOWN, RADAR, canonical, parse_bands
from landmeta.errors import DataError, ImageryError
from landmeta_catalog.archives._files import Header, read_header, read_image
from landmeta_catalog.tiles import ArraySpec

SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp"})
"""Names of files that are taken for tiles."""

_COLORS = {"red": "B04", "green": "B03", "blue": "B02"}
_SCALES = {"uint8": 1 / 255, "uint16": 1e-4, "int16": 1e-4, "float32": 1.0, "float64": 1.0}
_PROBED = 25
_NAN = -32768
_HINT = "--bands B2,B3,B4 says what every band is, in the order of the file"


@dataclass(frozen=True, slots=True)
class Layout:
    """What every image of a folder has in common.

    `bands` are read, in that order; `given` names all bands in the order of the file, where the file does
    not. `dtype` is the file's own; physical value = number in the file * `scale` + `offset`; `nodata` is the
    file's number for missing pixels. `said` are scale and offset where the files say them.
    """

    bands: tuple[str, ...]
    given: tuple[str, ...] | None
    dtype: str
    side: int
    scale: float
    offset: float
    nodata: float | None
    said: tuple[float, float] | None = None

    @property
    def spec(self) -> ArraySpec:
        """How the images are stored: integers as they are, floats as int16 in 1e-4 or 0.01 dB."""
        radar = set(self.bands) <= set(RADAR)
        name = "rgb" if self.dtype == "uint8" else "s1" if radar else "s2"
        if np.dtype(self.dtype).kind == "f":
            return ArraySpec(name, self.bands, "int16", 0.01 if radar else 1e-4, 0.0, _NAN, self.side)
        nodata = None if self.nodata is None else int(self.nodata)
        return ArraySpec(name, self.bands, self.dtype, self.scale, self.offset, nodata, self.side)

    def check(self, header: Header, path: Path) -> tuple[int, ...]:
        """Positions of `bands` in an image, from its header.

        Raises:
            DataError: the image has other bands, numbers or size than the folder's others.
        """
        names = self.given or band_names(header)
        missing = [band for band in self.bands if band not in names]
        if missing or (self.given and len(self.given) != _spectral(header)):
            expected = f"expected {len(self.given or self.bands)} ({', '.join(self.given or self.bands)})"
            msg = f"{path} has {_spectral(header)} band(s), {expected}"
            raise DataError(msg, "all tiles of a folder must have the same bands")
        if header.dtype != self.dtype:
            msg = f"{path} holds {header.dtype}, the folder's other tiles {self.dtype}"
            raise DataError(msg, "all tiles of a folder must have the same kind of numbers")
        if header.shape != (self.side, self.side):
            msg = f"{path} is {header.shape[1]} x {header.shape[0]} px, expected {self.side} x {self.side}"
            raise DataError(msg, "all tiles of a folder must be square and of one size")
        if self.said is not None and (header.scale, header.offset) != self.said:
            msg = f"{path} says scale {header.scale:g} and offset {header.offset:g}, the others {self.said}"
            raise DataError(msg, "--scale and --offset say what holds for all tiles of the folder")
        if header.nodata is not None and not _same(header.nodata, self.nodata):
            others = "say none" if self.nodata is None else f"have {self.nodata:g}"
            msg = f"{path} has {header.nodata:g} for no data, the folder's other tiles {others}"
            raise DataError(msg, "all tiles of a folder must have the same number for no data")
        return tuple(names.index(band) for band in self.bands)

    def read(self, path: Path) -> npt.NDArray[Any]:
        """Pixels of an image as stored by `spec`, (band, y, x).

        Raises:
            DataError: the image cannot be read to its end or differs from the others, see `encode`.
        """
        header, values = read_image(path, lambda header: self.check(header, path))
        return self.encode(values[list(self.check(header, path))], path)

    def encode(self, values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
        """Numbers of the file at `path` as stored by `spec`.

        Raises:
            DataError: floats that are no reflectance and no backscatter.
        """
        if values.dtype.kind != "f":
            return values
        missing = ~np.isfinite(values)
        if self.nodata is not None:
            missing |= values == self.nodata
        physical = np.where(missing, 0, values) * self.scale + self.offset
        stored = np.rint(physical / self.spec.scale)
        if (np.abs(stored) > -_NAN).mean() > 0.01:
            msg = f"{path} has values up to {np.abs(physical).max():g}, which are no reflectance"
            raise DataError(msg, "--scale 1e-4 is usual for reflectance x 10000")
        return np.where(missing, _NAN, stored.clip(_NAN + 1, -_NAN - 1)).astype(np.int16)


def _same(one: float, other: float | None) -> bool:
    return one == other or (other is not None and bool(np.isnan([one, other]).all()))


def band_names(header: Header) -> tuple[str | None, ...]:
    """Canonical names of the bands from their descriptions, else from red, green and blue; None unknown."""
    described = tuple(canonical(text) if text else None for text in header.descriptions)
    if any(described):
        return described
    return tuple(_COLORS.get(color) for color in header.colors)


def _spectral(header: Header) -> int:
    return sum(color != "alpha" for color in header.colors)


def usual_header(files: Sequence[Path]) -> tuple[Path, Header]:
    """One of the files whose headers look like most others', from a few spread over the folder.

    Raises:
        DataError: none of these can be read.
    """
    headers: list[tuple[Path, Header]] = []
    failures: list[DataError] = []
    for file in files[:: max(len(files) // _PROBED, 1)]:
        try:
            headers.append((file, read_header(file)))
        except DataError as error:
            failures.append(error)
    if not headers:
        msg = f"of {len(files)} tiles none that was tried can be read: {failures[0]}"
        raise DataError(msg, failures[0].hint)
    usual = Counter(_kind(header) for _, header in headers).most_common(1)[0][0]
    return next((file, header) for file, header in headers if _kind(header) == usual)


def _kind(header: Header) -> tuple[object, ...]:
    meaning = header.scale, header.offset, str(header.nodata)  # as text: NaN is not equal to itself
    return header.shape, header.dtype, header.colors, header.descriptions, meaning


def layout_of(
    path: Path,
    header: Header,
    *,
    bands: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
) -> Layout:
    """Layout of images like the one at `path`.

    Args:
        path: an image, to be named in errors.
        header: its header.
        bands: names in the order of the file, or a choice among the names in the file.
        scale: physical value = number * scale + offset; by default what the file says, else 1e-4 for
            integers of 16 bits, 1/255 for 8 bits and 1 for floats.
        offset: see `scale`; by default what the file says where its scale is taken, else 0.

    Raises:
        DataError: it is unknown which bands or numbers the image holds, or it is not square.
    """
    if header.shape[0] != header.shape[1]:
        msg = f"{path} is {header.shape[1]} x {header.shape[0]} px, expected a square tile"
        raise DataError(msg, "cut the images into square tiles")
    if header.dtype not in _SCALES:
        msg = f"{path} holds {header.dtype}, expected one of {', '.join(_SCALES)}"
        raise DataError(msg, "write reflectance x 10000 as uint16")
    chosen, given = _choose_bands(path, header, bands)
    if 0 < len(set(chosen) & set(RADAR)) < len(chosen):
        msg = f"{path} holds backscatter and reflectance in one file ({', '.join(chosen)})"
        raise DataError(msg, "--bands with VV,VH or the optical bands chooses one of them")
    shift = 0.0 if offset is None else offset
    if not (math.isfinite(shift) and (scale is None or 0 < scale < math.inf)):
        msg = f"the scale {scale} and offset {offset} make no measurement of a number"
        raise DataError(msg, "--scale takes a number above 0, --offset any")
    said = None
    if scale is None:
        said = header.scale, header.offset
        scale = _SCALES[header.dtype] if said == (1.0, 0.0) else header.scale
        shift = header.offset if offset is None else offset
    return Layout(chosen, given, header.dtype, header.shape[0], scale, shift, header.nodata, said)


def _choose_bands(
    path: Path, header: Header, bands: str | None
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Bands to read, and the names of all bands of the file where only `bands` tells them.

    Raises:
        DataError: the names are not known, or do not fit the file.
    """
    names = band_names(header)
    if bands is not None:
        try:
            wanted = parse_bands(bands)
        except ImageryError as error:
            raise DataError(str(error), error.hint) from error
        if len(wanted) == _spectral(header):
            return wanted, wanted
        if set(wanted) <= set(names):
            return wanted, None
        msg = f"{path} has {_spectral(header)} band(s), --bands names {len(wanted)}"
        raise DataError(msg, _HINT)
    found = [name for name in names if name]
    if not found or len(set(found)) < len(found):
        msg = f"{path} does not say which bands its {_spectral(header)} band(s) are"
        raise DataError(msg, _HINT)
    rgb = set(found) == set(_COLORS.values()) and header.dtype == "uint8"
    return tuple(_COLORS.values() if rgb else (b for b in KNOWN if b in found)), None
