from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from landmeta.errors import DataError
from landmeta.splits import (
    SEN12MS_HOLDOUT_SCENES,
    SEN12MS_REGIONS,
    Places,
    check_disjoint,
    group_folds,
    region_part,
    scene_part,
    support_apart,
)
from landmeta.tasks import TileTable


def on_the_ground(columns: list[int], rows: list[int], **others: object) -> Places:
    """Tiles of 128 px at 10 m, `columns` and `rows` in pixels from some origin."""
    x, y = 5e5 + 10.0 * np.array(columns), 4e6 - 10.0 * np.array(rows)
    given = {"region": "r", "code": np.ones(len(x), int), "crs": "EPSG:32630", "x": x, "y": y}
    return TileTable.of(**{**given, **others}).places()


def gap(columns: list[int], rows: list[int], a: int, b: int) -> int:
    """Pixels between the nearest edges of two tiles of 128 px, in the direction where it is larger."""
    return max(abs(columns[a] - columns[b]), abs(rows[a] - rows[b])) - 128


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_folds_never_split_a_group_and_always_leave_every_class_trainable(
    sizes: list[int], folds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    code_of = np.repeat(np.arange(len(sizes)), sizes)
    groups = rng.integers(0, len(code_of), 200)
    codes = code_of[groups]
    fold = group_folds(codes, groups, folds)
    for g in np.unique(groups):
        assert len(np.unique(fold[groups == g])) == 1
    for k in range(folds):
        assert set(codes[fold != k]) == set(codes)


def test_groups_of_a_class_are_dealt_round_robin_in_the_order_of_ids() -> None:
    groups = np.array([30, 10, 20, 20, 5, 7])
    codes = np.array([1, 1, 1, 1, 2, 2])
    assert group_folds(codes, groups, folds=2).tolist() == [0, 0, 1, 1, 0, 1]


def test_the_only_group_of_a_class_is_never_held_out() -> None:
    assert group_folds(np.array([1, 1, 2, 2]), np.array([0, 1, 2, 2])).tolist() == [0, 1, -1, -1]


def test_a_group_that_alone_holds_a_minor_class_is_never_held_out_either() -> None:
    codes, groups = np.array([1, 1, 1, 9, 1, 1]), np.array([0, 0, 1, 1, 1, 2])
    assert group_folds(codes, groups, folds=2).tolist() == [0, 0, -1, -1, -1, 1]


def test_the_regions_of_sen12ms_are_75_25_and_25_and_disjoint() -> None:
    assert {part: len(ids) for part, ids in SEN12MS_REGIONS.items()} == {
        "train": 75,
        "val": 25,
        "holdout": 25,
    }
    check_disjoint(SEN12MS_REGIONS)
    assert region_part("spring", "122") == region_part("fall", "122") == "holdout"
    assert region_part("fall", "3") == "train"
    assert region_part("fall", "150") is None


def test_the_official_holdout_of_sen12ms_has_26_scenes_of_all_seasons() -> None:
    seasons = [season for season, _ in SEN12MS_HOLDOUT_SCENES]
    assert {s: seasons.count(s) for s in set(seasons)} == {"spring": 6, "summer": 7, "fall": 8, "winter": 5}
    assert scene_part("fall", "141") == "holdout"
    assert scene_part("spring", "141") == "train"


def test_a_unit_in_two_parts_is_named() -> None:
    with pytest.raises(DataError, match=r"train and test share 1 units \(b\)"):
        check_disjoint({"train": ["a", "b"], "val": ["c"], "test": ["b"]})


@given(
    columns=st.lists(st.integers(0, 2000), min_size=2, max_size=12),
    rows=st.lists(st.integers(0, 2000), min_size=12, max_size=12),
)
def test_tiles_are_near_exactly_below_256_pixels_between_their_edges(
    columns: list[int], rows: list[int]
) -> None:
    places = on_the_ground(columns, rows[: len(columns)])
    near = places.near(0)
    for i in range(len(columns)):
        assert near[i] == (gap(columns, rows, 0, i) < 256)


def test_a_gap_of_exactly_256_pixels_is_enough_in_metres_and_degrees() -> None:
    assert on_the_ground([0, 384, 383], [0, 0, 0]).near(0).tolist() == [True, False, True]
    pixel = 0.00025 / 3
    degrees = TileTable.of(
        region="r", code=[1, 1], crs="EPSG:4326", x=[7.1, 7.1 + 384 * pixel], y=50, pixel=pixel
    )
    assert degrees.places().near(0).tolist() == [True, False]


def test_tiles_of_one_patch_are_never_apart_and_other_coordinate_systems_are_not_compared() -> None:
    crs = ["EPSG:32630", "EPSG:32630", "EPSG:32631"]
    places = on_the_ground([0, 9000, 0], [0, 0, 0], block=["p", "p", "q"], crs=crs)
    assert places.near(0).tolist() == [True, True, False]
    assert places.blocked() == "patch"
    assert places.part(0, 2).blocked() == "gap"
    assert TileTable.of(region="r", code=[1]).places().blocked() == "patch"


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=7),
    first=st.integers(1, 6),
    second=st.integers(1, 6),
)
def test_blocks_are_separable_exactly_if_some_deal_of_them_leaves_enough_on_both_sides(
    sizes: list[int], first: int, second: int
) -> None:
    block = np.repeat(np.arange(len(sizes)), sizes)
    places = TileTable.of(region="r", code=np.ones(len(block), int), block=block).places()
    sums = {sum(s for i, s in enumerate(sizes) if deal >> i & 1) for deal in range(2 ** len(sizes))}
    possible = any(first <= one <= sum(sizes) - second for one in sums)
    assert places.separable(first, second) == possible


