"""Stored cells of a suite to estimates over tasks and seeds: what a report says, without any word of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from landmeta.bench.evaluation import column_results
from landmeta.bench.metrics import Estimate, calibration_estimate, difference, estimate
from landmeta.bench.presets import RIVALS
from landmeta.bench.registry import Suite

COLUMNS: Mapping[str, tuple[str, str]] = {
    "balanced": ("sen12ms", "binary_accuracy"),
    "regions": ("dfc2020", "accuracy"),
}
"""Our columns: the printed column that each stands for, and the metric that was printed there."""

_CHOSEN = "shuffled"
"""Composition of figures that name none."""


@dataclass(frozen=True)
class Row:
    """A method with the stored cells of all its seeds.

    Attributes:
        label: Printed name, or that of a rival.
        method: Algorithm or rival.
        norm: Empty for rivals.
        printed: Printed number by our column; None where there is none.
        cells: Those that are done.
        failed: Those that failed.
    """

    label: str
    method: str
    norm: str
    printed: Mapping[str, float | None]
    cells: tuple[Mapping[str, Any], ...]
    failed: tuple[Mapping[str, Any], ...]

    @cached_property
    def not_converged(self) -> tuple[Mapping[str, Any], ...]:
        """Cells whose training came to nothing."""
        return tuple(
            c for c in self.cells if not c["result"].get("training", {"converged": True})["converged"]
        )

    @property
    def sound(self) -> bool:
        """Whether the row bears conclusions: there are cells, and all converged."""
        return bool(self.cells) and not self.not_converged

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that its cells were scored under."""
        return tuple(self.cells[0]["result"]["protocols"]) if self.cells else ()

    def columns(self, protocol: str, column: str, composition: str = _CHOSEN) -> list[Mapping[str, Any]]:
        """Stored results of each seed; empty where a seed lacks them."""
        found = []
        for cell in self.cells:
            scored = cell["result"]["protocols"].get(protocol, {}).get(column)
            if scored is None:
                return []
            compositions = scored.get("compositions", scored)
            kept = compositions[composition]
            found.append(compositions[kept["same_as"]] if "same_as" in kept else kept)
        return found

    def value(self, protocol: str, column: str, metric: str, composition: str = _CHOSEN) -> Estimate | None:
        """Estimate of a metric; None where there is nothing to estimate it from."""
        stored = self.columns(protocol, column, composition)
        return _estimate(stored, metric)

    def sweep(self, protocol: str, metric: str) -> list[tuple[float, Estimate]]:
        """The metric at each share of the dominant class."""
        sweeps = [
            cell["result"]["protocols"].get(protocol, {}).get("regions", {}).get("sweep", {})
            for cell in self.cells
        ]
        shares = [share for share in (sweeps[0] if sweeps else ()) if all(share in s for s in sweeps)]
        points = [(float(share), _estimate([s[share] for s in sweeps], metric)) for share in shares]
        return [(share, found) for share, found in points if found is not None]

    def curve(self) -> list[tuple[float, Estimate]]:
        """AUROC in validation at each outer step, mean over seeds, each with tasks of its own."""
        curves = [c["result"]["training"]["curve"] for c in self.cells if "training" in c["result"]]
        points = []
        for at in zip(*curves, strict=False):
            scores = [(p["auroc"], p["auroc_ci95"]) for p in at]
            if all(None not in pair for pair in scores):
                points.append((float(at[0]["step"]), _mean_of_curves(scores)))
        return points


def _mean_of_curves(scores: Sequence[tuple[float, float]]) -> Estimate:
    """Mean of independent means that are given with half their intervals."""
    value = float(np.mean([score for score, _ in scores]))
    half = float(np.sqrt(np.sum([spread**2 for _, spread in scores]))) / len(scores)
    return Estimate(value, (value - half, value + half), 0, len(scores))


def _estimate(stored: Sequence[Mapping[str, Any]], metric: str) -> Estimate | None:
    if not stored:
        return None
    if metric == "calibration_error":
        return calibration_estimate([column_results(seed) for seed in stored])
    scores = _scores(stored, metric)
    return estimate(scores) if any(np.isfinite(seed).any() for seed in scores) else None


def _scores(stored: Sequence[Mapping[str, Any]], metric: str) -> list[np.ndarray]:
    return [np.array([np.nan if v is None else v for v in s["scores"][metric]]) for s in stored]


def row_difference(
    ours: Row,
    other: Row,
    protocol: str,
    column: str,
    metric: str,
    *,
    compositions: tuple[str, str] = (_CHOSEN, _CHOSEN),
) -> Estimate | None:
    """Mean of `ours` less `other` over the tasks and seeds that both have; None where they share none."""
    pairs = list(_paired(ours, other))
    first = [_one(cell, protocol, column, compositions[0]) for cell, _ in pairs]
    second = [_one(cell, protocol, column, compositions[1]) for _, cell in pairs]
    kept = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not kept:
        return None
    return difference(_scores([a for a, _ in kept], metric), _scores([b for _, b in kept], metric))


def _paired(ours: Row, other: Row) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    by_seed = {cell["cell"]["seed"]: cell for cell in other.cells}
    for cell in ours.cells:
        if cell["cell"]["seed"] in by_seed:
            yield cell, by_seed[cell["cell"]["seed"]]


def _one(cell: Mapping[str, Any], protocol: str, column: str, composition: str) -> Mapping[str, Any] | None:
    single = Row("", "", "", {}, (cell,), ())
    found = single.columns(protocol, column, composition)
    return found[0] if found else None


def suite_rows(suite: Suite, cells: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of a suite and its rivals with their stored cells, in printed order; rows without cells too."""
    wanted = [(m.row, m.method, m.norm) for m in suite.methods]
    wanted += [(rival.replace("_", " "), rival, "") for rival in RIVALS]
    rows = []
    for label, method, norm in wanted:
        own = [c for c in cells if (c["cell"]["method"], c["cell"]["norm"]) == (method, norm)]
        printed = {ours: suite.printed(label, column) for ours, (column, _) in COLUMNS.items()}
        done = tuple(c for c in own if c["state"] == "done")
        rows.append(Row(label, method, norm, printed, done, tuple(c for c in own if c["state"] == "failed")))
    return rows
