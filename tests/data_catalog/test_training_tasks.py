from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from landmeta.bands import SENTINEL2
from landmeta.errors import DataError
from landmeta.legend import DFC2020
from landmeta.processes import Processes
from landmeta.tile_table import TileTable
from landmeta.train_config import TrainConfig, parse_config
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tiles import ArraySpec, index_frame
from landmeta_catalog.training_tasks import (
    TrainingData,
    ensure_store,
    first_tasks,
    read_store,
    split_regions,
    step_batches,
)

SIDE, CLASSES = 8, 5
S2 = ArraySpec("s2", SENTINEL2, "uint16", 1e-4, nodata=0, side=SIDE)
REGIONS = (("3", "fall"), ("3", "winter"), ("1", "fall"), ("8", "fall"))
TILES = 30


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty tiles of five classes in each of two region-seasons to train on, and two for the rest."""
    path = tmp_path_factory.mktemp("tiles") / "store"
    rng, count = np.random.default_rng(0), TILES * len(REGIONS)
    rows = [
        {"region": region, "season": season, "patch": f"p{i}", "side": SIDE,
         "class_code": i % CLASSES + 1, "class_name": DFC2020.names[i % CLASSES]}
        for region, season in REGIONS for i in range(TILES)
    ]  # fmt: skip
    create_dataset(path, "sim", (S2,), DFC2020, count, settings={})
    pixels = rng.integers(1, 9000, (count, *S2.shape)).astype(np.uint16)
    write_shard(path, "sim", 0, {"s2": pixels}, index_frame(rows).drop(columns="slot"))
    finish_dataset(path, "sim", index_frame([]))
    return path


def settings(store: Path, **tables: object) -> TrainConfig:
    data = {"store": str(store), "dataset": "sim", "bands": ["B4", "B3"], "workers": 0}
    return parse_config({"out": "r", **tables, "data": {**data, **tables.get("data", {})}})  # type: ignore[dict-item]


def regions(table: TileTable) -> list[str]:
    return sorted("/".join(pair) for pair in table.region_seasons())


def test_smaller_tiles_of_the_current_folder_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path / "store")
    data = settings(Path(), data={"side": 4}).data
    assert read_store(data) == tmp_path / "store-4px"


def test_tiles_are_averaged_down_into_a_store_beside_the_first(store: Path) -> None:
    config = settings(store, data={"side": 4}, tasks={"gap": 6})
    ensure_store(config.data, lambda *_: None)
    whole, half = TrainingData.open(settings(store).data), TrainingData.open(config.data)
    assert half.tiles.shape == (2, 4, 4)
    assert half.sampler("train", config).gap == 3
    rows, squares = np.arange(5), (5, 2, 4, 2, 4, 2)
    means = whole.tiles.read(rows).reshape(squares).mean((3, 5))
    np.testing.assert_allclose(half.tiles.read(rows), means, atol=1e-4)


def test_the_published_split_parts_regions_by_id(store: Path) -> None:
    parts = TrainingData.open(settings(store).data).parts
    assert {part: regions(table) for part, table in parts.items()} == {
        "train": ["3/fall", "3/winter"],
        "val": ["1/fall"],
        "holdout": ["8/fall"],
    }


def test_a_list_names_regions_or_one_season_of_them_and_trains_on_the_others(store: Path) -> None:
    listed = {"split": "list", "validation": ["3/winter"], "test": ["8"]}
    parts = TrainingData.open(settings(store, data=listed).data).parts
    assert regions(parts["train"]) == ["1/fall", "3/fall"]
    assert regions(parts["val"]) == ["3/winter"]


def test_the_official_scenes_are_held_out(store: Path) -> None:
    table = TileTable.of(region=["35", "3", "4"], season=["fall", "fall", "fall"], code=[1, 1, 1])
    data = settings(store, data={"split": "scene", "validation": ["4"]}).data
    assert {part: regions(found) for part, found in split_regions(table, data).items()} == {
        "train": ["3/fall"],
        "val": ["4/fall"],
        "holdout": ["35/fall"],
    }


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"split": "list", "validation": ["77"]}, "no region '77'"),
        ({"split": "list", "train": ["3"], "validation": ["3/fall"]}, "share 1 units"),
        ({"split": "list", "validation": ["1", "3", "8"]}, "no region of the store is in the training part"),
        ({"dataset": "other"}, "no finished dataset"),
        ({"bands": ["VV"]}, "no band VV"),
        ({"store": "nowhere"}, "nowhere"),
    ],
)
def test_settings_that_do_not_fit_the_store_are_refused(store: Path, data: dict, part: str) -> None:
    with pytest.raises(DataError, match=part) as caught:
        TrainingData.open(settings(store, data=data).data)
    assert caught.value.hint


def images_by_number(store: Path, processes: Processes, first_step: int = 0) -> dict[int, torch.Tensor]:
    """The support images of the tasks of two steps that this process gets."""
    config = settings(store, outer={"tasks": 3}, data={"workers": 0})
    data = TrainingData.open(config.data)
    steps = step_batches(
        data.tiles, data.sampler("train", config), config, first_step=first_step, processes=processes
    )
    found = [task for batch in islice(steps, 2) for task in batch]
    return {task.number: task.tensors.support.images for task in found}


def test_every_process_gets_its_share_of_each_step_and_the_very_same_tasks(store: Path) -> None:
    alone = images_by_number(store, Processes())
    shares = [images_by_number(store, Processes(rank, 2)) for rank in range(2)]
    assert list(alone) == [0, 1, 2, 3, 4, 5]
    assert [list(share) for share in shares] == [[0, 2, 3, 5], [1, 4]]
    assert all(torch.equal(alone[n], images) for share in shares for n, images in share.items())


def test_a_later_step_begins_where_the_run_would_have_been(store: Path) -> None:
    late, whole = images_by_number(store, Processes(), 1), images_by_number(store, Processes())
    assert list(late) == [3, 4, 5, 6, 7, 8]
    assert torch.equal(late[4], whole[4])


def test_tasks_carry_binary_or_class_targets(store: Path) -> None:
    for target, expected in (("one-vs-all", torch.float32), ("all-classes", torch.int64)):
        config = settings(store, tasks={"target": target})
        data = TrainingData.open(config.data)
        (task,) = first_tasks(data.tiles, data.sampler("val", config), config, 1)
        support, query = task.tensors.support, task.tensors.query
        assert support.images.shape == (8, 2, SIDE, SIDE)
        assert support.targets.dtype == expected
        if target == "all-classes":
            assert query.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        else:
            assert query.targets.sum() == 2


def test_augmentation_turns_tiles_of_training_alone(store: Path) -> None:
    plain, turned = (
        settings(store, outer={"tasks": 1}, tasks={"augment": augment}) for augment in (False, True)
    )
    data = TrainingData.open(plain.data)
    source = data.sampler("train", plain)
    (as_they_are,) = first_tasks(data.tiles, source, turned, 1)
    found = [next(step_batches(data.tiles, source, c, first_step=0))[0] for c in (plain, turned)]
    assert torch.equal(found[0].tensors.query.images, as_they_are.tensors.query.images)
    assert not torch.equal(found[1].tensors.query.images, as_they_are.tensors.query.images)
    means = [task.tensors.query.images.mean((2, 3)) for task in found]
    torch.testing.assert_close(*means)
