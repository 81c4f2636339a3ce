"""A store of 150 tiles of 16 px in three regions, and what its tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shapely import box

from landmeta.errors import DataError
from landmeta.legend import DFC2020
from landmeta_catalog.store_writer import (
    create_dataset,
    finish_dataset,
    write_shard,
)
from landmeta_catalog.tiles import SHARD_TILES, ArraySpec, index_frame

SIDE = 16
S2 = ArraySpec("s2", ("B02", "B03", "B04"), "uint16", 1e-4, nodata=0, side=SIDE)
S1 = ArraySpec("s1", ("VV", "VH"), "int16", 1e-2, nodata=-32768, side=SIDE)
SETTINGS = {"crop": "quadrants", "majority": "published"}


def pixels(tiles: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    s2 = rng.integers(0, 12000, (tiles, *S2.shape)).astype(np.uint16)
    s1 = rng.integers(-3000, 0, (tiles, *S1.shape)).astype(np.int16)
    s1[:, 0, 0, 0] = -32768
    return {"s2": s2, "s1": s1}


def rows(tiles: int, first: int = 0, per_region: int = 50) -> pd.DataFrame:
    records = []
    for i in range(first, first + tiles):
        region, code = str(i // per_region), i % 3 + 1
        west = 10 + i * 0.01
        records.append(
            {"region": region, "season": "spring", "patch": f"p{i}", "quadrant": "tl", "block": f"p{i}",
             "class_code": code, "class_name": DFC2020.names[code - 1], "class_fractions": [0.25] * 10,
             "valid_fraction": 1.0, "crs": "EPSG:32632", "x": 500000.0 + i, "y": 4e6, "pixel": 10.0,
             "side": SIDE, "geometry": box(west, 50, west + 0.01, 50.01)}
        )  # fmt: skip
    return index_frame(records).drop(columns="slot")


def make(
    store: Path, counts: Sequence[int] = (SHARD_TILES, 22), *, name: str = "sim"
) -> list[dict[str, np.ndarray]]:
    """A finished store of one dataset with as many tiles in each shard."""
    create_dataset(store, name, (S2, S1), DFC2020, len(counts) * SHARD_TILES, settings=SETTINGS)
    written = []
    for shard, tiles in enumerate(counts):
        written.append(pixels(tiles, seed=shard))
        write_shard(store, name, shard, written[-1], rows(tiles, shard * SHARD_TILES))
    finish_dataset(store, name, index_frame([]))
    return written


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    """The message, after checking that it is one line and comes with a hint of one line."""
    text, hint = str(error.value), error.value.hint
    assert "\n" not in text
    assert hint
    assert "\n" not in hint
    return text
