from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, box
from rasterio.errors import NotGeoreferencedWarning

from landmeta.bands import BandSet
from landmeta.errors import ImageryError, RegionError
from landmeta.raster import Imagery, imagery_of_array, open_imagery

UTM = "EPSG:32630"
WEST, NORTH = 500_000.0, 5_800_000.0


BLOCKS = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}


def write(
    path: Path,
    values: np.ndarray,
    *,
    names: Sequence[str | None] = (),
    crs: str | None = UTM,
    at: tuple[float, float] = (WEST, NORTH),
    pixel: float = 10.0,
    transform: Affine | None = None,
    scale: float | None = None,
    offset: float = 0.0,
    **options: Any,
) -> Path:
    """A GeoTIFF of values (band, y, x); 10 m pixels on a UTM grid unless told otherwise."""
    count, height, width = values.shape
    placed = transform or Affine(pixel, 0, at[0], 0, -pixel, at[1])
    profile = {"count": count, "height": height, "width": width, "dtype": values.dtype, "crs": crs}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        out = rasterio.open(path, "w", driver="GTiff", transform=placed, **profile, **options)
    with out:
        out.write(values)
        if names:
            out.descriptions = tuple(names)
        if scale is not None:
            out.scales, out.offsets = (scale,) * count, (offset,) * count
    return path


def reflectances(count: int = 2, size: int = 16, seed: int = 0) -> np.ndarray:
    """Integers x 10000 of plausible reflectance, (band, y, x), every pixel another."""
    return np.random.default_rng(seed).integers(500, 6000, (count, size, size)).astype(np.uint16)


def error_of(paths: Sequence[Path], **options: Any) -> ImageryError:
    with pytest.raises(ImageryError) as caught:
        open_imagery(paths, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif", reflectances(), names=["B2", "B8A"])


# --- numbers ---------------------------------------------------------------------------------------


def test_reflectance_is_the_number_times_the_scale(scene: Path) -> None:
    imagery = open_imagery([scene])
    assert imagery.bands == BandSet(("B02", "B8A"), scale=1e-4)
    assert imagery.shape == (16, 16)
    values = imagery.read(2, 3, 4, 5)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, reflectances()[:, 2:6, 3:8] * 1e-4, rtol=1e-6)


def test_the_grid_is_that_of_the_file(scene: Path) -> None:
    grid = open_imagery([scene]).grid
    assert grid.crs == UTM
    assert tuple(grid.transform)[:6] == (10, 0, WEST, 0, -10, NORTH)


def test_what_lies_outside_the_file_is_nan(scene: Path) -> None:
    values = open_imagery([scene]).read(-2, 14, 5, 4)
    assert np.isnan(values[:, :2]).all()
    assert np.isnan(values[:, :, 2:]).all()
    np.testing.assert_allclose(values[:, 2:, :2], reflectances()[:, :3, 14:] * 1e-4, rtol=1e-6)


def test_a_window_wholly_outside_is_nan(scene: Path) -> None:
    assert np.isnan(open_imagery([scene]).read(100, -50, 3, 3)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(-6, 18), st.integers(-6, 18), st.integers(1, 22), st.integers(1, 22))
def test_any_window_of_a_mosaic_of_overlapping_tiles_is_that_of_the_whole(
    row: int, col: int, height: int, width: int
) -> None:
    imagery, whole = _tiled_and_whole()
    padded = np.pad(whole, ((0, 0), (30, 30), (30, 30)), constant_values=np.nan)
    expected = padded[:, row + 30 : row + 30 + height, col + 30 : col + 30 + width]
    np.testing.assert_allclose(imagery.read(row, col, height, width), expected, rtol=1e-6)


def _tiled_and_whole(cache: dict[str, Any] = {}) -> tuple[Imagery, np.ndarray]:  # noqa: B006
    if not cache:
        import tempfile

        cache["folder"] = tempfile.TemporaryDirectory()
        folder, whole = Path(cache["folder"].name), reflectances(2, 16)
        for row, col in ((0, 0), (0, 6), (6, 0), (6, 6)):
            tile = whole[:, row : row + 10, col : col + 10]
            corner = (WEST + col * 10, NORTH - row * 10)
            write(folder / f"{row}_{col}.tif", tile, names=["B2", "B3"], at=corner)
        cache["imagery"], cache["whole"] = open_imagery([folder]), whole * 1e-4
    return cache["imagery"], cache["whole"]


