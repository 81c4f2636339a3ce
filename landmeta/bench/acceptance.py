"""The acceptance protocols: landmeta and a random forest on the same support draws of real data.

What is eligible and what is drawn stands in `_acceptance_units`; here both methods run side by side, unit
by unit and seed by seed, and become one row a task. How landmeta adapts is not known here: it comes in
through `PixelClassifier` and `TileClassifier`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from landmeta.assessment import METRIC, PairedTrial, paired_sample_interval, paired_unit_interval
from landmeta.bench._acceptance_units import TASKS as TASKS
from landmeta.bench._acceptance_units import (
    PixelUnit,
    Selection,
    TileUnit,
    Unit,
    read_splits,
    reading,
    units_of,
)
from landmeta.errors import DataError
from landmeta.rivals import random_forest, tile_statistics

PARTS = ("test", "val", "train", "all")
"""Parts of the units that can be scored."""

_FOLDERS = ("hls_worldcover", "eurosat_ms", "sen12ms_rgb", "aberystwyth")
_TILE_TREES = 300
_CI_SEED = 0

Progress = Callable[[str, int, int], None]
"""Told the task, how many of its units are done, and how many there are."""

Skipped = Callable[[str, str], None]
"""Told the task that was left out, and why."""


# --- what is measured ------------------------------------------------------------------------------


@runtime_checkable
class Prepared(Protocol):
    """An image that a classifier has seen; what costs time is shared by all support draws on it."""

    def classify(
        self,
        train_index: Int[np.ndarray, "support"],
        train_codes: Int[np.ndarray, "support"],
        query_index: Int[np.ndarray, "query"],
        seed: int,
        groups: Int[np.ndarray, "support"] | None = None,
    ) -> Int[np.ndarray, "query"]:
        """Adapt to the support pixels and give the codes of the query pixels.

        Indices are flat and row-major on the image; `groups` tells the support's polygons apart.
        """
        ...


@runtime_checkable
class PixelClassifier(Protocol):
    """Maps pixels of one image from labelled pixels of it."""

    def prepare(self, image: Float32[np.ndarray, "band y x"], band_names: tuple[str, ...]) -> Prepared:
        """Take in an image in reflectance, with canonical band names in the image's order."""
        ...


@runtime_checkable
class TileClassifier(Protocol):
    """Gives each tile one class, from labelled tiles of the same bands."""

    def __call__(
        self,
        support: Float32[np.ndarray, "support band y x"],
        codes: Int[np.ndarray, "support"],
        query: Float32[np.ndarray, "query band y x"],
        band_names: tuple[str, ...],
        seed: int,
    ) -> Int[np.ndarray, "query"]:
        """Adapt to the support tiles (values 0..1) and give the codes of the query tiles."""
        ...


@dataclass(frozen=True, slots=True)
class Classifiers:
    """What is put against the forest; `trained_on` names the data sets its checkpoint has seen.

    Known names are `hls_worldcover` (its train clusters), `eurosat_rgb` and `simulated`.
    """

    pixels: PixelClassifier
    tiles: TileClassifier
    trained_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AcceptanceRow:
    """The result of one task.

    `units`: units scored; `n`: query samples of all units (of one seed); `seeds`: support draws a unit;
    `ours`, `random_forest`, `diff`: means over units of what was averaged over seeds within a unit;
    `diff_ci95`: from a bootstrap over units, over query samples where there is one unit; `seen`: what of
    the task the checkpoint was trained on; `by_unit`: ours and the forest's figure of every unit.
    """

    task: str
    units: int
    n: int
    seeds: int
    metric: str
    ours: float
    random_forest: float
    diff: float
    diff_ci95: tuple[float, float]
    seen: str
    by_unit: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def as_row(self) -> dict[str, object]:
        """The row that is printed: figures rounded to 4 decimals, without `by_unit`."""
        return {
            "task": self.task,
            "units": self.units,
            "n": self.n,
            "seeds": self.seeds,
            "metric": self.metric,
            "ours": round(self.ours, 4),
            "random_forest": round(self.random_forest, 4),
            "diff": round(self.diff, 4),
            "diff_ci95": [round(bound, 4) for bound in self.diff_ci95],
            "seen": self.seen,
        }


