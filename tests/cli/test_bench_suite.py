"""`landmeta bench list`, `run` and `report`: what can be run is run, goes on, and is rendered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from landmeta.bench.cells import Cell, Told
from landmeta_cli.console import Progress
from landmeta_cli.requests import SuiteRequest

from .conftest import Said

Landmeta = Callable[..., Said]
STORED = Path(__file__).parents[2] / "benchmarks" / "results" / "small"


def test_the_list_names_every_suite_with_its_state(landmeta: Landmeta) -> None:
    said = landmeta("bench", "list", "--json")
    rows = json.loads(said.out)
    assert len(rows) == 46
    assert {row["suite"] for row in rows if row["state"] == "runnable"} == {"000/table1a", "000/table1b"}
    shown = landmeta("bench", "list", "--runnable").out
    assert shown.count("runnable") == 2
    assert "002/" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "000/table9"), "did you mean 000/table1"),
        (("run", "002/table1"), "not built: needs segmentation"),
        (("run", "000/table1a", "--preset", "large"), "--preset is one of smoke, small, paper"),
        (("run", "000/table1a", "--preset", "paper"), "--data STORE"),
        (("run", "000/table1a", "--row", "bgn"), "rows are"),
        (("run", "000/table1a", "--tasks", "nowhere.csv"), "leave out --tasks"),
        (("report", "nowhere"), "holds no results"),
    ],
)
def test_what_cannot_be_run_or_rendered_is_one_error_line(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    landmeta: Landmeta,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = landmeta("bench", *arguments)
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert (said.code, said.out, len(errors)) == (2, "", 1)
    assert words in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("inside", ["", "bench"])
def test_a_file_is_no_folder_of_results(inside: str, tmp_path: Path, landmeta: Landmeta) -> None:
    (tmp_path / "file").touch()
    said = landmeta("bench", "run", "000/table1a", "--out", tmp_path / "file" / inside)
    assert said.code == 2
    assert f"error: {tmp_path / 'file'} is a file, expected a folder for the run\n" in said.err
    assert "hint: give another --out" in said.err


def test_ctrl_c_says_that_what_is_done_is_kept(
    tmp_path: Path, landmeta: Landmeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    opened = SimpleNamespace(dataset="here", settings=dict, notes=dict)
    monkeypatch.setattr("landmeta_cli.bench_data.BenchData.open", lambda *_: opened)
    monkeypatch.setattr("landmeta.bench.cells.run_cells", stops)
    said = landmeta("bench", "run", "000/table1a", "--out", tmp_path / "bench")
    assert said.code == 130
    assert f"cells that are done are kept in {tmp_path / 'bench'}" in said.err
    assert "hint: the same command goes on" in said.err


def test_cells_that_failed_or_are_outdated_are_told_with_a_hint(
    tmp_path: Path, landmeta: Landmeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(request: SuiteRequest, *, told: Told, progress: Progress) -> list[dict[str, Any]]:
        cell = Cell("maml", "in", "here", 0)
        told(cell, "failed", "DataError: too few tiles", "ingest more regions")
        kept = {"suite": "000/table1b", "state": "done", "cell": {"dataset": "here"}}
        return [
            {"state": "failed"},
            {**kept, "began": "2026-01-01", "settings": {"regions_checksum": "a"}},
            {**kept, "began": "2026-01-02", "settings": {"regions_checksum": "b"}},
        ]

    monkeypatch.setattr("landmeta_cli.bench_suite.run_suite", fails)
    monkeypatch.setattr("landmeta_cli.bench_suite.write_report", lambda folder: folder / "report.html")
    said = landmeta("bench", "run", "000/table1a", "--out", tmp_path / "bench")
    assert "warning: maml-in-here-0 failed: DataError: too few tiles\nhint: ingest more regions" in said.err
    assert "warning: 1 of 3 cells were scored on earlier tiles" in said.err
    assert "hint: landmeta bench run 000/table1b with this --data" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["000/table1a", "000/table1b"])
def test_the_smoke_preset_runs_a_table_on_simulated_tiles_and_goes_on_where_it_stopped_though_moved(
    suite: str, tmp_path: Path, landmeta: Landmeta
) -> None:
    out = tmp_path / "bench"
    said = landmeta("bench", "run", suite, "--preset", "smoke", "--out", out, "--json")
    assert said.code == 0, said.err
    done = json.loads(said.out)
    cells = {path.name: path.read_bytes() for path in (out / "cells").iterdir()}
    assert done["failed"] == 0
    assert done["cells"] == len(cells) == {"000/table1a": 10, "000/table1b": 8}[suite]
    out = out.rename(tmp_path / "moved")
    (out / "cells" / "maml-in-sen12ms-0.json").unlink()
    (out / "report.html").unlink()
    assert landmeta("bench", "run", suite, "--preset", "smoke", "--out", out).code == 0
    again = {path.name: path.read_bytes() for path in (out / "cells").iterdir()}
    first, second = (json.loads(found["maml-in-sen12ms-0.json"]) for found in (cells, again))
    assert second["result"]["protocols"] == first["result"]["protocols"]
    assert {k: v for k, v in again.items() if "maml-in-" not in k} == {
        k: v for k, v in cells.items() if "maml-in-" not in k
    }
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "no figure in it says anything about a method" in report


@pytest.mark.slow
def test_the_stored_report_is_what_the_code_makes_of_the_stored_cells_alone(
    tmp_path: Path, landmeta: Landmeta
) -> None:
    shutil.copytree(STORED / "cells", tmp_path / "cells")
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "cells").iterdir()]
    assert all(cell["state"] == "done" for cell in cells)
    rows = {(c["cell"]["dataset"], c["cell"]["method"], c["cell"]["norm"], c["cell"]["seed"]) for c in cells}
    assert len(rows) == len(cells) == 3 * 13 * 3  # datasets, rows, trainings
    assert landmeta("bench", "report", tmp_path).code == 0
    made = sorted(path.name for path in STORED.iterdir() if path.suffix in {".md", ".svg"})
    assert len(made) == 13
    for name in made:
        assert (tmp_path / name).read_text(encoding="utf-8") == (STORED / name).read_text(encoding="utf-8"), (
            name
        )