def test_zero_in_all_bands_is_nodata_but_not_in_one(tmp_path: Path) -> None:
    values = reflectances()
    values[:, 0, 0] = 0
    values[0, 5, 5] = 0
    read = open_imagery([write(tmp_path / "a.tif", values, names=["B2", "B3"])]).read(0, 0, 16, 16)
    assert np.isnan(read[:, 0, 0]).all()
    assert read[0, 5, 5] == 0
    assert np.isnan(read).sum() == 2


def test_a_declared_nodata_value_is_nan_and_zero_then_is_a_number(tmp_path: Path) -> None:
    values = reflectances().astype(np.int16)
    values[:, 0, 0], values[:, 1, 1], values[0, 2, 2] = 0, -9999, -9999
    file = write(tmp_path / "a.tif", values, names=["B2", "B3"], nodata=-9999)
    read = open_imagery([file]).read(0, 0, 16, 16)
    assert (read[:, 0, 0] == 0).all()
    assert np.isnan(read[:, 1, 1]).all()
    assert np.isnan(read[:, 2, 2]).tolist() == [True, False]


def test_a_float_files_nodata_is_found_at_its_own_precision(tmp_path: Path) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[:, 3, 3] = np.float32(-0.1)
    file = write(tmp_path / "a.tif", values, names=["B2", "B3"], nodata=-0.1)
    assert np.isnan(open_imagery([file]).read(0, 0, 16, 16)).sum() == 2


def test_pixels_under_the_files_mask_are_nan(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    mask = np.full((16, 16), 255, np.uint8)
    mask[4:6, 4:6] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(file, "r+") as out:
        out.write_mask(mask)
    read = open_imagery([file]).read(0, 0, 16, 16)
    assert np.isnan(read).sum() == 8
    assert np.isnan(read[:, 4:6, 4:6]).all()


def test_values_that_are_not_finite_are_nodata_and_counted(tmp_path: Path) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[0, 0, :3], values[1, 0, 2], values[1, 9, 9] = np.nan, np.inf, -np.inf
    imagery = open_imagery([write(tmp_path / "a.tif", values, names=["B2", "B3"])])
    assert [w for w in imagery.warnings if "NaN or infinite" in w] == [
        "4 pixels are NaN or infinite in a band: taken as nodata"
    ]
    assert np.isnan(imagery.read(0, 0, 16, 16)).sum() == 5


def test_nan_declared_as_nodata_is_not_worth_a_warning(tmp_path: Path) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[:, 0, 0] = np.nan
    imagery = open_imagery([write(tmp_path / "a.tif", values, names=["B2", "B3"], nodata=np.nan)])
    assert imagery.warnings == ()


def test_reading_changes_nothing_for_the_next_reader() -> None:
    imagery = imagery_of_array(np.full((1, 4, 4), 0.5, np.float32), ["B02"])
    imagery.read(0, 0, 4, 4)[:] = 9
    assert (imagery.read(0, 0, 4, 4) == 0.5).all()


# --- scale -----------------------------------------------------------------------------------------


def test_floats_are_taken_for_reflectance(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", (reflectances() * 1e-4).astype(np.float32), names=["B2", "B3"])
    assert open_imagery([file]).bands.scale == 1.0


def test_scale_and_offset_in_the_file_come_before_inference(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances() + 1000, names=["B2", "B3"], scale=1e-4, offset=-0.1)
    imagery = open_imagery([file])
    assert (imagery.bands.scale, imagery.bands.offset) == (1e-4, -0.1)
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances() * 1e-4, atol=1e-6)


def test_a_given_scale_comes_before_that_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], scale=1e-4, offset=-0.1)
    assert open_imagery([file], scale=2e-4).bands == BandSet(("B02", "B03"), 2e-4, 0.0)


@pytest.mark.parametrize(("divisor", "figure"), [(10, r"0\.05\d+"), (1 / 10, r"5\.\d+")])
def test_an_inferred_scale_that_gives_no_reflectance_stops_with_the_figures(
    tmp_path: Path, divisor: float, figure: str
) -> None:
    values = (reflectances() / divisor).astype(np.uint16)
    error = error_of([write(tmp_path / "a.tif", values, names=["B2", "B3"])])
    assert "0.0001" in str(error)
    assert re.search(figure, str(error))
    assert "--scale" in error.hint


