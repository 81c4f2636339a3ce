"""A store with smaller tiles holds the means of the larger ones, and can be gone on with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from landmeta.errors import DataError
from landmeta.legend import legend_for
from landmeta_catalog.reduced_store import reduce_store
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tiles import ArraySpec

TILES, SIDE = 130, 8


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A store of 130 tiles, two bands of 8 px, one pixel of the first tile without data."""
    store = tmp_path / "large"
    spec = ArraySpec("s1", ("VV", "VH"), "int16", 0.01, 0.0, -32768, SIDE)
    legend = legend_for(["forest", "water"], [1, 2])
    create_dataset(store, "here", [spec], legend, TILES, settings={})
    pixels = np.random.default_rng(0).integers(-2000, 0, (TILES, 2, SIDE, SIDE)).astype(np.int16)
    pixels[0, 0, 1, 1] = -32768
    rows = pd.DataFrame(
        {
            "region": "8",
            "season": "summer",
            "patch": [f"p{i}" for i in range(TILES)],
            "quadrant": "",
            "block": [f"p{i}" for i in range(TILES)],
            "class_code": [1 + i % 2 for i in range(TILES)],
            "class_name": [("forest", "water")[i % 2] for i in range(TILES)],
            "pixel": 10.0,
            "side": SIDE,
        }
    )
    for shard, part in enumerate((slice(0, 128), slice(128, TILES))):
        write_shard(store, "here", shard, {"s1": pixels[part]}, rows[part].reset_index(drop=True))
    finish_dataset(store, "here", rows.iloc[:0])
    return store


def test_pixels_are_means_and_no_data_stays_no_data(large: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "small", []
    reduce_store(large, "here", out, 4, progress=lambda *stage: told.append(stage))
    with TileStore.open(large) as source, TileStore.open(out) as reduced:
        before = source.read("here", "s1", range(TILES)).astype(np.float64)
        after = reduced.read("here", "s1", range(TILES))
        rows = reduced.index(dataset="here")
        classes = source.index(dataset="here")["class_code"].tolist()
    means = np.rint(before.reshape(TILES, 2, 4, 2, 4, 2).mean((3, 5)))
    means[0, 0, 0, 0] = -32768
    np.testing.assert_array_equal(after, means)
    assert rows["class_code"].tolist() == classes
    assert (rows["pixel"].unique().tolist(), rows["side"].unique().tolist()) == ([20.0], [4])
    assert told[-1] == ("smaller tiles", 2, 2)


def test_a_second_call_changes_nothing(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    reduce_store(large, "here", out, 4, progress=lambda *_: None)
    first = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*")}
    reduce_store(large, "here", out, 4, progress=lambda *_: None)
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*")} == first


def test_runs_that_begin_together_make_the_tiles_one_after_the_other(large: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "small", []
    out.mkdir()

    def reduce() -> None:
        reduce_store(large, "here", out, 4, progress=lambda *stage: told.append(stage))

    with ThreadPoolExecutor(2) as runs:
        with FileLock(out / ".reducing.lock"):
            both = [runs.submit(reduce), runs.submit(reduce)]
            wait(both, timeout=0.5)
            assert [path.name for path in out.iterdir()] == [".reducing.lock"]
        for run in both:
            run.result(timeout=60)
    assert told == [("smaller tiles", 1, 2), ("smaller tiles", 2, 2)]  # the second run found them made


def test_a_side_that_does_not_divide_the_tiles_is_refused(large: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no multiple of 3"):
        reduce_store(large, "here", tmp_path / "small", 3, progress=lambda *_: None)
