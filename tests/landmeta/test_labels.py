from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage

from landmeta._labels.pixels import Covered, patches
from landmeta.errors import LabelError
from landmeta.labels import Labels, read_labels
from landmeta.legend import WORLDCOVER
from landmeta.raster import Imagery, imagery_of_array, open_imagery

UTM = "EPSG:32630"
WEST, NORTH = 500_000.0, 5_800_000.0


def scene(height: int = 40, width: int = 50, blank: Sequence[tuple[int, int]] = ()) -> Imagery:
    """Two bands at 0.3; one band is nodata at the `blank` pixels. 10 m pixels from WEST, NORTH."""
    values = np.full((2, height, width), 0.3, np.float32)
    for row, col in blank:
        values[1, row, col] = np.nan
    grid = GeoBox((height, width), Affine(10, 0, WEST, 0, -10, NORTH), UTM)
    return imagery_of_array(values, ["B02", "B03"], grid)


def area(row: float, col: float, rows: float, cols: float) -> shapely.Polygon:
    """The rectangle over some pixels of the scene."""
    return shapely.box(WEST + col * 10, NORTH - (row + rows) * 10, WEST + (col + cols) * 10, NORTH - row * 10)


def centre(row: int, col: int) -> shapely.Point:
    return shapely.Point(WEST + col * 10 + 5, NORTH - row * 10 - 5)


def vector(
    path: Path, shapes: Sequence[Any], classes: Sequence[Any], *, column: str = "class", crs: str = UTM
) -> Path:
    table = geopandas.GeoDataFrame({column: classes}, geometry=list(shapes), crs=UTM)
    table.to_crs(crs).to_file(path)
    return path


def raster(
    path: Path,
    codes: np.ndarray,
    *,
    at: tuple[float, float] = (WEST, NORTH),
    pixel: float = 10.0,
    crs: str = UTM,
    **options: Any,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = codes[None] if codes.ndim == 2 else codes
    profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "crs": crs}
    placed = Affine(pixel, 0, at[0], 0, -pixel, at[1])
    with rasterio.open(
        path, "w", driver="GTiff", dtype=codes.dtype, transform=placed, **profile, **options
    ) as out:
        out.write(values)
    return path


def pixels(labels: Labels, name: str) -> set[tuple[int, int]]:
    """Positions of the samples of a class."""
    code = dict(zip(labels.legend.names, labels.legend.codes, strict=True))[name]
    at = labels.codes == code
    return set(zip(labels.rows[at].tolist(), labels.cols[at].tolist(), strict=True))


def block(row: int, col: int, rows: int, cols: int) -> set[tuple[int, int]]:
    return {(r, c) for r in range(row, row + rows) for c in range(col, col + cols)}


def error_of(path: Path, imagery: Imagery | None = None, **options: Any) -> LabelError:
    with pytest.raises(LabelError) as caught:
        read_labels(path, imagery or scene(), **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


# --- polygons and points ---------------------------------------------------------------------------


def test_a_polygon_labels_the_pixels_whose_centre_it_holds(tmp_path: Path) -> None:
    shapes = [area(2, 3, 4, 5), area(20.4, 30.4, 2.2, 2.2)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["water", "forest"]), scene())
    assert pixels(labels, "water") == block(2, 3, 4, 5)
    assert pixels(labels, "forest") == block(20, 30, 3, 3)
    assert labels.warnings == ()
    assert labels.legend.names == ("forest", "water")
    assert labels.rows.dtype == labels.codes.dtype == labels.groups.dtype == np.int64


def test_groups_are_the_polygons_in_file_order_and_footprints_follow_them(tmp_path: Path) -> None:
    shapes = [area(20, 3, 2, 2), area(2, 3, 2, 2), area(10, 3, 3, 1)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["b", "a", "b"]), scene())
    assert np.bincount(labels.groups).tolist() == [4, 4, 3]
    assert labels.footprints["group"].tolist() == [0, 1, 2]
    assert labels.footprints["class_name"].tolist() == ["b", "a", "b"]
    assert labels.footprints.crs == UTM
    assert labels.footprints.geometry.area.tolist() == [400, 400, 300]