# --- running ---------------------------------------------------------------------------------------


def run_acceptance(
    data: Path,
    part: str = "test",
    *,
    classify: Classifiers,
    seeds: int = 10,
    tasks: Sequence[str] | None = None,
    progress: Progress | None = None,
    skipped: Skipped | None = None,
) -> list[AcceptanceRow]:
    """Run the acceptance tasks that the folder has data for.

    Args:
        data: a folder of the benchmark's layout. Without splits.json every unit is run, as unseen.
        part: `test`, `val` or `train` of splits.json where a data set has parts, or `all`.
        classify: ours.
        seeds: support draws a unit; `sen12ms-rgb-5shot` takes half of them, `aberystwyth` needs one.
        tasks: names out of TASKS; all by default.
        progress: told after every unit.
        skipped: told the tasks without (readable) data or without an eligible unit.

    Raises:
        DataError: an unknown task or part, no support draw, or not a single task that the folder has data
            for.
    """
    chosen, selection = _check(tasks, part, seeds), Selection(data, part, seeds)
    rows: list[AcceptanceRow] = []
    reasons: dict[str, str] = {}
    for task in chosen:
        try:
            rows.append(_score(task, selection, classify, progress))
        except _LeftOutError as error:
            reasons[task] = str(error)
            if skipped is not None:
                skipped(task, reasons[task])
    if not rows:
        found = "; ".join(f"{task}: {reason}" for task, reason in reasons.items())
        msg = f"no acceptance task can run on {data} ({found})"
        raise DataError(msg, hint=f"--data needs a folder with one of {', '.join(_FOLDERS)}")
    return rows


class _LeftOutError(Exception):
    """A task has no data, none that can be read or no eligible unit. What classifiers raise is not this."""


def _check(tasks: Sequence[str] | None, part: str, seeds: int) -> tuple[str, ...]:
    if part not in PARTS:
        msg = f"unknown part {part!r} of the acceptance tasks"
        raise DataError(msg, hint=f"--part takes {', '.join(PARTS)}")
    if seeds < 1:
        msg = f"{seeds} support draws a unit, expected at least 1"
        raise DataError(msg, hint="--seeds 10 is the protocol's number")
    unknown = [task for task in tasks or () if task not in TASKS]
    if unknown:
        msg = f"unknown acceptance task {unknown[0]!r}"
        raise DataError(msg, hint=f"--task takes {', '.join(TASKS)}")
    return TASKS if tasks is None else tuple(tasks)


def _score(
    task: str, selection: Selection, classify: Classifiers, progress: Progress | None
) -> AcceptanceRow:
    """Both methods on every eligible unit of a task."""
    results = {unit.name: _trials(unit, classify) for unit in _eligible(task, selection, progress)}
    if not results:
        msg = f"no eligible unit in part {selection.part!r}"
        raise _LeftOutError(msg)
    return _row(task, results, _seen(task, selection.data, set(results), classify.trained_on))


def _eligible(task: str, selection: Selection, progress: Progress | None) -> Iterator[Unit]:
    """The eligible units of a task, read one at a time; progress is told when each has been used."""
    try:
        candidates = units_of(task, selection)
    except DataError as error:
        raise _LeftOutError(str(error)) from error
    for done, load in enumerate(candidates, start=1):
        try:
            with reading(selection.data):
                unit = load()
        except DataError as error:
            raise _LeftOutError(str(error)) from error
        if unit is not None:
            yield unit
        if progress is not None:
            progress(task, done, len(candidates))


def _trials(unit: Unit, classify: Classifiers) -> list[PairedTrial]:
    """Both methods on every support draw of a unit."""
    if isinstance(unit, PixelUnit):
        return _pixel_trials(unit, classify.pixels)
    return _tile_trials(unit, classify.tiles)


