"""Folders of classes and EuroSAT are read as a new user finds them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from landmeta.bands import SENTINEL2
from landmeta.errors import DataError
from landmeta.legend import EUROSAT
from landmeta_catalog.archives import open_archive
from landmeta_catalog.archives.base import Archive
from landmeta_catalog.archives.eurosat import FILE_ORDER
from landmeta_catalog.ingest import ingest

from .archive_files import bands, index, tiff

HLS = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")


def picture(path: Path, seed: int = 0, side: int = 32, mode: str = "RGB") -> np.ndarray:
    """Write a picture; returns its (y, x, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    values = np.repeat(np.repeat(coarse, side // 4, 0), side // 4, 1)
    image = Image.fromarray(values)
    if mode == "P":
        image = image.quantize(64)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return values


def read_all(archive: Archive) -> dict[str, np.ndarray]:
    name = archive.arrays[0].name
    return {patch.patch: archive.read(patch).arrays[name] for patch in archive.scan()[0]}


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_pictures_in_class_folders_are_read_as_red_green_blue(tmp_path: Path, suffix: str) -> None:
    shown = picture(tmp_path / "Forest" / f"a.{suffix}", 1)
    picture(tmp_path / "Water" / f"a.{suffix}", 2)
    archive = open_archive("folder", tmp_path)
    patches, broken = archive.scan()
    assert broken == []
    assert [(p.region, p.season, p.patch, p.class_name) for p in patches] == [
        ("", "", "Forest-a", "Forest"), ("", "", "Water-a", "Water"),
    ]  # fmt: skip
    (spec,) = archive.arrays
    assert (spec.name, spec.bands, spec.dtype, spec.side) == ("rgb", ("B04", "B03", "B02"), "uint8", 32)
    assert spec.scale == pytest.approx(1 / 255)
    assert np.array_equal(archive.read(patches[0]).arrays["rgb"], shown.transpose(2, 0, 1))
    assert archive.locate(patches[0]) is None
    assert archive.dataset == tmp_path.name
    assert archive.legend.names == ("Forest", "Water")
    assert archive.tile_class(patches[1], None).code == archive.legend.codes[1]


def test_jpegs_are_read(tmp_path: Path) -> None:
    shown = picture(tmp_path / "Forest" / "a.jpg", 1)
    values = read_all(open_archive("folder", tmp_path))["Forest-a"]
    assert np.abs(values.astype(int) - shown.transpose(2, 0, 1)).mean() < 20


def test_pictures_with_palette_or_alpha_are_red_green_blue_too(tmp_path: Path) -> None:
    shown = picture(tmp_path / "Forest" / "a.png", 1)
    picture(tmp_path / "Forest" / "b.png", 1, mode="P")
    picture(tmp_path / "Forest" / "c.png", 1, mode="RGBA")
    values = read_all(open_archive("folder", tmp_path))
    for name in "abc":
        assert np.abs(values[f"Forest-{name}"].astype(int) - shown.transpose(2, 0, 1)).max() <= 4


def test_the_folder_above_the_class_is_the_region(tmp_path: Path) -> None:
    picture(tmp_path / "kenya" / "Forest" / "a.png")
    picture(tmp_path / "peru" / "Forest" / "a.png")
    patches, _ = open_archive("folder", tmp_path).scan()
    assert [(p.region, p.patch) for p in patches] == [("kenya", "Forest-a"), ("peru", "Forest-a")]


def test_index_csv_tells_region_season_and_patch(tmp_path: Path) -> None:
    for quadrant in ("tl", "br"):
        picture(tmp_path / "fall_91" / "Water" / f"p7{quadrant}.png")
    index(tmp_path, [
        {"path": f"fall_91/Water/p7{q}.png", "region": "91", "season": "fall", "patch": "p7", "quadrant": q}
        for q in ("tl", "br")
    ])  # fmt: skip
    patches, broken = open_archive("folder", tmp_path).scan()
    assert broken == []
    assert [(p.region, p.season, p.patch) for p in patches] == [
        ("91", "fall", "p7br"),
        ("91", "fall", "p7tl"),
    ]
    assert len({p.block for p in patches}) == 1


def test_quadrants_of_a_patch_are_one_block_also_without_an_index(tmp_path: Path) -> None:
    for name in ("p7tl", "p7br", "p8tl", "scene"):
        picture(tmp_path / "Water" / f"{name}.png")
    blocks = {p.patch: p.block for p in open_archive("folder", tmp_path).scan()[0]}
    assert blocks["Water-p7tl"] == blocks["Water-p7br"] != blocks["Water-p8tl"]
    assert blocks["Water-scene"] is None


def test_a_tile_listed_but_absent_is_broken(tmp_path: Path) -> None:
    picture(tmp_path / "Water" / "a.png")
    index(tmp_path, [{"path": "Water/a.png"}, {"path": "Water/b.png"}])
    patches, broken = open_archive("folder", tmp_path).scan()
    assert [p.patch for p in patches] == ["Water-a"]
    assert [(b.file, b.reason) for b in broken] == [
        (tmp_path / "Water" / "b.png", "is listed in index.csv and is not there")
    ]


def test_an_index_without_paths_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "Water" / "a.png")
    index(tmp_path, [{"file": "Water/a.png"}])
    with pytest.raises(DataError, match=r"index\.csv has the columns file, expected one named path"):
        open_archive("folder", tmp_path).scan()


@pytest.mark.parametrize("listed", ["/archive/Water/a.png", "../Water/a.png"])
def test_an_index_with_paths_to_elsewhere_is_refused(tmp_path: Path, listed: str) -> None:
    picture(tmp_path / "Water" / "a.png")
    index(tmp_path, [{"path": listed}])
    with pytest.raises(DataError, match=f"lists {listed}, expected paths relative to"):
        open_archive("folder", tmp_path).scan()


def test_two_files_of_one_name_are_a_duplicate(tmp_path: Path) -> None:
    picture(tmp_path / "Water" / "a.jpg")
    picture(tmp_path / "Water" / "a.png")
    patches, broken = open_archive("folder", tmp_path).scan()
    assert [p.files["image"].name for p in patches] == ["a.jpg"]
    assert [b.reason for b in broken] == ["patch Water-a occurs twice, already as a.jpg"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_broken_picture_is_named_and_the_others_are_read(tmp_path: Path, suffix: str, share: float) -> None:
    for seed, name in enumerate("abc"):
        path = tmp_path / "Water" / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
    path = tmp_path / "Water" / f"a.{suffix}"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    archive = open_archive("folder", tmp_path)
    first, *others = archive.scan()[0]
    with pytest.raises(DataError, match=rf"a\.{suffix} (is an empty file|cannot be read)"):
        archive.read(first)
    for patch in others:
        assert archive.read(patch).arrays["rgb"].shape == (3, 64, 64)


def test_a_tile_of_another_size_is_named(tmp_path: Path) -> None:
    for name, side in (("a", 32), ("b", 32), ("c", 64)):
        picture(tmp_path / "Water" / f"{name}.png", side=side)
    archive = open_archive("folder", tmp_path)
    odd = archive.scan()[0][2]
    for use in (archive.read, archive.locate):
        with pytest.raises(DataError, match=r"c\.png is 64 x 64 px, expected 32 x 32"):
            use(odd)


def test_tiffs_say_their_bands_and_are_put_in_the_usual_order(tmp_path: Path) -> None:
    names = ("B12", "nir", "B2", "quality")
    tiff(tmp_path / "Water" / "a.tif", bands(4), names=names, crs="EPSG:32634", nodata=0)
    archive = open_archive("folder", tmp_path)
    (spec,) = archive.arrays
    assert (spec.name, spec.bands, spec.dtype, spec.nodata) == ("s2", ("B02", "B08", "B12"), "uint16", 0)
    assert spec.scale == 1e-4
    patch = archive.scan()[0][0]
    assert archive.read(patch).arrays["s2"][:, 0, 0].tolist() == [201, 101, 1]
    place = archive.locate(patch)
    assert place is not None
    assert place.crs == "EPSG:32634"


def test_bands_given_name_those_of_the_file_or_choose_among_them(tmp_path: Path) -> None:
    tiff(tmp_path / "Water" / "a.tif", bands(3))
    given = open_archive("folder", tmp_path, bands="B8,B4,B3")
    assert given.arrays[0].bands == ("B08", "B04", "B03")
    tiff(tmp_path / "Water" / "a.tif", bands(3), names=("B2", "B3", "B4"))
    chosen = open_archive("folder", tmp_path, bands="B4,B2")
    assert read_all(chosen)["Water-a"][:, 0, 0].tolist() == [201, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"does not say which bands its 3 band\(s\) are"),
        ("B2,B3", r"has 3 band\(s\), --bands names 2"),
        ("B2,B3,purple", "unknown band 'purple'"),
    ],
)
def test_bands_are_never_guessed(tmp_path: Path, given: str | None, message: str) -> None:
    tiff(tmp_path / "Water" / "a.tif", bands(3))
    with pytest.raises(DataError, match=message) as caught:
        open_archive("folder", tmp_path, bands=given)
    assert "B2" in caught.value.hint


def test_reflectance_as_floats_is_stored_in_ten_thousandths(tmp_path: Path) -> None:
    values = np.full((1, 16, 16), 0.25, np.float32)
    values[0, 0, :2] = np.nan, -0.02
    tiff(tmp_path / "Water" / "a.tif", values, names=("B8",))
    archive = open_archive("folder", tmp_path)
    (spec,) = archive.arrays
    stored = read_all(archive)["Water-a"]
    assert (spec.dtype, spec.scale, stored.dtype) == ("int16", 1e-4, np.int16)
    assert stored[0, 0, :3].tolist() == [spec.nodata, -200, 2500]


def test_radar_as_floats_is_stored_in_hundredths_of_a_decibel(tmp_path: Path) -> None:
    tiff(tmp_path / "Water" / "a.tif", np.full((2, 16, 16), -12.345, np.float32), names=("VV", "VH"))
    archive = open_archive("folder", tmp_path)
    assert (archive.arrays[0].name, archive.arrays[0].scale) == ("s1", 0.01)
    assert read_all(archive)["Water-a"][0, 0, 0] == -1234


def test_floats_that_are_no_reflectance_ask_for_their_scale(tmp_path: Path) -> None:
    tiff(tmp_path / "Water" / "a.tif", np.full((1, 16, 16), 2500, np.float32), names=("B8",))
    archive = open_archive("folder", tmp_path)
    with pytest.raises(DataError, match="values up to 2500, which are no reflectance"):
        archive.read(archive.scan()[0][0])
    assert read_all(open_archive("folder", tmp_path, scale=1e-4))["Water-a"][0, 0, 0] == 2500


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (np.zeros((1, 16, 16), np.int32), ("B8",), "holds int32"),
        (np.zeros((1, 16, 20), np.uint16), ("B8",), "is 20 x 16 px, expected a square tile"),
        (np.zeros((2, 16, 16), np.float32), ("B8", "VV"), "backscatter and reflectance in one file"),
    ],
)
def test_images_that_cannot_be_stored_are_refused(
    tmp_path: Path, values: np.ndarray, names: tuple[str, ...], message: str
) -> None:
    tiff(tmp_path / "Water" / "a.tif", values, names=names)
    with pytest.raises(DataError, match=message):
        open_archive("folder", tmp_path)


