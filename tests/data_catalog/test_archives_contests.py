"""SEN12MS and DFC2020 are read in their published layouts; whatever is wrong is named with its file."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from landmeta.errors import DataError
from landmeta.legend import DFC2020
from landmeta_catalog.archives import open_archive
from landmeta_catalog.archives.base import quadrant

BANDS = {"s2": 13, "s1": 2, "lc": 4, "dfc": 1}
UTM = "EPSG:32634"


def write(path: Path, values: np.ndarray, *, crs: str | None = UTM, west: float = 5e5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2],
               "dtype": values.dtype, "crs": crs, "transform": Affine(10, 0, west, 0, -10, 4e6)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
    return path


def pixels(kind: str, seed: int, side: int = 256) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (BANDS[kind], side, side)
    if kind == "s2":
        return rng.integers(1, 5000, shape, np.uint16)
    if kind == "s1":
        return rng.normal(-12, 3, shape).astype(np.float32)
    top = 18 if kind == "lc" else 11
    return np.repeat(np.repeat(rng.integers(1, top, (BANDS[kind], 8, 8)), side // 8, 1), side // 8, 2).astype(
        np.uint8
    )


def put(root: Path, season: str, kind: str, scene: str, patch: int, folder: str = "", **place: Any) -> Path:
    name = f"{season}_{kind}_{scene}_p{patch}.tif"
    return write(root / season / (folder or f"{kind}_{scene}") / name, pixels(kind, patch), **place)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patches of SEN12MS in two seasons."""
    root = tmp_path_factory.mktemp("sen12ms")
    for season, scene, patch in (
        ("ROIs1158_spring", "1", 30), ("ROIs1158_spring", "1", 31), ("ROIs1868_summer", "146", 202),
    ):  # fmt: skip
        for kind in ("s2", "s1", "lc"):
            put(root, season, kind, scene, patch)
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(published, tmp_path / "archive"))


def file(root: Path, kind: str, patch: int = 30) -> Path:
    return root / "ROIs1158_spring" / f"{kind}_1" / f"ROIs1158_spring_{kind}_1_p{patch}.tif"


def test_sen12ms_is_listed_by_region_season_and_patch(published: Path) -> None:
    patches, broken = open_archive("sen12ms", published).scan()
    assert broken == []
    listed = [(p.region, p.season, p.patch) for p in patches]
    assert listed == [("1", "spring", "p30"), ("1", "spring", "p31"), ("146", "summer", "p202")]
    assert set(patches[0].files) == {"s2", "s1", "lc"}
    assert patches[0].files["s1"] == file(published, "s1")


def test_one_season_folder_is_an_archive_too(published: Path) -> None:
    patches, _ = open_archive("sen12ms", published / "ROIs1158_spring").scan()
    assert [p.patch for p in patches] == ["p30", "p31"]


def test_sen12ms_is_read_as_it_is_stored(published: Path) -> None:
    archive = open_archive("sen12ms", published)
    patch = archive.scan()[0][0]
    data = archive.read(patch)
    assert np.array_equal(data.arrays["s2"], pixels("s2", 30))
    assert data.arrays["s1"].dtype == np.int16
    assert np.abs(data.arrays["s1"] * 0.01 - pixels("s1", 30)).max() <= 0.0051
    assert np.array_equal(data.labels, pixels("lc", 30)[0])
    assert data.arrays["labels"].shape == (1, 256, 256)
    assert set(np.unique(data.arrays["labels"])) <= set(DFC2020.codes)
    for spec in archive.arrays:
        tile = quadrant(data.arrays[spec.name], "tl")
        assert tile.shape == (len(spec.bands), spec.side, spec.side)
        assert tile.dtype == spec.dtype


def test_a_patch_lies_where_its_header_says(published: Path) -> None:
    archive = open_archive("sen12ms", published)
    place = archive.locate(archive.scan()[0][0])
    assert place is not None
    assert (place.crs, place.shape) == (UTM, (256, 256))
    assert place.transform == (10, 0, 5e5, 0, -10, 4e6)


@pytest.mark.parametrize(("crop", "names", "side"), [("centre", ("c",), 128), ("whole", ("",), 256)])
def test_crop_says_which_tiles_a_patch_gives(
    published: Path, crop: str, names: tuple[str, ...], side: int
) -> None:
    archive = open_archive("sen12ms", published, crop=crop)
    assert archive.quadrants == names
    assert {spec.side for spec in archive.arrays} == {side}


