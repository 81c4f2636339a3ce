from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from landmeta.labels import read_labels
from landmeta.legend import WORLDCOVER
from landmeta.raster import Imagery, imagery_of_array

from .conftest import (
    NORTH,
    TWO,
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


def test_groups_are_the_polygons_in_file_order_and_footprints_follow_them(tmp_path: Path) -> None:
    shapes = [area(20, 3, 2, 2), area(2, 3, 2, 2), area(10, 3, 3, 1)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["b", "a", "b"]), flat_imagery())
    assert np.bincount(labels.groups).tolist() == [4, 4, 3]
    assert labels.footprints["group"].tolist() == [0, 1, 2]
    assert labels.footprints["class_name"].tolist() == ["b", "a", "b"]
    assert labels.footprints.crs == UTM
    assert labels.footprints.geometry.area.tolist() == [400, 400, 300]


def test_pixels_where_a_band_has_no_data_are_dropped_and_counted(tmp_path: Path) -> None:
    shapes = [area(0, 0, 2, 2), area(10, 10, 2, 2)]
    imagery = flat_imagery(blank=[(0, 1), (11, 11), (30, 30)])
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b"]), imagery)
    assert pixels_of(labels, "a") == block(0, 0, 2, 2) - {(0, 1)}
    assert pixels_of(labels, "b") == block(10, 10, 2, 2) - {(11, 11)}
    assert labels.warnings == ("2 labelled pixels have no imagery (nodata): left out",)


def test_of_clipped_imagery_the_clipped_grid_is_labelled(tmp_path: Path) -> None:
    shapes = [area(10, 10, 4, 4), area(20, 20, 2, 2), area(0, 0, 2, 2)]
    part = flat_imagery().clip((WEST + 120.0, NORTH - 300.0, WEST + 300.0, NORTH - 120.0), UTM)
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b", "a"]), part)
    assert pixels_of(labels, "a") == block(0, 0, 2, 2)
    assert pixels_of(labels, "b") == block(8, 8, 2, 2)


# --- classes ---------------------------------------------------------------------------------------


