from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from landmeta._imagery.files import RasterFile
from landmeta.labels import read_labels

from .conftest import (
    NORTH,
    UTM,
    WEST,
    area,
    block,
    centre,
    flat_imagery,
    label_error,
    pixels_of,
    write_raster,
    write_vector,
)

# --- polygons and points ---------------------------------------------------------------------------


def test_a_polygon_labels_the_pixels_whose_centre_it_holds(tmp_path: Path) -> None:
    shapes = [area(2, 3, 4, 5), area(20.4, 30.4, 2.2, 2.2)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["water", "forest"]), flat_imagery())
    assert pixels_of(labels, "water") == block(2, 3, 4, 5)
    assert pixels_of(labels, "forest") == block(20, 30, 3, 3)
    assert labels.warnings == ()
    assert labels.legend.names == ("forest", "water")
    assert labels.rows.dtype == labels.codes.dtype == labels.groups.dtype == np.int64


def test_a_point_labels_the_pixel_that_it_is_in(tmp_path: Path) -> None:
    shapes = [centre(0, 0), centre(39, 49), shapely.Point(WEST + 109.9, NORTH - 50.1), centre(7, 8)]
    labels = read_labels(write_vector(tmp_path / "a.geojson", shapes, list("aabb")), flat_imagery())
    assert pixels_of(labels, "a") == {(0, 0), (39, 49)}
    assert pixels_of(labels, "b") == {(5, 10), (7, 8)}
    assert len(set(labels.groups.tolist())) == 4


def test_polygons_and_points_may_be_mixed(tmp_path: Path) -> None:
    shapes = [area(2, 2, 2, 2), centre(9, 9), centre(10, 10)]
    labels = read_labels(write_vector(tmp_path / "a.geojson", shapes, ["a", "b", "b"]), flat_imagery())
    assert (len(pixels_of(labels, "a")), len(pixels_of(labels, "b"))) == (4, 2)


def test_a_polygon_between_pixel_centres_labels_the_pixel_of_its_centroid(tmp_path: Path) -> None:
    shapes = [area(5.6, 7.1, 0.3, 0.3), area(9.1, 9.1, 0.2, 0.2), area(20, 20, 2, 2)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "a", "b"]), flat_imagery())
    assert pixels_of(labels, "a") == {(5, 7), (9, 9)}
    assert any("2 polygons hold no pixel's centre" in w for w in labels.warnings)


def test_a_hole_is_not_labelled(tmp_path: Path) -> None:
    ring = area(10, 10, 6, 6) - area(12, 12, 2, 2)
    labels = read_labels(
        write_vector(tmp_path / "a.gpkg", [ring, area(30, 30, 2, 2)], ["a", "b"]), flat_imagery()
    )
    assert pixels_of(labels, "a") == block(10, 10, 6, 6) - block(12, 12, 2, 2)


def test_labels_partly_outside_are_clipped_and_those_wholly_outside_counted(tmp_path: Path) -> None:
    shapes = [area(-2, -2, 4, 4), area(500, 0, 4, 4), centre(-1, 3), area(20, 20, 2, 2)]
    labels = read_labels(write_vector(tmp_path / "a.geojson", shapes, list("abab")), flat_imagery())
    assert pixels_of(labels, "a") == block(0, 0, 2, 2)
    assert labels.warnings == ("2 of 4 labels lie outside the imagery: left out",)
    assert set(labels.footprints["group"]) == {0, 3}