def test_a_point_labels_the_pixel_that_it_is_in(tmp_path: Path) -> None:
    shapes = [centre(0, 0), centre(39, 49), shapely.Point(WEST + 109.9, NORTH - 50.1), centre(7, 8)]
    labels = read_labels(vector(tmp_path / "a.geojson", shapes, list("aabb"), crs=UTM), scene())
    assert pixels(labels, "a") == {(0, 0), (39, 49)}
    assert pixels(labels, "b") == {(5, 10), (7, 8)}
    assert len(set(labels.groups.tolist())) == 4


def test_polygons_and_points_may_be_mixed(tmp_path: Path) -> None:
    shapes = [area(2, 2, 2, 2), centre(9, 9), centre(10, 10)]
    labels = read_labels(vector(tmp_path / "a.geojson", shapes, ["a", "b", "b"], crs=UTM), scene())
    assert (len(pixels(labels, "a")), len(pixels(labels, "b"))) == (4, 2)


def test_a_polygon_between_pixel_centres_labels_the_pixel_of_its_centroid(tmp_path: Path) -> None:
    shapes = [area(5.6, 7.1, 0.3, 0.3), area(9.1, 9.1, 0.2, 0.2), area(20, 20, 2, 2)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "a", "b"]), scene())
    assert pixels(labels, "a") == {(5, 7), (9, 9)}
    assert any("2 polygons hold no pixel's centre" in w for w in labels.warnings)


def test_each_part_of_a_multipolygon_is_a_group_of_its_own(tmp_path: Path) -> None:
    several = shapely.MultiPolygon([area(2, 2, 2, 2), area(10, 10, 2, 2)])
    labels = read_labels(vector(tmp_path / "a.gpkg", [several, area(30, 30, 2, 2)], ["a", "b"]), scene())
    assert np.bincount(labels.groups).tolist() == [4, 4, 4]


def test_a_hole_is_not_labelled(tmp_path: Path) -> None:
    ring = area(10, 10, 6, 6) - area(12, 12, 2, 2)
    labels = read_labels(vector(tmp_path / "a.gpkg", [ring, area(30, 30, 2, 2)], ["a", "b"]), scene())
    assert pixels(labels, "a") == block(10, 10, 6, 6) - block(12, 12, 2, 2)


def test_pixels_under_labels_of_different_classes_are_dropped_and_counted(tmp_path: Path) -> None:
    shapes = [area(0, 0, 4, 4), area(2, 2, 4, 4), area(0, 0, 2, 2)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "b", "a"]), scene())
    assert pixels(labels, "a") == block(0, 0, 4, 4) - block(2, 2, 2, 2)
    assert pixels(labels, "b") == block(2, 2, 4, 4) - block(2, 2, 2, 2)
    assert "4 pixels are under labels of different classes: left out" in labels.warnings


def test_the_third_of_three_overlapping_labels_is_not_overlooked(tmp_path: Path) -> None:
    shapes = [area(0, 0, 4, 4), area(1, 1, 2, 2), area(0, 0, 4, 4), area(10, 10, 2, 2)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "b", "a", "b"]), scene())
    assert len(pixels(labels, "a")) == 12
    assert pixels(labels, "b") == block(10, 10, 2, 2)


def test_a_pixel_under_several_labels_of_one_class_occurs_once(tmp_path: Path) -> None:
    shapes = [area(0, 0, 4, 4), area(2, 2, 4, 4), area(20, 20, 2, 2)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "a", "b"]), scene())
    assert len(pixels(labels, "a")) == int((labels.codes == 1).sum()) == 28
    assert np.bincount(labels.groups).tolist() == [16, 12, 4]


