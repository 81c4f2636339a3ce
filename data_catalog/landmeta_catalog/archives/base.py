"""What a reader of a tile archive offers: its patches, where they lie, their pixels and their class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from landmeta.errors import DataError
from landmeta.legend import NODATA, Legend
from landmeta_catalog.tiles import ArraySpec

Crop = Literal["quadrants", "centre", "whole"]
Majority = Literal["published", "simplified"]
Codes = npt.NDArray[np.uint8]

MAJORITIES: tuple[Majority, ...] = ("published", "simplified")
"""Rules of `majority_class`."""
NO_CLASS = -1
"""Class code of a tile without a single labelled pixel."""
UNLABELLED = (0, NODATA)
"""Codes of pixels without a label in every archive."""

CROPS: Mapping[str, tuple[str, ...]] = {
    "quadrants": ("tl", "tr", "bl", "br"),
    "centre": ("c",),
    "whole": ("",),
}
"""Names of the tiles that a patch is cut into, by the option `crop`."""
_ORIGINS = {"tl": (0.0, 0.0), "tr": (0.0, 0.5), "bl": (0.5, 0.0), "br": (0.5, 0.5), "c": (0.25, 0.25)}


@dataclass(frozen=True, slots=True)
class Patch:
    """One file group of an archive: names only, nothing has been opened.

    `region` and `season` are "" where the archive knows none; `patch` is the id as published (`p30`), unique
    within region and season. `files` are by array name (`s2`, `s1`, `lc`, `dfc`, `image`). `class_name` is
    that of the folder, where folders name classes. Patches of one `block` show the same place and belong on
    one side of a split; None is a block of its own.
    """

    region: str
    season: str
    patch: str
    files: Mapping[str, Path] = field(hash=False)
    class_name: str | None = None
    block: str | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A patch that cannot be read, the `file` to blame and the `reason`, one line without the file."""

    patch: str
    region: str
    season: str
    file: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a patch lies: `crs` as authority code or WKT, affine coefficients a to f, (rows, columns)."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]


@dataclass(frozen=True)
class PatchData:
    """Pixels of a patch.

    `arrays`: by the names of the archive's `arrays`, (band, y, x) as stored; `labels` among them are class
    codes of the archive's legend, 0 = no label. `labels`: uint8 (y, x), the codes as published, which
    `Archive.tile_class` takes a crop of; None where only the folder tells the class.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    labels: Codes | None = None


@dataclass(frozen=True, slots=True)
class TileClass:
    """Class of a tile: `code` of the legend or `NO_CLASS`; `fractions` of its pixels, in legend order.

    Fractions sum to the share of labelled pixels, at most 1.
    """

    code: int
    fractions: tuple[float, ...]


class Archive(Protocol):
    """A folder of labelled patches in a published layout; readers are plain values that can be pickled."""

    @property
    def dataset(self) -> str:
        """Name of the data set in the store."""
        ...

    @property
    def legend(self) -> Legend:
        """Classes of the tiles."""
        ...

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The arrays of every patch, as stored."""
        ...

    @property
    def quadrants(self) -> tuple[str, ...]:
        """Names of the tiles that every patch is cut into, see `quadrant`."""
        ...

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        """Patches by (region, season, patch), and what lacks a sibling or occurs twice; opens no image.

        Raises:
            DataError: the folder is not in the archive's layout, or empty.
        """
        ...

    def locate(self, patch: Patch) -> Place | None:
        """Place of a patch from the headers of its files; None without georeference.

        Raises:
            DataError: a header cannot be read or has the wrong bands, or the files lie on different grids.
        """
        ...

    def read(self, patch: Patch) -> PatchData:
        """Pixels of a patch.

        Raises:
            DataError: a file cannot be read to its end, has the wrong bands or an unknown class code.
        """
        ...

    def tile_class(self, patch: Patch, labels: Codes | None) -> TileClass:
        """Class of a tile, from its crop of `PatchData.labels` (y, x) or the class of the folder."""
        ...


def quadrant_window(name: str, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """First row, first column, rows and columns of the tile `name` in a patch of `shape` (rows, columns)."""
    rows, cols = shape
    if name == "":
        return 0, 0, rows, cols
    down, across = _ORIGINS[name]
    return int(rows * down), int(cols * across), rows // 2, cols // 2


def quadrant(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """View of the tile `name` in the last two axes: `tl`, `tr`, `bl`, `br`, `c` (centre) or "" (all)."""
    row, col, rows, cols = quadrant_window(name, (array.shape[-2], array.shape[-1]))
    return array[..., row : row + rows, col : col + cols]


def majority_class(
    codes: Codes | None,
    legend: Legend,
    table: Sequence[int] | None = None,
    rule: Majority = "published",
) -> TileClass:
    """Most frequent class of the labelled pixels; the lowest code wins a tie.

    Args:
        codes: codes as published (y, x), 0 and 255 = no label.
        legend: classes of the result.
        table: code of `legend` for each published code, where the two differ.
        rule: `published` counts the codes as published and then looks up the winner's class, as the
            reference task code does; `simplified` looks up first.

    Raises:
        ValueError: `codes` is None, a crop of the labels was forgotten.
    """
    if codes is None:
        msg = "the tiles of this archive need a crop of PatchData.labels"
        raise ValueError(msg)
    counts = np.bincount(codes.ravel(), minlength=256)
    counts[list(UNLABELLED)] = 0
    lookup = np.arange(256)
    if table is not None:
        lookup[:] = 0
        lookup[: len(table)] = table
    merged = np.bincount(lookup, counts, minlength=256)
    merged[0] = 0
    fractions = tuple(float(merged[code] / codes.size) for code in legend.codes)
    if not counts.any():
        return TileClass(NO_CLASS, fractions)
    code = int(lookup[counts.argmax()] if rule == "published" else merged.argmax())
    return TileClass(code, fractions)


def pure_class(name: str | None, legend: Legend) -> TileClass:
    """Class of a tile that its folder names: all of its pixels count as that class."""
    if name not in legend.names:
        msg = f"class {name!r} is none of {', '.join(legend.names)}"
        raise DataError(msg, "name the folder after one of the classes")
    at = legend.names.index(name)
    return TileClass(legend.codes[at], tuple(float(i == at) for i in range(len(legend))))


def checked_codes(codes: npt.NDArray[Any], known: Sequence[int], file: Path) -> Codes:
    """`codes` (y, x) as uint8, after checking that each is known or no label.

    Raises:
        DataError: names the file and the codes that are unknown.
    """
    values = np.unique(codes)
    unknown = [f"{v:g}" for v in values.tolist() if v not in known and v not in UNLABELLED]
    if unknown:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        msg = f"{file} holds class code {listed}, expected {min(known)} to {max(known)}"
        raise DataError(msg, "the file is damaged or of another legend")
    return codes.astype(np.uint8)