def test_a_polygon_larger_than_the_imagery_is_burnt_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.pixels._STRIP", 150)
    shapes = [area(-100, -100, 130, 300), area(32, 0, 4, 4)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b"]), flat_imagery())
    assert pixels_of(labels, "a") == block(0, 0, 30, 50)


def test_of_very_many_pixels_as_many_are_drawn_from_each_large_polygon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta.labels._MOST_OF_CLASS", 100)
    shapes = [
        area(0, 0, 20, 20),
        area(0, 30, 2, 3),
        area(25, 30, 10, 10),
        area(500, 0, 9, 9),
        area(38, 0, 2, 9),
    ]
    file = write_vector(tmp_path / "a.gpkg", shapes, list("aaaab"))
    labels = read_labels(file, flat_imagery())
    assert np.bincount(labels.groups).tolist() == [47, 6, 47, 0, 18]
    assert pixels_of(labels, "a") < block(0, 0, 20, 20) | block(0, 30, 2, 3) | block(25, 30, 10, 10)
    assert (
        labels.warnings[-1]
        == "of 524 labelled pixels 118 are kept, drawn at random: about 100 of a large class"
    )
    again, other = (read_labels(file, flat_imagery(), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(labels.rows, again.rows)
    assert not np.array_equal(labels.rows, other.rows)


def test_what_polygons_cover_beyond_the_imagery_does_not_make_their_pixels_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta.labels._MOST_OF_CLASS", 200)
    shapes = [
        area(-5000, -5000, 5010, 5010),
        area(20, 20, 9, 9),
        area(-5000, 40, 5001, 5000),
        area(32, 40, 4, 4),
    ]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, list("aaab")), flat_imagery())
    assert pixels_of(labels, "a") == block(0, 0, 10, 10) | block(20, 20, 9, 9) | block(0, 40, 1, 10)
    assert not any("drawn" in line for line in labels.warnings)


def test_pixels_drawn_from_a_polygon_are_not_in_one_of_another_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta.labels._MOST_OF_CLASS", 200)
    shapes = [area(0, 0, 30, 20), area(0, 10, 30, 20), area(5, 0, 3, 3)]
    points = [centre(20, 2), centre(35, 40), centre(36, 40)]
    file = write_vector(tmp_path / "a.gpkg", [*shapes, *points], list("abaccc"))
    labels = read_labels(file, flat_imagery())
    assert pixels_of(labels, "a") < block(0, 0, 30, 10) - {(20, 2)}
    assert pixels_of(labels, "c") == {(35, 40), (36, 40)}
    assert pixels_of(labels, "b") < block(0, 20, 30, 10)
    assert any("under labels of different classes" in line for line in labels.warnings)


def test_pixels_drawn_from_a_polygon_of_very_many_vertices_are_read_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta.labels._MOST_OF_CLASS", 30_000)
    shapes = [shapely.segmentize(area(0, 0, 290, 200), 0.02), area(292, 0, 4, 4)]
    file = write_vector(tmp_path / "a.gpkg", shapes, ["a", "b"])
    started = time.perf_counter()
    labels = read_labels(file, flat_imagery(300, 300))
    assert len(labels) == 30_016
    assert time.perf_counter() - started < 20


# --- overlaps --------------------------------------------------------------------------------------


def test_pixels_under_labels_of_different_classes_are_dropped_and_counted(tmp_path: Path) -> None:
    shapes = [area(0, 0, 4, 4), area(2, 2, 4, 4), area(0, 0, 2, 2)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b", "a"]), flat_imagery())
    assert pixels_of(labels, "a") == block(0, 0, 4, 4) - block(2, 2, 2, 2)
    assert pixels_of(labels, "b") == block(2, 2, 4, 4) - block(2, 2, 2, 2)
    assert "4 pixels are under labels of different classes: left out" in labels.warnings


def test_the_third_of_three_overlapping_labels_is_not_overlooked(tmp_path: Path) -> None:
    shapes = [area(0, 0, 4, 4), area(1, 1, 2, 2), area(0, 0, 4, 4), area(10, 10, 2, 2)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b", "a", "b"]), flat_imagery())
    assert len(pixels_of(labels, "a")) == 12
    assert pixels_of(labels, "b") == block(10, 10, 2, 2)


def test_a_pixel_under_several_labels_of_one_class_occurs_once(tmp_path: Path) -> None:
    shapes = [area(0, 0, 4, 4), area(2, 2, 4, 4), area(20, 20, 2, 2)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "a", "b"]), flat_imagery())
    assert len(pixels_of(labels, "a")) == int((labels.codes == 1).sum()) == 28
    assert np.bincount(labels.groups).tolist() == [16, 12, 4]


# --- label rasters ---------------------------------------------------------------------------------


def test_a_label_raster_labels_its_pixels_and_patches_are_groups(tmp_path: Path) -> None:
    codes = np.zeros((40, 50), np.uint8)
    codes[0:2, 0:2], codes[2, 2], codes[10:12, 10:12], codes[0:2, 2:4] = 3, 3, 3, 5
    labels = read_labels(write_raster(tmp_path / "a.tif", codes), flat_imagery())
    assert pixels_of(labels, "class 3") == block(0, 0, 2, 2) | {(2, 2)} | block(10, 10, 2, 2)
    assert pixels_of(labels, "class 5") == block(0, 2, 2, 2)
    assert labels.legend.codes == (3, 5)
    assert np.bincount(labels.groups).tolist() == [5, 4, 4]
    assert labels.footprints.geometry.area.tolist() == [500, 400, 400]
    assert labels.footprints["class_name"].tolist() == ["class 3", "class 5", "class 3"]
    assert labels.warnings == ()


def test_the_files_nodata_is_no_label(tmp_path: Path) -> None:
    codes = np.full((40, 50), 255, np.uint8)
    codes[0, 0:2], codes[5, 0:2], codes[9, :] = 1, 2, 0
    assert len(read_labels(write_raster(tmp_path / "a.tif", codes, nodata=255), flat_imagery())) == 4


def test_a_label_raster_elsewhere_on_the_grid_is_placed_by_its_coordinates(tmp_path: Path) -> None:
    codes = np.array([[1, 1, 9, 9], [4, 4, 9, 9]], np.uint8)
    labels = read_labels(
        write_raster(tmp_path / "a.tif", codes, at=(WEST + 480, NORTH - 100)), flat_imagery()
    )
    assert pixels_of(labels, "class 1") == block(10, 48, 1, 2)
    assert labels.legend.names == ("class 1", "class 4")


def test_a_coarser_label_raster_labels_every_pixel_whose_centre_it_holds(tmp_path: Path) -> None:
    codes = np.array([[1, 2], [0, 1]], np.uint8)
    labels = read_labels(write_raster(tmp_path / "a.tif", codes, pixel=30.0), flat_imagery())
    assert pixels_of(labels, "class 2") == block(0, 3, 3, 3)
    assert "grid of its own" in labels.warnings[0]


def test_a_finer_label_raster_is_taken_at_the_pixel_centres(tmp_path: Path) -> None:
    codes = np.zeros((90, 90), np.uint8)
    codes[1::3, 1::3] = 1 + (np.arange(30) % 2)
    labels = read_labels(write_raster(tmp_path / "a.tif", codes, pixel=10 / 3), flat_imagery())
    assert len(labels) == 900
    assert pixels_of(labels, "class 1") == {(r, c) for r in range(30) for c in range(0, 30, 2)}


def test_a_label_raster_in_degrees_falls_on_the_pixels_under_it(tmp_path: Path) -> None:
    """The scene is 3 W 52.35 N; one label pixel of 0.0008 degrees is some 54 x 89 m."""
    codes = np.arange(1, 101, dtype=np.uint8).reshape(10, 10) % 2 + 1
    west, _, _, north = geopandas.GeoSeries([area(0, 0, 1, 1)], crs=UTM).to_crs(4326).total_bounds
    file = write_raster(
        tmp_path / "a.tif", codes, at=(west - 0.0008, north + 0.0008), pixel=0.0008, crs="EPSG:4326"
    )
    labels = read_labels(file, flat_imagery())
    assert labels.warnings[0] == "labels reprojected from EPSG:4326 to EPSG:32630"
    back = geopandas.GeoSeries([centre(20, 20)], crs=UTM).to_crs(4326)[0]
    expected = codes[int((north + 0.0008 - back.y) / 0.0008), int((back.x - west + 0.0008) / 0.0008)]
    assert (20, 20) in pixels_of(labels, f"class {expected}")


def test_whole_numbers_in_a_float_raster_are_codes_and_nan_is_none(tmp_path: Path) -> None:
    codes = np.full((40, 50), np.nan, np.float32)
    codes[0, :2], codes[3, :2] = 4, 9
    assert read_labels(write_raster(tmp_path / "a.tif", codes), flat_imagery()).legend.codes == (4, 9)


def test_a_raster_of_fractions_holds_no_classes(tmp_path: Path) -> None:
    assert "0.5" in str(label_error(write_raster(tmp_path / "a.tif", np.full((40, 50), 0.5, np.float32))))


def test_a_much_finer_raster_in_another_crs_is_read_in_small_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.rasters._SIDE", 32)
    read, sizes = RasterFile.read, []

    def counted(file: RasterFile, *window: Any) -> Any:
        sizes.append(window[-2] * window[-1])
        return read(file, *window)

    imagery = flat_imagery()
    everything = geopandas.GeoSeries([area(0, 0, 40, 50)], crs=UTM)
    west, south, east, north = everything.to_crs("EPSG:4326").total_bounds
    step = max(east - west, north - south) / 2000  # 40 a pixel of the imagery
    codes = np.ones((2000, 2000), np.uint8)
    codes[:, 1000:] = 2
    file = write_raster(tmp_path / "a.tif", codes, crs="EPSG:4326", at=(west, north), pixel=step)
    monkeypatch.setattr(RasterFile, "read", counted)
    assert len(np.unique(read_labels(file, imagery).codes)) == 2
    assert max(sizes) < codes.size / 8


def test_a_raster_of_heights_is_refused_as_soon_as_it_has_too_many_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.rasters._SIDE", 8)
    heights = np.arange(1, 2001, dtype=np.int16).reshape(40, 50)
    file = write_raster(tmp_path / "a.tif", heights)
    monkeypatch.setattr("landmeta._labels.patches.ndimage.label", None)  # not one patch is looked for
    error = label_error(file)
    assert "more than 254 different codes" in str(error)
    assert "--labels takes a raster of class codes" in error.hint


@pytest.mark.parametrize("value", [np.float32(-3.4028235e38), np.uint64(2**63)])
def test_numbers_too_large_for_codes_are_named(tmp_path: Path, value: np.generic) -> None:
    codes = np.ones((40, 50), value.dtype)
    codes[:, :20], codes[0] = 2, value
    assert f"holds {value:g}," in str(label_error(write_raster(tmp_path / "a.tif", codes)))
