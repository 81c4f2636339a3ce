"""A store is written in any order and in pieces; what is damaged is named, and its cure works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from landmeta.errors import DataError, OutputError
from landmeta.legend import DFC2020, WORLDCOVER
from landmeta_catalog import _atomic
from landmeta_catalog._shards import shard_path
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import (
    create_dataset,
    finish_dataset,
    grow_dataset,
    shards_done,
    write_shard,
)
from landmeta_catalog.tiles import SHARD_TILES, index_frame

from .small_store import S1, S2, SETTINGS, make, one_line, pixels, rows


def test_two_datasets_share_a_store(tmp_path: Path) -> None:
    make(tmp_path, (5,), name="b")
    make(tmp_path, (6,), name="a")
    with TileStore.open(tmp_path) as tiles:
        assert set(tiles.datasets) == {"a", "b"}
        assert tiles.index()["dataset"].astype(str).tolist() == ["a"] * 6 + ["b"] * 5
        assert tiles.legend("b") == DFC2020
        assert tiles.arrays("a") == (S2, S1)


def test_shards_written_in_any_order_and_twice_give_the_same_store(tmp_path: Path) -> None:
    for name, order in (("one", (0, 1)), ("two", (1, 0, 1))):
        create_dataset(tmp_path / name, "sim", (S2, S1), DFC2020, 200, settings=SETTINGS)
        for shard in order:
            write_shard(tmp_path / name, "sim", shard, pixels(30, shard), rows(30, shard * SHARD_TILES))
        finish_dataset(tmp_path / name, "sim", index_frame([]))
    with TileStore.open(tmp_path / "one") as one, TileStore.open(tmp_path / "two") as two:
        pd.testing.assert_frame_equal(one.index(), two.index())


def test_a_dataset_grows_and_its_new_tiles_join_their_region(tmp_path: Path) -> None:
    make(tmp_path, (20,))
    grow_dataset(tmp_path, "sim", 2 * SHARD_TILES)
    with TileStore.open(tmp_path) as tiles:
        assert len(tiles.index()) == 20, "what is finished stays readable while more is added"
    write_shard(tmp_path, "sim", 1, pixels(5, 9), rows(5, 20))
    finish_dataset(tmp_path, "sim", index_frame([]))
    with TileStore.open(tmp_path) as tiles:
        assert tiles.index(region="0")["slot"].tolist() == [*range(20), *range(SHARD_TILES, SHARD_TILES + 5)]
    assert zarr.open_array(tmp_path / "sim" / "s1", mode="r").shape[0] == 2 * SHARD_TILES
    with pytest.raises(DataError, match="cannot shrink"):
        grow_dataset(tmp_path, "sim", 3)


def test_creating_a_dataset_again_is_refused_only_where_it_differs(tmp_path: Path) -> None:
    def create(**changes: object) -> None:
        given = {"arrays": (S2, S1), "legend": DFC2020, "settings": SETTINGS, **changes}
        create_dataset(tmp_path, "sim", given["arrays"], given["legend"], 10, settings=given["settings"])  # type: ignore[arg-type]

    create()
    create()
    for change, words in (
        ({"arrays": (S2,)}, r"other arrays: s2 \(3 bands, 16 px, uint16\), s1 .*; now s2 \(3"),
        ({"legend": WORLDCOVER}, "other legend: Forest"),
        ({"settings": {**SETTINGS, "crop": "centre"}}, "other settings: crop 'quadrants', now 'centre'"),
    ):
        with pytest.raises(DataError, match=words) as error:
            create(**change)
        one_line(error)


def test_a_folder_with_other_files_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(DataError, match=r"no store\.json") as error:
        make(tmp_path)
    one_line(error)


def test_a_folder_of_other_folders_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "ROIs0000_autumn" / "s2_CapeTown").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds ROIs0000_autumn but no store\.json") as error:
        make(tmp_path)
    one_line(error)


def test_what_a_killed_first_call_leaves_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "sim" / "parts").mkdir(parents=True)
    make(tmp_path)
    with TileStore.open(tmp_path) as tiles:
        assert tiles.datasets == ("sim",)


@pytest.mark.parametrize("name", ["", "a/b", "..", "ä b", "-x"])
def test_a_dataset_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be a folder"):
        create_dataset(tmp_path, name, (S2,), DFC2020, 1, settings={})


def test_arrays_or_slots_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    create_dataset(tmp_path, "sim", (S2, S1), DFC2020, 10, settings=SETTINGS)
    good, table = pixels(2), rows(2)
    for arrays, bad_rows, words in (
        ({"s2": good["s2"]}, table, "were given, the dataset has"),
        ({**good, "s1": good["s1"].astype(np.float32)}, table, "array s1 takes"),
        ({**good, "s2": good["s2"][:1]}, table, "2 rows take as many tiles"),
        (good, table.assign(slot=[3, 3]), "distinct slots"),
        (good, table.assign(slot=[3, 10]), "distinct slots"),
    ):
        with pytest.raises(ValueError, match=words):
            write_shard(tmp_path, "sim", 0, arrays, bad_rows)
    assert shards_done(tmp_path, "sim") == frozenset()


def test_a_shard_is_done_when_its_part_is_there_and_its_files_are_whole(tmp_path: Path) -> None:
    make(tmp_path, (3, 4))
    assert shards_done(tmp_path, "sim") == {0, 1}
    (tmp_path / "sim" / "parts" / "0.parquet").unlink()
    assert shards_done(tmp_path, "sim") == {1}
    truncate(shard_path(tmp_path / "sim" / "s1", 1), 100)
    assert shards_done(tmp_path, "sim") == frozenset()


def test_a_write_that_fails_leaves_neither_half_files_nor_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_dataset(tmp_path, "sim", (S2, S1), DFC2020, 10, settings=SETTINGS)

    def full(part: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_atomic, "_flush", full)
    with pytest.raises(OutputError, match="No space left on device") as error:
        write_shard(tmp_path, "sim", 0, pixels(2), rows(2))
    assert "--out" in error.value.hint
    assert {path.name for path in (tmp_path / "sim").rglob("*")} == {"zarr.json", "s1", "s2", "parts"}


# --- damage ----------------------------------------------------------------------------------------


def truncate(path: Path, missing: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - missing])


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: truncate(path, 1000), "truncated or damaged"),
        (lambda path: path.write_bytes(b""), "truncated or damaged"),
        (lambda path: flip(path, -10), "truncated or damaged"),
        (lambda path: flip(path, 50), "checksum of the tile at place 0"),
        (lambda path: path.write_bytes(b"more" + path.read_bytes()), "its index speaks of"),
        (lambda path: path.unlink(), "No such file"),
    ],
    ids=["truncated", "empty", "index", "tile", "longer", "absent"],
)
def test_a_damaged_shard_is_named_with_its_cure(tmp_path: Path, harm, words: str) -> None:
    make(tmp_path, (3,))
    path = shard_path(tmp_path / "sim" / "s2", 0)
    harm(path)
    with TileStore.open(tmp_path) as tiles, pytest.raises(DataError, match=words) as error:
        tiles.read("sim", "s2", [0])
    assert str(path) in one_line(error)
    assert str(tmp_path / "sim" / "parts" / "0.parquet") in error.value.hint


def test_the_cure_of_a_damaged_shard_works(tmp_path: Path) -> None:
    make(tmp_path, (3,))
    flip(shard_path(tmp_path / "sim" / "s2", 0), 50)
    (tmp_path / "sim" / "parts" / "0.parquet").unlink()
    assert shards_done(tmp_path, "sim") == frozenset()
    make(tmp_path, (3,))
    with TileStore.open(tmp_path) as tiles:
        np.testing.assert_array_equal(tiles.read("sim", "s2", range(3)), pixels(3)["s2"])
