from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, box

from landmeta._imagery.extents import degrees_extent, transform_geometry
from landmeta.errors import RegionError
from landmeta.raster import Imagery, imagery_of_array, open_imagery

from .conftest import NORTH, UTM, WEST, imagery_error, reflectances, write_raster

# --- georeference ----------------------------------------------------------------------------------


def test_imagery_without_crs_is_refused_unless_asked_for(tmp_path: Path) -> None:
    file = write_raster(
        tmp_path / "a.tif", reflectances(), names=["B2", "B3"], crs=None, transform=Affine.identity()
    )
    assert "no CRS" in str(imagery_error([file]))
    imagery = open_imagery([file], require_crs=False)
    assert imagery.grid.crs is None
    assert imagery.read(0, 0, 16, 16).shape == (2, 16, 16)
    with pytest.raises(RegionError, match="no CRS"):
        imagery.clip((0.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("transform", "finding"),
    [
        (Affine.identity(), "no geotransform"),
        (Affine(9, 4, WEST, 4, -9, NORTH), "rotated"),
        (Affine(10, 0, WEST, 0, 10, NORTH), "south-up"),
    ],
    ids=["no place", "rotated", "south-up"],
)
def test_a_grid_without_a_place_or_not_north_up_is_refused(
    tmp_path: Path, transform: Affine, finding: str
) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], transform=transform)
    error = imagery_error([file])
    assert finding in str(error)
    assert "gdalwarp" in error.hint


# --- regions ---------------------------------------------------------------------------------------


LOCAL = 'LOCAL_CS["arbitrary",UNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "at"), [(LOCAL, (0, 0)), ("EPSG:32630", (1e9, 1e9)), ("EPSG:4326", (0, 900))]
)
def test_a_crs_without_a_place_on_earth_is_refused(tmp_path: Path, crs: str, at: tuple[float, float]) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(), names=["B2", "B3"], crs=crs, at=at)
    error = imagery_error([file])
    assert "nowhere on Earth" in str(error)
    assert "gdal_edit -a_srs" in error.hint


@pytest.fixture
def wide(tmp_path: Path) -> Imagery:
    return open_imagery([write_raster(tmp_path / "wide.tif", reflectances(1, 100), names=["B2"])])


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
            "coordinates": [[(WEST, NORTH), (WEST + 200, NORTH), (WEST, NORTH - 100), (WEST, NORTH)]],
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


@pytest.mark.parametrize(
    ("bounds", "cols"),
    [((178.5, -17.5, 179.5, -17.2), (0, 60)), ((-179.9, -18.0, -179.5, -17.5), (110, 200))],
)
def test_regions_on_both_sides_of_the_180th_meridian_are_found(
    bounds: tuple[float, float, float, float], cols: tuple[int, int]
) -> None:
    """UTM zone 1 begins at 180 degrees; this grid of 200 km reaches a degree over it to the west."""
    grid = GeoBox((200, 200), Affine(1000, 0, 70_000, 0, -1000, 8_100_000), "EPSG:32701")
    imagery = imagery_of_array(np.zeros((1, 200, 200), np.float32), ("B02",), grid)
    found = imagery.clip(bounds)
    assert cols[0] <= found.origin[1] < found.origin[1] + found.shape[1] <= cols[1]
    with pytest.raises(RegionError, match="misses the imagery"):
        imagery.clip((0.0, -18.0, 1.0, -17.0))


@pytest.mark.parametrize(
    ("bounds", "hint"),
    [
        ((51.5, 8.9, 51.6, 9.1), "latitude stands before longitude"),
        ((20.0, 40.0, 20.1, 40.1), "must overlap the imagery"),
        ((100.0, 8.9, 101.0, 9.1), "must overlap the imagery"),  # no latitude either way round
    ],
)
def test_a_region_with_latitude_first_is_told_so(
    bounds: tuple[float, float, float, float], hint: str
) -> None:
    grid = GeoBox((100, 100), Affine(0.01, 0, 8.5, 0, -0.01, 52), "EPSG:4326")
    imagery = imagery_of_array(np.zeros((1, 100, 100), np.float32), ("B02",), grid)
    with pytest.raises(RegionError, match="misses the imagery") as caught:
        imagery.clip(bounds)
    assert hint in caught.value.hint


@pytest.mark.parametrize("west", [-180, 0])
def test_a_raster_of_the_whole_globe_holds_every_region(west: float) -> None:
    grid = GeoBox((18, 36), Affine(10, 0, west, 0, -10, 90), "EPSG:4326")
    imagery = imagery_of_array(np.zeros((1, 18, 36), np.float32), ("B02",), grid)
    assert degrees_extent(grid) == (west, -90, west + 360, 90)
    for place in (-175.0, -15.0, 5.0, 165.0):
        clipped = imagery.clip((place, 1.0, place + 4, 4.0))
        assert (clipped.grid.boundingbox.left - place) % 360 == pytest.approx(355)
