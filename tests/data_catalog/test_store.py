"""What is read from a store: tiles, the index, and clear words where something is not there."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, box

from landmeta.errors import DataError
from landmeta.legend import DFC2020
from landmeta_catalog import _tile_index
from landmeta_catalog._shards import Shard, open_shard_file
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import (
    create_dataset,
    finish_dataset,
    shards_done,
    write_shard,
)
from landmeta_catalog.tiles import INDEX_COLUMNS, SHARD_TILES, index_frame, tile_checksum

from .small_store import S1, S2, SETTINGS, make, one_line, pixels, rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / "store"
    make(path)
    return path


# --- reading back ----------------------------------------------------------------------------------


def test_tiles_come_back_as_written_in_the_order_asked(store: Path) -> None:
    first, second = pixels(SHARD_TILES, 0), pixels(22, 1)
    with TileStore.open(store) as tiles:
        found = tiles.read("sim", "s2", [SHARD_TILES + 3, 0, 127])
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, [second["s2"][3], first["s2"][0], first["s2"][127]])
        np.testing.assert_array_equal(tiles.read("sim", "s1", range(22)), first["s1"][:22])


def test_bands_are_chosen_by_name_and_come_in_the_order_asked(store: Path) -> None:
    with TileStore.open(store) as tiles:
        found = tiles.read("sim", "s2", [5, 6], ["B04", "B02"])
    np.testing.assert_array_equal(found, pixels(SHARD_TILES)["s2"][5:7, [2, 0]])


def test_physical_values_are_scaled_and_no_data_is_nan(store: Path) -> None:
    stored = pixels(SHARD_TILES)["s1"][7]
    with TileStore.open(store) as tiles:
        values = tiles.read_scaled("sim", "s1", [7])[0]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(values), stored == -32768)
    np.testing.assert_allclose(values[1], stored[1] * 0.01, rtol=1e-6)


def test_zarr_python_reads_the_arrays_as_they_are(store: Path) -> None:
    for name in ("s2", "s1"):
        array = zarr.open_array(store / "sim" / name, mode="r")
        assert array.shape == (2 * SHARD_TILES, *(S2 if name == "s2" else S1).shape)
        np.testing.assert_array_equal(array[:SHARD_TILES], pixels(SHARD_TILES, 0)[name])
        np.testing.assert_array_equal(array[SHARD_TILES : SHARD_TILES + 22], pixels(22, 1)[name])
        assert (array[SHARD_TILES + 22 :] == array.fill_value).all(), "absent tiles hold no data"


def test_xarray_opens_a_dataset_without_listing_it_and_decodes_physical_values(store: Path) -> None:
    with xr.open_zarr(store / "sim", chunks=None) as opened, TileStore.open(store) as tiles:
        np.testing.assert_allclose(opened["s1"][130], tiles.read_scaled("sim", "s1", [130])[0], rtol=1e-6)
        assert opened["s2"].attrs["bands"] == list(S2.bands)


def test_a_store_pickles_as_its_path(store: Path) -> None:
    with TileStore.open(store) as tiles:
        tiles.read("sim", "s2", [0])
        with pickle.loads(pickle.dumps(tiles)) as other:
            np.testing.assert_array_equal(other.read("sim", "s2", [4]), tiles.read("sim", "s2", [4]))


def test_more_shards_than_may_be_open_are_read_all_the_same(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta_catalog.store._OPEN_FILES", 1)
    with TileStore.open(store) as tiles:
        found = tiles.read("sim", "s2", [0, SHARD_TILES, 1, SHARD_TILES + 1])
        assert len(tiles._shards) == 1
    np.testing.assert_array_equal(found[::2], pixels(SHARD_TILES)["s2"][:2])


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, SHARD_TILES - 1), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_any_places_of_a_shard_round_trip(
    tmp_path_factory: pytest.TempPathFactory, places: set[int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("shard") / "c.0.0.0.0"
    order = sorted(places, key=lambda place: (place * 37) % 11)
    tiles = pixels(len(order), seed)["s2"]
    with open_shard_file(path) as file:
        for tile, place in zip(tiles, order, strict=True):
            file.add(place, tile)
    shard, out = Shard(path, S2), np.empty(S2.shape, np.uint16)
    for tile, place in zip(tiles, order, strict=True):
        shard.read(place, out)
        np.testing.assert_array_equal(out, tile)
    shard.close()


# --- the index -------------------------------------------------------------------------------------


def test_the_index_has_the_promised_columns_and_is_sorted(store: Path) -> None:
    with TileStore.open(store) as tiles:
        found = tiles.index(columns=list(INDEX_COLUMNS))
        assert tuple(found.columns) == INDEX_COLUMNS
        assert found["id"].iloc[0] == "sim/0/spring/p0/tl"
        keys = list(zip(found["region"].astype(str), found["slot"], strict=True))
        assert keys == sorted(keys)
        assert found["checksum"].iloc[0] == tile_checksum(array[0] for array in pixels(SHARD_TILES).values())
        assert len(tiles.index()) == SHARD_TILES + 22


def test_the_index_is_filtered_by_region_season_and_dataset(store: Path) -> None:
    with TileStore.open(store) as tiles:
        assert tiles.index(region="1")["patch"].tolist() == [f"p{i}" for i in range(50, 100)]
        assert tiles.index(region="1", season="fall").empty
        assert len(tiles.index(dataset="sim", columns=["slot"]).columns) == 1


def test_the_index_is_a_geoparquet_file(store: Path) -> None:
    frame = gpd.read_parquet(store / "index.parquet")
    assert frame.crs.equals("OGC:CRS84")
    assert frame.geometry.iloc[0].equals(box(10, 50, 10.01, 50.01))
    with TileStore.open(store) as tiles:
        shapes = tiles.index(region="0", columns=["id", "geometry"])
    assert isinstance(shapes, gpd.GeoDataFrame)
    assert shapes.geometry.iloc[1].equals(box(10.01, 50, 10.02, 50.01))


def test_the_index_says_which_kinds_of_footprints_it_has(tmp_path: Path) -> None:
    def kinds() -> list[str]:
        described = json.loads(pq.read_schema(tmp_path / "index.parquet").metadata[b"geo"])
        return list(described["columns"]["geometry"]["geometry_types"])

    create_dataset(tmp_path, "sim", (S2, S1), DFC2020, 10, settings=SETTINGS)
    table = rows(3)
    for shapes, expected in (
        ([None] * 3, []),
        ([*table["geometry"][:2], None], ["Polygon"]),
        # A tile across the 180th meridian is cut there.
        ([*table["geometry"][:2], MultiPolygon([box(179, 0, 180, 1), box(-180, 0, -179, 1)])],
         ["MultiPolygon", "Polygon"]),
    ):  # fmt: skip
        write_shard(tmp_path, "sim", 0, pixels(3), table.assign(geometry=shapes))
        finish_dataset(tmp_path, "sim", index_frame([]))
        assert kinds() == expected
    assert gpd.read_parquet(tmp_path / "index.parquet").geometry.iloc[2].bounds == (-180, 0, 180, 1)


def test_regions_count_the_tiles_of_each_class(store: Path) -> None:
    with TileStore.open(store) as tiles:
        table = tiles.regions("sim")
    assert list(table.columns) == list(DFC2020.names)
    assert table.index.tolist() == [(str(i), "spring") for i in range(3)]
    assert table.loc[("0", "spring"), "Forest"] == 17
    assert table.to_numpy().sum() == SHARD_TILES + 22


def test_quarantined_tiles_are_in_the_index_when_asked_for(tmp_path: Path) -> None:
    create_dataset(tmp_path, "sim", (S2, S1), DFC2020, 10, settings=SETTINGS)
    mixed = rows(4)
    mixed.loc[1, ["status", "reason"]] = ["quarantined", "p1.tif is truncated"]
    written = pixels(3)
    write_shard(tmp_path, "sim", 0, written, mixed)
    absent = {"region": "0", "season": "spring", "patch": "p9", "status": "quarantined", "reason": "no s1"}
    finish_dataset(tmp_path, "sim", index_frame([absent]))
    with TileStore.open(tmp_path) as tiles:
        assert tiles.index()["patch"].tolist() == ["p0", "p2", "p3"]
        everything = tiles.index(quarantined=True).set_index("patch")
        assert everything["reason"].astype(str)[["p1", "p9"]].tolist() == ["p1.tif is truncated", "no s1"]
        assert everything["slot"][["p1", "p9"]].tolist() == [-1, -1]
        np.testing.assert_array_equal(tiles.read("sim", "s1", everything["slot"][["p3"]]), written["s1"][2:])


def test_row_groups_let_a_region_be_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tile_index, "ROW_GROUP", 40)
    make(tmp_path / "store")
    metadata = pq.ParquetFile(tmp_path / "store" / "index.parquet").metadata
    column = INDEX_COLUMNS.index("region")
    groups = [metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)]
    assert sum(g.min <= "1" <= g.max for g in groups) < len(groups)


# --- what is not there -----------------------------------------------------------------------------


def test_a_folder_that_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tile store: it holds no store\.json") as error:
        TileStore.open(tmp_path)
    one_line(error)
    (tmp_path / "store.json").write_text("{half")
    with pytest.raises(DataError, match="cannot be read as the manifest") as error:
        TileStore.open(tmp_path)
    one_line(error)


def test_a_store_of_another_version_is_named(tmp_path: Path) -> None:
    make(tmp_path, (3,))
    manifest = tmp_path / "store.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format": 2, "landmeta": "9.1"}))
    for use in (TileStore.open, lambda path: shards_done(path, "sim")):
        with pytest.raises(
            DataError, match=r"format 2 \(landmeta 9\.1\); this landmeta reads format 1"
        ) as error:
            use(tmp_path)
        one_line(error)
    manifest.write_text(json.dumps({**content, "datasets": {"sim": {"arrays": []}}}))
    with pytest.raises(DataError, match="is damaged") as error:
        TileStore.open(tmp_path)
    one_line(error)


def test_an_unfinished_store_is_named(tmp_path: Path) -> None:
    create_dataset(tmp_path, "sim", (S2, S1), DFC2020, 10, settings=SETTINGS)
    write_shard(tmp_path, "sim", 0, pixels(2), rows(2))
    with pytest.raises(DataError, match="the ingest of sim was interrupted") as error:
        TileStore.open(tmp_path)
    assert "again" in error.value.hint
    one_line(error)


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    make(tmp_path, (3,))
    (tmp_path / "index.parquet").write_bytes(b"PAR1 no more")
    with TileStore.open(tmp_path) as tiles, pytest.raises(DataError, match="cannot be read") as error:
        tiles.index()
    one_line(error)
    (tmp_path / "sim" / "parts" / "0.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="index part .* is damaged") as error:
        finish_dataset(tmp_path, "sim", index_frame([]))
    one_line(error)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda s: s.read("other", "s2", [0]), "no finished dataset 'other'"),
        (lambda s: s.read("sim", "s3", [0]), "no array 's3'"),
        (lambda s: s.read("sim", "s2", [0], ["B12"]), "no band B12"),
        (lambda s: s.read("sim", "s2", [-1]), "quarantined"),
        (lambda s: s.read("sim", "s2", [SHARD_TILES + 22]), "no tile at place 22"),
        (lambda s: s.read("sim", "s2", [2 * SHARD_TILES]), "No such file"),
        (lambda s: s.index(columns=["colour"]), "no column colour"),
        (lambda s: s.index(dataset="other"), "no finished dataset"),
    ],
    ids=["dataset", "array", "band", "quarantined", "place", "shard", "column", "index"],
)
def test_what_is_not_there_is_named(store: Path, read, words: str) -> None:
    with TileStore.open(store) as tiles, pytest.raises(DataError, match=words) as error:
        read(tiles)
    one_line(error)


def test_index_rows_have_no_unknown_columns() -> None:
    with pytest.raises(ValueError, match="no column colour"):
        index_frame([{"colour": "red"}])