def test_a_given_scale_that_gives_no_reflectance_warns_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances() // 10, names=["B2", "B3"])
    (warning,) = open_imagery([file], scale=1e-4).warnings
    assert "99th percentile" in warning


def test_the_brightest_band_decides_whether_a_scale_is_plausible(tmp_path: Path) -> None:
    """Water and forest are dark in most bands."""
    values = reflectances()
    values[0] //= 20
    assert open_imagery([write(tmp_path / "a.tif", values, names=["B2", "B8"])]).warnings == ()


def test_an_image_without_data_stops_where_its_scale_must_be_inferred(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances() * 0, names=["B2", "B3"])
    assert "no pixel with data" in str(error_of([file]))
    assert "could not be checked" in open_imagery([file], scale=1e-4).warnings[0]


def test_bands_of_different_scale_ask_for_one(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    with rasterio.open(file, "r+") as out:
        out.scales = (1e-4, 1e-3)
    assert "different scales" in str(error_of([file]))


def test_radar_in_decibel_is_not_held_to_be_reflectance(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-25, 0, (2, 8, 8)).astype(np.float32)
    assert open_imagery([write(tmp_path / "a.tif", values, names=["VV", "VH"])]).warnings == ()


def test_radar_in_integers_asks_for_the_scale(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(), names=["VV", "B2"])
    assert "radar" in str(error_of([file]))


# --- bands -----------------------------------------------------------------------------------------


def test_bands_that_nobody_names_are_asked_for(tmp_path: Path) -> None:
    error = error_of([write(tmp_path / "a.tif", reflectances())])
    assert "does not say" in str(error)
    assert "--bands" in error.hint


def test_given_names_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    imagery = open_imagery([write(tmp_path / "a.tif", reflectances())], bands="B8A,B2")
    assert imagery.bands.names == ("B8A", "B02")


def test_a_wrong_number_of_names_is_told_with_both_numbers(tmp_path: Path) -> None:
    message = str(error_of([write(tmp_path / "a.tif", reflectances())], bands="B2,B3,B4"))
    assert "3 bands" in message
    assert "has 2" in message


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    assert "'B99'" in str(error_of([write(tmp_path / "a.tif", reflectances())], bands="B2,B99"))


def test_fewer_names_choose_among_those_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(3), names=["B2", "B3", "B4"])
    imagery = open_imagery([file], bands="B4,B2")
    assert imagery.bands.names == ("B04", "B02")
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances(3)[[2, 0]] * 1e-4, rtol=1e-6)


def test_names_that_contradict_the_file_are_taken_with_a_warning(scene: Path) -> None:
    imagery = open_imagery([scene], bands="B2,B8")
    assert imagery.bands.names == ("B02", "B08")
    assert "B8A" in imagery.warnings[0]


def test_bands_that_are_not_spectral_are_left_out_with_a_warning(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(3), names=["B2", "B3", "worldcover"])
    imagery = open_imagery([file])
    assert imagery.bands.names == ("B02", "B03")
    assert imagery.warnings == ("left out, as they are no known spectral bands: worldcover",)


def test_an_alpha_band_is_no_band_of_the_image(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(3), alpha="yes", photometric="MINISBLACK")
    with rasterio.open(file, "r+") as out:
        interp = rasterio.enums.ColorInterp
        out.colorinterp = [interp.gray, interp.undefined, interp.alpha]
    assert open_imagery([file], bands="B2,B3").bands.names == ("B02", "B03")


def test_a_file_that_names_two_bands_alike_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "blue"])
    assert "several of its bands B02" in str(error_of([file]))


# --- several files ---------------------------------------------------------------------------------


def single_bands(folder: Path, names: Sequence[str]) -> list[Path]:
    values = reflectances(len(names))
    return [write(folder / f"{n}.tif", values[i : i + 1]) for i, n in enumerate(names)]


def test_files_of_one_band_are_named_after_their_file_names(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, ["S2_B12_20m", "S2_B8A", "S2_B02_10m"])
    imagery = open_imagery(paths)
    assert imagery.bands.names == ("B02", "B8A", "B12")
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances(3)[[2, 1, 0]] * 1e-4, rtol=1e-6)


