from __future__ import annotations

from pathlib import Path

from landmeta.labels import read_labels

from .conftest import TWO, area, flat_imagery, write_vector

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
