from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmeta.errors import DataError
from landmeta_catalog.archives import open_archive
from landmeta_catalog.published_tasks import published_tasks
from landmeta_catalog.tiles import index_frame

CLASSES = {"Water": 10, "Forests": 1}


@pytest.fixture
def index() -> pd.DataFrame:
    """Eight patches of two quadrants, even ones water, in two seasons; the last tile is quarantined."""
    rows = []
    for season in ("fall", "spring"):
        for patch in range(8):
            for quadrant in ("tl", "br"):
                name = ("Water", "Forests")[patch % 2]
                tile = {"region": "122", "season": season, "patch": f"p{patch}", "quadrant": quadrant}
                rows.append({**tile, "block": f"p{patch}", "class_name": name, "class_code": CLASSES[name]})
    return index_frame([*rows[:-1], {**rows[-1], "status": "quarantined", "slot": -1}])


def lines(task: str, support: str, query: str, season: str = "fall") -> list[dict[str, object]]:
    """Lines of a task, from tiles such as `0tl 2br` where even patches are water."""
    rows = []
    for split, tiles in (("query", query), ("support", support)):
        shots: Counter[str] = Counter()
        for tile in tiles.split():
            name = ("Water", "Forests")[int(tile[0]) % 2]
            place = {"season": season, "region": "122", "class_name": name, "tile": f"p{tile}"}
            rows.append(
                {"task": task, "split": split, "class_index": name == "Water", "shot": shots[name], **place}
            )
            shots[name] += 1
    return rows


def write(folder: Path, *tasks: list[dict[str, object]]) -> Path:
    table = pd.DataFrame([row for task in tasks for row in task]).astype({"class_index": int})
    table.to_csv(folder / "tasks.csv", index=False)
    return folder / "tasks.csv"


def named(index: pd.DataFrame, rows: np.ndarray) -> list[str]:
    tiles = index.iloc[rows]
    return (tiles["season"].str[0] + tiles["patch"].str[1:] + tiles["quadrant"]).tolist()


def test_tasks_come_tile_for_tile_in_the_order_of_the_table(index: pd.DataFrame, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        lines("9", "2br 0tl 1tl 3tl", "4tl 4br 5tl 7tl"),
        lines("3", "0tl 1tl", "2tl 3br", season="spring"),
    )
    source = published_tasks(path, index)
    assert len(source) == 2
    first, second = source.tasks
    assert (first.region, first.season, second.season) == ("122", "fall", "spring")
    assert first.classes == second.classes == (1, 10)
    assert named(index, first.support) == ["f1tl", "f3tl", "f2br", "f0tl"]
    assert named(index, first.query) == ["f5tl", "f7tl", "f4tl", "f4br"]
    assert first.support_codes.tolist() == first.query_codes.tolist() == [1, 1, 10, 10]
    assert named(index, second.query) == ["s3br", "s2tl"]
    assert first.target is None
    assert first.one_vs_all(10).support_targets.tolist() == [0, 0, 1, 1]


def test_rows_are_counted_in_the_index_given_whatever_its_labels_and_order(
    index: pd.DataFrame, tmp_path: Path
) -> None:
    path = write(tmp_path, lines("1", "0tl 1tl", "2tl 3br"))
    shuffled = index.sample(frac=1, random_state=0)
    task = published_tasks(path, shuffled).task(0)
    assert named(shuffled, task.support) == ["f1tl", "f0tl"]


def test_a_task_whose_support_and_query_share_a_patch_says_that_it_is_not_blocked(
    index: pd.DataFrame, tmp_path: Path
) -> None:
    path = write(tmp_path, lines("1", "0tl 1tl", "0br 3br"), lines("2", "0tl 1tl", "2tl 3br"))
    assert [task.blocked for task in published_tasks(path, index).tasks] == ["none", "patch"]


def test_tiles_that_are_absent_or_quarantined_are_named(index: pd.DataFrame, tmp_path: Path) -> None:
    path = write(tmp_path, lines("1", "0tl 9tl", "2tl 7br", season="spring"))
    with pytest.raises(DataError, match="2 tiles of .*tasks.csv are not in the index") as caught:
        published_tasks(path, index)
    assert "spring/122/Forests/p9tl" in str(caught.value)
    assert "spring/122/Forests/p7br" in str(caught.value)
    assert "ingest the whole folder" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "is no table of tasks"),
        ("task,split\n1,query\n", "has no column class_index"),
        ("{head}1,query,first,0,fall,122,Water,p0tl\n", "is no table of tasks: .*first"),
        ("{head}1,test,0,0,fall,122,Water,p0tl\n", "has the split test"),
        ("{head}7,query,0,0,fall,122,Water,p0tl\n", "task 7 of .* is not one region and season with support"),
        (b"\xff\xfe\x00", "is no table of tasks"),
    ],
)
def test_a_file_that_is_no_table_of_tasks_is_named(
    content: str | bytes | None, message: str, index: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.csv"
    head = "task,split,class_index,shot,season,region,class_name,tile\n"
    if isinstance(content, str):
        path.write_text(content.replace("{head}", head))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        published_tasks(path, index)
    assert "tasks.csv" in str(caught.value)


@pytest.mark.real
def test_the_650_published_tasks_of_sen12ms_are_found_tile_for_tile(data: Path) -> None:
    folder = data / "sen12ms_rgb"
    archive = open_archive("folder", folder)
    codes = {c.name: c.code for c in archive.legend}
    patches, broken = archive.scan()
    assert not broken
    index = index_frame(
        {
            "region": patch.region,
            "season": patch.season,
            "patch": patch.patch,
            "block": patch.block or patch.patch,
            "class_name": patch.class_name,
            "class_code": codes[str(patch.class_name)],
        }
        for patch in patches
    )
    source = published_tasks(folder / "tasks.csv", index)
    assert len(source) == 650
    assert Counter(task.blocked for task in source.tasks) == {"patch": 465, "none": 185}
    published = pd.read_csv(folder / "tasks.csv", dtype=str)
    keys = ["split", "class_index", "shot"]
    for task, (_, rows) in zip(source.tasks, published.groupby("task", sort=False), strict=True):
        ordered = rows.sort_values(keys)
        assert len(task.classes) == 4
        tiles = index.iloc[np.concatenate([task.query, task.support])]
        assert tiles["patch"].tolist() == ordered["tile"].tolist()
        assert tiles["class_name"].tolist() == ordered["class_name"].tolist()
        assert set(tiles["season"] + tiles["region"]) == set(ordered["season"] + ordered["region"])
