from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from landmeta.raster import Imagery, open_imagery

from .conftest import NORTH, WEST, imagery_error, reflectances, write_raster

# --- nodata ----------------------------------------------------------------------------------------


def test_zero_in_all_bands_is_nodata_but_not_in_one(tmp_path: Path) -> None:
    values = reflectances()
    values[:, 0, 0] = 0
    values[0, 5, 5] = 0
    read = open_imagery([write_raster(tmp_path / "a.tif", values, names=["B2", "B3"])]).read(0, 0, 16, 16)
    assert np.isnan(read[:, 0, 0]).all()
    assert read[0, 5, 5] == 0
    assert np.isnan(read).sum() == 2


def test_zeros_that_are_taken_as_nodata_are_told_where_the_file_declares_none(tmp_path: Path) -> None:
    values = reflectances()
    values[:, 3] = 0
    file = write_raster(tmp_path / "a.tif", values, names=["B2", "B3"])
    told = "16 pixels are 0 in all bands: taken as nodata, as the file declares none"
    assert open_imagery([file]).warnings == (told,)
    assert (
        open_imagery([write_raster(tmp_path / "b.tif", values, names=["B2", "B3"], nodata=0)]).warnings == ()
    )


def test_a_declared_nodata_value_is_nan_and_zero_then_is_a_number(tmp_path: Path) -> None:
    values = reflectances().astype(np.int16)
    values[:, 0, 0], values[:, 1, 1], values[0, 2, 2] = 0, -9999, -9999
    file = write_raster(tmp_path / "a.tif", values, names=["B2", "B3"], nodata=-9999)
    read = open_imagery([file]).read(0, 0, 16, 16)
    assert (read[:, 0, 0] == 0).all()
    assert np.isnan(read[:, 1, 1]).all()
    assert np.isnan(read[:, 2, 2]).tolist() == [True, False]


def test_a_float_files_nodata_is_found_at_its_own_precision(tmp_path: Path) -> None:
    values = (reflectances() * 1e-4).astype(np.float32)
    values[:, 3, 3] = np.float32(-0.1)
    file = write_raster(tmp_path / "a.tif", values, names=["B2", "B3"], nodata=-0.1)
    assert np.isnan(open_imagery([file]).read(0, 0, 16, 16)).sum() == 2


def test_pixels_under_the_files_mask_are_nan(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    mask = np.full((16, 16), 255, np.uint8)
    mask[4:6, 4:6] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(file, "r+") as out:
        out.write_mask(mask)
    read = open_imagery([file]).read(0, 0, 16, 16)
    assert np.isnan(read).sum() == 8
    assert np.isnan(read[:, 4:6, 4:6]).all()


# --- tiles -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiled_and_whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imagery, np.ndarray]:
    """Four tiles of 10 px that overlap by 4, and the reflectance of the 16 px that they cover."""
    folder, whole = tmp_path_factory.mktemp("tiles"), reflectances(2, 16)
    for row, col in ((0, 0), (0, 6), (6, 0), (6, 6)):
        tile = whole[:, row : row + 10, col : col + 10]
        corner = (WEST + col * 10, NORTH - row * 10)
        write_raster(folder / f"{row}_{col}.tif", tile, names=["B2", "B3"], at=corner)
    return open_imagery([folder]), whole * 1e-4


@settings(max_examples=60, deadline=None)
@given(row=st.integers(-6, 18), col=st.integers(-6, 18), height=st.integers(1, 22), width=st.integers(1, 22))
def test_any_window_of_a_mosaic_of_overlapping_tiles_is_that_of_the_whole(
    tiled_and_whole: tuple[Imagery, np.ndarray], row: int, col: int, height: int, width: int
) -> None:
    imagery, whole = tiled_and_whole
    padded = np.pad(whole, ((0, 0), (30, 30), (30, 30)), constant_values=np.nan)
    expected = padded[:, row + 30 : row + 30 + height, col + 30 : col + 30 + width]
    np.testing.assert_allclose(imagery.read(row, col, height, width), expected, rtol=1e-6)


def test_tiles_of_single_bands_are_put_together_tile_by_tile(tmp_path: Path) -> None:
    for col, tile in enumerate("ab"):
        for band in range(2):
            values = np.full((1, 4, 4), 1000 * (1 + col) + 100 * band, np.uint16)
            write_raster(tmp_path / f"{tile}_B0{band + 2}.tif", values, at=(WEST + 40 * col, NORTH))
    imagery = open_imagery([tmp_path])
    assert imagery.shape == (4, 8)
    expected = np.array([[0.1, 0.2], [0.11, 0.21]])
    np.testing.assert_allclose(imagery.read(0, 0, 4, 8)[:, 0, [0, 7]], expected, rtol=1e-6)


def test_a_tile_that_lacks_a_band_is_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", reflectances(2), names=["B2", "B3"])
    write_raster(tmp_path / "b.tif", reflectances(2), names=["B2", "B4"], at=(WEST + 160, NORTH))
    assert "lacks band B03" in str(imagery_error([tmp_path]))


def test_gaps_between_tiles_are_nan_and_the_first_tile_with_data_counts(tmp_path: Path) -> None:
    first, second = (np.full((1, 4, 4), v, np.uint16) for v in (2000, 4000))
    first[0, :, 2:] = 0
    write_raster(tmp_path / "1.tif", first, names=["B2"])
    write_raster(tmp_path / "2.tif", second, names=["B2"], at=(WEST + 10, NORTH - 20))
    values = open_imagery([tmp_path]).read(0, 0, 6, 5)[0]
    assert np.isnan(values[0, 4])
    assert np.isnan(values[5, 0])
    np.testing.assert_allclose(values[2], [0.2, 0.2, 0.4, 0.4, 0.4], rtol=1e-6)


def test_all_bands_of_a_pixel_come_from_one_tile(tmp_path: Path) -> None:
    first, second = (np.full((2, 4, 4), v, np.uint16) for v in (2000, 4000))
    first[1, 0, 0] = first[1, 3, 3] = 9
    second[0, 3, 3] = 9
    write_raster(tmp_path / "1.tif", first, names=["B2", "B3"], nodata=9)
    write_raster(tmp_path / "2.tif", np.pad(second, ((0, 0), (0, 1), (0, 0))), names=["B2", "B3"], nodata=9)
    values = open_imagery([tmp_path]).read(0, 0, 4, 4)
    np.testing.assert_allclose(values[:, 0, 0], [0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(values[:, 3, 3], [0.2, np.nan], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"crs": "EPSG:32631"}, "EPSG:32631"),
        ({"pixel": 20.0}, "20 x 20"),
        ({"at": (WEST + 164, NORTH)}, "lie between"),
    ],
)
def test_files_on_different_grids_are_refused(tmp_path: Path, change: dict[str, Any], finding: str) -> None:
    write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"])
    beside = {"names": ["B2", "B3"], "at": (WEST + 160, NORTH)}
    write_raster(tmp_path / "b.tif", reflectances(), **{**beside, **change})
    message = str(imagery_error([tmp_path]))
    assert finding in message
    assert "b.tif" in message
