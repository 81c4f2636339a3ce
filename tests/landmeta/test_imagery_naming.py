from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landmeta.raster import open_imagery

from .conftest import imagery_error, reflectances, write_raster

# --- bands of one file -----------------------------------------------------------------------------


def test_bands_that_nobody_names_are_asked_for(tmp_path: Path) -> None:
    error = imagery_error([write_raster(tmp_path / "a.tif", reflectances())])
    assert "does not say" in str(error)
    assert "--bands" in error.hint


def test_given_names_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    imagery = open_imagery([write_raster(tmp_path / "a.tif", reflectances())], bands="B8A,B2")
    assert imagery.bands.names == ("B8A", "B02")


def test_a_wrong_number_of_names_is_told_with_both_numbers(tmp_path: Path) -> None:
    message = str(imagery_error([write_raster(tmp_path / "a.tif", reflectances())], bands="B2,B3,B4"))
    assert "3 bands" in message
    assert "has 2" in message


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    assert "'B99'" in str(imagery_error([write_raster(tmp_path / "a.tif", reflectances())], bands="B2,B99"))


def test_fewer_names_choose_among_those_in_the_file(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(3), names=["B2", "B3", "B4"])
    imagery = open_imagery([file], bands="B4,B2")
    assert imagery.bands.names == ("B04", "B02")
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances(3)[[2, 0]] * 1e-4, rtol=1e-6)


def test_names_that_contradict_the_file_are_taken_with_a_warning(scene: Path) -> None:
    imagery = open_imagery([scene], bands="B2,B8")
    assert imagery.bands.names == ("B02", "B08")
    assert "B8A" in imagery.warnings[0]


def test_bands_that_are_not_spectral_are_left_out_with_a_warning(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(3), names=["B2", "B3", "worldcover"])
    imagery = open_imagery([file])
    assert imagery.bands.names == ("B02", "B03")
    assert imagery.warnings == ("left out, as they are no known spectral bands: worldcover",)


def test_an_alpha_band_is_no_band_of_the_image(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(3), alpha="yes", photometric="MINISBLACK")
    with rasterio.open(file, "r+") as out:
        interp = rasterio.enums.ColorInterp
        out.colorinterp = [interp.gray, interp.undefined, interp.alpha]
    assert open_imagery([file], bands="B2,B3").bands.names == ("B02", "B03")


def test_a_named_fourth_band_of_8_bits_is_no_transparency(tmp_path: Path) -> None:
    values = (reflectances(4) // 40).astype(np.uint8)
    values[3, :, :4] = 0
    file = write_raster(tmp_path / "a.tif", values, names=["blue", "green", "red", "nir"])
    with rasterio.open(file) as written:
        assert written.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    imagery = open_imagery([file], scale=4e-3)
    assert imagery.bands.names == ("B02", "B03", "B04", "B08")
    assert np.isfinite(imagery.read(0, 0, 16, 16)).all()


def test_a_name_for_a_band_that_is_marked_as_transparency_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", (reflectances(4) // 40).astype(np.uint8))
    error = imagery_error([file], bands="B2,B3,B4,B8", scale=4e-3)
    assert "has 3 and band 4, which the file marks as transparency" in str(error)
    assert "gdal_edit -colorinterp_4 undefined" in error.hint
    with rasterio.open(file, "r+") as out:
        out.colorinterp = [*out.colorinterp[:3], rasterio.enums.ColorInterp.undefined]
    assert len(open_imagery([file], bands="B2,B3,B4,B8", scale=4e-3).bands) == 4


@pytest.mark.parametrize(("count", "declared"), [(1, None), (3, None), (4, None), (4, 9)])
def test_pixels_under_an_alpha_band_of_zero_are_nodata(
    tmp_path: Path, count: int, declared: int | None
) -> None:
    values = reflectances(count + 1)
    values[-1] = 65535
    values[-1, :, :4] = 0
    names = [*["B2", "B3", "B4", "B8"][:count], "alpha"]
    file = write_raster(tmp_path / "a.tif", values, names=names, nodata=declared)
    with rasterio.open(file, "r+") as out:
        out.colorinterp = [rasterio.enums.ColorInterp.gray] * count + [rasterio.enums.ColorInterp.alpha]
    read = open_imagery([file]).read(0, 0, 16, 16)
    assert np.isnan(read[:, :, :4]).all()
    assert np.isfinite(read[:, :, 4:]).all()


def test_a_file_that_names_two_bands_alike_is_refused(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "blue"])
    assert "several of its bands B02" in str(imagery_error([file]))