def test_tiles_are_separable_where_a_cut_in_either_direction_leaves_enough_on_both_sides() -> None:
    assert on_the_ground([0, 128, 512, 640], [0, 0, 0, 0]).separable(2, 2)
    assert on_the_ground([0, 0, 0, 0], [0, 128, 512, 640]).separable(2, 2)
    assert on_the_ground([0, 512, 640, 640], [0, 0, 0, 0]).separable(1, 3)
    assert on_the_ground([0, 512, 640, 640], [0, 0, 0, 0]).separable(3, 1)
    assert not on_the_ground([0, 512, 640, 640], [0, 0, 0, 0]).separable(2, 2)
    assert not on_the_ground([0, 128, 511, 640], [0, 0, 0, 0]).separable(2, 2)
    assert not on_the_ground([0], [0]).separable(1, 1)


@given(
    seed=st.integers(0, 10_000),
    shots=st.integers(1, 3),
    queries=st.integers(1, 3),
    places_known=st.booleans(),
)
def test_drawn_support_keeps_its_distance_and_leaves_each_class_its_queries(
    seed: int, shots: int, queries: int, places_known: bool
) -> None:
    rng = np.random.default_rng(seed)
    columns, rows = (rng.integers(0, 3000, 60).tolist() for _ in range(2))
    block = rng.integers(0, 20, 60)
    places = on_the_ground(columns, rows, **({} if places_known else {"x": np.nan, "block": block}))
    code = rng.integers(0, 3, 60)
    members = [np.flatnonzero(code == k) for k in range(3)]
    drawn = support_apart(places, members, shots, queries, rng)
    assume(drawn is not None)
    for tiles, support, free in zip(members, *drawn, strict=True):
        assert len(set(support.tolist())) == shots
        assert set(support.tolist()) <= set(tiles.tolist())
        assert set(free.tolist()) <= set(tiles.tolist())
        assert len(free) >= queries
    taken, left = (np.concatenate(side).tolist() for side in drawn)
    for a in taken:
        for b in left:
            assert gap(columns, rows, a, b) >= 256 if places_known else block[a] != block[b]
    kept = {b for b in range(60) if not any(places.near(a)[b] for a in taken)}
    assert set(left) == kept


def test_support_is_drawn_together_where_only_that_leaves_room() -> None:
    columns = [0, 128, 512, 640]
    members = [np.arange(4)]
    for seed in range(20):
        drawn = support_apart(on_the_ground(columns, [0] * 4), members, 2, 2, np.random.default_rng(seed))
        assert drawn is not None
        assert sorted(drawn[0][0].tolist()) in ([0, 1], [2, 3])


def test_support_that_leaves_no_room_is_not_drawn() -> None:
    places = on_the_ground([0, 128, 256, 384], [0] * 4)
    assert support_apart(places, [np.arange(4)], 2, 2, np.random.default_rng(0)) is None
