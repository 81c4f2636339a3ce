"""The report of a benchmark, from stored cells alone: finished, half-finished, failed or not converged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from landmeta.bench.compositions import COMPOSITIONS
from landmeta.bench.evaluation import column
from landmeta.bench.metrics import task_result
from landmeta.bench.registry import suite
from landmeta.bench.summary import suite_rows
from landmeta_maps._bench_words import data_words, findings
from landmeta_maps.bench_report import write_bench_report

TASKS = 40


def scored(level: float, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Columns of the four compositions: logits right by `level`, class-sorted ones by `shift` less."""
    found = {}
    for name in COMPOSITIONS:
        strength = level - (shift if name == "class_sorted" else 0.0)
        found[name] = column([task(strength, (seed, number)) for number in range(TASKS)])
    return found


def task(strength: float, seed: tuple[int, int]) -> Any:
    truth = np.repeat(range(4), 4)
    noise = np.random.default_rng(seed).normal(0, 1, (16, 4))
    return task_result((strength * np.eye(4)[truth] - 1 + noise).astype(np.float32), truth)


def cell(
    norm: str, level: float, seed: int = 0, *, shift: float = 0.0, converged: bool = True
) -> dict[str, Any]:
    shares = (0.25, 0.55, 0.95)
    sweep = {
        f"{s:g}": column([task(level * (1 - shift * s), (seed, n)) for n in range(TASKS)]) for s in shares
    }
    regions = {"compositions": scored(level, seed, shift), "sweep": sweep, "regions": ["8 summer"]}
    both = {"balanced": scored(level, seed, shift), "regions": regions}
    curve = [{"step": step, "auroc": 0.5 + step / 100, "auroc_ci95": 0.02} for step in (0, 10)]
    return {
        **head(norm, seed),
        "state": "done",
        "result": {
            "training": {"curve": curve, "converged": converged, "why": "told here"},
            "protocols": {"fair": both, "meteor_compat": both},
        },
    }


def head(norm: str, seed: int = 0) -> dict[str, Any]:
    size = {
        "name": "small", "steps": 10, "tasks": 4, "inner_steps": 1, "inner_rates": [0.1, 1.0],
        "warm_up": 20, "test_steps": 5, "compat_steps": 60,
    }  # fmt: skip
    return {
        "suite": "000/table1a",
        "cell": {"method": "maml", "norm": norm, "dataset": "sen12ms_rgb", "seed": seed},
        "settings": {"preset": size, "dataset": "sen12ms_rgb", "tiles": 100, "regions": "sen12ms_rgb"},
        "places": {"train": ["122/fall"], "val": ["141/fall"], "holdout": ["91/fall"]},
        "simulated": False,
        "hardware": {"gpu": None, "cpus": 2, "threads": 2},
        "commit": "0123456789abcdef",
        "began": "2026-01-01T00:00:00+00:00",
        "seconds": 12.0,
        "command": "landmeta bench run 000/table1a --preset small <here>",
    }


def told(cells: list[dict[str, Any]]) -> str:
    return "\n".join(findings(suite_rows(suite("000/table1a"), cells)))


def test_the_report_holds_printed_and_own_figures_the_figure_and_the_command(tmp_path: Path) -> None:
    cells = [cell("in", 4.0), cell("tbn", 3.0, shift=0.9)]
    page = write_bench_report(cells, tmp_path)
    html, words = page.read_text(encoding="utf-8"), (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (html, words):
        assert "histogram-equalised" in text
        assert "0.26" in text
        assert "0123456789ab" in text
        assert "(not run)" in text
    assert html.count("<polyline") == 4
    assert "&lt;here&gt;" in html
    assert "<here>" in words
    for figure in ("imbalance", "curves"):
        svg = tmp_path / f"{figure}-000-table1a-sen12ms_rgb.svg"
        assert svg.read_text(encoding="utf-8").startswith("<svg")
        assert svg.name in words
    assert not re.search(r'(src|href)="http', html)


def test_the_findings_follow_the_figures_also_against_the_paper() -> None:
    paper = told([cell("in", 4.0), cell("gn", 2.0)])
    assert re.search(r"On whole regions, IN less groupnorm: ours \+0\.\d+ .* agrees in sign", paper)
    against = told([cell("in", 2.0), cell("gn", 4.0)])
    assert re.search(r"On whole regions, IN less groupnorm: ours -0\.\d+ .* contradicts the paper", against)
    even = told([cell("in", 3.0), cell("gn", 3.0)])
    assert "not decided" in even


def test_the_ordering_effect_is_told_with_its_interval() -> None:
    assert re.search(
        r"class-sorted instead of shuffled batches: -0\.\d+", told([cell("tbn", 3.0, shift=2.5)])
    )


def test_cells_that_did_not_converge_are_labelled_and_bear_no_conclusion(tmp_path: Path) -> None:
    cells = [cell("in", 4.0), cell("gn", 2.0, converged=False)]
    words = told(cells)
    assert "groupnorm, seed 0, did not converge (told here)" in words
    assert "IN less groupnorm" not in words
    write_bench_report(cells, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "groupnorm (1 of 1 did not converge)" in report
    figure = (tmp_path / "imbalance-000-table1a-sen12ms_rgb.svg").read_text(encoding="utf-8")
    assert "stroke-dasharray" in figure


def test_runs_on_several_datasets_stand_side_by_side(tmp_path: Path) -> None:
    cells = [cell("in", 4.0), cell("tbn", 3.0)]
    for level, norm in ((2.0, "in"), (4.0, "tbn")):
        other = cell(norm, level)
        other["cell"]["dataset"] = other["settings"]["dataset"] = "hls_worldcover"
        cells.append(other)
    write_bench_report(cells, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    first = report.split("## 000/table1a on all data")[0]
    assert "sen12ms_rgb: Each of these tiles was histogram-equalised" in first
    assert "hls_worldcover: The tiles hold raw radiometry" in first
    assert "|  | sen12ms_rgb | hls_worldcover |" in report
    assert "sen12ms_rgb: What agrees" in report
    assert "hls_worldcover: What agrees" in report
    words = report.split("hls_worldcover: What agrees")[1]
    assert re.search(r"On whole regions, IN less transd. BN: ours -0\.\d+", words)


def test_a_run_of_which_every_cell_failed_still_has_a_report(tmp_path: Path) -> None:
    failed = {**head("in"), "state": "failed", "error": "TrainingError: no number"}
    write_bench_report([failed], tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "instancen. (IN), seed 0, failed: TrainingError: no number." in report
    assert not (tmp_path / "imbalance.svg").exists()


def test_the_first_paragraph_says_what_the_data_can_show() -> None:
    smoke = {**head("in"), "simulated": True}
    smoke["settings"] = {**smoke["settings"], "preset": {"name": "smoke"}}
    assert "no figure in it says anything" in data_words(smoke)
    assert "simulated" in data_words(smoke)
    raw = head("in")
    raw["settings"] = {**raw["settings"], "dataset": "sen12ms"}
    assert "raw radiometry" in data_words(raw)


def test_several_seeds_are_one_row() -> None:
    rows = suite_rows(suite("000/table1a"), [cell("in", 4.0, 0), cell("in", 3.0, 1)])
    found = next(row for row in rows if row.norm == "in").value("fair", "regions", "accuracy")
    assert found is not None
    assert (found.seeds, found.tasks) == (2, TASKS)
