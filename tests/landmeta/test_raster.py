from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from landmeta.bands import BandSet
from landmeta.raster import Imagery, imagery_of_array, open_imagery

from .conftest import NORTH, UTM, WEST, reflectances


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


def test_reading_changes_nothing_for_the_next_reader() -> None:
    imagery = imagery_of_array(np.full((1, 4, 4), 0.5, np.float32), ["B02"])
    imagery.read(0, 0, 4, 4)[:] = 9
    assert (imagery.read(0, 0, 4, 4) == 0.5).all()


def test_imagery_travels_to_another_process(scene: Path) -> None:
    imagery = open_imagery([scene])
    copy = pickle.loads(pickle.dumps(imagery))
    np.testing.assert_array_equal(copy.read(0, 0, 5, 5), imagery.read(0, 0, 5, 5))


def test_a_huge_sparse_raster_opens_and_reads_in_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "huge.tif"
    profile = {"count": 4, "height": 20_000, "width": 20_000, "dtype": "uint16", "crs": UTM}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "SPARSE_OK": True, "compress": "deflate"}
    placed = Affine(10, 0, WEST, 0, -10, NORTH)
    with rasterio.open(file, "w", driver="GTiff", transform=placed, **profile, **blocks) as out:
        out.descriptions = ("B2", "B3", "B4", "B8")
        out.write(reflectances(4, 512), window=rasterio.windows.Window(9984, 9984, 512, 512))
    script = (
        "import sys; from pathlib import Path\n"
        "from landmeta.memory import peak_memory; from landmeta.raster import open_imagery\n"
        "before = peak_memory()\n"
        "im = open_imagery([Path(sys.argv[1])], scale=1e-4)\n"
        "for i in range(0, 20000, 1000): v = im.read(i, i, 512, 512)\n"
        "print(peak_memory() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 400, "MB"


# --- arrays ----------------------------------------------------------------------------------------


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


# --- real data -------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_aberystwyth_scene_opens_with_bands_and_scale_given(aberystwyth: Imagery) -> None:
    assert aberystwyth.shape == (947, 930)
    assert [line.split(":")[0] for line in aberystwyth.warnings] == ["930 pixels are 0 in all bands"]
    assert aberystwyth.grid.crs.epsg == 27700


@pytest.mark.real
def test_hls_chips_open_without_crs_and_leave_the_labels_out(data: Path) -> None:
    path = sorted((data / "hls_worldcover").glob("*.tif"))[0]
    imagery = open_imagery([path], scale=1e-4, require_crs=False)
    assert imagery.bands.names == ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
    assert "worldcover" in imagery.warnings[0]
