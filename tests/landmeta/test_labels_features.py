from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from landmeta.labels import read_labels

from .conftest import (
    LINE,
    NORTH,
    TWO,
    UTM,
    WEST,
    area,
    block,
    flat_imagery,
    label_error,
    pixels_of,
    write_raster,
    write_vector,
)

# --- shapes ----------------------------------------------------------------------------------------


def test_each_part_of_a_multipolygon_is_a_group_of_its_own(tmp_path: Path) -> None:
    several = shapely.MultiPolygon([area(2, 2, 2, 2), area(10, 10, 2, 2)])
    file = write_vector(tmp_path / "a.gpkg", [several, area(30, 30, 2, 2)], ["a", "b"])
    labels = read_labels(file, flat_imagery())
    assert np.bincount(labels.groups).tolist() == [4, 4, 4]


def test_labels_in_another_crs_are_moved_and_it_is_said(tmp_path: Path) -> None:
    shapes = [area(2, 3, 4, 5), area(20, 30, 3, 3)]
    file = write_vector(tmp_path / "a.geojson", shapes, ["water", "forest"], crs="EPSG:4326")
    labels = read_labels(file, flat_imagery())
    assert labels.warnings == ("labels reprojected from EPSG:4326 to EPSG:32630",)
    assert pixels_of(labels, "water") == block(2, 3, 4, 5)


def test_labels_without_class_or_shape_and_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    shapes = [
        area(0, 0, 2, 2),
        area(9, 9, 2, 2),
        area(20, 20, 2, 2),
        LINE,
        shapely.Polygon(),
        area(30, 30, 2, 2),
    ]
    file = write_vector(tmp_path / "a.gpkg", shapes, ["a", None, "b", "a", "a", "  "])
    labels = read_labels(file, flat_imagery())
    assert len(labels) == 8
    assert labels.warnings == (
        "2 labels have no class: left out",
        "1 labels have no shape: left out",
        "1 labels are lines, expected polygons or points: left out",
    )


def test_labels_without_crs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    with pytest.warns(UserWarning, match="crs"):
        geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=TWO).to_file(file)
    assert "no CRS" in str(label_error(file))


def test_a_table_without_shapes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("class,value\nwater,1\n")
    assert "no layer with shapes" in str(label_error(tmp_path / "a.csv"))


def test_a_table_of_coordinates_is_refused_with_the_command_that_makes_points_of_it(tmp_path: Path) -> None:
    (tmp_path / "my labels.csv").write_text("lon,lat,class\n-3.0,52.3,water\n")
    error = label_error(tmp_path / "my labels.csv")
    assert "no layer with shapes" in str(error)
    command = shlex.split(error.hint.partition(": ")[2])
    assert command[:3] == ["ogr2ogr", "my labels.gpkg", "my labels.csv"]
    assert command[3:] == [
        *("-oo", "X_POSSIBLE_NAMES=lon", "-oo", "Y_POSSIBLE_NAMES=lat"),
        *("-a_srs", "EPSG:4326"),
    ]


@pytest.mark.parametrize(
    ("header", "columns", "code"),
    [
        ("Longitude;Latitude;class", ("Longitude", "Latitude"), "4326"),
        ("id,X,Y,class", ("X", "Y"), "CODE"),
        ("where,class", ("lon", "lat"), "4326"),
    ],
)
def test_the_command_that_makes_points_names_the_columns_of_the_table(
    tmp_path: Path, header: str, columns: tuple[str, str], code: str
) -> None:
    (tmp_path / "a.csv").write_text(header + "\n")
    hint = label_error(tmp_path / "a.csv").hint
    assert f"X_POSSIBLE_NAMES={columns[0]} -oo Y_POSSIBLE_NAMES={columns[1]} -a_srs EPSG:{code}" in hint
    assert ("CODE is" in hint) == (code == "CODE")


def test_metres_in_a_file_that_says_degrees_are_refused_with_a_hint_at_its_crs(tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=TWO, crs="EPSG:4326")
    table.to_file(tmp_path / "a.geojson")
    error = label_error(tmp_path / "a.geojson")
    assert "CRS is not defined" in str(error)
    assert "check the CRS of --labels" in error.hint


def test_a_file_of_lines_only_is_refused_with_their_number(tmp_path: Path) -> None:
    error = label_error(write_vector(tmp_path / "a.gpkg", [LINE] * 24, ["a", "b"] * 12))
    assert "no polygon or point" in str(error)
    assert str(error).endswith(": found 24 LineString features, expected polygons or points")
    assert "buffer lines first" in error.hint


