"""DFC2020 in both published layouts, by contest subset or by region and season, with its 10 m labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from landmeta.bands import RADAR, SENTINEL2
from landmeta.errors import DataError
from landmeta.legend import DFC2020, NODATA, Legend
from landmeta_catalog.archives import _sentinel
from landmeta_catalog.archives._files import read_square
from landmeta_catalog.archives.base import (
    CROPS,
    Broken,
    Codes,
    Crop,
    Patch,
    PatchData,
    Place,
    TileClass,
    checked_codes,
    majority_class,
)
from landmeta_catalog.tiles import ArraySpec

SUBSETS = ("test", "validation")
"""Folders `ROIs0000_<subset>` of the contest's layout, which tells neither region nor season."""
_BANDS = {"s2": len(SENTINEL2), "s1": len(RADAR), "dfc": 1}


@dataclass(frozen=True, slots=True)
class Dfc2020:
    """Reader of DFC2020: 256 px patches with class codes 1 to 10 a pixel.

    In `ROIs0000_autumn/dfc_CapeTown/ROIs0000_autumn_dfc_CapeTown_p12.tif` the region is CapeTown and the
    season autumn. In the contest's `ROIs0000_test/dfc_0/ROIs0000_test_dfc_0_p12.tif` both are unknown: the
    region is then the subset and the season "". The coarse `lc` files are not read.
    """

    path: Path
    dataset: str = "dfc2020"
    sensors: tuple[str, ...] = _sentinel.SENSORS
    crop: Crop = "quadrants"

    def __post_init__(self) -> None:
        _sentinel.check_options(self.sensors, self.crop)

    @property
    def legend(self) -> Legend:
        """The ten classes of the contest, of which the labels use eight."""
        return DFC2020

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """`s2`, `s1` and `labels`."""
        return _sentinel.specs(self.sensors, self.crop)

    @property
    def quadrants(self) -> tuple[str, ...]:
        """Tiles of a patch."""
        return CROPS[self.crop]

    def _kinds(self) -> tuple[str, ...]:
        return (*self.sensors, "dfc")

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        """See `Archive.scan`; a folder with both layouts holds every patch twice and is refused."""
        folders = _sentinel.season_folders(self.path, ("0000",))
        contest = [folder for folder in folders if folder.name.partition("_")[2] in SUBSETS]
        if contest and len(contest) < len(folders):
            other = next(folder for folder in folders if folder not in contest)
            msg = f"{self.path} holds {contest[0].name} and {other.name}: two layouts of the same patches"
            raise DataError(msg, "give a folder that holds one of the layouts")
        patches, broken = _sentinel.group_files(folders, self._kinds())
        if contest:
            patches = [replace(patch, region=patch.season, season="") for patch in patches]
            patches.sort(key=lambda patch: (patch.region, patch.season, patch.patch))
            broken = [replace(item, region=item.season, season="") for item in broken]
        return patches, broken

    def locate(self, patch: Patch) -> Place | None:
        """See `Archive.locate`."""
        return _sentinel.locate(patch, {kind: _BANDS[kind] for kind in self._kinds()})

    def read(self, patch: Patch) -> PatchData:
        """See `Archive.read`; `labels` are DFC2020 codes."""
        arrays = _sentinel.read_sensors(patch, self.sensors)
        file = patch.files["dfc"]
        labels = read_square(file, bands=_BANDS["dfc"], side=_sentinel.PATCH_SIDE)[0]
        codes = checked_codes(labels, DFC2020.codes, file)
        stored = np.where(codes == NODATA, 0, codes).astype(np.uint8)
        return PatchData({**arrays, "labels": stored[None]}, codes)

    def tile_class(self, patch: Patch, labels: Codes | None) -> TileClass:
        """See `Archive.tile_class`; `labels` are DFC2020 codes (y, x)."""
        return majority_class(labels, DFC2020)
