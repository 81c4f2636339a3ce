"""Stored cells of a suite to estimates over tasks and seeds: what a report says, without any word of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from landmeta.bench.curves import Outcome, outcome
from landmeta.bench.evaluation import column_results
from landmeta.bench.metrics import Estimate, calibration_estimate, difference, estimate
from landmeta.bench.presets import RIVALS
from landmeta.bench.registry import Suite

COLUMNS: Mapping[str, tuple[str, str]] = {
    "balanced": ("sen12ms", "binary_accuracy"),
    "regions": ("dfc2020", "accuracy"),
}
"""Our columns: the printed column that each stands for, and the metric that was printed there."""

BALANCED = "balanced"
"""Name of the sweep's column in which all classes have the same share."""

_CHOSEN = "shuffled"
"""Composition of figures that name none."""


@dataclass(frozen=True, slots=True)
class Swept:
    """A score at one share of the dominant class.

    Attributes:
        name: `balanced`, or the share that was asked for.
        share: Share that the largest class had, mean over tasks.
        realised: Whether that is what it really had, which older cells do not hold, or what was asked for.
        score: With its interval.
    """

    name: str
    share: float
    realised: bool
    score: Estimate


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
    def outcomes(self) -> tuple[tuple[Mapping[str, Any], Outcome], ...]:
        """Cells that were meta-trained, each with what its stored curve says came of that."""
        return tuple(
            (cell, outcome(cell["result"]["training"]["curve"]))
            for cell in self.cells
            if "training" in cell["result"]
        )

    @property
    def not_converged(self) -> tuple[Mapping[str, Any], ...]:
        """Cells whose training came to nothing."""
        return tuple(cell for cell, found in self.outcomes if not found.converged)

    @property
    def worse(self) -> tuple[Mapping[str, Any], ...]:
        """Cells that meta-training left clearly worse than the network it started from."""
        return tuple(cell for cell, found in self.outcomes if found.worse)

    @property
    def sound(self) -> bool:
        """Whether the row bears conclusions: there are cells, and every training came to something."""
        return bool(self.cells) and all(found.sound for _, found in self.outcomes)

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
        return _estimate(stored, metric, self.groups(protocol, column))

    def groups(self, protocol: str, column: str) -> list[str] | None:
        """The region-season of each task; None where tasks are not grouped."""
        for cell in self.cells:
            scored = cell["result"]["protocols"].get(protocol, {}).get(column, {})
            if "regions" in scored:
                return [str(name) for name in scored["regions"]]
        return None

    def sweep(self, protocol: str, metric: str) -> list[Swept]:
        """The metric at each share of the dominant class, from balanced on."""
        sweeps = [
            _with_balanced(cell["result"]["protocols"].get(protocol, {}).get("regions", {}).get("sweep", {}))
            for cell in self.cells
        ]
        groups = self.groups(protocol, "regions")
        points = []
        for name in sweeps[0] if sweeps else ():
            stored = [sweep[name] for sweep in sweeps if name in sweep]
            score = _estimate(stored, metric, groups) if len(stored) == len(sweeps) else None
            if score is not None:
                share = float(np.mean([_share(name, column) for column in stored]))
                realised = all(column.get("realised", "share" in column) for column in stored)
                points.append(Swept(name, share, realised, score))
        return points

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


def _with_balanced(sweep: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The sweep with one balanced column first, also where each number of classes has one of its own.

    Such columns are named by their share, 1 / classes, and each holds some of the regions.
    """
    if BALANCED in sweep or not sweep:
        return dict(sweep)
    own = [name for name in sweep if _is_balanced(float(name))]
    others = {name: column for name, column in sweep.items() if name not in own}
    return {BALANCED: _joined({float(name): sweep[name] for name in own}), **others} if own else others


def _is_balanced(share: float) -> bool:
    return abs(1 / share - round(1 / share)) < 1e-3


def _joined(columns: Mapping[float, Mapping[str, Any]]) -> dict[str, Any]:
    """Columns of several shares as one, task after task, with their mean share."""
    parts = list(columns.values())
    shares = [share for share, part in columns.items() for _ in part["answers"]]
    return {
        "scores": {name: [v for part in parts for v in part["scores"][name]] for name in parts[0]["scores"]},
        "gaps": [gaps for part in parts for gaps in part["gaps"]],
        "answers": [count for part in parts for count in part["answers"]],
        "share": float(np.mean(shares)),
        "realised": False,
    }


def _share(name: str, column: Mapping[str, Any]) -> float:
    """What the largest class really had, where that is stored; else what was asked for."""
    return float(column["share"]) if "share" in column else float(name)


def _estimate(
    stored: Sequence[Mapping[str, Any]], metric: str, groups: Sequence[str] | None
) -> Estimate | None:
    if not any(column["answers"] for column in stored):
        return None
    own = _fitting(groups, stored)
    if metric == "calibration_error":
        return calibration_estimate([column_results(seed) for seed in stored], groups=own)
    scores = _scores(stored, metric)
    return estimate(scores, groups=own) if any(np.isfinite(seed).any() for seed in scores) else None


def _fitting(groups: Sequence[str] | None, stored: Sequence[Mapping[str, Any]]) -> Sequence[str] | None:
    """The groups, unless a column lacks some of the tasks: which ones is not stored."""
    return groups if groups and all(len(column["answers"]) == len(groups) for column in stored) else None


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
    own, others = [a for a, _ in kept], [b for _, b in kept]
    groups = _fitting(ours.groups(protocol, column), [*own, *others])
    return difference(_scores(own, metric), _scores(others, metric), groups=groups)


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
