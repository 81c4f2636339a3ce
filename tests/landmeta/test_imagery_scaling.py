from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landmeta.bands import BandSet
from landmeta.raster import open_imagery

from .conftest import ABERYSTWYTH, imagery_error, reflectances, write_raster


def test_floats_are_taken_for_reflectance(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", (reflectances() * 1e-4).astype(np.float32), names=["B2", "B3"])
    assert open_imagery([file]).bands.scale == 1.0


def test_scale_and_offset_in_the_file_come_before_inference(tmp_path: Path) -> None:
    file = write_raster(
        tmp_path / "a.tif", reflectances() + 1000, names=["B2", "B3"], scale=1e-4, offset=-0.1
    )
    imagery = open_imagery([file])
    assert (imagery.bands.scale, imagery.bands.offset) == (1e-4, -0.1)
    np.testing.assert_allclose(imagery.read(0, 0, 16, 16), reflectances() * 1e-4, atol=1e-6)


def test_a_given_scale_comes_before_that_of_the_file(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], scale=1e-4, offset=-0.1)
    assert open_imagery([file], scale=2e-4).bands == BandSet(("B02", "B03"), 2e-4, 0.0)


@pytest.mark.parametrize("offset", [-0.2, 0.0])
def test_a_given_offset_comes_before_that_of_the_file(tmp_path: Path, offset: float) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], scale=1e-4, offset=-0.1)
    assert open_imagery([file], offset=offset).bands == BandSet(("B02", "B03"), 1e-4, offset)


@pytest.mark.parametrize(("divisor", "figure"), [(10, r"0\.05\d+"), (1 / 10, r"5\.\d+")])
def test_an_inferred_scale_that_gives_no_reflectance_stops_with_the_figures(
    tmp_path: Path, divisor: float, figure: str
) -> None:
    values = (reflectances() / divisor).astype(np.uint16)
    error = imagery_error([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"])])
    assert "0.0001" in str(error)
    assert re.search(figure, str(error))
    assert "--scale" in error.hint


def test_a_given_scale_that_gives_no_reflectance_warns_once(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances() // 10, names=["B2", "B3"])
    (warning,) = open_imagery([file], scale=1e-4).warnings
    assert "99th percentile" in warning
    assert warning.endswith("--scale 1e-3 would fit")


def test_a_given_scale_upside_down_is_refused_with_the_likely_one(tmp_path: Path) -> None:
    error = imagery_error([write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])], scale=1e4)
    assert "reflectance 5.9" in str(error)
    assert error.hint.endswith("--scale 1e-4 would fit")


@pytest.mark.real
def test_the_aberystwyth_scene_stops_at_an_inferred_scale_and_warns_at_a_wrong_one(data: Path) -> None:
    path = data / "aberystwyth/s2_20210527.tif"
    assert "0.068" in str(imagery_error([path], bands=ABERYSTWYTH))
    warning, _ = open_imagery([path], bands=ABERYSTWYTH, scale=1e-4).warnings
    assert "0.068" in warning


def test_the_brightest_band_decides_whether_a_scale_is_plausible(tmp_path: Path) -> None:
    """Water and forest are dark in most bands."""
    values = reflectances()
    values[0] //= 20
    assert open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B8"])]).warnings == ()


def test_an_image_without_data_stops_where_its_scale_must_be_inferred(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances() * 0, names=["B2", "B3"])
    assert "no pixel with data" in str(imagery_error([file]))
    assert "could not be checked" in open_imagery([file], scale=1e-4).warnings[0]


def test_bands_of_different_scale_ask_for_one(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    with rasterio.open(file, "r+") as out:
        out.scales = (1e-4, 1e-3)
    assert "different scales" in str(imagery_error([file]))


def test_radar_in_decibel_is_not_held_to_be_reflectance(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-25, 0, (2, 8, 8)).astype(np.float32)
    assert open_imagery([write_raster(tmp_path / "a.tif", values, names=["VV", "VH"])]).warnings == ()


def test_radar_in_integers_asks_for_the_scale(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["VV", "B2"])
    assert "radar" in str(imagery_error([file]))


def test_values_that_are_not_finite_are_nodata_and_counted(tmp_path: Path) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[0, 0, :3], values[1, 0, 2], values[1, 9, 9] = np.nan, np.inf, -np.inf
    imagery = open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"])])
    assert [w for w in imagery.warnings if "NaN, infinite" in w] == [
        "4 pixels are NaN, infinite or no possible measurement in a band: taken as nodata"
    ]
    assert np.isnan(imagery.read(0, 0, 16, 16)).sum() == 5


def test_nan_declared_as_nodata_is_not_worth_a_warning(tmp_path: Path) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[:, 0, 0] = np.nan
    imagery = open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"], nodata=np.nan)])
    assert imagery.warnings == ()


@pytest.mark.parametrize("value", [-3.4028235e38, 1e20, -9999.0, -32768.0])
@pytest.mark.parametrize("declared", [False, True])
def test_fill_of_floats_is_nodata_and_counted_where_it_is_not_declared(
    tmp_path: Path, value: float, declared: bool
) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[1, 4, 5] = value
    options = {"nodata": value} if declared else {}
    imagery = open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"], **options)])
    read = imagery.read(0, 0, 16, 16)
    assert np.argwhere(np.isnan(read)).tolist() == [[1, 4, 5]]
    assert [w.split()[0] for w in imagery.warnings] == ([] if declared else ["1"])


@pytest.mark.parametrize("value", [-9999, -32768])
def test_fill_of_signed_integers_that_is_not_declared_is_nodata_too(tmp_path: Path, value: int) -> None:
    values = reflectances().astype(np.int16)
    values[1, 4, 5], values[0, 0, 0] = value, -9998
    imagery = open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"])])
    assert np.argwhere(np.isnan(imagery.read(0, 0, 16, 16))).tolist() == [[1, 4, 5]]
    assert [w.split()[0] for w in imagery.warnings] == ["1"]


def test_numbers_of_a_sensor_stored_as_floats_stay(tmp_path: Path) -> None:
    values = reflectances().astype(np.float32)
    values[0, 3, 3], values[1, 3, 3] = 65_535, -1000
    imagery = open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"])], scale=1e-4)
    assert imagery.read(3, 3, 1, 1).ravel() == pytest.approx([6.5535, -0.1])