def test_the_class_of_a_tile_is_the_majority_in_its_crop(published: Path) -> None:
    archive = open_archive("sen12ms", published)
    patch = archive.scan()[0][0]
    labels = np.full((128, 128), 12, np.uint8)
    labels[:60] = 17
    found = archive.tile_class(patch, labels)
    assert found.code == 6
    assert found.fractions[9] == pytest.approx(60 / 128)


def test_radar_that_is_nan_is_stored_as_no_data(root: Path) -> None:
    values = pixels("s1", 30)
    values[:, :10] = np.nan
    values[1, 20, 20] = -np.inf
    write(file(root, "s1"), values)
    archive = open_archive("sen12ms", root)
    radar = archive.read(archive.scan()[0][0]).arrays["s1"]
    spec = next(spec for spec in archive.arrays if spec.name == "s1")
    assert (radar[:, :10] == spec.nodata).all()
    assert radar[1, 20, 20] == spec.nodata
    assert (radar == spec.nodata).sum() == 2 * 10 * 256 + 1


def test_readers_can_be_sent_to_other_processes(published: Path) -> None:
    archive = open_archive("sen12ms", published)
    assert pickle.loads(pickle.dumps(archive)) == archive


def test_a_missing_sibling_is_reported_and_the_rest_is_listed(root: Path) -> None:
    file(root, "s1").unlink()
    patches, broken = open_archive("sen12ms", root).scan()
    assert [p.patch for p in patches] == ["p31", "p202"]
    assert [(b.region, b.season, b.patch) for b in broken] == [("1", "spring", "p30")]
    assert broken[0].reason == "patch p30 has no s1 file beside it"
    assert broken[0].file.name.endswith("_p30.tif")


def test_an_archive_without_any_radar_says_how_to_do_without(root: Path) -> None:
    for season in root.iterdir():
        for folder in season.glob("s1_*"):
            shutil.rmtree(folder)
    with pytest.raises(DataError, match="holds no s1 files at all") as caught:
        open_archive("sen12ms", root).scan()
    assert caught.value.hint == "--sensors s2 does without"
    archive = open_archive("sen12ms", root, sensors=("s2",))
    assert len(archive.scan()[0]) == 3
    assert list(archive.read(archive.scan()[0][0]).arrays) == ["s2", "labels"]


def test_a_duplicate_patch_is_reported_once_and_the_first_is_kept(root: Path) -> None:
    twin = file(root, "s2").with_suffix(".tiff")
    shutil.copy(file(root, "s2"), twin)
    patches, broken = open_archive("sen12ms", root).scan()
    assert len(patches) == 3
    assert [b.file for b in broken] == [twin]
    assert "patch p30 occurs twice, already as ROIs1158_spring_s2_1_p30.tif" in broken[0].reason


def test_a_file_of_another_name_is_reported(root: Path) -> None:
    stray = file(root, "s2").with_name("ROIs1158_spring_s2_1_p30 (1).tif")
    shutil.copy(file(root, "s2"), stray)
    _, broken = open_archive("sen12ms", root).scan()
    assert [b.file for b in broken] == [stray]
    assert "not of the form ROIs1158_spring_s2_<scene>_p<number>.tif" in broken[0].reason


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def few_bands(path: Path) -> None:
    with rasterio.open(path) as dataset:
        values = dataset.read()
    write(path, np.concatenate([values[:1]] * 3))


def small(path: Path) -> None:
    with rasterio.open(path) as dataset:
        values = dataset.read()
    write(path, values[:, :200, :200])


@pytest.mark.parametrize("kind", ["s2", "s1", "lc"])
@pytest.mark.parametrize(
    ("spoil", "message", "at_once"),
    [
        (empty, "is an empty file", True),
        (cut_short, "is truncated, damaged or no image", True),
        (cut, "is truncated, damaged or no image", False),
        (few_bands, r"has 3 band\(s\), expected", True),
        (small, "is 200 x 200 px, expected 256 x 256", True),
        (Path.unlink, "does not exist", True),
    ],
)
def test_a_broken_file_is_named(
    root: Path, kind: str, spoil: Callable[[Path], object], message: str, at_once: bool
) -> None:
    archive = open_archive("sen12ms", root)
    patch = archive.scan()[0][0]
    spoil(file(root, kind))
    with pytest.raises(DataError, match=message) as caught:
        archive.read(patch)
    assert f"_{kind}_1_p30.tif" in str(caught.value)
    assert "\n" not in str(caught.value)
    if at_once:
        with pytest.raises(DataError, match=message):
            archive.locate(patch)


def test_siblings_of_different_crs_are_refused(root: Path) -> None:
    put(root, "ROIs1158_spring", "s1", "1", 30, crs="EPSG:32635")
    archive = open_archive("sen12ms", root)
    with pytest.raises(DataError, match="lies elsewhere than .*EPSG:32635, not EPSG:32634"):
        archive.locate(archive.scan()[0][0])


