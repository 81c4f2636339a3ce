"""What the cells of a benchmark share: tiles of one side from a store of several datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmeta.legend import legend_for
from landmeta.splits import GAP
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tiles import ArraySpec
from landmeta_cli.bench_data import _at_side


def put(store: Path, name: str, side: int) -> None:
    """A dataset of two tiles of `side` pixels."""
    spec = ArraySpec("s2", ("B02",), "uint16", 1e-4, 0.0, 0, side)
    rows = pd.DataFrame(
        {
            "region": "8",
            "season": "summer",
            "patch": ["p0", "p1"],
            "quadrant": "",
            "block": ["p0", "p1"],
            "class_code": [1, 2],
            "class_name": ["forest", "water"],
            "pixel": 10.0,
            "side": side,
        }
    )
    create_dataset(store, name, [spec], legend_for(["forest", "water"], [1, 2]), 2, settings={})
    write_shard(store, name, 0, {"s2": np.ones((2, 1, side, side), np.uint16)}, rows)
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
