"""What the cells of a benchmark share: tiles of one side from a store of several datasets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from landmeta.bench.evaluation import Trial
from landmeta.bench.presets import PRESETS
from landmeta.errors import BenchError, DataError
from landmeta.legend import legend_for
from landmeta.splits import GAP
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tile_inputs import TileInputs
from landmeta_catalog.tiles import ArraySpec
from landmeta_cli.bench_data import BenchData, _at_side
from landmeta_cli.requests import SuiteRequest


def put(store: Path, name: str, side: int, value: int = 1, regions: tuple[str, ...] = ("8", "8")) -> None:
    """A dataset of tiles of `side` pixels, all of one value, one in each of the regions."""
    spec, count = ArraySpec("s2", ("B02",), "uint16", 1e-4, 0.0, 0, side), len(regions)
    rows = pd.DataFrame(
        {
            "region": regions,
            "season": "summer",
            "patch": [f"p{i}" for i in range(count)],
            "quadrant": "",
            "block": [f"p{i}" for i in range(count)],
            "class_code": [1 + i % 2 for i in range(count)],
            "class_name": [("forest", "water")[i % 2] for i in range(count)],
            "pixel": 10.0,
            "side": side,
        }
    )
    create_dataset(store, name, [spec], legend_for(["forest", "water"], [1, 2]), count, settings={})
    write_shard(store, name, 0, {"s2": np.full((count, 1, side, side), value, np.uint16)}, rows)
    finish_dataset(store, name, rows.iloc[:0])


@pytest.mark.parametrize(("trained", "regions"), [(16, 32), (16, 16), (16, 8), (8, 16), (16, 4)])
def test_datasets_of_several_sides_all_stay_with_the_same_gap_on_the_ground(
    trained: int, regions: int, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    put(store, "sen12ms", trained)
    put(store, "dfc2020", regions)
    placed = _at_side(store, "sen12ms", 8, tmp_path / "out", lambda *_: None)
    assert list(placed) == ["sen12ms", "dfc2020"]
    for name, (path, gap) in placed.items():
        with TileStore.open(path) as held:
            assert held.arrays(name)[0].side <= 8
            pixels = held.index(dataset=name)["pixel"]
        assert (gap * pixels == GAP * 10).all()


def test_tiles_stay_as_they_are_where_no_side_is_wanted(tmp_path: Path) -> None:
    put(tmp_path / "store", "here", 16)
    placed = _at_side(tmp_path / "store", "here", 0, tmp_path / "out", lambda *_: None)
    assert placed == {"here": (tmp_path / "store", GAP)}


def test_smaller_tiles_are_made_again_of_a_dataset_that_is_only_tested_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for value in (1, 2, 2):
        store = tmp_path / f"store{value}"
        if not store.exists():
            put(store, "sen12ms", 16)
            put(store, "dfc2020", 16, value)
        placed = _at_side(store, "sen12ms", 8, out, lambda *_: None)
        assert placed["sen12ms"][0] == out / "store-8px"
        with TileStore.open(placed["dfc2020"][0]) as held:
            assert (held.read("dfc2020", "s2", [0, 1]) == value).all()


def test_trainings_do_not_go_on_with_tiles_that_were_ingested_anew(tmp_path: Path) -> None:
    for value in (1, 2):
        put(tmp_path / f"store{value}", "sen12ms", 16, value)
    _at_side(tmp_path / "store1", "sen12ms", 8, tmp_path / "out", lambda *_: None)
    with pytest.raises(BenchError, match="sen12ms was ingested anew") as caught:
        _at_side(tmp_path / "store2", "sen12ms", 8, tmp_path / "out", lambda *_: None)
    assert caught.value.hint == "choose another --out"


def test_settings_tell_tiles_that_are_only_tested_on(tmp_path: Path) -> None:
    found = []
    for value in (1, 2):
        put(tmp_path / f"store{value}", "sen12ms", 8)
        put(tmp_path / f"store{value}", "dfc2020", 8, value)
        held = TileStore.open(tmp_path / f"store{value}")
        trained, tested = (TileInputs(held, name, np.arange(2)) for name in ("sen12ms", "dfc2020"))
        data: Any = SimpleNamespace(tiles=trained, parts={})
        trial = Trial(tested, [], 1)
        shared: dict[str, Any] = {"store": held.path, "gap": GAP, "bands": (), "split": {}, "tasks": data}
        shared |= {"balanced": trial, "regions": trial, "published": None, "dataset": "sen12ms"}
        found.append(BenchData(regions_of="dfc2020", **shared).settings())
        assert BenchData(regions_of="sen12ms", **shared).settings()["regions_checksum"] is None
    assert {key for key in found[0] if found[0][key] != found[1][key]} == {"regions_checksum"}


def test_too_few_tiles_for_the_test_tasks_are_answered_with_what_a_user_can_change(tmp_path: Path) -> None:
    store = tmp_path / "store"
    put(store, "here", 8, regions=("a", "b", "c"))
    request = SuiteRequest(suite="000/table1a", preset="smoke", data=store, out=tmp_path / "out")
    with pytest.raises(DataError, match="no region-season has at least 4 classes") as caught:
        BenchData.open(request, PRESETS["smoke"], lambda *_: None)
    assert "--dataset" in caught.value.hint
    assert "blocked" not in caught.value.hint