def test_a_folder_of_single_bands_is_one_image_and_other_files_are_left_out(tmp_path: Path) -> None:
    single_bands(tmp_path, ["B02", "B03", "quality"])
    (tmp_path / "readme.txt").write_text("text")
    imagery = open_imagery([tmp_path])
    assert imagery.bands.names == ("B02", "B03")
    assert "quality.tif is left out" in imagery.warnings[0]
    assert [path.name for path in imagery.paths] == ["B02.tif", "B03.tif"]


def test_single_bands_without_telling_names_take_the_names_given_in_their_order(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, ["one", "two"])
    assert "--bands" in error_of(paths).hint
    imagery = open_imagery(paths, bands="B4,B2")
    assert imagery.bands.names == ("B04", "B02")
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances() * 1e-4, rtol=1e-6)


def test_names_given_for_single_bands_must_be_as_many_as_the_files(tmp_path: Path) -> None:
    assert "2 files" in str(error_of(single_bands(tmp_path, ["one", "two"]), bands="B2,B3,B4"))


def test_names_given_choose_among_single_bands_named_after_their_files(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, ["B02", "B03", "B04"])
    assert open_imagery(paths, bands="B4,B2").bands.names == ("B04", "B02")


def test_the_same_band_of_two_dates_is_refused(tmp_path: Path) -> None:
    error = error_of(single_bands(tmp_path, ["may_B02", "june_B02"]))
    assert "may_B02.tif" in str(error)
    assert "june_B02.tif" in str(error)


def test_tiles_of_single_bands_are_put_together_tile_by_tile(tmp_path: Path) -> None:
    for col, tile in enumerate("ab"):
        for band in range(2):
            values = np.full((1, 4, 4), 1000 * (1 + col) + 100 * band, np.uint16)
            write(tmp_path / f"{tile}_B0{band + 2}.tif", values, at=(WEST + 40 * col, NORTH))
    imagery = open_imagery([tmp_path])
    assert imagery.shape == (4, 8)
    expected = np.array([[0.1, 0.2], [0.11, 0.21]])
    np.testing.assert_allclose(imagery.read(0, 0, 4, 8)[:, 0, [0, 7]], expected, rtol=1e-6)


def test_a_tile_that_lacks_a_band_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", reflectances(2), names=["B2", "B3"])
    write(tmp_path / "b.tif", reflectances(2), names=["B2", "B4"], at=(WEST + 160, NORTH))
    assert "lacks band B03" in str(error_of([tmp_path]))


def test_gaps_between_tiles_are_nan_and_the_first_tile_with_data_counts(tmp_path: Path) -> None:
    first, second = (np.full((1, 4, 4), v, np.uint16) for v in (2000, 4000))
    first[0, :, 2:] = 0
    write(tmp_path / "1.tif", first, names=["B2"])
    write(tmp_path / "2.tif", second, names=["B2"], at=(WEST + 10, NORTH - 20))
    values = open_imagery([tmp_path]).read(0, 0, 6, 5)[0]
    assert np.isnan(values[0, 4])
    assert np.isnan(values[5, 0])
    np.testing.assert_allclose(values[2], [0.2, 0.2, 0.4, 0.4, 0.4], rtol=1e-6)


def test_a_vrt_is_read_like_a_file(tmp_path: Path, scene: Path) -> None:
    vrt = tmp_path / "scene.vrt"
    rasterio.shutil.copy(scene, vrt, driver="VRT")
    assert open_imagery([vrt]).bands.names == ("B02", "B8A")
    np.testing.assert_array_equal(
        open_imagery([vrt]).read(0, 0, 9, 9), open_imagery([scene]).read(0, 0, 9, 9)
    )


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"crs": "EPSG:32631"}, "EPSG:32631"),
        ({"pixel": 20.0}, "20 x 20"),
        ({"at": (WEST + 164, NORTH)}, "lie between"),
    ],
)
def test_files_on_different_grids_are_refused(tmp_path: Path, change: dict[str, Any], finding: str) -> None:
    write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    write(tmp_path / "b.tif", reflectances(), **{"names": ["B2", "B3"], "at": (WEST + 160, NORTH), **change})
    message = str(error_of([tmp_path]))
    assert finding in message
    assert "b.tif" in message


