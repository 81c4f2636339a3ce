from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from landmeta.errors import DataError
from landmeta.splits import region_part, scene_part
from landmeta.tasks import TileTable


def index(**columns: object) -> pd.DataFrame:
    base = {"region": ["8", "8", "1"], "season": "fall", "class_code": [1, 2, 1], "patch": ["p1", "p2", "p1"]}
    return pd.DataFrame({**base, **columns})


def test_a_table_is_made_in_one_line_and_single_values_count_for_every_tile() -> None:
    table = TileTable.of(region="here", code=[1, 1, 2], x=[0.0, 1280.0, 2560.0], y=0.0, crs="EPSG:32630")
    assert len(table) == 3
    assert table.region_seasons() == [("here", "")]
    assert table.crs.tolist() == [0, 0, 0]
    assert len(set(table.block.tolist())) == 3


def test_tiles_without_coordinates_or_crs_have_no_place() -> None:
    table = TileTable.of(region="r", code=[1, 1, 1], crs=["EPSG:32630", "", None], x=[np.nan, 0, 0], y=0)
    assert table.crs.tolist() == [-1, -1, -1]


def test_patches_of_one_name_in_different_regions_or_seasons_are_different_blocks() -> None:
    table = TileTable.of(region=["a", "b", "a", "a"], season=["x", "x", "y", "x"], code=[1] * 4, block="p1")
    blocks = table.block.tolist()
    assert len(set(blocks)) == 3
    assert blocks[0] == blocks[3]


def test_places_are_centres_of_tiles_in_units_of_the_crs() -> None:
    table = TileTable.of(region="a", code=[1, 1], x=[100, 200], y=50, crs="EPSG:32630", pixel=10, side=64)
    places = table.places()
    assert places.x.tolist() == [420, 520]
    assert places.y.tolist() == [-270, -270]
    assert places.half.tolist() == [320, 320]


def test_a_frame_keeps_row_numbers_and_leaves_out_what_cannot_be_used() -> None:
    frame = index(status=["quarantined", "ok", "ok"], class_name=["Forest", "Water", "Forest"])
    table = TileTable.from_frame(frame)
    assert table.row.tolist() == [1, 2]
    assert table.class_name(2) == "Water"
    assert table.class_name(9) == "class 9"
    assert TileTable.from_frame(index(class_code=[1, -1, 2])).row.tolist() == [0, 2]


def test_the_frame_may_have_other_labels_than_row_numbers() -> None:
    frame = index().set_axis([70, 80, 90])
    assert TileTable.from_frame(frame).row.tolist() == [0, 1, 2]


def test_a_block_that_is_not_named_is_the_patch() -> None:
    frame = index(region="8", block=["cluster", "", None], patch=["p1", "p2", "p2"])
    block = TileTable.from_frame(frame).block.tolist()
    assert block[1] == block[2] != block[0]


def test_categories_are_read_as_well_as_text() -> None:
    text = TileTable.from_frame(index())
    categories = TileTable.from_frame(
        index().astype(dict.fromkeys(("region", "season", "patch"), "category"))
    )
    assert text.regions == categories.regions
    np.testing.assert_array_equal(text.block, categories.block)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (index().drop(columns="season"), "no column season"),
        (index(dataset=["a", "b", "a"]), r"several datasets \(a, b\)"),
        (index(status="quarantined"), "no usable tile"),
    ],
)
def test_an_index_that_gives_no_table_is_named(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TileTable.from_frame(frame)


def test_a_part_of_a_split_is_cut_out_by_region_or_by_scene() -> None:
    table = TileTable.from_frame(index(region=["8", "30", "1"]))
    assert table.part("holdout", region_part).row.tolist() == [0]
    assert table.part("val", region_part).row.tolist() == [1, 2]
    assert table.part("train", region_part).row.tolist() == []
    assert table.part("holdout", scene_part).row.tolist() == [1]


def test_tiles_are_grouped_by_region_season_and_class() -> None:
    table = TileTable.of(region=["b", "a", "a", "a"], season=["s", "s", "t", "s"], code=[1, 2, 1, 1])
    groups = table.by_region()
    assert [(g.region, g.season) for g in groups] == [("a", "s"), ("a", "t"), ("b", "s")]
    assert groups[0].rows.tolist() == [3, 1]
    assert {code: tiles.tolist() for code, tiles in groups[0].classes.items()} == {1: [0], 2: [1]}
    assert table.where(np.zeros(4, bool)).by_region() == []


def test_a_region_that_is_not_there_is_answered_with_those_that_are() -> None:
    table = TileTable.from_frame(index())
    assert table.of_region("8", "fall").row.tolist() == [0, 1]
    with pytest.raises(
        DataError, match="no tile of region '8' in season 'winter': the table has 1 fall, 8 fall"
    ):
        table.of_region("8", "winter")


def test_tiles_are_numbered_by_name_whatever_the_order_of_a_column_s_categories() -> None:
    regions = ["b", "a", "c", "a"]
    plain = TileTable.from_frame(pd.DataFrame({"region": regions, "season": "", "class_code": [1, 2, 1, 2]}))
    mixed = pd.Categorical(regions, categories=["zz", "c", "b", "a"])
    other = TileTable.from_frame(pd.DataFrame({"region": mixed, "season": "", "class_code": [1, 2, 1, 2]}))
    assert other.regions == plain.regions == ("a", "b", "c")
    np.testing.assert_array_equal(other.region, plain.region)
    np.testing.assert_array_equal(other.block, plain.block)
    assert [r.region for r in other.by_region()] == ["a", "b", "c"]
