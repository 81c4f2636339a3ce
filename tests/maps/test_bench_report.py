"""The report of a benchmark, from stored cells alone: finished, half-finished, failed or not converged."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmeta.bench.compositions import COMPOSITIONS
from landmeta.bench.curves import outcome
from landmeta.bench.evaluation import column
from landmeta.bench.metrics import task_result
from landmeta.bench.registry import suite
from landmeta.bench.summary import suite_rows
from landmeta_maps._bench_figure import STYLES
from landmeta_maps._bench_findings import comparisons, findings
from landmeta_maps._bench_words import data_words, interval_words
from landmeta_maps.bench_report import write_bench_report

TASKS = 16
RIVAL = {"method": "random_forest", "norm": ""}


@cache
def scored(level: float, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Columns of the four compositions: logits right by `level`, class-sorted ones by `shift` less."""
    found: dict[str, Any] = {}
    for name in COMPOSITIONS:
        strength = level - (shift if name == "class_sorted" else 0.0)
        found[name] = column([task(strength, (seed, number)) for number in range(TASKS)])
    return found


@cache
def task(strength: float, seed: tuple[int, int]) -> Any:
    truth = np.repeat(range(4), 4)
    noise = np.random.default_rng(seed).normal(0, 1, (16, 4))
    return task_result((strength * np.eye(4)[truth] - 1 + noise).astype(np.float32), truth)


REGIONS = [f"{8 + number % 8} summer" for number in range(TASKS)]


def cell(
    norm: str,
    level: float,
    seed: int = 0,
    *,
    shift: float = 0.0,
    aurocs: tuple[float, float] = (0.5, 0.6),
    regions: list[str] | None = None,
    rate: float = 0.1,
) -> dict[str, Any]:
    shares = {"balanced": 0.25, "0.55": 0.53, "0.95": 0.94}
    sweep = {
        name: {**column([task(level * (1 - shift * s), (seed, n)) for n in range(TASKS)]), "share": s}
        for name, s in shares.items()
    }
    whole = {"compositions": scored(level, seed, shift), "sweep": sweep, "regions": regions or REGIONS}
    both = {"balanced": scored(level, seed, shift), "regions": whole}
    curve = [
        {"step": 10 * k, "auroc": auroc, "auroc_ci95": 0.02, "training_loss": None}
        for k, auroc in enumerate(aurocs)
    ]
    return {
        **head(norm, seed),
        "state": "done",
        "result": {
            "training": {"curve": curve, "converged": True, "why": "as stored", "inner_rate": rate},
            "protocols": {"fair": both, "meteor_compat": both},
        },
    }


def seeds(norm: str, level: float, **how: Any) -> list[dict[str, Any]]:
    return [cell(norm, level, seed, **how) for seed in range(3)]


