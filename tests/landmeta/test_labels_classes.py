from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from landmeta.labels import read_labels
from landmeta.legend import WORLDCOVER

from .conftest import TWO, area, block, flat_imagery, pixels_of, write_raster, write_vector

THREE = [*TWO, area(30, 30, 2, 2)]

# --- names -----------------------------------------------------------------------------------------


def test_classes_that_differ_only_in_case_stay_apart_and_it_is_said(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", THREE, ["forest", "FOREST ", "water"])
    labels = read_labels(file, flat_imagery())
    assert set(labels.legend.names) == {"FOREST", "forest", "water"}
    (warning,) = labels.warnings
    assert warning == (
        "classes differ only in case: FOREST, forest; they stay apart, "
        "merge them in the labels if they are one"
    )


def test_classes_that_differ_only_in_inner_spaces_are_told_in_quotes(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", THREE, ["bare soil", "Bare  soil", "water"])
    (warning,) = read_labels(file, flat_imagery()).warnings
    assert "differ only in case or spaces: 'Bare  soil', 'bare soil'; they stay apart" in warning


def test_spaces_around_a_name_are_no_part_of_it(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", THREE, ["forest", " forest ", "water"])
    labels = read_labels(file, flat_imagery())
    assert labels.legend.names == ("forest", "water")
    assert labels.warnings == ()


# --- numbers ---------------------------------------------------------------------------------------


def test_whole_numbers_keep_their_value_as_code(tmp_path: Path) -> None:
    labels = read_labels(write_vector(tmp_path / "a.gpkg", TWO, [7, 3]), flat_imagery())
    assert [(c.code, c.name) for c in labels.legend] == [(3, "class 3"), (7, "class 7")]
    assert pixels_of(labels, "class 7") == block(0, 0, 2, 2)


def test_numbers_beyond_a_class_raster_are_counted_from_one(tmp_path: Path) -> None:
    labels = read_labels(write_vector(tmp_path / "a.gpkg", TWO, [311, 112]), flat_imagery())
    assert [(c.code, c.name) for c in labels.legend] == [(1, "class 112"), (2, "class 311")]
    (warning,) = labels.warnings
    assert warning == (
        "class 112 has code 1 in the map, class 311 has code 2 in the map: "
        "a map's codes are 0 to 254, one a class"
    )


def test_only_classes_whose_code_is_another_are_told(tmp_path: Path) -> None:
    labels = read_labels(write_vector(tmp_path / "a.gpkg", THREE, [1, 2, 300]), flat_imagery())
    assert labels.legend.codes == (1, 2, 3)
    assert labels.warnings[0].startswith("class 300 has code 3 in the map: ")


def test_of_very_many_new_codes_the_first_are_told(tmp_path: Path) -> None:
    shapes = [area(row, col, 1, 2) for row in range(10) for col in (0, 4)]
    labels = read_labels(write_vector(tmp_path / "a.gpkg", shapes, range(300, 320)), flat_imagery())
    (warning,) = labels.warnings
    assert warning.count("has code") == 12
    assert "8 more are in the legend" in warning


@pytest.mark.parametrize("suffix", ["gpkg", "shp"])
def test_digits_in_text_are_the_codes_that_they_spell(tmp_path: Path, suffix: str) -> None:
    labels = read_labels(write_vector(tmp_path / f"a.{suffix}", THREE, ["80", "10", "30"]), flat_imagery())
    assert [(c.code, c.name) for c in labels.legend] == [(10, "class 10"), (30, "class 30"), (80, "class 80")]
    assert pixels_of(labels, "class 80") == block(0, 0, 2, 2)
    assert labels.warnings == ()


def test_digits_in_text_beyond_a_class_raster_are_told_too(tmp_path: Path) -> None:
    labels = read_labels(write_vector(tmp_path / "a.gpkg", THREE, ["1", "2", "300"]), flat_imagery())
    assert labels.legend.names == ("class 1", "class 2", "class 300")
    assert labels.warnings[0].startswith("class 300 has code 3 in the map: ")


def test_digits_that_spell_one_number_in_two_ways_stay_two_classes(tmp_path: Path) -> None:
    labels = read_labels(write_vector(tmp_path / "a.gpkg", THREE, ["10", "010", "30"]), flat_imagery())
    assert set(labels.legend.names) == {"class 010", "class 10", "class 30"}
    assert "class 30 has code 3 in the map" in labels.warnings[0]


def test_digits_among_names_are_names(tmp_path: Path) -> None:
    labels = read_labels(write_vector(tmp_path / "a.gpkg", THREE, ["10", "water", "30"]), flat_imagery())
    assert labels.legend.names == ("10", "30", "water")
    assert labels.warnings == ()


def test_a_legend_gives_digits_in_text_their_names(tmp_path: Path) -> None:
    file = write_vector(tmp_path / "a.gpkg", TWO, ["80", "10"])
    labels = read_labels(file, flat_imagery(), legend=WORLDCOVER)
    assert labels.legend.names == ("Tree cover", "Permanent water bodies")
    assert pixels_of(labels, "Permanent water bodies") == block(0, 0, 2, 2)


# --- label rasters ---------------------------------------------------------------------------------


def drawn(background: int, rows: int = 20) -> np.ndarray:
    """Codes 1 and 2 in a square each of as many rows, all around them the background."""
    codes = np.full((40, 50), background, np.uint8)
    codes[0:rows, 0:20], codes[0:rows, 30:50] = 1, 2
    return codes


def test_the_highest_code_without_nodata_is_told_as_background(tmp_path: Path) -> None:
    labels = read_labels(write_raster(tmp_path / "a.tif", drawn(255)), flat_imagery())
    assert len(labels) == 2000
    assert (
        "code 255 of a.tif looks like background, 60.0% of the labelled pixels have it: "
        "it is taken as a class unless the file declares it as nodata (gdal_edit -a_nodata 255)"
    ) in labels.warnings


def test_a_code_of_nearly_all_pixels_without_nodata_is_told_as_background(tmp_path: Path) -> None:
    labels = read_labels(write_raster(tmp_path / "a.tif", drawn(9, rows=4)), flat_imagery())
    (warning,) = labels.warnings
    assert warning.startswith("code 9 of a.tif looks like background, 92.0% of")
    assert "class 9" in labels.legend.names


def test_codes_of_a_file_that_declares_nodata_are_no_background(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", drawn(9, rows=4), nodata=0)
    assert read_labels(file, flat_imagery()).warnings == ()


def test_a_large_class_of_a_label_raster_is_no_background(tmp_path: Path) -> None:
    assert read_labels(write_raster(tmp_path / "a.tif", drawn(9)), flat_imagery()).warnings == ()


def test_a_label_raster_of_floats_has_no_highest_code(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", drawn(254).astype(np.float32))
    assert read_labels(file, flat_imagery()).warnings == ()