def test_labels_in_another_crs_are_moved_and_it_is_said(tmp_path: Path) -> None:
    shapes = [area(2, 3, 4, 5), area(20, 30, 3, 3)]
    file = vector(tmp_path / "a.geojson", shapes, ["water", "forest"], crs="EPSG:4326")
    labels = read_labels(file, scene())
    assert labels.warnings == ("labels reprojected from EPSG:4326 to EPSG:32630",)
    assert pixels(labels, "water") == block(2, 3, 4, 5)


def test_labels_partly_outside_are_clipped_and_those_wholly_outside_counted(tmp_path: Path) -> None:
    shapes = [area(-2, -2, 4, 4), area(500, 0, 4, 4), centre(-1, 3), area(20, 20, 2, 2)]
    labels = read_labels(vector(tmp_path / "a.geojson", shapes, list("abab"), crs=UTM), scene())
    assert pixels(labels, "a") == block(0, 0, 2, 2)
    assert labels.warnings == ("2 of 4 labels lie outside the imagery: left out",)
    assert set(labels.footprints["group"]) == {0, 3}


def test_pixels_where_a_band_has_no_data_are_dropped_and_counted(tmp_path: Path) -> None:
    shapes = [area(0, 0, 2, 2), area(10, 10, 2, 2)]
    imagery = scene(blank=[(0, 1), (11, 11), (30, 30)])
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "b"]), imagery)
    assert pixels(labels, "a") == block(0, 0, 2, 2) - {(0, 1)}
    assert pixels(labels, "b") == block(10, 10, 2, 2) - {(11, 11)}
    assert labels.warnings == ("2 labelled pixels have no imagery (nodata): left out",)


def test_of_clipped_imagery_the_clipped_grid_is_labelled(tmp_path: Path) -> None:
    shapes = [area(10, 10, 4, 4), area(20, 20, 2, 2), area(0, 0, 2, 2)]
    part = scene().clip((WEST + 120.0, NORTH - 300.0, WEST + 300.0, NORTH - 120.0), UTM)
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "b", "a"]), part)
    assert pixels(labels, "a") == block(0, 0, 2, 2)
    assert pixels(labels, "b") == block(8, 8, 2, 2)


def test_labels_without_class_or_shape_and_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    line = shapely.LineString([(WEST, NORTH), (WEST + 50, NORTH - 50)])
    shapes = [
        area(0, 0, 2, 2),
        area(9, 9, 2, 2),
        area(20, 20, 2, 2),
        line,
        shapely.Polygon(),
        area(30, 30, 2, 2),
    ]
    file = vector(tmp_path / "a.gpkg", shapes, ["a", None, "b", "a", "a", "  "])
    labels = read_labels(file, scene())
    assert len(labels) == 8
    assert labels.warnings == (
        "2 labels have no class: left out",
        "1 labels have no shape: left out",
        "1 labels are lines, expected polygons or points: left out",
    )


def test_a_polygon_larger_than_the_imagery_is_burnt_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.pixels._STRIP", 150)
    shapes = [area(-100, -100, 130, 300), area(32, 0, 4, 4)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, ["a", "b"]), scene())
    assert pixels(labels, "a") == block(0, 0, 30, 50)


# --- classes ---------------------------------------------------------------------------------------

TWO = [area(0, 0, 2, 2), area(20, 20, 2, 2)]


def test_the_column_asked_for_holds_the_class(tmp_path: Path) -> None:
    file = vector(tmp_path / "a.gpkg", TWO, ["x", "y"], column="what")
    assert read_labels(file, scene(), column="what").legend.names == ("x", "y")


def test_without_a_class_column_the_columns_are_listed(tmp_path: Path) -> None:
    error = error_of(vector(tmp_path / "a.gpkg", TWO, ["x", "y"], column="what"))
    assert "what" in str(error)
    assert "--label-column" in error.hint


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    error = error_of(vector(tmp_path / "a.gpkg", TWO, ["x", "y"]), column="what")
    assert "no column 'what'" in str(error)
    assert "the columns class" in str(error)


@pytest.mark.parametrize("column", ["Class", "LABEL", "landcover"])
def test_usual_names_of_the_class_column_are_found(tmp_path: Path, column: str) -> None:
    assert len(read_labels(vector(tmp_path / "a.gpkg", TWO, ["x", "y"], column=column), scene())) == 8


