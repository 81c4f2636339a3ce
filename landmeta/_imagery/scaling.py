"""How stored numbers become reflectance, and whether the result is plausible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np

from landmeta._imagery.mosaic import Floats, Mosaic, Piece
from landmeta._imagery.naming import Layer
from landmeta.bands import SENTINEL2, BandSet
from landmeta.errors import ImageryError

ScaleOrigin: TypeAlias = Literal["given", "file", "inferred"]
"""Where a scale is from: the user, the file, or the type of its numbers."""

_PLAUSIBLE = (0.1, 2.0)
_ABSURD = 50.0  # times outside of what is plausible: no scene, a factor upside down
_BRIGHT = 0.5  # a usual reflectance of the brightest band
_INTEGER_SCALE = 1e-4
_WHOLE = 1 << 20
_PATCH = 64
_LATTICES = (8, 32)


def choose_scale(
    layers: Sequence[Layer], names: tuple[str, ...], scale: float | None, offset: float | None
) -> tuple[BandSet, ScaleOrigin]:
    """Bands with their scale, and where the scale is from.

    Raises:
        ImageryError: the files' scales differ, or radar in integers says none.
    """
    shift = 0.0 if offset is None else offset
    if scale is not None:
        return BandSet(names, scale, shift), "given"
    tags = {(f.scales[i - 1], f.offsets[i - 1]) for f, pairs in layers for _, i in pairs}
    if len(tags) > 1:
        msg = f"the bands have different scales and offsets in the file: {sorted(tags)[:4]}"
        raise ImageryError(msg, "--scale (and --offset) gives one for all bands")
    tagged_scale, tagged_offset = tags.pop()
    if (tagged_scale, tagged_offset) != (1.0, 0.0):
        return BandSet(names, tagged_scale, tagged_offset if offset is None else offset), "file"
    integers = [np.dtype(f.dtypes[i - 1]).kind in "iu" for f, pairs in layers for _, i in pairs]
    if any(integers) and not set(names) <= set(SENTINEL2):
        msg = "radar bands are in dB, and the file of integers does not say at which scale"
        raise ImageryError(msg, "--scale says what one step of the number is in dB, for example --scale 1e-2")
    return BandSet(names, _INTEGER_SCALE if all(integers) else 1.0, shift), "inferred"


def check_values(mosaic: Mosaic, bands: BandSet, origin: ScaleOrigin) -> tuple[str, ...]:
    """Warnings about the pixels: implausible reflectance, values that are no number or none that is possible.

    Looks at all pixels of a small image, at patches all over a large one.

    Raises:
        ImageryError: an inferred scale gives implausible reflectance, or there are no data at all.
    """
    windows, values = _sample(mosaic)
    notes = [*_plausibility(values, bands, origin)]
    seen = sum(rows * cols for _, _, rows, cols in windows)
    part = "" if seen == mosaic.shape[0] * mosaic.shape[1] else f" of the {seen} looked at"
    parts = [(piece, window) for piece in mosaic.pieces for window in _within(windows, piece)]
    if count := sum(piece.nonfinite(*window) for piece, window in parts):
        notes.append(
            f"{count} pixels{part} are NaN, infinite or no possible measurement in a band: taken as nodata"
        )
    if count := sum(piece.zeros(*window) for piece, window in parts):
        notes.append(f"{count} pixels{part} are 0 in all bands: taken as nodata, as the file declares none")
    return tuple(notes)


def _plausibility(values: Floats, bands: BandSet, origin: ScaleOrigin) -> Iterator[str]:
    optical = values[list(bands.optical)]
    valid = np.isfinite(optical).all(axis=0)
    if not len(optical):
        return
    if not valid.any():
        if origin == "inferred":
            msg = "no pixel with data was found, so the scale cannot be inferred"
            raise ImageryError(msg, "--scale 1e-4 (reflectance of the number 1), or give imagery with data")
        yield "no pixel with data was found among those looked at, so the scale could not be checked"
        return
    highest = np.percentile(optical[:, valid], 99, axis=1)
    brightest = int(np.argmax(highest))
    reflectance = float(highest[brightest]) * bands.scale + bands.offset
    low, high = _PLAUSIBLE
    if low <= reflectance <= high:
        return
    name = bands.names[bands.optical[brightest]]
    figures = (
        f"at the {origin} scale {bands.scale:g} and offset {bands.offset:g} the 99th percentile of {name}, "
        f"the brightest band, is reflectance {reflectance:.3g} ({highest[brightest]:.5g} in the file), "
        f"expected {low:g} to {high:g}"
    )
    fit = "the pixels are dark"
    if (number := float(highest[brightest])) > 0:
        fit = f"--scale 1e{round(np.log10(_BRIGHT / number))} would fit"
    if origin == "inferred" or not low / _ABSURD <= reflectance <= high * _ABSURD:
        raise ImageryError(figures, f"--scale says which reflectance the number 1 is: {fit}")
    yield f"{figures}: {fit}"


Windows = list[tuple[int, int, int, int]]


def _sample(mosaic: Mosaic) -> tuple[Windows, Floats]:
    """Windows looked at and their pixels, (band, pixel)."""
    rows, cols = mosaic.shape
    if rows * cols <= _WHOLE:
        return [(0, 0, rows, cols)], mosaic.read(0, 0, rows, cols).reshape(-1, rows * cols)
    for lattice in _LATTICES:
        windows = _lattice(rows, cols, lattice)
        patches = [mosaic.read(*window) for window in windows]
        values = np.concatenate([patch.reshape(len(patch), -1) for patch in patches], axis=1)
        if np.isfinite(values).all(axis=0).any():
            break
    return windows, values


def _lattice(rows: int, cols: int, count: int) -> Windows:
    """Patches spread evenly, each within one block of the file where blocks are multiples of the patch."""
    tops, lefts = (
        sorted({int((i + 0.5) * size / count) // _PATCH * _PATCH for i in range(count)})
        for size in (rows, cols)
    )
    return [(r, c, min(_PATCH, rows - r), min(_PATCH, cols - c)) for r in tops for c in lefts]


def _within(windows: Windows, piece: Piece) -> Windows:
    """The parts of windows on a piece, in its own pixels."""
    parts = []
    for row, col, height, width in windows:
        top, left = max(row, piece.row), max(col, piece.col)
        rows = min(row + height, piece.row + piece.rows) - top
        cols = min(col + width, piece.col + piece.cols) - left
        if rows > 0 and cols > 0:
            parts.append((top - piece.row, left - piece.col, rows, cols))
    return parts
