"""What tests look at in an ingested store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from landmeta_catalog.store import TileStore

from .fake_archive import FakeArchive, tile_pixels


def index_of(store: Path) -> pd.DataFrame:
    """Rows of the tiles by id."""
    with TileStore.open(store) as opened:
        rows = opened.index().set_index("id")
    # Which values a column of repeated names could have does not matter.
    return rows.astype(dict.fromkeys(rows.columns[rows.dtypes == "category"], "str"))


def quarantined(store: Path) -> dict[str, str]:
    """Reason by id."""
    with TileStore.open(store) as opened:
        rows = opened.index(quarantined=True).query("status == 'quarantined'")
    return dict(zip(rows["id"], rows["reason"], strict=True))


def assert_tiles_are_the_archives(archive: FakeArchive, store: Path) -> None:
    rows = index_of(store)
    with TileStore.open(store) as opened:
        stored = opened.read("fake", "s2", rows["slot"].to_numpy())
    for row, pixels in zip(rows.itertuples(), stored, strict=True):
        name = f"{row.region}/{row.season}/{row.patch}"
        np.testing.assert_array_equal(pixels, tile_pixels(archive, name, str(row.quadrant)))