def test_layers_without_a_column_are_the_classes(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    for name, shape in zip(["water", "forest"], TWO, strict=True):
        geopandas.GeoDataFrame(geometry=[shape], crs=UTM).to_file(file, layer=name)
    labels = read_labels(file, scene())
    assert pixels(labels, "water") == block(0, 0, 2, 2)
    assert pixels(labels, "forest") == block(20, 20, 2, 2)


def test_layers_that_all_have_the_column_are_read_together(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    for name, shape in zip(["one", "two"], TWO, strict=True):
        geopandas.GeoDataFrame({"class": [name * 2]}, geometry=[shape], crs=UTM).to_file(file, layer=name)
    assert read_labels(file, scene()).legend.names == ("oneone", "twotwo")


def test_one_layer_without_a_column_is_no_class_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame(geometry=TWO, crs=UTM).to_file(file, layer="labels")
    assert "(none)" in str(error_of(file))


def test_whole_numbers_keep_their_value_as_code(tmp_path: Path) -> None:
    labels = read_labels(vector(tmp_path / "a.gpkg", TWO, [7, 3]), scene())
    assert [(c.code, c.name) for c in labels.legend] == [(3, "class 3"), (7, "class 7")]
    assert pixels(labels, "class 7") == block(0, 0, 2, 2)


def test_whole_numbers_with_gaps_stored_as_floats_are_numbers_still(tmp_path: Path) -> None:
    shapes = [*TWO, area(30, 30, 2, 2)]
    labels = read_labels(vector(tmp_path / "a.gpkg", shapes, [7.0, 3.0, np.nan]), scene())
    assert labels.legend.codes == (3, 7)


def test_numbers_beyond_a_class_raster_are_counted_from_one(tmp_path: Path) -> None:
    labels = read_labels(vector(tmp_path / "a.gpkg", TWO, [311, 112]), scene())
    assert [(c.code, c.name) for c in labels.legend] == [(1, "class 112"), (2, "class 311")]


def test_a_column_of_fractions_holds_no_classes(tmp_path: Path) -> None:
    assert "1.5" in str(error_of(vector(tmp_path / "a.gpkg", TWO, [1.5, 2.0])))


def test_a_column_of_very_many_values_holds_no_classes(tmp_path: Path) -> None:
    shapes = [centre(i // 20, i % 20) for i in range(300)]
    error = error_of(vector(tmp_path / "a.gpkg", shapes, [f"id{i}" for i in range(300)]))
    assert "300 different classes" in str(error)


def test_a_legend_gives_numbers_their_names_when_asked_for(tmp_path: Path) -> None:
    file = vector(tmp_path / "a.gpkg", TWO, [80, 10])
    labels = read_labels(file, scene(), legend=WORLDCOVER)
    assert labels.legend.names == ("Tree cover", "Permanent water bodies")
    assert labels.legend.codes == (10, 80)
    assert read_labels(file, scene()).legend.names == ("class 10", "class 80")


def test_a_number_that_the_legend_lacks_is_refused(tmp_path: Path) -> None:
    file = vector(tmp_path / "a.gpkg", TWO, [80, 11])
    assert "hold 11" in str(error_of(file, legend=WORLDCOVER))


# --- too few, nowhere, unreadable ------------------------------------------------------------------


def test_labels_all_outside_are_told_with_both_extents(tmp_path: Path) -> None:
    shapes = [area(900, 0, 4, 4), area(900, 9, 4, 4)]
    message = str(error_of(vector(tmp_path / "a.gpkg", shapes, ["a", "b"])))
    assert "outside the imagery" in message
    assert message.count("west") == 2


def test_labels_all_on_nodata_are_refused(tmp_path: Path) -> None:
    imagery = scene(blank=sorted(block(0, 0, 40, 50)))
    assert "no data" in str(error_of(vector(tmp_path / "a.gpkg", TWO, ["a", "b"]), imagery))


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    assert "one class" in str(error_of(vector(tmp_path / "a.gpkg", TWO, ["a", "a"])))


def test_a_class_of_one_pixel_is_refused_and_a_polygon_counts_its_pixels(tmp_path: Path) -> None:
    file = vector(tmp_path / "a.geojson", [area(0, 0, 1, 2), centre(9, 9)], ["a", "b"], crs=UTM)
    assert "'b' has 1" in str(error_of(file))


def test_a_class_that_lies_outside_altogether_has_no_sample(tmp_path: Path) -> None:
    shapes = [*TWO, area(900, 0, 2, 2)]
    assert "'c' has 0" in str(error_of(vector(tmp_path / "a.gpkg", shapes, ["a", "b", "c"])))


def test_a_class_whose_data_are_missing_is_refused(tmp_path: Path) -> None:
    imagery = scene(blank=[(20, 20), (20, 21), (21, 20)])
    assert "'b' has 1" in str(error_of(vector(tmp_path / "a.gpkg", TWO, ["a", "b"]), imagery))


def test_labels_without_crs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.gpkg"
    with pytest.warns(UserWarning, match="crs"):
        geopandas.GeoDataFrame({"class": ["a", "b"]}, geometry=TWO).to_file(file)
    assert "no CRS" in str(error_of(file))


def test_imagery_without_crs_cannot_be_labelled(tmp_path: Path) -> None:
    bare = imagery_of_array(np.ones((1, 9, 9), np.float32), ["B02"])
    assert "imagery has no CRS" in str(error_of(vector(tmp_path / "a.gpkg", TWO, ["a", "b"]), bare))


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    assert "nothing.gpkg do not exist" in str(error_of(tmp_path / "nothing.gpkg"))


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.tif", "a.shp"])
@pytest.mark.parametrize("content", ["", "hello"])
def test_a_file_that_holds_no_labels_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert name in str(error_of(tmp_path / name))


def test_a_table_without_shapes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("class,value\nwater,1\n")
    assert "no layer with shapes" in str(error_of(tmp_path / "a.csv"))


def test_a_file_of_lines_only_is_refused(tmp_path: Path) -> None:
    line = shapely.LineString([(WEST, NORTH), (WEST + 50, NORTH - 50)])
    assert "no polygon or point" in str(error_of(vector(tmp_path / "a.gpkg", [line], ["a"])))


# --- label rasters ---------------------------------------------------------------------------------


def test_a_label_raster_labels_its_pixels_and_patches_are_groups(tmp_path: Path) -> None:
    codes = np.zeros((40, 50), np.uint8)
    codes[0:2, 0:2], codes[2, 2], codes[10:12, 10:12], codes[0:2, 2:4] = 3, 3, 3, 5
    labels = read_labels(raster(tmp_path / "a.tif", codes), scene())
    assert pixels(labels, "class 3") == block(0, 0, 2, 2) | {(2, 2)} | block(10, 10, 2, 2)
    assert pixels(labels, "class 5") == block(0, 2, 2, 2)
    assert labels.legend.codes == (3, 5)
    assert np.bincount(labels.groups).tolist() == [5, 4, 4]
    assert labels.footprints.geometry.area.tolist() == [500, 400, 400]
    assert labels.footprints["class_name"].tolist() == ["class 3", "class 5", "class 3"]
    assert labels.warnings == ()


def test_the_files_nodata_is_no_label(tmp_path: Path) -> None:
    codes = np.full((40, 50), 255, np.uint8)
    codes[0, 0:2], codes[5, 0:2], codes[9, :] = 1, 2, 0
    assert len(read_labels(raster(tmp_path / "a.tif", codes, nodata=255), scene())) == 4


def test_a_label_raster_elsewhere_on_the_grid_is_placed_by_its_coordinates(tmp_path: Path) -> None:
    codes = np.array([[1, 1, 9, 9], [4, 4, 9, 9]], np.uint8)
    labels = read_labels(raster(tmp_path / "a.tif", codes, at=(WEST + 480, NORTH - 100)), scene())
    assert pixels(labels, "class 1") == block(10, 48, 1, 2)
    assert labels.legend.names == ("class 1", "class 4")


def test_a_coarser_label_raster_labels_every_pixel_whose_centre_it_holds(tmp_path: Path) -> None:
    codes = np.array([[1, 2], [0, 1]], np.uint8)
    labels = read_labels(raster(tmp_path / "a.tif", codes, pixel=30.0), scene())
    assert pixels(labels, "class 2") == block(0, 3, 3, 3)
    assert "grid of its own" in labels.warnings[0]


def test_a_finer_label_raster_is_taken_at_the_pixel_centres(tmp_path: Path) -> None:
    codes = np.zeros((90, 90), np.uint8)
    codes[1::3, 1::3] = 1 + (np.arange(30) % 2)
    labels = read_labels(raster(tmp_path / "a.tif", codes, pixel=10 / 3), scene())
    assert len(labels) == 900
    assert pixels(labels, "class 1") == {(r, c) for r in range(30) for c in range(0, 30, 2)}


def test_a_label_raster_in_degrees_falls_on_the_pixels_under_it(tmp_path: Path) -> None:
    """The scene is 3 W 52.35 N; one label pixel of 0.0008 degrees is some 54 x 89 m."""
    codes = np.arange(1, 101, dtype=np.uint8).reshape(10, 10) % 2 + 1
    west, _, _, north = geopandas.GeoSeries([area(0, 0, 1, 1)], crs=UTM).to_crs(4326).total_bounds
    file = raster(
        tmp_path / "a.tif", codes, at=(west - 0.0008, north + 0.0008), pixel=0.0008, crs="EPSG:4326"
    )
    labels = read_labels(file, scene())
    assert labels.warnings[0] == "labels reprojected from EPSG:4326 to EPSG:32630"
    back = geopandas.GeoSeries([centre(20, 20)], crs=UTM).to_crs(4326)[0]
    expected = codes[int((north + 0.0008 - back.y) / 0.0008), int((back.x - west + 0.0008) / 0.0008)]
    assert (20, 20) in pixels(labels, f"class {expected}")


def test_whole_numbers_in_a_float_raster_are_codes_and_nan_is_none(tmp_path: Path) -> None:
    codes = np.full((40, 50), np.nan, np.float32)
    codes[0, :2], codes[3, :2] = 4, 9
    assert read_labels(raster(tmp_path / "a.tif", codes), scene()).legend.codes == (4, 9)


def test_a_raster_of_fractions_holds_no_classes(tmp_path: Path) -> None:
    assert "0.5" in str(error_of(raster(tmp_path / "a.tif", np.full((40, 50), 0.5, np.float32))))


def test_a_raster_of_several_bands_holds_no_classes(tmp_path: Path) -> None:
    error = error_of(raster(tmp_path / "a.tif", np.ones((3, 40, 50), np.uint8)))
    assert "3 bands" in str(error)


def test_a_label_raster_without_crs_is_refused(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", dtype="uint8", count=1, height=4, width=4,
        transform=Affine(10, 0, WEST, 0, -10, NORTH),
    ) as out:  # fmt: skip
        out.write(np.ones((1, 4, 4), np.uint8))
    assert "no CRS" in str(error_of(tmp_path / "a.tif"))


def test_a_label_raster_elsewhere_is_told_with_both_extents(tmp_path: Path) -> None:
    file = raster(tmp_path / "a.tif", np.ones((9, 9), np.uint8), at=(WEST + 90_000, NORTH))
    assert str(error_of(file)).count("west") == 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3))
def test_patches_are_the_connected_components_of_each_class(
    seed: int, height: int, width: int, classes: int
) -> None:
    codes = np.random.default_rng(seed).integers(0, classes + 1, (height, width))
    codes[0, 0] = 1
    rows, cols = np.nonzero(codes)
    found = patches(Covered(rows, cols, codes[rows, cols]), width)
    expected = np.zeros_like(codes)
    for code in range(1, classes + 1):
        components, _ = ndimage.label(codes == code, np.ones((3, 3)))
        expected += np.where(components, components + 1000 * code, 0)
    pairs = set(zip(found.tolist(), expected[rows, cols].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert sorted({a for a, _ in pairs}) == list(range(len(pairs)))


def test_patches_spread_far_are_outlined_by_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landmeta._labels.pixels._STRIP", 100)
    codes = np.zeros((40, 50), np.uint8)
    codes[0:2, 0:3], codes[39, 48:] = 1, 2
    labels = read_labels(raster(tmp_path / "a.tif", codes), scene())
    assert labels.footprints.geometry.tolist() == [area(0, 0, 2, 3), area(39, 48, 1, 2)]


def test_speckle_of_very_many_patches_is_outlined_by_boxes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.pixels._MOST_OUTLINES", 2)
    codes = np.zeros((40, 50), np.uint8)
    codes[[0, 1, 9, 20], [0, 1, 9, 20]] = 1, 1, 2, 2
    labels = read_labels(raster(tmp_path / "a.tif", codes), scene())
    assert labels.footprints.geometry.tolist()[0] == area(0, 0, 2, 2)


def test_a_million_labelled_pixels_are_read_in_seconds(tmp_path: Path) -> None:
    codes = (np.indices((1000, 1000)).sum(axis=0) // 100 % 3 + 1).astype(np.uint8)
    labels = read_labels(raster(tmp_path / "a.tif", codes), scene(1000, 1000))
    assert len(labels) == 1_000_000
    np.testing.assert_array_equal(labels.codes, codes[labels.rows, labels.cols])


# --- tiles -----------------------------------------------------------------------------------------


def tiles(folder: Path, places: dict[str, Sequence[tuple[int, int]]], **options: Any) -> Path:
    for name, corners in places.items():
        for row, col in corners:
            at = (WEST + 10 * col, NORTH - 10 * row)
            raster(folder / name / f"{row:02d}_{col:02d}.tif", np.ones((4, 4), np.uint8), at=at, **options)
    return folder


def test_a_folder_of_tiles_labels_their_footprints_and_a_tile_is_a_group(tmp_path: Path) -> None:
    places = {"water": [(0, 0), (10, 0)], "forest": [(0, 20), (20, 20)]}
    labels = read_labels(tiles(tmp_path, places), scene())
    assert pixels(labels, "water") == block(0, 0, 4, 4) | block(10, 0, 4, 4)
    assert np.bincount(labels.groups).tolist() == [16] * 4
    assert labels.unit == "tiles"
    assert labels.footprints.geometry.area.tolist() == [1600] * 4


def test_a_class_of_one_tile_is_refused(tmp_path: Path) -> None:
    error = error_of(tiles(tmp_path, {"water": [(0, 0), (10, 0)], "forest": [(0, 20)]}))
    assert "2 tiles" in str(error)
    assert "'forest' has 1" in str(error)


def test_a_tile_without_crs_is_named(tmp_path: Path) -> None:
    tiles(tmp_path, {"a": [(0, 0), (5, 5)]})
    with rasterio.open(
        tmp_path / "a/bad.tif", "w", driver="GTiff", dtype="uint8", count=1, height=4, width=4,
        transform=Affine(10, 0, WEST, 0, -10, NORTH),
    ) as out:  # fmt: skip
        out.write(np.ones((1, 4, 4), np.uint8))
    assert "bad.tif has no CRS" in str(error_of(tmp_path))


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in str(error_of(tmp_path))


# --- real data -------------------------------------------------------------------------------------


@pytest.fixture
def aberystwyth(data: Path) -> Imagery:
    bands = "B2,B3,B4,B5,B6,B7,B8,B8A,B11,B12"
    return open_imagery([data / "aberystwyth/s2_20210527.tif"], bands=bands, scale=1e-3)


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
        assert pixels(of_column, name) == pixels(of_layers, name)
