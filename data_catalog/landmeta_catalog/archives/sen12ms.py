"""SEN12MS: `ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.tif` with its `s1` and `lc` siblings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landmeta.bands import RADAR, SENTINEL2
from landmeta.legend import DFC2020, IGBP_TO_DFC2020, Legend
from landmeta_catalog.archives import _sentinel
from landmeta_catalog.archives._files import read_square
from landmeta_catalog.archives.base import (
    CROPS,
    Broken,
    Codes,
    Crop,
    Majority,
    Patch,
    PatchData,
    Place,
    TileClass,
    checked_codes,
    majority_class,
)
from landmeta_catalog.tiles import ArraySpec

SEASON_FOLDERS = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
"""One seed of random places a season, so the same scene number is another place in another season."""
_SEEDS = tuple(name[4:8] for name in SEASON_FOLDERS)
_BANDS = {"s2": len(SENTINEL2), "s1": len(RADAR), "lc": 4}
_LOOKUP = np.zeros(256, np.uint8)
_LOOKUP[: len(IGBP_TO_DFC2020)] = IGBP_TO_DFC2020


@dataclass(frozen=True, slots=True)
class Sen12ms:
    """Reader of SEN12MS: 256 px patches with MODIS land cover, its first band IGBP classes 1 to 17.

    Region is the scene number, season the one in the folder. Labels are stored in the ten simplified
    classes; `majority="published"` takes the most frequent of the 17 classes and simplifies that one.
    Sentinel-1 pixels that are NaN (as in `ROIs1868_summer`, scene 146, `p202`) are stored as no data.
    """

    path: Path
    dataset: str = "sen12ms"
    sensors: tuple[str, ...] = _sentinel.SENSORS
    majority: Majority = "published"
    crop: Crop = "quadrants"

    def __post_init__(self) -> None:
        _sentinel.check_options(self.sensors, self.crop, self.majority)

    @property
    def legend(self) -> Legend:
        """The ten simplified IGBP classes."""
        return DFC2020

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """`s2`, `s1` and `labels`."""
        return _sentinel.specs(self.sensors, self.crop)

    @property
    def quadrants(self) -> tuple[str, ...]:
        """Tiles of a patch."""
        return CROPS[self.crop]

    def _kinds(self) -> Sequence[str]:
        return (*self.sensors, "lc")

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        """See `Archive.scan`."""
        folders = _sentinel.season_folders(self.path, _SEEDS)
        return _sentinel.group_files(folders, self._kinds())

    def locate(self, patch: Patch) -> Place | None:
        """See `Archive.locate`."""
        return _sentinel.locate(patch, {kind: _BANDS[kind] for kind in self._kinds()})

    def read(self, patch: Patch) -> PatchData:
        """See `Archive.read`; `labels` are IGBP codes."""
        arrays = _sentinel.read_sensors(patch, self.sensors)
        file = patch.files["lc"]
        cover = read_square(file, bands=_BANDS["lc"], side=_sentinel.PATCH_SIDE)[0]
        codes = checked_codes(cover, range(len(IGBP_TO_DFC2020)), file)
        return PatchData({**arrays, "labels": _LOOKUP[codes][None]}, codes)

    def tile_class(self, patch: Patch, labels: Codes | None) -> TileClass:
        """See `Archive.tile_class`; `labels` are IGBP codes (y, x)."""
        return majority_class(labels, DFC2020, IGBP_TO_DFC2020, self.majority)