def test_folders_without_tiles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Water").mkdir()
    (tmp_path / "Water" / "readme.txt").write_text("none")
    with pytest.raises(DataError, match="holds no folder of images"):
        open_archive("folder", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        open_archive("folder", tmp_path / "elsewhere")


def test_more_class_folders_than_codes_are_refused(tmp_path: Path) -> None:
    for number in range(255):
        picture(tmp_path / f"class{number}" / "a.png")
    with pytest.raises(DataError, match="has 255 class folders, expected at most 254"):
        open_archive("folder", tmp_path)


def test_eurosat_has_b8a_last_in_its_files_and_after_b08_in_the_store(tmp_path: Path) -> None:
    for name in ("Forest", "SeaLake"):
        tiff(tmp_path / "deep" / "tif" / name / f"{name}_1.tif", bands(13), crs="EPSG:32634")
    archive = open_archive("eurosat", tmp_path)
    (spec,) = archive.arrays
    assert (archive.dataset, spec.bands, archive.legend) == ("eurosat", SENTINEL2, EUROSAT)
    order = (read_all(archive)["Forest_1"][:, 0, 0] - 1) // 100
    assert [FILE_ORDER[i] for i in order] == list(SENTINEL2)
    assert order[SENTINEL2.index("B8A")] == 12


def test_a_folder_of_eurosat_is_recognised_but_not_when_the_bands_are_given(tmp_path: Path) -> None:
    tiff(tmp_path / "Forest" / "Forest_1.tif", bands(13))
    archive = open_archive("folder", tmp_path)
    assert (archive.dataset, archive.legend) == (tmp_path.name, EUROSAT)
    given = open_archive("folder", tmp_path, bands=",".join(SENTINEL2))
    assert read_all(given)["Forest-Forest_1"][8, 0, 0] == 801


def test_named_bands_of_eurosat_are_believed(tmp_path: Path) -> None:
    tiff(tmp_path / "Forest" / "Forest_1.tif", bands(13), names=SENTINEL2)
    assert read_all(open_archive("eurosat", tmp_path))["Forest_1"][8, 0, 0] == 801


def test_eurosat_pictures_are_reflectance_through_their_stretch(tmp_path: Path) -> None:
    picture(tmp_path / "2750" / "River" / "River_1.jpg", side=64)
    (spec,) = open_archive("eurosat", tmp_path).arrays
    assert (spec.name, spec.side) == ("rgb", 64)
    assert spec.scale * 255 == pytest.approx(0.275)


@pytest.mark.parametrize("folder", ["Forest", "Moor"])
def test_what_is_not_eurosat_is_refused(tmp_path: Path, folder: str) -> None:
    tiff(tmp_path / folder / "a.tif", bands(4))
    with pytest.raises(DataError, match="has 4 bands|no folder named after a class of EuroSAT"):
        open_archive("eurosat", tmp_path)


@pytest.mark.real
def test_the_rendered_sen12ms_tiles_are_read_and_fit_the_published_tasks(data: Path) -> None:
    archive = open_archive("folder", data / "sen12ms_rgb")
    patches, broken = archive.scan()
    assert (len(patches), broken) == (4976, [])
    assert len({(p.region, p.season) for p in patches}) == 14
    known = {(p.season, p.region, p.class_name, p.patch) for p in patches}
    with (data / "sen12ms_rgb" / "tasks.csv").open() as text:
        used = {(r["season"], r["region"], r["class_name"], r["tile"]) for r in csv.DictReader(text)}
    assert used <= known
    for patch in patches[::500]:
        assert archive.read(patch).arrays["rgb"].shape == (3, 128, 128)
        assert archive.tile_class(patch, None).code in archive.legend.codes


@pytest.mark.real
@pytest.mark.parametrize("kind", ["folder", "eurosat"])
def test_the_real_eurosat_has_b8a_beside_b08(data: Path, kind: str) -> None:
    archive = open_archive(kind, data / "eurosat_ms")
    patches, broken = archive.scan()
    assert (len(patches), broken) == (155, [])
    forests = [archive.read(p).arrays["s2"] for p in patches if p.class_name == "Forest"]
    means = dict(zip(SENTINEL2, np.mean(forests, (0, 2, 3)), strict=True))
    assert 0.9 < means["B8A"] / means["B08"] < 1.4
    assert means["B10"] < 100 < means["B09"] < means["B08"]
    assert all(archive.locate(patch) for patch in patches[::20])


def test_scanning_a_copied_tree_needs_no_image_to_be_readable(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "Water" / "x.png")
    archive = open_archive("folder", tmp_path / "a")
    shutil.copy(tmp_path / "a" / "Water" / "x.png", tmp_path / "a" / "Water" / "y.png")
    (tmp_path / "a" / "Water" / "y.png").write_bytes(b"")
    assert len(archive.scan()[0]) == 2


LOCAL = 'LOCAL_CS["drawing",UNIT["metre",1]]'


def test_links_to_class_folders_are_followed_and_lead_nowhere_twice(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    picture(tmp_path / "tiles" / "Water" / "a.png")
    (tmp_path / "tiles" / "Forest").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tiles" / "Water" / "back").symlink_to(tmp_path / "tiles")
    patches, _ = open_archive("folder", tmp_path / "tiles").scan()
    assert [p.patch for p in patches] == ["Forest-a", "Water-a"]


@pytest.mark.parametrize(
    ("more", "finding"),
    [
        ({"nodata": 7}, "7 for no data, the folder's other tiles say none"),
        ({"scale": 2e-5}, "says scale 2e-05 and offset 0"),
        ({"crs": LOCAL}, "nowhere on Earth"),
        ({"crs": "EPSG:32631", "transform": Affine(10, 0, np.nan, 0, -10, 4e6)}, "nowhere on Earth"),
        ({"crs": "EPSG:32631", "transform": Affine(10, 0, 1e12, 0, -10, 4e6)}, "nowhere on Earth"),
    ],
)
def test_a_tile_that_means_something_else_than_the_others_is_set_aside(
    tmp_path: Path, more: dict[str, Any], finding: str
) -> None:
    for name in "abc":
        tiff(tmp_path / "in" / "Forest" / f"{name}.tif", bands(2), names=("B2", "B3"))
    scale = more.pop("scale", None)
    odd = tiff(tmp_path / "in" / "Water" / "odd.tif", bands(2), names=("B2", "B3"), **more)
    if scale:
        with rasterio.open(odd, "r+") as out:
            out.scales = (scale, scale)
    tiff(tmp_path / "in" / "Water" / "w.tif", bands(2), names=("B2", "B3"))
    done = ingest(open_archive("folder", tmp_path / "in"), tmp_path / "store")
    assert done.tiles == 4
    ((_, reason),) = done.quarantined
    assert "odd.tif" in reason
    assert finding in reason


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_measures_nothing_is_refused(tmp_path: Path, scale: float) -> None:
    tiff(tmp_path / "Forest" / "a.tif", bands(2), names=("B2", "B3"))
    with pytest.raises(DataError, match="make no measurement"):
        open_archive("folder", tmp_path, scale=scale)


def test_a_given_offset_goes_before_that_of_the_files(tmp_path: Path) -> None:
    file = tiff(tmp_path / "Forest" / "a.tif", bands(2), names=("B2", "B3"))
    with rasterio.open(file, "r+") as out:
        out.offsets = (-0.5, -0.5)
    for given, offset in ((None, -0.5), (0.0, 0.0), (0.1, 0.1)):
        assert open_archive("folder", tmp_path, offset=given).arrays[0].offset == offset