def head(norm: str, seed: int = 0) -> dict[str, Any]:
    size = {
        "name": "small", "steps": 10, "tasks": 4, "inner_steps": 1, "inner_rates": [0.03, 0.1, 1.0],
        "warm_up": 20, "test_steps": 5, "compat_steps": 10, "pos_weight": 3.0, "region_shots": 5,
        "region_queries": 120,
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


def simulated(cells: list[dict[str, Any]], size: str = "small") -> list[dict[str, Any]]:
    for one in cells:
        one["simulated"] = True
        one["cell"]["dataset"] = one["settings"]["dataset"] = "sen12ms"
        one["settings"]["preset"]["name"] = size
    return cells


def verdicts(cells: list[dict[str, Any]]) -> dict[str, str]:
    return {one.what: one.verdict for one in comparisons(suite_rows(suite("000/table1a"), cells))}


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


def test_the_verdicts_follow_the_figures_also_against_the_paper() -> None:
    what = "whole regions: IN less groupnorm"
    assert verdicts(seeds("in", 4.0) + seeds("gn", 2.0))[what] == "agrees in sign"
    assert verdicts(seeds("in", 2.0) + seeds("gn", 4.0))[what] == "contradicts the paper"
    assert verdicts(seeds("in", 3.0) + seeds("gn", 3.0))[what].startswith("not decided")


def test_a_single_training_has_no_verdict() -> None:
    cells = [cell("in", 4.0), cell("gn", 2.0), {**cell("x", 1.0), "cell": {**head("")["cell"], **RIVAL}}]
    assert set(verdicts(cells).values()) == {"no verdict from one training"}
    assert "No verdict from one training: instancen. (IN), groupnorm." in told(cells)


def test_verdicts_are_on_what_the_paper_measured_with_fair_beside_it() -> None:
    """In whole-batch compat tbn is ahead of IN as printed; in small shuffled batches it is behind."""
    strong, weak = seeds("in", 3.0), seeds("tbn", 1.0)
    for seed, one in enumerate(weak):
        compositions = {**scored(1.0, seed), "whole": scored(5.0, seed)["whole"]}
        one["result"]["protocols"]["meteor_compat"] = {
            **one["result"]["protocols"]["meteor_compat"], "balanced": compositions,
        }  # fmt: skip
    rows = suite_rows(suite("000/table1a"), strong + weak)
    found = next(one for one in comparisons(rows) if one.what == "balanced tasks: IN less transd. BN")
    assert found.fair is not None
    assert (found.measured.value < 0, found.fair.value > 0) == (True, True)
    assert found.verdict == "agrees in sign"


def test_train_mode_is_told_with_all_queries_in_one_batch() -> None:
    cells = seeds("cbn", 1.0)
    for seed, one in enumerate(cells):
        compat = {**one["result"]["protocols"]["meteor_compat"]}
        compat["balanced"] = {**scored(1.0, seed), "whole": scored(50.0, seed)["whole"]}
        one["result"]["protocols"]["meteor_compat"] = compat
    assert re.search(
        r"convent. BN on balanced tasks: binary accuracy 0\.8.* as the released .*; 0\.7", told(cells)
    )


def test_simulated_and_smoke_runs_bear_on_no_claim() -> None:
    cells = simulated(seeds("in", 4.0) + seeds("gn", 2.0))
    assert set(verdicts(cells).values()) == {"as printed"}
    assert "bears on a claim about land cover" in told(cells)
    assert set(verdicts(simulated(cells, "smoke")).values()) == {"none from a smoke run"}
    assert "paper" not in told(cells)


def test_a_printed_tie_cannot_be_contradicted() -> None:
    cells = seeds("in", 2.0) + seeds("in", 4.0)
    for one in cells[3:]:
        one["cell"] = {**one["cell"], "method": "sparse_maml"}
    found = comparisons(suite_rows(suite("000/table1b"), cells))
    assert [one.verdict for one in found] == ["a tie in print"]


def test_one_pool_of_tiles_is_said_to_be_one() -> None:
    cells = seeds("in", 4.0, regions=["test"] * TASKS) + seeds("gn", 2.0, regions=["test"] * TASKS)
    assert verdicts(cells)["whole regions: IN less groupnorm"] == "agrees in sign, within one pool"
    value = suite_rows(suite("000/table1a"), cells)[3].value("fair", "regions", "accuracy")
    assert interval_words([value]).startswith("95 % intervals over 16 draws of support within one pool")


def test_intervals_say_what_they_are_over() -> None:
    rows = suite_rows(suite("000/table1a"), seeds("in", 4.0))
    value = next(row for row in rows if row.norm == "in").value("fair", "regions", "accuracy")
    assert interval_words([value]) == (
        "95 % intervals over 8 region-seasons, drawn with all their tasks (16) and 3 trainings"
    )


def test_the_ordering_effect_is_claimed_only_where_it_shows() -> None:
    assert re.search(
        r"class-sorted instead of shuffled batches: -0\.\d+.* holds this artefact",
        told(seeds("tbn", 3.0, shift=2.5)),
    )
    assert "does not show that the order lowered it" in told(seeds("tbn", 3.0))


def test_no_normalization_is_judged_though_nothing_is_printed_for_it() -> None:
    assert "no test of that" in told(seeds("none", 3.0))
    assert "1 of 3 came to nothing either" in told(
        [cell("none", 3.0, aurocs=(0.5, 0.5)), *seeds("none", 3.0)[1:]]
    )


def test_rates_at_the_edge_of_their_grid_are_named() -> None:
    assert "edge of the grid for groupnorm (1):" in told([cell("in", 4.0), cell("gn", 2.0, rate=1.0)])


def test_rivals_are_told_who_is_behind_and_who_ahead() -> None:
    rivals = [{**one, "cell": {**one["cell"], **RIVAL}} for one in seeds("x", 3.0)]
    words = told(seeds("in", 6.0) + seeds("gn", 1.0) + rivals)
    assert "Clearly ahead of it: instancen. (IN). Clearly behind it: groupnorm." in words


def test_cells_that_did_not_converge_are_labelled_and_bear_no_conclusion(tmp_path: Path) -> None:
    """What the curve says counts, not what was stored of it."""
    cells = seeds("in", 4.0) + seeds("gn", 2.0, aurocs=(0.5, 0.51)) + seeds("tbn", 2.0, aurocs=(0.75, 0.7))
    words = told(cells)
    assert re.search(r"groupnorm did not converge \(seed 0: .* is not above chance", words)
    assert re.search(r"transd. BN became worse than its start \(seed 0: .*from 0\.750 to 0\.700", words)
    assert not verdicts(cells)
    write_bench_report(cells, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "groupnorm (3 of 3 did not converge)" in report
    assert "transd. BN (3 of 3 worse than start)" in report
    figure = (tmp_path / "imbalance-000-table1a-sen12ms_rgb.svg").read_text(encoding="utf-8")
    assert "stroke-dasharray" in figure


def test_a_fall_within_the_noise_of_validation_is_no_worse() -> None:
    def fell(last: float, spread: float) -> bool:
        points = [(0, 0.75), (10, last)]
        return outcome([
            {"step": step, "auroc": auroc, "auroc_ci95": spread, "training_loss": None}
            for step, auroc in points
        ]).worse  # fmt: skip

    assert fell(0.698, 0.06)
    assert not fell(0.73, 0.01)
    assert not fell(0.698, 0.12)


def test_the_sweep_stands_at_the_shares_that_were_realised() -> None:
    points = suite_rows(suite("000/table1a"), seeds("in", 4.0))[3].sweep("fair", "accuracy")
    assert [(point.name, point.share) for point in points] == [
        ("balanced", 0.25),
        ("0.55", 0.53),
        ("0.95", 0.94),
    ]
    assert "the largest class really has 25 %) to those where it really has 94 %" in told(seeds("in", 4.0))


def test_balanced_columns_of_older_cells_are_one_point() -> None:
    old = cell("in", 4.0)
    fair = old["result"]["protocols"]["fair"]
    columns = {"0.166667": 4, "0.2": 12, "0.4": TASKS, "0.95": TASKS}
    sweep = {name: column([task(4.0, (0, n)) for n in range(count)]) for name, count in columns.items()}
    fair["regions"] = {**fair["regions"], "sweep": sweep}
    points = suite_rows(suite("000/table1a"), [old])[3].sweep("fair", "accuracy")
    assert [point.name for point in points] == ["balanced", "0.4", "0.95"]
    assert [point.score.tasks for point in points] == [TASKS] * 3
    assert points[0].share == pytest.approx((4 / 6 + 12 / 5) / 16, abs=1e-6)
    assert not any(point.realised for point in points)


@pytest.mark.parametrize("name", ["000/table1a", "000/table1b"])
def test_every_row_has_a_style_of_its_own(name: str) -> None:
    assert len(suite_rows(suite(name), [])) <= len(STYLES)
    assert len({color for color, _ in STYLES}) == len(STYLES)


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
    assert "a task mixes chips of several clusters" in first
    assert "|  | sen12ms_rgb | hls_worldcover |" in report
    assert "sen12ms_rgb: What agrees" in report
    assert "hls_worldcover: What agrees" in report
    words = report.split("hls_worldcover: What agrees")[1]
    assert re.search(r"\| whole regions: IN less transd. BN \| \+0\.54 \| -0\.\d+", words)


def test_cpu_time_stands_beside_the_time_where_it_was_kept(tmp_path: Path) -> None:
    write_bench_report([cell("in", 0.6), {**cell("in", 0.6, 1), "cpu_seconds": 7.6}], tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| 12 s |" in report
    assert "| 12 s (CPU 8 s) |" in report


def test_cells_scored_on_earlier_tiles_are_named_first(tmp_path: Path) -> None:
    cells = [cell("in", 2.0), cell("tbn", 2.0)]
    for number, one in enumerate(cells):
        one["settings"] = {**one["settings"], "regions_checksum": str(number)}
        one["began"] = f"2026-01-0{number + 1}T00:00:00+00:00"
    write_bench_report(cells, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "maml-in-sen12ms_rgb-0: scored on earlier tiles of whole regions" in report
    assert "maml-tbn-sen12ms_rgb-0: scored" not in report


def test_a_run_of_which_every_cell_failed_still_has_a_report(tmp_path: Path) -> None:
    failed = {**head("in"), "state": "failed", "error": "TrainingError: no number", "hint": "a smaller rate"}
    write_bench_report([failed], tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "instancen. (IN), seed 0, failed: TrainingError: no number. To mend it: a smaller rate." in report
    assert not (tmp_path / "imbalance.svg").exists()


def test_cells_scored_on_no_published_task_have_a_report_without_them(tmp_path: Path) -> None:
    cells = seeds("in", 0.9)
    for one in cells:
        one["result"]["protocols"]["fair"]["published"] = {"shuffled": column([])}
    page = write_bench_report(cells, tmp_path)
    assert "Published tasks" not in page.read_text(encoding="utf-8")


def test_the_first_paragraph_says_what_the_data_can_show() -> None:
    smoke = {**head("in"), "simulated": True}
    smoke["settings"] = {**smoke["settings"], "preset": {"name": "smoke"}}
    assert "no figure in it says anything" in data_words(smoke)
    assert "sen12ms_rgb (simulated):" in data_words(smoke)
    assert "weaker than the 256 px" in data_words(head("in"))
    raw = head("in")
    raw["settings"] = {**raw["settings"], "dataset": "sen12ms", "regions": "dfc2020"}
    assert "raw radiometry" in data_words(raw)
    assert "Not the paper's: network and budget." in data_words(raw)
    raw["settings"] = {**raw["settings"], "preset": {"name": "paper"}}
    assert "Not the paper's" not in data_words(raw)
    own = head("in")
    own["settings"] = {**own["settings"], "dataset": "mine"}
    assert "It is not known" in data_words(own)


def test_simulated_tiles_are_never_labelled_as_the_real_ones(tmp_path: Path) -> None:
    write_bench_report([cell("in", 4.0), *simulated([cell("in", 4.0)])], tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "|  | sen12ms_rgb | sen12ms (simulated) |" in report
    assert re.search(r"## sen12ms \(simulated\): 000/table1a", report)
    assert not re.search(r"sen12ms[:|] ", report)


def test_the_report_says_what_the_runs_had(tmp_path: Path) -> None:
    write_bench_report([cell("in", 4.0, rate=0.03)], tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    for words in (
        "positives weigh 3",
        "16 balanced tasks of 4 classes with 2 support and 2 query tiles a class, small batches of 2",
        "16 whole regions: 2 draws of support in each of 8 region-seasons, 5 support tiles a class",
        "small batches of 16",
        "steps (10) at the same rate on minibatches of 8",
        "the released evaluator takes 60 such steps at rate 0.4",
        "| maml in | sen12ms_rgb | 0 | done | 0.03 | 0.500 to 0.600 |",
        "    1: landmeta bench run",
    ):
        assert words in report


def test_several_seeds_are_one_row() -> None:
    rows = suite_rows(suite("000/table1a"), [cell("in", 4.0, 0), cell("in", 3.0, 1)])
    found = next(row for row in rows if row.norm == "in").value("fair", "regions", "accuracy")
    assert found is not None
    assert (found.seeds, found.tasks) == (2, TASKS)