def test_a_mix_of_single_and_multiband_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    write(tmp_path / "b.tif", reflectances(1), names=["B4"])
    assert "no image together" in str(error_of([tmp_path]))


# --- what cannot be read ---------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.tif does not exist" in str(error_of([tmp_path / "nowhere.tif"]))


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    assert "a.tif is an empty file" in str(error_of([tmp_path / "a.tif"]))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "holds no raster" in str(error_of([tmp_path]))


def test_no_path_at_all_is_refused() -> None:
    assert "no imagery" in str(error_of([]))


def test_a_file_that_is_no_raster_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("name,value\n1,2\n")
    assert "a.tif is no raster" in str(error_of([tmp_path / "a.tif"]))


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize(
    "options", [{}, {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}]
)
def test_a_truncated_tiff_is_refused_when_opened(
    tmp_path: Path, part: float, options: dict[str, Any]
) -> None:
    file = write(tmp_path / "a.tif", reflectances(3, 256), names=["B2", "B3", "B4"], **options)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    message = str(error_of([file]))
    assert "a.tif" in message
    assert "truncated" in message


def test_a_truncated_tiff_is_refused_even_where_its_first_and_last_blocks_are_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(1, 256) * 0, names=["B2"], SPARSE_OK=True, **BLOCKS)
    with rasterio.open(file, "r+") as out:
        for corner in (0, 192, 64, 128):  # in this order they stand in the file
            part = rasterio.windows.Window(corner, corner, 64, 64)
            out.write(reflectances(1, 64, seed=corner), window=part)
    content = file.read_bytes()
    file.write_bytes(content[:-2000])
    assert "block 2, 2" in str(error_of([file]))


def test_a_tiff_with_a_damaged_block_is_an_error_of_its_name_when_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(1, 256), names=["B2"], **BLOCKS)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    file.write_bytes(content)
    with pytest.raises(ImageryError, match=r"a\.tif"):
        open_imagery([file], scale=1e-4).read(0, 0, 256, 256)


def test_a_file_removed_after_opening_is_an_error_of_its_name(scene: Path) -> None:
    imagery = open_imagery([scene])
    scene.unlink()
    with pytest.raises(ImageryError, match=r"scene\.tif"):
        imagery.read(0, 0, 2, 2)


def test_imagery_without_crs_is_refused_unless_asked_for(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.tif", reflectances(), names=["B2", "B3"], crs=None, transform=Affine.identity()
    )
    assert "no CRS" in str(error_of([file]))
    imagery = open_imagery([file], require_crs=False)
    assert imagery.grid.crs is None
    assert imagery.read(0, 0, 16, 16).shape == (2, 16, 16)
    with pytest.raises(RegionError, match="no CRS"):
        imagery.clip((0.0, 0.0, 1.0, 1.0))


def test_a_crs_without_a_place_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], transform=Affine.identity())
    assert "no geotransform" in str(error_of([file]))


def test_a_rotated_image_is_refused(tmp_path: Path) -> None:
    turned = Affine(9, 4, WEST, 4, -9, NORTH)
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], transform=turned)
    error = error_of([file])
    assert "rotated" in str(error)
    assert "gdalwarp" in error.hint


def test_a_south_up_image_is_refused(tmp_path: Path) -> None:
    flipped = Affine(10, 0, WEST, 0, 10, NORTH)
    file = write(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], transform=flipped)
    assert "south-up" in str(error_of([file]))


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", reflectances().astype(np.complex64), names=["VV", "VH"])
    assert "complex" in str(error_of([file]))


# --- regions ---------------------------------------------------------------------------------------


@pytest.fixture
def wide(tmp_path: Path) -> Imagery:
    return open_imagery([write(tmp_path / "wide.tif", reflectances(1, 100), names=["B2"])])


def test_clipping_keeps_the_pixel_grid_and_the_pixels(wide: Imagery) -> None:
    part = wide.clip((WEST + 101, NORTH - 299, WEST + 201, NORTH - 205), UTM)
    assert part.shape == (10, 11)
    assert (part.grid.transform.c, part.grid.transform.f) == (WEST + 100, NORTH - 200)
    np.testing.assert_array_equal(part.read(0, 0, 10, 11), wide.read(20, 10, 10, 11))


