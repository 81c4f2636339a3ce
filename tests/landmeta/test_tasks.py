from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmeta.errors import DataError
from landmeta.tasks import FixedTasks, Task, TaskSampler, TaskSource, TileTable, imbalanced, region_task

SIDE = 30  # tiles along each side of a scene
CLASSES = 6


def scene_frame(scenes: int = 4, *, place: bool = True, seed: int = 0) -> pd.DataFrame:
    """An index of square scenes of 128 px tiles, four to a patch; classes lie in bands of random width."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    frames = []
    for scene in range(scenes):
        cuts = np.sort(rng.choice(np.arange(1, 3 * SIDE), 11, replace=False))
        code = np.searchsorted(cuts, row + 2 * col) % CLASSES + 1
        patch = [f"p{r // 2 * SIDE + c // 2}" for r, c in zip(row, col, strict=True)]
        columns = {"region": str(scene // 2), "season": ("fall", "spring")[scene % 2], "class_code": code}
        frames.append(pd.DataFrame({**columns, "patch": patch}))
        if place:
            where = {"crs": f"EPSG:3263{scene}", "x": 5e5 + 1280.0 * col, "y": 4e6 - 1280.0 * row}
            frames[-1] = frames[-1].assign(**where, pixel=10.0, side=128)
    return pd.concat(frames, ignore_index=True)


PLACED = scene_frame()
BARE = scene_frame(place=False)
TABLE = TileTable.from_frame(PLACED)
BARE_TABLE = TileTable.from_frame(BARE)


def check(task: Task, frame: pd.DataFrame, ways: int, shots: int, queries: int) -> None:
    """What holds for every task of a sampler, from the frame alone."""
    support, query = frame.iloc[task.support], frame.iloc[task.query]
    for tiles, codes, each in ((support, task.support_codes, shots), (query, task.query_codes, queries)):
        assert set(tiles["region"]) == {task.region}
        assert set(tiles["season"]) == {task.season}
        assert tiles["class_code"].tolist() == codes.tolist() == np.repeat(task.classes, each).tolist()
    assert len(set(task.classes)) == ways
    assert len({*task.support.tolist(), *task.query.tolist()}) == ways * (shots + queries)
    assert task.target in task.classes


def apart(task: Task, frame: pd.DataFrame) -> bool:
    """Whether 256 px lie between all support and query tiles; without place, whether no patch is shared."""
    support, query = frame.iloc[task.support], frame.iloc[task.query]
    if "x" not in frame:
        return not set(support["patch"]) & set(query["patch"])
    away = [np.abs(support[k].to_numpy()[:, None] - query[k].to_numpy()) / 10 - 128 for k in ("x", "y")]
    return bool((np.maximum(*away) >= 256).all())


def same(one: Task, other: Task) -> bool:
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in Task.__slots__)


@settings(max_examples=40)
@given(
    number=st.integers(0, 2**40),
    ways=st.integers(2, 4),
    shots=st.integers(1, 5),
    queries=st.integers(1, 5),
    placed=st.booleans(),
)
def test_a_task_has_its_classes_shots_and_queries_from_one_region_season_and_keeps_them_apart(
    number: int, ways: int, shots: int, queries: int, placed: bool
) -> None:
    table, frame = (TABLE, PLACED) if placed else (BARE_TABLE, BARE)
    task = TaskSampler(table, ways=ways, shots=shots, queries=queries).task(number)
    check(task, frame, ways, shots, queries)
    assert apart(task, frame)
    assert task.blocked == ("gap" if placed else "patch")


def test_without_blocking_neighbours_are_drawn_and_the_task_says_so() -> None:
    sampler = TaskSampler(TABLE, blocked=False, shots=5, queries=5)
    tasks = [sampler.task(i) for i in range(10)]
    for task in tasks:
        check(task, PLACED, 4, 5, 5)
    assert {task.blocked for task in tasks} == {"none"}
    assert not all(apart(task, PLACED) for task in tasks)


def test_a_task_depends_on_seed_and_number_alone() -> None:
    one, other = TaskSampler(TABLE, seed=3), TaskSampler(TABLE, seed=3)
    backwards = {i: other.task(i) for i in (5, 2, 0)}
    forwards = dict(zip(range(6), one, strict=False))
    assert all(same(forwards[i], task) for i, task in backwards.items())
    assert not same(forwards[0], TaskSampler(TABLE, seed=4).task(0))
    assert not same(forwards[0], forwards[1])
    assert same(forwards[2], pickle.loads(pickle.dumps(one)).task(2))


def test_rows_are_those_of_the_frame_even_where_the_table_is_a_part_of_it() -> None:
    shuffled = PLACED.sample(frac=1, random_state=0)
    table = TileTable.from_frame(shuffled)
    part = table.where(np.array(table.regions)[table.region] == "1")
    for number in range(5):
        task = TaskSampler(part).task(number)
        check(task, shuffled, 4, 2, 2)
        assert task.region == "1"


def test_a_run_resumed_from_its_state_draws_the_same_tasks() -> None:
    state = json.loads(json.dumps(TaskSampler(TABLE, seed=7).state(41)))
    resumed = TaskSampler(TABLE, seed=7)
    assert resumed.restore(state) == 41
    for other in (
        TaskSampler(TABLE, seed=8),
        TaskSampler(TABLE, seed=7, shots=1),
        TaskSampler(TABLE, seed=7, blocked=False),
        TaskSampler(BARE_TABLE, seed=7),
        TaskSampler(TABLE.where(TABLE.row != 0), seed=7),
    ):
        with pytest.raises(DataError, match="other tiles or with other settings"):
            other.restore(state)


def test_region_seasons_classes_and_targets_are_drawn_about_equally_often() -> None:
    tasks = [task for _, task in zip(range(600), TaskSampler(TABLE, blocked=False), strict=False)]
    places = Counter((task.region, task.season) for task in tasks)
    assert len(places) == 4
    assert min(places.values()) > 110
    assert min(Counter(code for task in tasks for code in task.classes).values()) > 340
    assert min(Counter(task.classes.index(task.target) for task in tasks).values()) > 115


def test_enough_tiles_and_classes_are_enough_but_the_mirror_wants_more() -> None:
    four_of_four = TileTable.of(region="r", code=np.repeat([1, 2, 3, 4], 4))
    assert set(TaskSampler(four_of_four).task(0).classes) == {1, 2, 3, 4}
    for codes in (np.repeat([1, 2, 3, 4], 9), np.repeat([1, 2, 3, 4, 5], 4)):
        with pytest.raises(DataError, match="more than 4 classes with more than 4 tiles"):
            TaskSampler(TileTable.of(region="r", code=codes), mirror=True)
    assert TaskSampler(TileTable.of(region="r", code=np.repeat([1, 2, 3, 4, 5], 5)), mirror=True).task(0)


def test_the_mirror_splits_each_ordered_choice_of_classes_in_one_way_whatever_the_seed() -> None:
    table = TileTable.of(region="r", code=np.repeat(np.arange(5), 30))
    drawn: dict[tuple[int, ...], set[bytes]] = {}
    for seed in (0, 1):
        for _, task in zip(range(600), TaskSampler(table, mirror=True, seed=seed), strict=False):
            tiles = np.concatenate([task.support, task.query]).tobytes()
            drawn.setdefault(task.classes, set()).add(tiles)
            assert task.blocked == "none"
    assert len(drawn) == 5 * 4 * 3 * 2
    assert all(len(splits) == 1 for splits in drawn.values())
    # Other company or another order gives a class other tiles.
    first = {np.frombuffer(next(iter(s)), np.int64)[:2].tobytes() for c, s in drawn.items() if c[0] == 0}
    assert len(first) > 20


def test_the_mirror_asks_for_one_position_among_ascending_codes_in_a_meta_batch() -> None:
    sampler = TaskSampler(TABLE, mirror=True, meta_batch=3)
    positions = [sorted(t.classes).index(t.target) for t in map(sampler.task, range(60))]
    batches = [set(positions[i : i + 3]) for i in range(0, 60, 3)]
    assert all(len(batch) == 1 for batch in batches)
    assert set.union(*batches) == {0, 1, 2, 3}


def test_binary_targets_mark_the_target_class_and_the_codes_of_all_are_kept() -> None:
    task = TaskSampler(TABLE).task(0)
    assert task.support_targets.tolist() == [int(c == task.target) for c in task.support_codes]
    assert task.support_targets.sum() == task.query_targets.sum() == 2
    for code in task.classes:
        other = task.one_vs_all(code)
        assert (other.query_codes[other.query_targets == 1] == code).all()
        assert other.query is task.query
    with pytest.raises(ValueError, match="not among the task's classes"):
        task.one_vs_all(99)
    with pytest.raises(ValueError, match="without target"):
        _ = region_task(TABLE, "0", "fall", shots=1, rng=np.random.default_rng(0)).query_targets


def test_too_few_tiles_or_classes_are_named_with_the_region_seasons_that_come_nearest() -> None:
    table = TileTable.of(
        region=["a"] * 9 + ["b"] * 5,
        season="fall",
        code=[1] * 4 + [2] * 4 + [3] + [1] * 5,
        class_names={1: "Forest", 2: "Water"},
    )
    with pytest.raises(
        DataError, match=r"at least 4 classes with at least 4 tiles \(2 support and 2"
    ) as caught:
        TaskSampler(table)
    assert "nearest: a fall (Forest 4, Water 4, class 3 1); b fall (Forest 5)" in str(caught.value)
    assert "fewer ways" in caught.value.hint
    with pytest.raises(DataError, match="nearest: no tile at all"):
        TaskSampler(table.where(np.zeros(14, bool)))


def test_classes_that_lie_in_one_clump_are_left_out_or_named() -> None:
    clumps = {"code": np.repeat([1, 2], 4), "crs": "EPSG:32630", "y": 0.0}
    x = 1280.0 * np.array([0, 1, 2, 3, 0, 1, 8, 9])
    with pytest.raises(DataError, match="apart by 256 px or by patch"):
        TaskSampler(TileTable.of(region="r", x=x, **clumps), ways=2)
    assert TaskSampler(TileTable.of(region="r", x=x, **clumps), ways=2, gap=0).task(0).blocked == "gap"


def test_classes_that_only_together_leave_no_room_end_in_an_error() -> None:
    """Each class can be parted, but one's support would lie on the other's query."""
    x = 1280.0 * np.array([0, 4, 2, 6])
    table = TileTable.of(region="r", code=[1, 1, 2, 2], crs="EPSG:32630", x=x, y=0.0)
    with pytest.raises(
        DataError, match="100 draws found no 2 classes with support and query 300 px apart"
    ) as e:
        TaskSampler(table, ways=2, shots=1, queries=1, gap=300).task(0)
    assert "smaller gap" in e.value.hint


@pytest.mark.parametrize("wrong", [{"ways": 1}, {"shots": 0}, {"queries": 0}, {"meta_batch": 0}])
def test_settings_without_a_task_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="2 ways, 1 shot and 1 query"):
        TaskSampler(TABLE, **wrong)


def test_given_tasks_are_a_source_that_ends() -> None:
    tasks = tuple(TaskSampler(TABLE).task(i) for i in range(3))
    source: TaskSource = FixedTasks(tasks)
    assert source.task(2) is tasks[2]
    for number in (3, -1):
        with pytest.raises(IndexError):
            source.task(number)


def test_a_region_task_as_published_asks_for_every_other_tile() -> None:
    task = region_task(TABLE, "1", "spring", shots=5, rng=np.random.default_rng(1), blocked=False)
    tiles = PLACED[(PLACED["region"] == "1") & (PLACED["season"] == "spring")]
    assert sorted([*task.support, *task.query]) == tiles.index.tolist()
    assert Counter(task.support_codes.tolist()) == dict.fromkeys(range(1, CLASSES + 1), 5)
    assert task.query_codes.tolist() == PLACED["class_code"].iloc[task.query].tolist()
    assert (task.target, task.blocked) == (None, "none")


@pytest.mark.parametrize("blocked", [True, False])
def test_classes_of_a_region_task_have_more_tiles_than_shots(blocked: bool) -> None:
    table = TileTable.of(region="r", code=np.repeat([1, 2, 3], [5, 6, 7]))
    task = region_task(table, "r", "", shots=5, rng=np.random.default_rng(0), blocked=blocked)
    assert task.classes == (2, 3)
    assert np.unique(task.query_codes, return_counts=True)[1].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"more than 6 tiles.*: r \(class 1 5, class 2 6, class 3 7\)"):
        region_task(table, "r", "", shots=6, rng=np.random.default_rng(0), blocked=blocked)


@pytest.mark.parametrize("frame", [PLACED, BARE])
def test_a_blocked_region_task_asks_for_all_tiles_that_are_far_enough_away(frame: pd.DataFrame) -> None:
    table = TileTable.from_frame(frame)
    task = region_task(table, "0", "fall", shots=3, rng=np.random.default_rng(2))
    assert apart(task, frame)
    asked = set(task.query.tolist())
    left_out = frame[(frame["region"] == "0") & (frame["season"] == "fall")].index.difference(sorted(asked))
    for row in left_out.difference(task.support).tolist()[:40]:
        assert not apart(replace(task, query=np.array([row]), query_codes=task.query_codes[:1]), frame)


def test_a_region_task_that_has_no_room_for_the_gap_says_so() -> None:
    x = 1280.0 * np.array([0, 4, 2, 6])
    table = TileTable.of(region="r", code=[1, 1, 2, 2], crs="EPSG:32630", x=x, y=0.0)
    with pytest.raises(DataError, match="1 support tiles a class leave queries 300 px apart"):
        region_task(table, "r", "", shots=1, rng=np.random.default_rng(0), gap=300)


REGION = region_task(BARE_TABLE, "0", "fall", shots=2, rng=np.random.default_rng(0), blocked=False)


@given(share=st.floats(1 / CLASSES, 0.95), seed=st.integers(0, 99), size=st.integers(6, 60))
def test_the_query_has_the_size_and_the_share_of_one_class_that_are_asked_for(
    share: float, seed: int, size: int
) -> None:
    task = imbalanced(REGION, share, np.random.default_rng(seed), size=size, concentration=math.inf)
    counts = np.array([np.count_nonzero(task.query_codes == code) for code in REGION.classes])
    assert len(task.query) == size
    assert abs(counts.max() - share * size) <= 1
    assert set(task.query.tolist()) <= set(REGION.query.tolist())
    assert task.query_codes.tolist() == BARE["class_code"].iloc[task.query].tolist()
    assert task.support is REGION.support


def test_a_class_of_few_tiles_gives_them_more_than_once_and_does_not_dominate() -> None:
    few = REGION.query_codes == REGION.classes[0]
    keep = np.concatenate([np.flatnonzero(few)[:2], np.flatnonzero(~few)])
    task = replace(REGION, query=REGION.query[keep], query_codes=REGION.query_codes[keep])
    for seed in range(30):
        drawn = imbalanced(task, 1 / CLASSES, np.random.default_rng(seed), concentration=math.inf)
        times = np.unique(drawn.query[drawn.query_codes == REGION.classes[0]], return_counts=True)[1]
        assert times.sum() == 48 // CLASSES
        assert times.max() - times.min() <= 1
        drawn = imbalanced(task, 0.9, np.random.default_rng(seed))
        assert np.bincount(drawn.query_codes).argmax() != REGION.classes[0]


def test_the_share_is_the_mean_of_dirichlet_draws_that_spread_as_their_concentration_says() -> None:
    rng = np.random.default_rng(5)
    largest = {}
    for concentration in (20.0, 2000.0):
        tasks = [imbalanced(REGION, 0.6, rng, size=60, concentration=concentration) for _ in range(200)]
        largest[concentration] = [np.bincount(task.query_codes).max() / 60 for task in tasks]
    assert np.mean(largest[2000.0]) == pytest.approx(0.6, abs=0.02)
    assert np.std(largest[2000.0]) < 0.02 < 0.05 < np.std(largest[20.0])


def test_every_class_can_dominate() -> None:
    rng = np.random.default_rng(0)
    tops = {int(np.bincount(imbalanced(REGION, 0.9, rng, size=40).query_codes).argmax()) for _ in range(60)}
    assert tops == set(REGION.classes)


def test_shares_out_of_range_are_refused() -> None:
    rng = np.random.default_rng(0)
    for share in (0.1, 0.96):
        with pytest.raises(ValueError, match="outside 1/6"):
            imbalanced(REGION, share, rng)


def test_regions_of_a_table_share_no_tile() -> None:
    groups = [set(group.rows.tolist()) for group in TABLE.by_region()]
    assert all(not a & b for a, b in combinations(groups, 2))
    assert set.union(*groups) == set(range(len(PLACED)))