def _pixel_trials(unit: PixelUnit, classifier: PixelClassifier) -> list[PairedTrial]:
    prepared = classifier.prepare(unit.values * np.float32(unit.scale), unit.bands)
    pixels = unit.values.reshape(len(unit.values), -1).T
    trials = []
    for seed, episodes in enumerate(unit.trials):
        ours, rival = [], []
        for e in episodes:
            ours.append(prepared.classify(e.train_index, e.train_codes, e.query_index, seed, e.groups))
            forest = random_forest(pixels[e.train_index], e.train_codes, seed)
            rival.append(forest.predict(pixels[e.query_index]))
        trials.append(_paired(np.concatenate([e.truth for e in episodes]), ours, rival))
    return trials


def _tile_trials(unit: TileUnit, classifier: TileClassifier) -> list[PairedTrial]:
    features = np.stack([tile_statistics(image) for image in unit.images])
    trials = []
    for seed, (support, query) in enumerate(unit.trials):
        codes = unit.codes[support]
        if len(np.unique(codes)) > 1:
            ours = classifier(unit.images[support], codes, unit.images[query], unit.bands, seed)
        else:  # the protocol counts such a unit; there is nothing to tell apart
            ours = np.full(len(query), codes[0])
        forest = random_forest(features[support], codes, seed, _TILE_TREES)
        trials.append(_paired(unit.codes[query], [ours], [forest.predict(features[query])], query))
    return trials


def _paired(
    truth: Int[np.ndarray, "sample"],
    ours: Sequence[np.ndarray],
    rival: Sequence[np.ndarray],
    samples: Int[np.ndarray, "sample"] | None = None,
) -> PairedTrial:
    """Predictions of one trial, pooled over its episodes; the query is the same in all trials by default."""
    ids = np.arange(len(truth)) if samples is None else samples
    return PairedTrial(ids, truth, np.concatenate(ours), np.concatenate(rival))


# --- one row a task --------------------------------------------------------------------------------


def _row(task: str, results: Mapping[str, list[PairedTrial]], seen: str) -> AcceptanceRow:
    scores = np.array([np.mean([trial.scores for trial in trials], axis=0) for trials in results.values()])
    ours, rival = scores[:, 0], scores[:, 1]
    if len(results) > 1:
        interval = paired_unit_interval(ours, rival, seed=_CI_SEED)
    else:
        interval = paired_sample_interval(next(iter(results.values())), seed=_CI_SEED)
    return AcceptanceRow(
        task=task,
        units=len(results),
        n=sum(len(trials[0].truth) for trials in results.values()),
        seeds=len(next(iter(results.values()))),
        metric=METRIC,
        ours=float(ours.mean()),
        random_forest=float(rival.mean()),
        diff=float((ours - rival).mean()),
        diff_ci95=interval,
        seen=seen,
        by_unit={name: (float(a), float(b)) for name, a, b in zip(results, ours, rival, strict=True)},
    )


def _seen(task: str, data: Path, units: set[str], trained_on: Sequence[str]) -> str:
    """What of a task's data the checkpoint was trained on, in words."""
    if task.startswith("hls"):
        return _seen_clusters(data, units, trained_on)
    if task.startswith("eurosat"):
        if "eurosat_rgb" in trained_on:
            return "chips not seen; checkpoint trained on other chips of the same classes, eurosat_rgb train"
        return "chips not seen"
    return "regions not seen" if task.startswith("sen12ms") else "scene not seen"


def _seen_clusters(data: Path, units: set[str], trained_on: Sequence[str]) -> str:
    if "hls_worldcover" not in trained_on:
        return "clusters not seen"
    split = read_splits(data).get("hls_worldcover")
    if split is None:
        return "clusters not seen (no splits.json); checkpoint trained on hls_worldcover train clusters"
    seen, chosen = (len(units & set(split.get(part, ()))) for part in ("train", "val"))
    text = f"{seen} of {len(units)} clusters seen" if seen else "clusters not seen"
    text += "; checkpoint trained on hls_worldcover train clusters"
    return text + (f", settings chosen on val clusters ({chosen} of these)" if chosen else "")