# --- files of one band -----------------------------------------------------------------------------


def single_bands(folder: Path, names: Sequence[str]) -> list[Path]:
    values = reflectances(len(names))
    return [write_raster(folder / f"{n}.tif", values[i : i + 1]) for i, n in enumerate(names)]


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
    assert "--bands" in imagery_error(paths).hint
    imagery = open_imagery(paths, bands="B4,B2")
    assert imagery.bands.names == ("B04", "B02")
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances() * 1e-4, rtol=1e-6)


def test_names_given_for_single_bands_must_be_as_many_as_the_files(tmp_path: Path) -> None:
    assert "2 files" in str(imagery_error(single_bands(tmp_path, ["one", "two"]), bands="B2,B3,B4"))


def test_names_given_choose_among_single_bands_named_after_their_files(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, ["B02", "B03", "B04"])
    assert open_imagery(paths, bands="B4,B2").bands.names == ("B04", "B02")


def test_the_same_band_of_two_dates_is_refused(tmp_path: Path) -> None:
    error = imagery_error(single_bands(tmp_path, ["may_B02", "june_B02"]))
    assert "may_B02.tif" in str(error)
    assert "june_B02.tif" in str(error)


def test_a_mix_of_single_and_multiband_files_is_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    write_raster(tmp_path / "b.tif", reflectances(1), names=["B4"])
    assert "no image together" in str(imagery_error([tmp_path]))


@pytest.mark.parametrize(
    "stem", ["LC08_L2SP_204023_20210527_02_T1_SR_{}", "HLS.L30.T30UVC.2021147T110906.v2.0.{}"]
)
def test_numbers_of_landsat_bands_are_not_taken_for_those_of_sentinel_2(tmp_path: Path, stem: str) -> None:
    paths = single_bands(tmp_path, [stem.format(band) for band in ("B04", "B05")])
    error = imagery_error(paths)
    assert "which bands they hold" in str(error)
    assert "Landsat" in error.hint
    assert "--bands blue,green,red,nir,swir16,swir22" in error.hint
    assert open_imagery(paths, bands="red,nir").bands.names == ("B04", "B08")


@pytest.mark.parametrize("stem", ["LC80440342014077LGN00_{}", "LT05_clip_{}", "LE07_L1TP_{}"])
def test_older_and_shorter_names_of_landsat_are_known_too(tmp_path: Path, stem: str) -> None:
    assert "Landsat" in imagery_error(single_bands(tmp_path, [stem.format(b) for b in ("B4", "B5")])).hint


def test_words_in_the_names_of_landsat_files_count(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, [f"LC08_x_{word}" for word in ("nir", "red")])
    assert open_imagery(paths).bands.names == ("B04", "B08")


def test_a_place_called_like_no_satellite_is_read_by_its_numbers(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, [f"LC01_{band}" for band in ("B02", "B8A")])
    assert open_imagery(paths).bands.names == ("B02", "B8A")


def test_bands_called_as_landsat_calls_them_are_asked_for_in_words(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "export.tif", reflectances(), names=["SR_B4", "SR_B5"])
    assert "Landsat" in imagery_error([file]).hint
    assert open_imagery([file], bands="red,nir").warnings == ()
    worded = write_raster(tmp_path / "LC08_clip.tif", reflectances(), names=["red", "nir"])
    assert open_imagery([worded]).bands.names == ("B04", "B08")


# --- no files --------------------------------------------------------------------------------------


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "holds no raster" in str(imagery_error([tmp_path]))


def test_no_path_at_all_is_refused() -> None:
    assert "no imagery" in str(imagery_error([]))


def test_given_names_fill_in_for_the_files_that_have_none(tmp_path: Path) -> None:
    paths = single_bands(tmp_path, ["a_B02", "a_B03", "infra"])
    imagery = open_imagery(paths, bands="B8,B3,B2")
    assert imagery.bands.names == ("B08", "B03", "B02")
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances(3)[[2, 1, 0]] * 1e-4, rtol=1e-6)
    assert imagery.warnings == ()


def test_given_names_that_contradict_those_of_the_files_are_taken_with_a_warning(tmp_path: Path) -> None:
    imagery = open_imagery(single_bands(tmp_path, ["a_B02", "a_B03", "infra"]), bands="B8,B4,B2")
    assert imagery.bands.names == ("B08", "B04", "B02")
    assert "calls its bands B02, B03, ?" in imagery.warnings[0]