@pytest.mark.parametrize("rounding", [0.0, 0.0005])
def test_bounds_on_pixel_edges_take_in_no_further_pixel(wide: Imagery, rounding: float) -> None:
    bounds = (WEST + 100 - rounding, NORTH - 300 - rounding, WEST + 200 + rounding, NORTH - 200 + rounding)
    assert wide.clip(bounds, UTM).shape == (10, 10)


def test_clipped_imagery_still_gives_its_surroundings_as_context(wide: Imagery) -> None:
    part = wide.clip((WEST + 100, NORTH - 300, WEST + 200, NORTH - 200), UTM)
    np.testing.assert_array_equal(part.read(-5, -5, 20, 20), wide.read(15, 5, 20, 20))


def test_clipping_again_is_clipping_to_the_part_common_to_both(wide: Imagery) -> None:
    once = wide.clip((WEST + 100, NORTH - 500, WEST + 500, NORTH - 100), UTM)
    twice = once.clip((WEST + 200, NORTH - 900, WEST + 900, NORTH - 300), UTM)
    assert twice.shape == (20, 30)
    np.testing.assert_array_equal(twice.read(0, 0, 20, 30), wide.read(30, 20, 20, 30))


def test_a_region_in_degrees_covers_every_pixel_that_it_meets(wide: Imagery) -> None:
    """500 km east is on the central meridian, where north is up to a few metres."""
    lonlat = box(WEST + 300, NORTH - 600, WEST + 500, NORTH - 400, UTM)
    from landmeta._imagery.extents import transform_geometry

    bounds = transform_geometry(lonlat.geom, UTM, "EPSG:4326").bounds
    part = wide.clip(bounds)
    assert 20 <= part.shape[0] <= 22
    assert 20 <= part.shape[1] <= 22
    assert abs(part.grid.transform.c - (WEST + 300)) <= 10


def test_a_region_larger_than_the_projection_is_the_whole_image(wide: Imagery) -> None:
    assert wide.clip((-180.0, -90.0, 180.0, 90.0)).grid == wide.grid


def test_a_region_of_one_point_wide_still_has_a_pixel(wide: Imagery) -> None:
    assert wide.clip((WEST + 101, NORTH - 102, WEST + 101.5, NORTH - 101), UTM).shape == (1, 1)


def test_a_geometry_is_clipped_to_its_extent(wide: Imagery) -> None:
    triangle = Geometry(
        {
            "type": "Polygon",
            "coordinates": [
                [(WEST, NORTH), (WEST + 200, NORTH), (WEST, NORTH - 100), (WEST, NORTH)],
            ],
        },
        UTM,
    )
    assert wide.clip(triangle).shape == (10, 20)


def test_a_region_that_misses_the_imagery_is_told_with_both_extents(wide: Imagery) -> None:
    with pytest.raises(RegionError, match=r"west 10\.0.*misses.*west -3\.0") as caught:
        wide.clip((10.0, 50.0, 11.0, 51.0))
    assert "--region" in caught.value.hint


def test_a_region_that_only_touches_the_imagery_misses_it(wide: Imagery) -> None:
    with pytest.raises(RegionError, match="misses"):
        wide.clip((WEST - 100, NORTH - 100, WEST, NORTH), UTM)