def test_an_empty_layer_is_refused_as_zero_features(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(
        geopandas.GeoDataFrame({"class": []}, geometry=[], crs=UTM), file, geometry_type="Polygon"
    )
    assert "found 0 features, expected polygons or points" in str(label_error(file))


def test_a_file_of_labels_without_class_is_refused_with_their_number(tmp_path: Path) -> None:
    error = label_error(write_vector(tmp_path / "a.gpkg", TWO, ["", " "]))
    assert "found 2 Polygon features (2 labels have no class), expected" in str(error)


def test_a_file_of_empty_shapes_is_refused_with_their_number(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.geojson", [shapely.Polygon()] * 2, ["a", "b"])
    assert "found 2 features (2 labels have no shape), expected" in str(label_error(file))


# --- columns and layers ----------------------------------------------------------------------------


def test_the_column_asked_for_holds_the_class(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", TWO, ["x", "y"], column="what")
    assert read_labels(file, flat_imagery(), column="what").legend.names == ("x", "y")


def test_without_a_class_column_the_columns_are_listed(tmp_path: Path) -> None:
    error = label_error(write_vector(tmp_path / "a.gpkg", TWO, ["x", "y"], column="what"))
    assert "what" in str(error)
    assert "--label-column" in error.hint


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    error = label_error(write_vector(tmp_path / "a.gpkg", TWO, ["x", "y"]), column="what")
    assert "no column 'what'" in str(error)
    assert "the columns class" in str(error)


@pytest.mark.parametrize("column", ["Class", "LABEL", "landcover"])
def test_usual_names_of_the_class_column_are_found(tmp_path: Path, column: str) -> None:
    file = write_vector(tmp_path / "a.gpkg", TWO, ["x", "y"], column=column)
    assert len(read_labels(file, flat_imagery())) == 8


def test_layers_without_a_column_are_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    for name, shape in zip(["water", "forest"], TWO, strict=True):
        geopandas.GeoDataFrame(geometry=[shape], crs=UTM).to_file(file, layer=name)
    labels = read_labels(file, flat_imagery())
    assert pixels_of(labels, "water") == block(0, 0, 2, 2)
    assert pixels_of(labels, "forest") == block(20, 20, 2, 2)


def test_layers_that_all_have_the_column_are_read_together(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    for name, shape in zip(["one", "two"], TWO, strict=True):
        geopandas.GeoDataFrame({"class": [name * 2]}, geometry=[shape], crs=UTM).to_file(file, layer=name)
    assert read_labels(file, flat_imagery()).legend.names == ("oneone", "twotwo")


def test_one_layer_without_a_column_is_no_class_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame(geometry=TWO, crs=UTM).to_file(file, layer="labels")
    assert "(none)" in str(label_error(file))


def test_whole_numbers_with_gaps_stored_as_floats_are_numbers_still(tmp_path: Path) -> None:
    shapes = [*TWO, area(30, 30, 2, 2)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, [7.0, 3.0, np.nan]), flat_imagery())
    assert labels.legend.codes == (3, 7)


def test_a_column_of_fractions_holds_no_classes(tmp_path: Path) -> None:
    assert "1.5" in str(label_error(write_vector(tmp_path / "a.gpkg", TWO, [1.5, 2.0])))


# --- tiles -----------------------------------------------------------------------------------------


def write_tiles(folder: Path, places: dict[str, Sequence[tuple[int, int]]]) -> Path:
    """A folder `class/tile.tif` of tiles of 4 px with their corners at these rows and columns."""
    for name, corners in places.items():
        for row, col in corners:
            at = (WEST + 10 * col, NORTH - 10 * row)
            write_raster(folder / name / f"{row:02d}_{col:02d}.tif", np.ones((4, 4), np.uint8), at=at)
    return folder


def test_a_folder_of_tiles_labels_their_footprints_and_a_tile_is_a_group(tmp_path: Path) -> None:
    places = {"water": [(0, 0), (10, 0)], "forest": [(0, 20), (20, 20)]}
    labels = read_labels(write_tiles(tmp_path, places), flat_imagery())
    assert pixels_of(labels, "water") == block(0, 0, 4, 4) | block(10, 0, 4, 4)
    assert np.bincount(labels.groups).tolist() == [16] * 4
    assert labels.unit == "tiles"
    assert labels.footprints.geometry.area.tolist() == [1600] * 4


def test_folders_of_tiles_that_are_named_by_codes_keep_them(tmp_path: Path) -> None:
    labels = read_labels(
        write_tiles(tmp_path, {"30": [(0, 0), (10, 0)], "10": [(0, 20), (20, 20)]}), flat_imagery()
    )
    assert [(c.code, c.name) for c in labels.legend] == [(10, "class 10"), (30, "class 30")]


def test_a_class_of_one_tile_is_refused(tmp_path: Path) -> None:
    error = label_error(write_tiles(tmp_path, {"water": [(0, 0), (10, 0)], "forest": [(0, 20)]}))
    assert "2 tiles" in str(error)
    assert "'forest' has 1" in str(error)


def test_a_tile_without_crs_is_named(tmp_path: Path) -> None:
    write_tiles(tmp_path, {"a": [(0, 0), (5, 5)]})
    write_raster(tmp_path / "a/bad.tif", np.ones((4, 4), np.uint8), crs=None)
    assert "bad.tif has no CRS" in str(label_error(tmp_path))


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in str(label_error(tmp_path))