def test_a_column_of_very_many_values_holds_no_classes(tmp_path: Path) -> None:
    shapes = [centre(i // 20, i % 20) for i in range(300)]
    error = label_error(write_vector(tmp_path / "a.gpkg", shapes, [f"id{i}" for i in range(300)]))
    assert "300 different classes" in str(error)


def test_a_legend_gives_numbers_their_names_when_asked_for(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", TWO, [80, 10])
    labels = read_labels(file, flat_imagery(), legend=WORLDCOVER)
    assert labels.legend.names == ("Tree cover", "Permanent water bodies")
    assert labels.legend.codes == (10, 80)
    assert read_labels(file, flat_imagery()).legend.names == ("class 10", "class 80")


def test_a_number_that_the_legend_lacks_is_refused(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", TWO, [80, 11])
    assert "hold 11" in str(label_error(file, legend=WORLDCOVER))


# --- too few, nowhere ------------------------------------------------------------------------------


def test_labels_all_outside_are_told_with_both_extents(tmp_path: Path) -> None:
    shapes = [area(900, 0, 4, 4), area(900, 9, 4, 4)]
    message = str(label_error(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b"])))
    assert "outside the imagery" in message
    assert message.count("west") == 2


def test_a_label_raster_elsewhere_is_told_with_both_extents(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", np.ones((9, 9), np.uint8), at=(WEST + 90_000, NORTH))
    assert str(label_error(file)).count("west") == 2


@pytest.mark.parametrize(
    ("nodata", "background"), [(None, "(0 or no data)"), (0, "(0 or no data)"), (9, "(0, or 9, its nodata)")]
)
def test_a_label_raster_of_background_over_the_imagery_is_not_said_to_lie_outside(
    tmp_path: Path, nodata: float | None, background: str
) -> None:
    codes = np.zeros((9, 9), np.uint8)
    codes[:4] = nodata or 0
    message = str(label_error(write_raster(tmp_path / "a.tif", codes, nodata=nodata)))
    assert "outside" not in message
    assert "no class code over the imagery" in message
    assert message.endswith(f"only background {background}")


def test_a_label_raster_that_is_nowhere_on_the_imagery_s_projection_lies_outside(tmp_path: Path) -> None:
    codes = np.ones((9, 9), np.uint8)
    file = write_raster(tmp_path / "a.tif", codes, crs="EPSG:4326", at=(87.0, 0.0), pixel=0.1)
    assert "lie outside" in str(label_error(file))


def test_a_label_raster_whose_frame_alone_meets_the_imagery_lies_outside(tmp_path: Path) -> None:
    """Less than half a pixel of the imagery is under it: no pixel's centre."""
    codes = np.ones((9, 9), np.uint8)
    file = write_raster(tmp_path / "a.tif", codes, at=(WEST - 86, NORTH))
    assert "lie outside" in str(label_error(file))


def degrees_as_utm(path: Path, layers: Sequence[str | None] = (None,)) -> Path:
    """Labels in degrees in a file that says it is UTM."""
    table = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=TWO, crs=UTM).to_crs("EPSG:4326")
    for layer in layers:
        table.set_crs(UTM, allow_override=True).to_file(path, layer=layer)
    return path


@pytest.mark.parametrize("layers", [(None,), ("one", "two")])
def test_degrees_under_a_projected_crs_are_told_where_labels_are_outside(
    tmp_path: Path, layers: Sequence[str | None]
) -> None:
    error = label_error(degrees_as_utm(tmp_path / "a.gpkg", layers))
    assert "outside the imagery" in str(error)
    assert str(error).endswith("; the coordinates look like degrees though the file says EPSG:32630")
    assert "ogr2ogr -a_srs EPSG:4326" in error.hint


def test_a_label_raster_in_degrees_under_a_projected_crs_is_told(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", np.ones((9, 9), np.uint8), at=(-3.0, 52.3), pixel=1e-4)
    error = label_error(file)
    assert str(error).endswith("; the coordinates look like degrees though the file says EPSG:32630")
    assert "gdal_edit -a_srs EPSG:4326 a.tif" in error.hint


def test_labels_elsewhere_in_degrees_or_in_metres_are_not_doubted(tmp_path: Path) -> None:
    shapes = [area(900, 0, 4, 4), area(900, 9, 4, 4)]
    for name, crs in (("metres", UTM), ("degrees", "EPSG:4326")):
        error = label_error(write_vector(tmp_path / f"{name}.gpkg", shapes, ["a", "b"], crs=crs))
        assert "look like degrees" not in str(error)


def test_labels_all_on_nodata_are_refused(tmp_path: Path) -> None:
    imagery = flat_imagery(blank=sorted(block(0, 0, 40, 50)))
    assert "no data" in str(label_error(write_vector(tmp_path / "a.gpkg", TWO, ["a", "b"]), imagery))


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    assert "one class" in str(label_error(write_vector(tmp_path / "a.gpkg", TWO, ["a", "a"])))


def test_a_class_of_one_pixel_is_refused_and_a_polygon_counts_its_pixels(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.geojson", [area(0, 0, 1, 2), centre(9, 9)], ["a", "b"])
    assert "'b' has 1" in str(label_error(file))


def test_a_class_that_lies_outside_altogether_has_no_sample(tmp_path: Path) -> None:
    shapes = [*TWO, area(900, 0, 2, 2)]
    assert "'c' has 0" in str(label_error(write_vector(tmp_path / "a.gpkg", shapes, ["a", "b", "c"])))


def test_a_class_whose_data_are_missing_is_refused(tmp_path: Path) -> None:
    imagery = flat_imagery(blank=[(20, 20), (20, 21), (21, 20)])
    assert "'b' has 1" in str(label_error(write_vector(tmp_path / "a.gpkg", TWO, ["a", "b"]), imagery))


def test_imagery_without_crs_cannot_be_labelled(tmp_path: Path) -> None:
    bare = imagery_of_array(np.ones((1, 9, 9), np.float32), ["B02"])
    assert "imagery has no CRS" in str(label_error(write_vector(tmp_path / "a.gpkg", TWO, ["a", "b"]), bare))


def test_a_label_raster_without_crs_is_refused(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", np.ones((4, 4), np.uint8), crs=None)
    assert "no CRS" in str(label_error(file))


def test_a_raster_of_several_bands_holds_no_classes(tmp_path: Path) -> None:
    error = label_error(write_raster(tmp_path / "a.tif", np.ones((3, 40, 50), np.uint8)))
    assert "3 bands" in str(error)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    assert "nothing.gpkg do not exist" in str(label_error(tmp_path / "nothing.gpkg"))


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.tif", "a.shp"])
@pytest.mark.parametrize("content", ["", "hello"])
def test_a_file_that_holds_no_labels_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert name in str(label_error(tmp_path / name))


# --- real data -------------------------------------------------------------------------------------


@pytest.mark.real
def test_aberystwyth_has_24_polygons_of_4231_pixels(data: Path, aberystwyth: Imagery) -> None:
    labels = read_labels(data / "aberystwyth/labels.gpkg", aberystwyth, column="class")
    assert labels.legend.names == ("forest", "grass", "urban", "water")
    assert np.bincount(labels.codes)[1:].tolist() == [557, 1945, 296, 1433]
    assert len(np.unique(labels.groups)) == 24
    assert labels.warnings == ()


@pytest.mark.real
def test_a_layer_per_class_gives_the_same_labels(data: Path, aberystwyth: Imagery) -> None:
    of_column, of_layers = (
        read_labels(data / "aberystwyth" / name, aberystwyth)
        for name in ("labels.gpkg", "labels_by_layer.gpkg")
    )
    for name in of_column.legend.names:
        assert pixels_of(of_column, name) == pixels_of(of_layers, name)
