from __future__ import annotations

from typing import Any

import pytest

from landmeta_maps.tile_scores import tile_rows, tile_words


def part(n: int, accuracy: float = 0.8) -> dict[str, Any]:
    return {"n": n, "accuracy": accuracy, "balanced_accuracy": 0.75}


def test_every_part_that_is_there_is_a_row() -> None:
    found = {"shots": 5, "apart": part(12), "all": part(30), "left_out": 19, "with_left_out": part(49, 0.5)}
    assert tile_rows(found) == [
        ("At least 256 px from the labelled ones", 12, 0.8, 0.75),
        ("All of the mapped classes", 30, 0.8, 0.75),
        ("All, of classes not mapped too", 49, 0.5, 0.75),
    ]
    whole = {"shots": 5, "apart": None, "all": part(30), "left_out": 0, "with_left_out": None}
    assert tile_rows(whole) == [("All", 30, 0.8, 0.75)]


@pytest.mark.parametrize(("n", "accuracy"), [(9, None), (10, 0.8)])
def test_too_few_tiles_have_no_shares(n: int, accuracy: float | None) -> None:
    row = tile_rows({"apart": None, "all": part(n)})[0]
    assert (row.n, row.accuracy, row.balanced_accuracy is None) == (n, accuracy, accuracy is None)


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (0, "There are 30 unlabelled tiles in all."),
        (1, "31 unlabelled tiles in all, of which 1 is of a class that is not mapped"),
        (19, "49 unlabelled tiles in all, of which 19 are of classes that are not mapped"),
    ],
)
def test_the_tiles_that_the_map_cannot_get_right_are_counted(left_out: int, words: str) -> None:
    said = tile_words({"all": part(30), "left_out": left_out})
    assert words in said
    assert ("counts them as wrong" in said) is bool(left_out)