@pytest.mark.parametrize(
    "bounds", [(1.0, 0.0, -1.0, 1.0), (0.0, 1.0, 1.0, 1.0), (0.0, 0.0, float("nan"), 1.0)]
)
def test_bounds_without_area_are_refused(wide: Imagery, bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(RegionError, match="no area"):
        wide.clip(bounds)


# --- arrays, threads, memory -----------------------------------------------------------------------


def test_an_array_is_imagery_too() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    imagery = imagery_of_array(values, ["B02", "B03"])
    assert imagery.grid.crs is None
    read = imagery.read(-1, 1, 3, 5)
    np.testing.assert_array_equal(read[:, 1:, :3], values[:, :2, 1:])
    assert np.isnan(read[:, 0]).all()
    assert np.isnan(read[:, :, 3:]).all()


@pytest.mark.parametrize("corner", [(9, 9), (-9, 0), (0, -9)])
def test_a_window_beside_an_array_is_nan(corner: tuple[int, int]) -> None:
    imagery = imagery_of_array(np.ones((1, 3, 3), np.float32), ["B02"])
    assert np.isnan(imagery.read(*corner, 4, 4)).all()


def test_infinite_values_of_an_array_are_nodata_and_the_array_stays() -> None:
    values = np.array([[[0.5, np.inf]]], np.float32)
    assert np.isnan(imagery_of_array(values, ["B02"]).read(0, 0, 1, 2)).tolist() == [[[False, True]]]
    assert np.isinf(values[0, 0, 1])


def test_an_array_must_fit_its_names_and_grid() -> None:
    grid = GeoBox((3, 3), Affine(10, 0, 0, 0, -10, 0), UTM)
    with pytest.raises(ValueError, match="does not fit"):
        imagery_of_array(np.ones((1, 3, 4), np.float32), ["B02"], grid)


def test_imagery_travels_to_another_process(scene: Path) -> None:
    imagery = open_imagery([scene])
    copy = pickle.loads(pickle.dumps(imagery))
    np.testing.assert_array_equal(copy.read(0, 0, 5, 5), imagery.read(0, 0, 5, 5))


def test_threads_read_the_same_numbers(tmp_path: Path) -> None:
    imagery = open_imagery([write(tmp_path / "a.tif", reflectances(2, 256), names=["B2", "B3"], **BLOCKS)])
    expected, results = imagery.read(0, 0, 256, 256), {}

    def work(index: int) -> None:
        for _ in range(5):
            results[index] = imagery.read(index * 60, 0, 60, 256)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        np.testing.assert_array_equal(results[index], expected[:, index * 60 : index * 60 + 60])


def test_many_files_are_not_all_kept_open(tmp_path: Path) -> None:
    from landmeta._imagery.files import _OPEN_FILES, _handles

    for i in range(_OPEN_FILES + 8):
        write(tmp_path / f"{i:02d}.tif", reflectances(1, 4), names=["B2"], at=(WEST + 40 * i, NORTH))
    imagery = open_imagery([tmp_path])
    assert np.isfinite(imagery.read(0, 0, *imagery.shape)).all()
    assert len(_handles.open) <= _OPEN_FILES


def test_a_huge_sparse_raster_opens_and_reads_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "huge.tif"
    profile = {"count": 4, "height": 20_000, "width": 20_000, "dtype": "uint16", "crs": UTM}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "SPARSE_OK": True, "compress": "deflate"}
    placed = Affine(10, 0, WEST, 0, -10, NORTH)
    with rasterio.open(file, "w", driver="GTiff", transform=placed, **profile, **blocks) as out:
        out.descriptions = ("B2", "B3", "B4", "B8")
        out.write(reflectances(4, 512), window=rasterio.windows.Window(9984, 9984, 512, 512))
    script = (
        "import resource, sys; from pathlib import Path; from landmeta.raster import open_imagery\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "im = open_imagery([Path(sys.argv[1])], scale=1e-4)\n"
        "for i in range(0, 20000, 1000): v = im.read(i, i, 512, 512)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 400, "MB"


# --- real data -------------------------------------------------------------------------------------

ABERYSTWYTH = "B2,B3,B4,B5,B6,B7,B8,B8A,B11,B12"


@pytest.mark.real
def test_the_aberystwyth_scene_opens_with_bands_and_scale_given(data: Path) -> None:
    imagery = open_imagery([data / "aberystwyth/s2_20210527.tif"], bands=ABERYSTWYTH, scale=1e-3)
    assert imagery.shape == (947, 930)
    assert imagery.warnings == ()
    assert imagery.grid.crs.epsg == 27700


@pytest.mark.real
def test_the_aberystwyth_scene_stops_at_an_inferred_scale_and_warns_at_a_wrong_one(data: Path) -> None:
    path = data / "aberystwyth/s2_20210527.tif"
    assert "0.068" in str(error_of([path], bands=ABERYSTWYTH))
    (warning,) = open_imagery([path], bands=ABERYSTWYTH, scale=1e-4).warnings
    assert "0.068" in warning


@pytest.mark.real
def test_hls_chips_open_without_crs_and_leave_the_labels_out(data: Path) -> None:
    path = sorted((data / "hls_worldcover").glob("*.tif"))[0]
    imagery = open_imagery([path], scale=1e-4, require_crs=False)
    assert imagery.bands.names == ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
    assert "worldcover" in imagery.warnings[0]
