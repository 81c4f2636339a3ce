"""Cells are kept one by one: a stopped run goes on, a failed cell is recorded, other settings are refused."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from landmeta.bench.cells import Cell, outdated_cells, run_cells, stored_cells
from landmeta.errors import BenchError, DataError, Interrupted

CELLS = [Cell("maml", norm, "here", 0) for norm in ("in", "tbn", "none")]


class Counted:
    """Work that fails for one norm and stops the run at another."""

    def __init__(self, fails: str = "", stops: str = "") -> None:
        self.fails, self.stops, self.ran = fails, stops, [""][:0]

    def __call__(self, cell: Cell) -> Mapping[str, Any]:
        if cell.norm == self.stops:
            msg = "asked to stop"
            raise Interrupted(msg)
        self.ran.append(cell.norm)
        if cell.norm == self.fails:
            msg = "no loss"
            raise ArithmeticError(msg)
        return {"score": 0.5, "none": float("nan")}


def run(work: Counted, folder: Path, **settings: Any) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    run_cells(
        CELLS,
        work,
        folder,
        settings={"steps": 3, **settings},
        notes={"command": "landmeta bench run"},
        told=lambda cell, state, error, hint: told.append((cell.norm, state)),
    )
    return told


def test_a_failed_cell_is_recorded_with_its_error_and_the_rest_goes_on(tmp_path: Path) -> None:
    assert run(Counted(fails="tbn"), tmp_path) == [("in", "done"), ("tbn", "failed"), ("none", "done")]
    stored = {cell["cell"]["norm"]: cell for cell in stored_cells(tmp_path)}
    assert stored["tbn"]["error"].startswith("ArithmeticError: no loss")
    assert stored["in"]["result"] == {"score": 0.5, "none": None}
    assert stored["in"]["command"] == "landmeta bench run"


def test_a_failed_cell_keeps_and_tells_the_hint_of_its_error(tmp_path: Path) -> None:
    def fails(cell: Cell) -> Mapping[str, Any]:
        msg = "too few tiles"
        raise DataError(msg, "ingest more regions")

    hints: list[str] = []
    run_cells(
        CELLS[:1], fails, tmp_path, settings={}, notes={}, told=lambda *found: hints.append(str(found[3]))
    )
    (stored,) = stored_cells(tmp_path)
    assert stored["error"].startswith("DataError: too few tiles (")
    assert [stored["hint"]] == hints == ["ingest more regions"]


def test_the_next_run_keeps_what_is_done_and_tries_again_what_failed(tmp_path: Path) -> None:
    run(Counted(fails="tbn"), tmp_path)
    again = Counted()
    assert run(again, tmp_path) == [("in", "kept"), ("tbn", "done"), ("none", "kept")]
    assert again.ran == ["tbn"]


def test_waiting_is_not_counted_as_cpu_time(tmp_path: Path) -> None:
    def waits(cell: Cell) -> Mapping[str, Any]:
        time.sleep(0.5)
        return {}

    run_cells(CELLS[:1], waits, tmp_path, settings={}, notes={}, told=lambda *_: None)
    (stored,) = stored_cells(tmp_path)
    assert stored["seconds"] >= 0.5
    assert stored["cpu_seconds"] < 0.4


def test_a_run_that_is_stopped_keeps_the_cells_before(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(Counted(stops="tbn"), tmp_path)
    assert [cell["cell"]["norm"] for cell in stored_cells(tmp_path)] == ["in"]
    again = Counted()
    run(again, tmp_path)
    assert again.ran == ["tbn", "none"]


def test_results_of_other_settings_are_refused(tmp_path: Path) -> None:
    run(Counted(), tmp_path)
    with pytest.raises(BenchError, match="has steps 3, this run has 4"):
        run(Counted(), tmp_path, steps=4)


def test_a_folder_takes_another_dataset_of_the_same_preset(tmp_path: Path) -> None:
    run(Counted(), tmp_path, preset="small", dataset="there", tiles=7)
    with pytest.raises(BenchError, match="has preset 'small', this run has 'smoke'"):
        run(Counted(), tmp_path, preset="smoke", dataset="here", tiles=9)
    with pytest.raises(BenchError, match="has tiles 7, this run has 9"):
        run(Counted(), tmp_path, preset="small", dataset="there", tiles=9)
    assert {state for _, state in run(Counted(), tmp_path, preset="small", dataset="here", tiles=9)} == {
        "kept"
    }


def test_cells_are_run_again_where_tiles_that_are_only_tested_on_are_others(tmp_path: Path) -> None:
    first = {"dataset": "here", "regions_checksum": "a", "tasks": "t"}
    run(Counted(), tmp_path, **first)
    for path in (tmp_path / "cells").iterdir():
        cell = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**cell, "began": "2026-01-01T00:00:00+00:00"}), encoding="utf-8")
    again = Counted(stops="tbn")
    with pytest.raises(Interrupted):
        run(again, tmp_path, **{**first, "regions_checksum": "b", "tasks": "u"})
    assert [cell["cell"]["norm"] for cell in outdated_cells(stored_cells(tmp_path))] == ["none", "tbn"]
    found = run(Counted(), tmp_path, **{**first, "regions_checksum": "b", "tasks": "u"})
    assert found == [
        ("in", "kept"), ("tbn", "outdated"), ("tbn", "done"), ("none", "outdated"), ("none", "done")
    ]  # fmt: skip
    assert outdated_cells(stored_cells(tmp_path)) == []


def test_other_tasks_of_the_same_tiles_are_refused_and_older_cells_kept(tmp_path: Path) -> None:
    run(Counted(), tmp_path, dataset="here", tasks="t")  # as cells were before they said which tiles
    assert {
        state for _, state in run(Counted(), tmp_path, dataset="here", tasks="t", regions_checksum="a")
    } == {"kept"}
    with pytest.raises(BenchError, match="has tasks 't', this run has 'u'"):
        run(Counted(), tmp_path, dataset="here", tasks="u", regions_checksum="a")


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"schema": 3}', '{"schema": 3, "cell": {}, "settings": {}, "state": "done"}', "{"]
)
def test_a_damaged_result_is_named_and_can_be_removed_and_run_again(text: str, tmp_path: Path) -> None:
    run(Counted(), tmp_path)
    path = tmp_path / "cells" / "maml-tbn-here-0.json"
    path.write_text(text, encoding="utf-8")
    for read in (lambda: run(Counted(), tmp_path), lambda: stored_cells(tmp_path)):
        with pytest.raises(BenchError, match="maml-tbn-here-0.json cannot be read") as caught:
            read()
        assert "remove the file" in caught.value.hint
    path.unlink()
    assert run(Counted(), tmp_path) == [("in", "kept"), ("tbn", "done"), ("none", "kept")]


def test_a_folder_without_results_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no results") as caught:
        stored_cells(tmp_path)
    assert "--out" in caught.value.hint
