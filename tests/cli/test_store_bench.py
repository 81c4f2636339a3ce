"""The part of `landmeta bench speed` about tile archives: its rows, its tables, and once the whole."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from landmeta_catalog.ingest_speed import IngestSpeed
from landmeta_catalog.store_speed import IndexSpeed, TaskSpeed, TileSpeed
from landmeta_cli.speed_tables import speed_table
from landmeta_cli.store_bench import _index_row, _ingest_row, _task_row, _tile_row

from .conftest import Said


def test_a_row_is_reached_when_ratio_and_seconds_are() -> None:
    fast = _tile_row(TileSpeed(2, 6000, 2000.0, 90.0, 160.0, 12.5))
    assert fast["what"] == "a random tile, 2 processes"
    assert fast["ours_s"] == pytest.approx(1 / 2000)
    assert fast["reference_s"] == pytest.approx(1 / 160), "the faster of the two layouts of GeoTIFF"
    assert (fast["ratio"], fast["goal"], fast["reached"]) == (12.5, 10.0, True)
    assert not _tile_row(TileSpeed(2, 6000, 2000.0, 90.0, 250.0, 8.0))["reached"]
    assert not _tile_row(TileSpeed(2, 6000, 1400.0, 90.0, 100.0, 14.0))["reached"]


def test_tasks_have_no_reference_and_the_index_has_one() -> None:
    task = _task_row(TaskSpeed(2, True, 300, 160.0))
    assert (task["reference_s"], task["ratio"], task["reached"]) == (None, None, True)
    index = _index_row(IndexSpeed(722_648, 5781, 0.6, 3.0, 5.0, 7.0))
    assert (index["ratio"], index["reached"]) == (5.0, False)


def test_an_ingest_keeps_to_its_memory_and_its_time_a_tile() -> None:
    small, large = (
        IngestSpeed(250, 1000, 2, 10.0, 110.0, 700.0),
        IngestSpeed(1000, 4000, 2, 44.0, 100.0, 720.0),
    )
    assert _ingest_row(small, small)["seconds_a_tile_to_smallest"] == 1
    assert _ingest_row(large, small)["seconds_a_tile_to_smallest"] == 1.1
    assert not _ingest_row(IngestSpeed(1000, 4000, 2, 60.0, 80.0, 720.0), small)["reached"]
    assert not _ingest_row(IngestSpeed(180_662, 2048, 2, 60.0, 110.0, 1020.0), small)["reached"]


def test_the_tables_show_rates_goals_and_memory() -> None:
    small, large = IngestSpeed(250, 1000, 2, 10.0, 110.0, 700.0), IngestSpeed(500, 128, 2, 60.0, None, None)
    tiles, tasks = TileSpeed(2, 6000, 2000.0, 90.0, 160.0, 12.5), TaskSpeed(2, True, 300, 140.0)
    rows = [_tile_row(tiles), _task_row(tasks)]
    ingests = [_ingest_row(small, small), _ingest_row(large, small)]
    text = speed_table({"store": {"rows": rows, "ingest": ingests}})
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "a random tile, 2 processes 160.0 2,000.0 12 x 10 and 1,500 yes" in lines
    assert "a task of 8 tiles, augmented 140.0 150 no" in lines
    assert "250 1,000 10.0 110 700 1.00 yes" in lines
    assert "500 128 60.0 not known yes" in lines


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_store_part_prints_what_it_promises(landmeta: Callable[..., Said]) -> None:
    said = landmeta("bench", "speed", "--part", "store", "--repeats", 1, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)["store"]
    assert len(found["rows"]) == 4
    assert [row["patches"] for row in found["ingest"]] == [250, 1000, 180_662]
    assert all(row["peak_mb"] is None or row["peak_mb"] < 1000 for row in found["ingest"])
