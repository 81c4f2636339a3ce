from __future__ import annotations

from pathlib import Path

import numpy as np

from landmeta.labels import read_labels

from .conftest import TWO, area, flat_imagery, write_raster, write_vector

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
