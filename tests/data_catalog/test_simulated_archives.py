"""Simulated SEN12MS and DFC2020 look like the published ones, differ by region, and are made once."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from scipy import ndimage
from shapely import box

from landmeta.errors import DataError, OutputError
from landmeta.legend import DFC2020, IGBP_TO_DFC2020
from landmeta.splits import region_part
from landmeta_catalog._simulated_files import Content, draw_patches, grid_cells
from landmeta_catalog._simulated_land import Region, make_region
from landmeta_catalog._simulated_modis import CELL, modis_cover
from landmeta_catalog._simulated_radar import backscatter
from landmeta_catalog.archives import open_archive
from landmeta_catalog.archives.base import quadrant
from landmeta_catalog.noise import draw
from landmeta_catalog.simulated_archives import (
    DFC2020_REGIONS,
    MOST_REGIONS,
    _choose,
    simulate_dfc2020,
    simulate_sen12ms,
)
from landmeta_catalog.spectra import Atmosphere, Surface

REGIONS = [("spring", "1"), ("winter", "26")]
FOREST, CROPLANDS, URBAN, WATER = 1, 6, 7, 10


def checksums(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*.tif"))
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def sen12ms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_sen12ms(tmp_path_factory.mktemp("sen12ms"), 3, regions=REGIONS, patches=4, nan_patch=True)


@pytest.fixture(scope="module")
def dfc2020(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_dfc2020(tmp_path_factory.mktemp("dfc2020"), 3, patches=1)


def test_sen12ms_has_the_published_names_bands_and_types(sen12ms: Path) -> None:
    assert sorted(p.name for p in sen12ms.iterdir()) == [
        "ROIs1158_spring", "ROIs2017_winter", "simulated.json",
    ]  # fmt: skip
    first = sen12ms / "ROIs1158_spring" / "s2_1" / "ROIs1158_spring_s2_1_p0.tif"
    crs = set()
    for kind, count, dtype in (("s2", 13, "uint16"), ("s1", 2, "float32"), ("lc", 4, "uint8")):
        with rasterio.open(str(first).replace("s2_1", f"{kind}_1")) as dataset:
            assert (dataset.count, dataset.dtypes[0], dataset.shape) == (count, dtype, (256, 256))
            assert dataset.transform.a == -dataset.transform.e == 10
            crs.add(dataset.crs.to_epsg())
    assert len(crs) == 1
    assert 32601 <= crs.pop() <= 32760


def test_sen12ms_is_read_by_its_reader(sen12ms: Path) -> None:
    archive = open_archive("sen12ms", sen12ms)
    patches, broken = archive.scan()
    assert broken == []
    assert [(p.season, p.region) for p in patches] == [("spring", "1")] * 4 + [("winter", "26")] * 4
    places = [archive.locate(patch) for patch in patches]
    assert len({place.transform for place in places if place}) == 8
    for patch in patches:
        data = archive.read(patch)
        assert 200 < np.median(data.arrays["s2"][3]) < 4000
        assert data.labels is not None
        assert set(np.unique(data.labels)) <= set(range(1, 18))


def test_the_radar_of_the_last_patch_is_nan_on_demand(sen12ms: Path) -> None:
    archive = open_archive("sen12ms", sen12ms)
    *others, last = [archive.read(patch).arrays["s1"] for patch in archive.scan()[0]]
    assert (last == -32768).all()
    assert all((radar > -32768).all() for radar in others)


def test_patches_overlap_by_half_at_a_stride_of_128(tmp_path: Path) -> None:
    simulate_sen12ms(tmp_path, 3, regions=[("fall", "9")], patches=4, stride=128)
    archive = open_archive("sen12ms", tmp_path)
    first, second, third, _ = [archive.read(p).arrays["s2"] for p in archive.scan()[0]]
    assert np.array_equal(quadrant(first, "tr"), quadrant(second, "tl"))
    assert np.array_equal(quadrant(first, "bl"), quadrant(third, "tl"))
    west = [place.transform[2] for p in archive.scan()[0] if (place := archive.locate(p))]
    assert west[1] - west[0] == 1280


def test_the_same_seed_gives_the_same_files_with_any_number_of_workers(tmp_path: Path) -> None:
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    simulate_sen12ms(one, 3, regions=REGIONS, patches=1, workers=1)
    simulate_sen12ms(two, 3, regions=REGIONS, patches=1, workers=2)
    simulate_sen12ms(other, 4, regions=REGIONS, patches=1)
    assert checksums(one) == checksums(two)
    assert not set(checksums(one).values()) & set(checksums(other).values())


def test_regions_are_drawn_over_all_seasons_and_parts_of_the_split(tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    simulate_sen12ms(tmp_path, 1, regions=4, patches=1, progress=lambda *a: told.append(a))
    patches, _ = open_archive("sen12ms", tmp_path).scan()
    assert {p.season for p in patches} == {"spring", "summer", "fall", "winter"}
    assert {region_part(p.season, p.region) for p in patches} == {"train", "val", "holdout"}
    assert told == [("simulate", n, 4) for n in (1, 2, 3, 4)]


def test_shapes_drawn_in_threads_leave_the_filters_of_warnings_alone() -> None:
    before = list(warnings.filters)
    shapes = [box(i, i, i + 9.0, i + 9.0) for i in range(5)]
    with ThreadPoolExecutor(8) as threads:
        masks = list(threads.map(lambda _: draw(shapes, 40), range(400)))
    assert all((mask == masks[0]).all() for mask in masks)
    assert warnings.filters == before


def test_there_are_names_for_four_hundred_regions_and_no_more(tmp_path: Path) -> None:
    for seed in range(3):
        names = _choose(seed, MOST_REGIONS)
        assert len(set(names)) == MOST_REGIONS
        assert names[:90] == _choose(seed, 90)
        parts = Counter(region_part(season, region) for season, region in names)
        assert parts == {"train": 200, "val": 100, "holdout": 100}
    with pytest.raises(DataError, match="names for 400 regions, 401 are asked for"):
        simulate_sen12ms(tmp_path, regions=MOST_REGIONS + 1, patches=1)


def test_an_archive_is_found_again_and_made_anew_for_other_arguments(tmp_path: Path) -> None:
    def make(seed: int) -> dict[str, str]:
        simulate_sen12ms(tmp_path, seed, regions=[("fall", str(seed))], patches=1)
        return checksums(tmp_path)

    first = make(3)
    made = next(tmp_path.rglob("*.tif")).stat().st_mtime_ns
    assert make(3) == first
    assert next(tmp_path.rglob("*.tif")).stat().st_mtime_ns == made
    assert not set(make(4)) & set(first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ROIs1970_fall", "simulated.json"]


def test_an_archive_that_was_not_simulated_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ROIs1158_spring").mkdir()
    with pytest.raises(OutputError, match="ROIs1158_spring, which was not simulated here"):
        simulate_sen12ms(tmp_path, regions=1, patches=1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written to") as caught:
        simulate_dfc2020(tmp_path / "file" / "dfc", patches=1)
    assert "--out" in caught.value.hint


@pytest.mark.parametrize(
    "arguments", [{"regions": 0}, {"patches": 0}, {"stride": 0}, {"regions": [("autumn", "1")]},
                  {"regions": [("fall", "1"), ("fall", "1")]}],
)  # fmt: skip
def test_arguments_that_make_no_archive_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="make no archive|must be distinct"):
        simulate_sen12ms(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_dfc2020_has_its_seven_regions_where_they_are(dfc2020: Path) -> None:
    archive = open_archive("dfc2020", dfc2020)
    patches, broken = archive.scan()
    assert broken == []
    assert {(p.region, p.season) for p in patches} == set(DFC2020_REGIONS)
    zones = {p.region: place.crs for p in patches if (place := archive.locate(p))}
    assert zones["CapeTown"] == "EPSG:32734"
    assert zones["BlackForest"] == "EPSG:32632"
    assert zones["MexicoCity"] == "EPSG:32614"


def test_dfc2020_of_the_contest_holds_the_same_patches_shuffled(dfc2020: Path, tmp_path: Path) -> None:
    simulate_dfc2020(tmp_path, 3, patches=1, layout="contest")
    assert sorted(p.name for p in (tmp_path / "ROIs0000_validation").iterdir()) == [
        "dfc_validation", "lc_validation", "s1_validation", "s2_validation",
    ]  # fmt: skip
    assert set(checksums(dfc2020).values()) == set(checksums(tmp_path).values())
    patches, broken = open_archive("dfc2020", tmp_path).scan()
    assert broken == []
    assert Counter(p.region for p in patches) == {"test": 6, "validation": 1}


def test_dfc2020_has_no_savanna_and_no_snow(dfc2020: Path) -> None:
    archive = open_archive("dfc2020", dfc2020)
    found = {int(code) for p in archive.scan()[0] for code in np.unique(archive.read(p).labels)}
    assert found == set(DFC2020.codes) - {3, 8}


def test_layouts_that_were_never_published_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout must be regions or contest, found 'tiles'"):
        simulate_dfc2020(tmp_path, layout="tiles")  # type: ignore[arg-type]


def plain(side: int = 1024, block: int = 128) -> Region:
    """Land of square blocks of one class each, without any texture."""
    count = side // block
    codes = np.random.default_rng(0).choice([1, 2, 3, 4, 5, 6, 7, 9, 10], (count, count)).astype(np.uint8)
    truth = np.repeat(np.repeat(codes, block, 0), block, 1)
    flat, zero = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.uint8)
    surface = Surface(zero, zero, flat, flat, flat)
    return Region(truth, surface, flat, np.zeros((25, 13), np.float32), Atmosphere(), flat + 0.5, 0.2)


def test_the_land_cover_has_cells_of_500_metres() -> None:
    cover = modis_cover(np.random.default_rng(2), plain(), noise=1.0)
    assert cover.shape == (4, 1024, 1024)
    runs = np.diff(np.flatnonzero(np.diff(cover[0, 100].astype(int))))
    assert len(runs) > 3
    # A run of one class is a whole number of cells, one pixel more or less.
    assert np.abs(runs - CELL * np.round(runs / CELL)).max() <= 1.5


def test_every_igbp_class_goes_with_one_code_in_each_other_layer() -> None:
    cover = modis_cover(np.random.default_rng(2), plain(), noise=1.0).reshape(4, -1)
    for layer in cover[1:]:
        pairs = np.unique(cover[0].astype(int) * 256 + layer)
        assert len(pairs) == len(np.unique(cover[0]))


def test_the_land_cover_is_wrong_about_as_often_as_modis() -> None:
    right = []
    for seed in range(5):
        noisy = modis_cover(np.random.default_rng(seed), plain(), noise=1.0)[0]
        clean = modis_cover(np.random.default_rng(seed), plain(), noise=0.0)[0]
        right.append((noisy == clean).mean())
    assert 0.6 < np.mean(right) < 0.76


def test_without_noise_cells_are_named_after_most_of_what_they_hold() -> None:
    land = plain()
    clean = modis_cover(np.random.default_rng(1), land, noise=0.0)[0]
    assert (np.array(IGBP_TO_DFC2020)[clean] == land.truth).mean() > 0.75


@pytest.fixture(scope="module")
def land() -> Region:
    """A region with reference spectra and climate."""
    return make_region(np.random.default_rng(5), 512, "summer", shift=0, savanna=True)


def test_backscatter_orders_the_classes_as_radar_does(land: Region) -> None:
    image = backscatter(np.random.default_rng(5), land, shift=0.0)
    inside = {c: ndimage.binary_erosion(land.truth == c, iterations=3) for c in np.unique(land.truth)}
    level = {code: image[:, mask].mean(1) for code, mask in inside.items() if mask.sum() > 50}
    assert level[WATER][0] < -17
    assert level[WATER][1] < -24
    for band in range(2):
        assert level[URBAN][band] > level[FOREST][band] > level[CROPLANDS][band] > level[WATER][band]
    for code, (vv, vh) in level.items():
        assert 3 < vv - vh < 11, code


def test_speckle_has_four_looks(land: Region) -> None:
    image = backscatter(np.random.default_rng(1), land, shift=0.0)
    lake = ndimage.binary_erosion(land.truth == WATER, iterations=8)
    assert lake.sum() > 500
    power = 10 ** (image[0, lake] / 10)
    assert 3 < power.mean() ** 2 / power.var() < 5


def test_regions_and_seasons_differ_in_spectra() -> None:
    def spectrum(seed: int, season: str, shift: float) -> np.ndarray:
        cell = grid_cells([("1", season, 10.0, 45.0)], seed, 1, 256)[0]
        (patch,) = draw_patches(cell, Content(shift, 1.0, savanna=False, labels=True))
        return np.asarray(patch["s2"][:, patch["dfc"][0] == CROPLANDS].mean(1))

    summer, winter = spectrum(1, "summer", 1.0), spectrum(1, "winter", 1.0)
    assert winter[7] / winter[3] < summer[7] / summer[3]
    here, there = spectrum(2, "summer", 1.0), spectrum(3, "summer", 1.0)
    assert np.abs(np.log(here / there)).max() > 0.1
    one, two = spectrum(2, "summer", 0.0), spectrum(3, "summer", 0.0)
    assert np.abs(np.log(one / two)).max() < np.abs(np.log(here / there)).max()


@pytest.mark.slow
def test_a_hundred_patches_hold_enough_classes_for_tasks_in_every_region(tmp_path: Path) -> None:
    archive = open_archive("sen12ms", simulate_sen12ms(tmp_path))
    cells: dict[tuple[str, str], Counter[int]] = {}
    for patch in archive.scan()[0]:
        labels = archive.read(patch).labels
        assert labels is not None
        codes = [archive.tile_class(patch, quadrant(labels, name)).code for name in archive.quadrants]
        cells.setdefault((patch.region, patch.season), Counter()).update(codes)
    assert len(cells) == 4
    for counts in cells.values():
        assert sum(n >= 4 for n in counts.values()) >= 5
