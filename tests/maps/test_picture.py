from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer
from rasterio.enums import Resampling

from landmeta.classmap import ClassMap
from landmeta.raster import imagery_of_array
from landmeta_maps.color import class_table
from landmeta_maps.picture import mercator_view, palette_png, true_color_overview, warp


def decoded(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGBA"))


def test_the_palette_picture_has_the_colours_and_transparent_nodata(class_map: ClassMap) -> None:
    pixels = decoded(palette_png(class_map.codes, class_table(class_map.legend)))
    np.testing.assert_array_equal(pixels, class_table(class_map.legend)[class_map.codes])


def test_the_corner_of_the_grid_is_where_the_view_says(class_map: ClassMap) -> None:
    view = mercator_view(class_map.grid)
    (south, west), (north, east) = view.bounds
    to_lonlat = Transformer.from_crs(32630, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(400_000 + 1500, 5_800_000 - 1500)
    assert west < lon < east
    assert south < lat < north
    lon, lat = to_lonlat.transform(400_000, 5_800_000)
    assert lon == pytest.approx(west, abs=0.002)
    assert lat == pytest.approx(north, abs=0.002)


def test_a_marked_pixel_lands_at_its_longitude_and_latitude(class_map: ClassMap) -> None:
    codes = np.ones_like(class_map.codes)
    codes[198:203, 98:103] = 7
    view = mercator_view(class_map.grid)
    rows, cols = np.nonzero(warp(codes, class_map.grid, view, 255, Resampling.nearest) == 7)
    (south, west), (north, east) = view.bounds
    lon, lat = Transformer.from_crs(32630, 4326, always_xy=True).transform(401_005, 5_797_995)
    assert west + (cols.mean() + 0.5) / view.width * (east - west) == pytest.approx(lon, abs=1e-4)
    assert north - (rows.mean() + 0.5) / view.height * (north - south) == pytest.approx(lat, abs=1e-4)


def test_warped_classes_are_only_classes_of_the_map(class_map: ClassMap) -> None:
    view = mercator_view(class_map.grid)
    warped = warp(class_map.codes, class_map.grid, view, 255, Resampling.nearest)
    assert set(np.unique(warped)) == set(np.unique(class_map.codes))


def test_the_longest_side_is_capped(make_grid: Callable[..., GeoBox]) -> None:
    view = mercator_view(make_grid(20_000, 7_000))
    assert max(view.width, view.height) == 2048
    (south, _), (north, _) = view.bounds
    assert north - south == pytest.approx(1.8, abs=0.02)


@pytest.mark.parametrize("west", [100_000, 740_000])
def test_a_map_across_180_degrees_stays_one_small_picture(west: float) -> None:
    epsg = 32701 if west < 500_000 else 32760  # Fiji, from either side
    grid = GeoBox((500, 2000), Affine(100, 0, west, 0, -100, 8_100_000), f"EPSG:{epsg}")
    (_, left), (_, right) = mercator_view(grid).bounds
    assert 1.5 < right - left < 2.2


def test_the_overview_averages_valid_pixels_and_keeps_the_place() -> None:
    values = np.zeros((3, 50, 70), np.float32)
    values[:, ::2] = 0.2
    values[:, :4, :4] = np.nan
    values[:, 3, 3] = 0.4
    grid = GeoBox((50, 70), Affine(10, 0, 0, 0, -10, 500), "EPSG:32630")
    small, at = true_color_overview(imagery_of_array(values, ["B04", "B03", "B02"], grid), longest=20)
    assert small.shape == (3, 13, 18)
    assert at.affine == Affine(40, 0, 0, 0, -40, 500)
    assert small[0, 0, 0] == pytest.approx(0.4)
    assert small[0, 5, 5] == pytest.approx(0.1)


def test_red_green_and_blue_are_found_by_name() -> None:
    values = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((5, 4, 4), np.float32)
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:32630")
    small, _ = true_color_overview(imagery_of_array(values, ["B08", "B02", "B11", "B03", "B04"], grid))
    assert small[:, 0, 0].tolist() == [4, 3, 1]


def test_one_band_is_shown_in_grey() -> None:
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:32630")
    small, _ = true_color_overview(imagery_of_array(np.ones((1, 4, 4), np.float32), ["VV"], grid))
    assert small.shape == (3, 4, 4)
