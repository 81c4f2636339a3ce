"""What SEN12MS and DFC2020 share: names of files, 13 bands of Sentinel-2 and 2 of Sentinel-1, siblings."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from landmeta.bands import RADAR, SENTINEL2
from landmeta.errors import DataError
from landmeta_catalog.archives._files import read_header, read_square, require, same_place
from landmeta_catalog.archives.base import CROPS, MAJORITIES, Broken, Crop, Patch, Place
from landmeta_catalog.tiles import ArraySpec

PATCH_SIDE = 256
"""Pixels a side of a published patch of 10 m."""
NO_BACKSCATTER = -32768
"""Stored code of a Sentinel-1 pixel that is NaN in the archive."""
SENSORS = ("s2", "s1")
_Key = tuple[str, str, str]
"""Region, season and patch."""
_Groups = dict[_Key, tuple["FileNames", ...]]
_NAME = re.compile(
    r"(?P<roi>ROIs(?P<seed>\d{4})_(?P<season>[a-z]+))_(?P<kind>[a-z0-9]+)_(?P<scene>\w+)_(?P<patch>p\d+)\.tiff?",
    re.IGNORECASE,
)


def specs(sensors: Sequence[str], crop: Crop) -> tuple[ArraySpec, ...]:
    """Arrays stored for a tile: the sensors asked for, then the labels."""
    side = PATCH_SIDE if crop == "whole" else PATCH_SIDE // 2
    known = {
        "s2": ArraySpec("s2", SENTINEL2, "uint16", 1e-4, 0.0, 0, side),
        "s1": ArraySpec("s1", RADAR, "int16", 0.01, 0.0, NO_BACKSCATTER, side),
    }
    return *(known[s] for s in sensors), ArraySpec("labels", ("labels",), "uint8", 1.0, 0.0, 0, side)


def check_options(sensors: Sequence[str], crop: str, majority: str = "published") -> None:
    """Raise DataError for an option that has no such choice."""
    if not sensors or len(set(sensors)) != len(sensors) or not set(sensors) <= set(SENSORS):
        msg = f"there are no sensors {','.join(sensors) or '(none)'} in the archive"
        raise DataError(msg, f"choose from {', '.join(SENSORS)}")
    if crop not in CROPS:
        msg = f"there is no crop {crop!r}"
        raise DataError(msg, f"choose from {', '.join(CROPS)}")
    if majority not in MAJORITIES:
        msg = f"there is no majority rule {majority!r}"
        raise DataError(msg, f"choose from {', '.join(MAJORITIES)}")


def season_folders(root: Path, seeds: Sequence[str]) -> list[Path]:
    """Folders `ROIs<seed>_<season>` in `root`, or `root` itself where it is one.

    Raises:
        DataError: there is none.
    """
    if not root.is_dir():
        msg = f"{root} is no folder"
        raise DataError(msg, "give the folder that holds the folders ROIs...")
    pattern = re.compile(rf"ROIs({'|'.join(seeds)})_[a-z]+")
    inside = [root] if pattern.fullmatch(root.name) else sorted(root.iterdir())
    found = [path for path in inside if pattern.fullmatch(path.name) and path.is_dir()]
    if not found:
        msg = f"{root} holds no folder named ROIs{seeds[0]}_<season>"
        other = next((kind for kind in map(contest_of, inside) if kind), None)
        hint = (
            f"landmeta ingest {other} reads it" if other else "give the folder that holds the folders ROIs..."
        )
        raise DataError(msg, hint)
    return found


def contest_of(path: Path) -> str | None:
    """Kind of archive that has a folder of this name: `dfc2020` (seed 0000) or `sen12ms`; None if neither."""
    name = re.fullmatch(r"ROIs(\d{4})_[a-z]+", path.name)
    return name and ("dfc2020" if name[1] == "0000" else "sen12ms")


class FileNames(NamedTuple):
    """Files of one kind in one folder: their names are `before`, the number of the patch, `after`."""

    kind: str
    folder: Path
    before: str
    after: str


@dataclass(frozen=True, slots=True, eq=False)
class Siblings(Mapping[str, Path]):
    """Files of a patch by kind, without a path object each: a whole archive of them fits into memory."""

    names: tuple[FileNames, ...]
    """The same tuple for all patches of a region."""
    number: str

    def __getitem__(self, kind: str) -> Path:
        for names in self.names:
            if names.kind == kind:
                return names.folder / f"{names.before}{self.number}{names.after}"
        raise KeyError(kind)

    def __iter__(self) -> Iterator[str]:
        return (names.kind for names in self.names)

    def __len__(self) -> int:
        return len(self.names)


def group_files(folders: Sequence[Path], kinds: Sequence[str]) -> tuple[list[Patch], list[Broken]]:
    """Patches that have a file of every kind, and what lacks one, occurs twice or has another name.

    Patches are named by their files, `ROIs<seed>_<season>_<kind>_<scene>_<patch>.tif`: the contest's
    validation folder is called otherwise than its files.

    Raises:
        DataError: no file of one of the kinds at all.
    """
    groups: _Groups = {}
    shared: dict[tuple[FileNames, ...], tuple[FileNames, ...]] = {}
    broken: list[Broken] = []
    for kind, folder, file in _files(folders, kinds):
        name = _NAME.fullmatch(file)
        if name is None or name["kind"].lower() != kind:
            reason = f"the name is not of the form {folder.parent.name}_{kind}_<scene>_p<number>.tif"
            broken.append(Broken(Path(file).stem, "", "", folder / file, reason))
            continue
        key = (sys.intern(name["scene"]), sys.intern(name["season"].lower()), name["patch"].lower())
        known = groups.get(key, ())
        number = name.start("patch") + 1
        names = FileNames(kind, folder, file[:number], file[name.end("patch") :])
        if kind in (other.kind for other in known):
            first = Siblings(known, key[2][1:])[kind]
            where = first.name if first.parent == folder else f"{first.parent.name}/{first.name}"
            reason = f"patch {key[2]} occurs twice, already as {where}"
            broken.append(Broken(key[2], key[0], key[1], folder / file, reason))
        else:
            groups[key] = shared.setdefault((*known, names), (*known, names))
    _require_kinds(shared, kinds, folders)
    patches, lacking = _complete(groups, kinds)
    return patches, broken + lacking


def _complete(groups: _Groups, kinds: Sequence[str]) -> tuple[list[Patch], list[Broken]]:
    """Patches with all kinds, by name, and those that lack one; empties `groups`."""
    patches: list[Patch] = []
    broken: list[Broken] = []
    for key in sorted(groups):
        files = Siblings(groups.pop(key), key[2][1:])
        missing = set(kinds).difference(files)
        if missing:
            lacking = " and no ".join(kind for kind in kinds if kind in missing)
            reason = f"patch {key[2]} has no {lacking} file beside it"
            broken.append(Broken(key[2], key[0], key[1], next(iter(files.values())), reason))
        else:
            patches.append(Patch(*key, files))
    return patches, broken


def _files(folders: Sequence[Path], kinds: Sequence[str]) -> Iterator[tuple[str, Path, str]]:
    """Kind, folder and name of the TIFFs in the folders `<kind>_<scene>` of each season folder."""
    for season in folders:
        for folder in sorted(season.iterdir()):
            kind = folder.name.partition("_")[0].lower()
            if kind in kinds and folder.is_dir():
                for name in sorted(os.listdir(folder)):  # noqa: PTH208, half a million of Path.iterdir's paths
                    if name.lower().endswith((".tif", ".tiff")) and not name.startswith("."):
                        yield kind, folder, name


def _require_kinds(
    found: Iterable[tuple[FileNames, ...]], kinds: Sequence[str], folders: Sequence[Path]
) -> None:
    there = {names.kind for together in found for names in together}
    absent = [kind for kind in kinds if kind not in there]
    if absent:
        msg = f"{folders[0].parent} holds no {' and no '.join(absent)} files at all"
        hint = f"--sensors {','.join(s for s in SENSORS if s not in absent)} does without"
        raise DataError(msg, hint if set(absent) < set(SENSORS) else "give the archive as published")


def locate(patch: Patch, bands: Mapping[str, int]) -> Place | None:
    """Place of a patch after checking the headers of its files; `bands` is the band count by kind.

    Raises:
        DataError: a header cannot be read or has the wrong bands, or the files lie on different grids.
    """
    places: dict[Path, Place | None] = {}
    for kind, count in bands.items():
        header = read_header(patch.files[kind])
        require(header, patch.files[kind], bands=count, side=PATCH_SIDE)
        places[patch.files[kind]] = header.place
    return same_place(places)


def read_sensors(patch: Patch, sensors: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Sentinel-2 as published (uint16) and Sentinel-1 as dB x 100 (int16), each (band, y, x).

    Raises:
        DataError: names the file that is truncated, of other size, or has impossible numbers.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for sensor in sensors:
        path = patch.files[sensor]
        bands = len(SENTINEL2) if sensor == "s2" else len(RADAR)
        values = read_square(path, bands=bands, side=PATCH_SIDE)
        arrays[sensor] = _optical(values, path) if sensor == "s2" else encode_decibels(values, path)
    return arrays


def _optical(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.uint16]:
    if values.dtype == np.uint16:
        return values
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        msg = (
            f"{path} holds {values.dtype} {values.min():g} to {values.max():g}, expected reflectance x 10000"
        )
        raise DataError(msg, "give the archive as published, without rescaling")
    return values.astype(np.uint16)


def encode_decibels(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int16]:
    """Backscatter in dB as int16, dB x 100; NaN and infinity become `NO_BACKSCATTER`.

    Raises:
        DataError: the values are no floats.
    """
    if values.dtype.kind != "f":
        msg = f"{path} holds {values.dtype}, expected backscatter in dB as float32"
        raise DataError(msg, "give the archive as published, without rescaling")
    scaled = np.rint(np.where(np.isfinite(values), values, 0) * np.float32(100)).clip(-32767, 32767)
    return np.where(np.isfinite(values), scaled, NO_BACKSCATTER).astype(np.int16)