def test_siblings_on_different_grids_are_refused(root: Path) -> None:
    put(root, "ROIs1158_spring", "lc", "1", 30, west=5e5 + 10)
    archive = open_archive("sen12ms", root)
    with pytest.raises(DataError, match=r"upper left 500010\.0"):
        archive.locate(archive.scan()[0][0])


def test_an_unknown_class_code_is_named_with_its_file(root: Path) -> None:
    values = pixels("lc", 30)
    values[0, 3, 4] = 18
    write(file(root, "lc"), values)
    archive = open_archive("sen12ms", root)
    with pytest.raises(DataError, match=r"lc_1_p30\.tif holds class code 18, expected 0 to 17"):
        archive.read(archive.scan()[0][0])


def test_rescaled_reflectance_is_refused(root: Path) -> None:
    write(file(root, "s2"), (pixels("s2", 30) / 1e4).astype(np.float32))
    archive = open_archive("sen12ms", root)
    with pytest.raises(DataError, match="holds float32 .* expected reflectance x 10000"):
        archive.read(archive.scan()[0][0])


def test_radar_as_integers_is_refused(root: Path) -> None:
    write(file(root, "s1"), pixels("s1", 30).astype(np.int16))
    archive = open_archive("sen12ms", root)
    with pytest.raises(DataError, match="holds int16, expected backscatter in dB as float32"):
        archive.read(archive.scan()[0][0])


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_in_no_layout_says_what_was_expected(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no folder|holds no folder named ROIs1158_<season>") as caught:
        open_archive("sen12ms", tmp_path / name).scan()
    assert "give the folder that holds the folders ROIs" in caught.value.hint


def test_the_other_contest_is_named_where_its_folders_are(tmp_path: Path) -> None:
    put(tmp_path, "ROIs0000_autumn", "s2", "CapeTown", 12)
    with pytest.raises(DataError, match="holds no folder named ROIs1158_<season>") as caught:
        open_archive("sen12ms", tmp_path).scan()
    assert caught.value.hint == "landmeta ingest dfc2020 reads it"
    for path in (tmp_path, tmp_path / "ROIs0000_autumn"):
        with pytest.raises(DataError, match="in the layout of SEN12MS and DFC2020") as caught:
            open_archive("folder", path)
        assert caught.value.hint == "landmeta ingest dfc2020 reads it"


def test_dfc2020_by_region_tells_region_and_season(tmp_path: Path) -> None:
    for kind in BANDS:
        put(tmp_path, "ROIs0000_autumn", kind, "CapeTown", 12)
        put(tmp_path, "ROIs0000_winter", kind, "KippaRing", 7)
    archive = open_archive("dfc2020", tmp_path)
    patches, broken = archive.scan()
    assert broken == []
    listed = [(p.region, p.season, p.patch) for p in patches]
    assert listed == [("CapeTown", "autumn", "p12"), ("KippaRing", "winter", "p7")]
    data = archive.read(patches[0])
    assert np.array_equal(data.labels, pixels("dfc", 12)[0])
    assert np.array_equal(data.arrays["labels"][0], data.labels)
    assert archive.locate(patches[0]) is not None
    assert archive.tile_class(patches[0], np.full((128, 128), 9, np.uint8)).code == 9


def test_dfc2020_of_the_contest_is_told_apart_by_its_subsets(tmp_path: Path) -> None:
    for kind in ("s2", "s1", "dfc"):
        put(tmp_path, "ROIs0000_test", kind, "0", 5)
        put(tmp_path, "ROIs0000_validation", kind, "0", 5, folder=f"{kind}_validation")
    patches, broken = open_archive("dfc2020", tmp_path).scan()
    assert broken == []
    listed = [(p.region, p.season, p.patch) for p in patches]
    assert listed == [("test", "", "p5"), ("validation", "", "p5")]


def test_dfc2020_in_both_layouts_at_once_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "ROIs0000_test", "s2", "0", 5)
    put(tmp_path, "ROIs0000_autumn", "s2", "CapeTown", 5)
    with pytest.raises(DataError, match="ROIs0000_test and ROIs0000_autumn: two layouts"):
        open_archive("dfc2020", tmp_path).scan()


def test_patches_without_georeference_have_no_place(tmp_path: Path) -> None:
    for kind in ("s2", "s1", "dfc"):
        put(tmp_path, "ROIs0000_test", kind, "0", 5, crs=None)
    archive = open_archive("dfc2020", tmp_path)
    assert archive.locate(archive.scan()[0][0]) is None
