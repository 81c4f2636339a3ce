"""Simulated SEN12MS and DFC2020: the published layouts, filled with landscapes drawn from one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from landmeta.errors import DataError
from landmeta.splits import SEN12MS_REGIONS, Part
from landmeta_catalog._simulated_files import MARKER, SIDE, Cell, Content, Progress, grid_cells, publish

Layout = Literal["regions", "contest"]

SEEDS: Mapping[str, str] = {"spring": "1158", "summer": "1868", "fall": "1970", "winter": "2017"}
"""Number in the names of SEN12MS's folders, by season."""
DFC2020_REGIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("BandarAnzali", "autumn"): (49.4, 37.4),
    ("BlackForest", "spring"): (8.2, 48.1),
    ("CapeTown", "autumn"): (18.7, -33.9),
    ("Chabarovsk", "summer"): (135.1, 48.5),
    ("KippaRing", "winter"): (153.0, -27.2),
    ("MexicoCity", "winter"): (-99.1, 19.4),
    ("Mumbai", "autumn"): (73.0, 19.1),
}
"""Regions and seasons of DFC2020, with longitude and latitude of the places they are named after."""
VERSION = 1
"""Raised whenever the same arguments no longer give the same archive."""
MOST_REGIONS = 400
"""Regions that a simulated SEN12MS can have: each 16 take one of 25 numbers in a season for validation."""
_PARTS: tuple[Part, ...] = ("train", "train", "val", "holdout")
_VALIDATION = 986 / 6114
"""Share of DFC2020's patches that the contest used to validate; the others are its test."""


def is_simulated(folder: Path) -> bool:
    """Whether an archive was made here, and shows no place on Earth."""
    return (folder / MARKER).is_file()


def simulate_sen12ms(
    folder: Path,
    seed: int = 0,
    *,
    regions: int | Sequence[tuple[str, str]] = 4,
    patches: int = 25,
    stride: int = SIDE,
    shift: float = 1.0,
    noise: float = 1.0,
    nan_patch: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a simulated SEN12MS to `folder`, or find it there from an earlier call.

    `ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p30.tif` and its siblings: 13 bands uint16, reflectance x
    10000; VV and VH in dB, float32; MODIS land cover in 4 bands, uint8, cells of 500 m. Patches of a region
    lie on one grid of 10 m in its UTM zone. A hundred patches take some seconds and 150 MB; a region is
    held in memory as a whole, 10 MB a patch.

    Args:
        folder: where the folders `ROIs...` are put, all at once when they are complete.
        seed: the same arguments give the same files.
        regions: how many, at most `MOST_REGIONS`, over all seasons and all parts of the published split, or
            (season, scene number) of each.
        patches: patches of 256 px in each region.
        stride: pixels from patch to patch: 128 lets them overlap by half as those published do.
        shift: how far regions and seasons differ in spectra, texture, climate and backscatter, from 0 to 1.
        noise: mistakes in the land cover, 0 none, 1 as many as MODIS makes.
        nan_patch: whether the radar of the very last patch is NaN, as that of one published patch.
        workers: threads, by default the number of processors, at most 4.
        progress: called with the stage, regions done and all.

    Returns:
        `folder`.

    Raises:
        DataError: more than `MOST_REGIONS` regions.
        OutputError: the folder cannot be written, or holds an archive that was not simulated.
        ValueError: numbers that make no archive, an unknown season or a region given twice.
    """
    chosen = _choose(seed, regions) if isinstance(regions, int) else [tuple(r) for r in regions]
    if len(set(chosen)) < len(chosen) or not {season for season, _ in chosen} <= set(SEEDS):
        msg = f"regions must be distinct and of the seasons {', '.join(SEEDS)}, found {chosen}"
        raise ValueError(msg)
    spots = np.random.default_rng([seed, len(chosen)]).uniform((-170, -50), (170, 60), (len(chosen), 2))
    places = [(r, s, float(x), float(y)) for (s, r), (x, y) in zip(chosen, spots, strict=True)]
    made = {"archive": "sen12ms", "version": VERSION, "seed": seed, "regions": chosen, "patches": patches,
            "stride": stride, "shift": shift, "noise": noise, "nan_patch": nan_patch}  # fmt: skip
    cells = grid_cells(places, seed, patches, stride)
    last = len(cells) * patches - 1 if nan_patch else None
    content = Content(shift, noise, savanna=True, labels=False, nan_patch=last)
    return publish(folder, made, cells, content, _sen12ms_name, workers=workers, progress=progress)


def _choose(seed: int, count: int) -> list[tuple[str, str]]:
    """(season, scene number) of `count` regions: seasons in turn, numbers from each part of the split."""
    if count > MOST_REGIONS:
        msg = f"simulated SEN12MS has names for {MOST_REGIONS} regions, {count} are asked for"
        raise DataError(msg, f"ask for at most {MOST_REGIONS} regions, and for more patches in each")
    rng = np.random.default_rng([seed, 0])
    numbers = {part: rng.permutation(sorted(ids, key=int)).tolist() for part, ids in SEN12MS_REGIONS.items()}
    order = {part: list(drawn) for part, drawn in numbers.items()}
    chosen: list[tuple[str, str]] = []
    for at in range(count):
        season, part = list(SEEDS)[at % 4], _PARTS[(at + at // 4) % 4]
        # Once every number is in use, one stands for another place in each of the other seasons.
        again = (number for number in order[part] if (season, number) not in chosen)
        chosen.append((season, numbers[part].pop() if numbers[part] else next(again)))
    return chosen


def _sen12ms_name(cell: Cell, kind: str, number: int) -> str:
    season = f"ROIs{SEEDS[cell.season]}_{cell.season}"
    return f"{season}/{kind}_{cell.region}/{season}_{kind}_{cell.region}_p{number}.tif"


def simulate_dfc2020(
    folder: Path,
    seed: int = 0,
    *,
    layout: Layout = "regions",
    patches: int = 16,
    stride: int = SIDE,
    shift: float = 1.0,
    noise: float = 1.0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a simulated DFC2020 to `folder`, or find it there from an earlier call.

    All seven regions, at the places they are named after, with `s2`, `s1` and `lc` as `simulate_sen12ms`
    has them and `dfc`, the class codes of every pixel: eight classes, without savanna and snow. Both
    layouts hold the same patches: `regions` in `ROIs0000_autumn/s2_CapeTown/...`, `contest` shuffled in
    `ROIs0000_test/s2_0/...` and `ROIs0000_validation/s2_validation/...`.

    Args:
        folder: where the folders `ROIs...` are put, all at once when they are complete.
        seed: the same arguments give the same files.
        layout: `regions` or `contest`.
        patches: patches of 256 px in each region.
        stride: pixels from patch to patch.
        shift: how far regions differ in spectra, texture, climate and backscatter, from 0 to 1.
        noise: mistakes in the coarse land cover, 0 none, 1 as many as MODIS makes.
        workers: threads, by default the number of processors, at most 4.
        progress: called with the stage, regions done and all.

    Returns:
        `folder`.

    Raises:
        OutputError: the folder cannot be written, or holds an archive that was not simulated.
        ValueError: numbers that make no archive, or an unknown layout.
    """
    if layout not in ("regions", "contest"):
        msg = f"layout must be regions or contest, found {layout!r}"
        raise ValueError(msg)
    places = [(region, season, *spot) for (region, season), spot in DFC2020_REGIONS.items()]
    made = {"archive": "dfc2020", "version": VERSION, "seed": seed, "layout": layout, "patches": patches,
            "stride": stride, "shift": shift, "noise": noise}  # fmt: skip
    cells = grid_cells(places, seed, patches, stride)
    total = len(cells) * patches
    order = np.random.default_rng([seed, total]).permutation(total)
    test = total - round(_VALIDATION * total)

    def contest_name(cell: Cell, kind: str, number: int) -> str:
        at = int(order[cell.first + number])
        if at < test:
            return f"ROIs0000_test/{kind}_0/ROIs0000_test_{kind}_0_p{at}.tif"
        # The validation files are named after scene 0, their folders are not.
        return f"ROIs0000_validation/{kind}_validation/ROIs0000_validation_{kind}_0_p{at - test}.tif"

    name = contest_name if layout == "contest" else _region_name
    content = Content(shift, noise, savanna=False, labels=True)
    return publish(folder, made, cells, content, name, workers=workers, progress=progress)


def _region_name(cell: Cell, kind: str, number: int) -> str:
    season = f"ROIs0000_{cell.season}"
    return f"{season}/{kind}_{cell.region}/{season}_{kind}_{cell.region}_p{number}.tif"
