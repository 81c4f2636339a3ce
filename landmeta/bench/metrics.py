"""Scores of few-shot tasks answered by one class model a class, with intervals over tasks and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from landmeta.assessment import balanced_accuracy, class_recall, confusion
from landmeta.task_scores import auroc

METRICS: Mapping[str, str] = {
    "accuracy": "share of queries given the right class by the largest of the class models' logits",
    "balanced_accuracy": "mean recall of the classes in the query, by the largest logit",
    "macro_f1": "mean F1 of the classes in the query, by the largest logit",
    "binary_accuracy": "share of right yes or no answers of single class models; all no gives 1 - 1/classes",
    "binary_balanced_accuracy": "mean of their recall of yes and of no; chance is 0.5",
    "auroc": "area under the ROC curve of single class models, mean over the classes",
    "calibration_error": "mean distance of the binary confidence from its hit rate, pooled over tasks",
}
"""What is scored, in words. All but the last are means over tasks."""

BINS = 15
_LEVELS = (2.5, 97.5)
_SURE = 1e30  # a logit beyond all others
_CHUNK = 200  # resamples drawn at once


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Scores of one task: `scores` by metric; `gaps` and `answers` are what a calibration error pools.

    `gaps` holds, for each of `BINS` bins of confidence, the sum of confidence less the number of right
    answers; `answers` counts all of them.
    """

    scores: Mapping[str, float]
    gaps: tuple[float, ...]
    answers: int


def task_result(logits: Float[np.ndarray, "query class"], truth: Int[np.ndarray, "query"]) -> TaskResult:
    """Score the queries of one task.

    Args:
        logits: of each class model; positive is yes. A class model that diverged, with logits that are no
            numbers, answers no to everything and is sure of it.
        truth: position of the true class of each query.

    Raises:
        ValueError: there is no query.
    """
    logits = np.nan_to_num(logits, nan=-_SURE, posinf=_SURE, neginf=-_SURE)
    found, asked = logits.argmax(1), np.arange(logits.shape[1])
    targets = (truth[:, None] == asked).astype(np.int64)
    answers = (logits > 0).astype(np.int64)
    # A class that the query lacks has no recall of yes and no ROC curve.
    present = np.unique(truth)
    scores = {
        "accuracy": float((found == truth).mean()),
        "balanced_accuracy": balanced_accuracy(truth, found),
        "macro_f1": macro_f1(truth, found),
        "binary_accuracy": float((answers == targets).mean()),
        "binary_balanced_accuracy": float(
            np.mean([balanced_accuracy(targets[:, k], answers[:, k]) for k in present])
        ),
        "auroc": _mean_auroc(targets, logits, present),
    }
    gaps = confidence_gaps(logits, targets)
    return TaskResult(scores, tuple(float(gap) for gap in gaps), targets.size)


def macro_f1(truth: Int[np.ndarray, "query"], found: Int[np.ndarray, "query"]) -> float:
    """Mean F1 over the classes present in `truth`, 0..1."""
    codes = np.unique(np.concatenate([truth, found])).tolist()
    table = confusion(truth, found, codes).astype(np.float64)
    f1 = 2 * np.diag(table) / (table.sum(0) + table.sum(1))
    there = list(class_recall(truth, found))
    return float(np.mean([f1[codes.index(code)] for code in there]))


def _mean_auroc(
    targets: Int[np.ndarray, "query class"],
    logits: Float[np.ndarray, "query class"],
    present: Int[np.ndarray, "_"],
) -> float:
    """NaN where the query is of one class only."""
    if len(present) < 2:
        return float("nan")
    return float(np.mean([auroc(targets[:, k], logits[:, k]) for k in present]))


def confidence_gaps(
    logits: Float[np.ndarray, "query class"], targets: Int[np.ndarray, "query class"]
) -> Float[np.ndarray, "bin"]:
    """Sum of confidence less right answers of binary class models, by bin of confidence."""
    confidence = 1 / (1 + np.exp(-np.abs(logits.astype(np.float64)).ravel().clip(max=700)))
    right = ((logits > 0) == (targets == 1)).ravel()
    which = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    gaps: np.ndarray = np.bincount(which, weights=confidence - right, minlength=BINS)
    return gaps


# --- over tasks and seeds --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over tasks and seeds with its 95 % interval, and how many of both there were."""

    value: float
    ci95: tuple[float, float]
    tasks: int
    seeds: int


def estimate(scores: Sequence[Float[np.ndarray, "task"]], *, resamples: int = 2000) -> Estimate:
    """Mean score, with an interval from drawing seeds, and tasks within each, with replacement.

    A single seed adds no spread: the interval then holds for that one training.

    Args:
        scores: of the tasks of each seed; NaN where a task has none.
        resamples: draws of the bootstrap.

    Raises:
        ValueError: no task of any seed has a score.
    """
    kept = [seed[np.isfinite(seed)] for seed in scores]
    kept = [seed for seed in kept if len(seed)]
    if not kept:
        msg = "an estimate needs the score of one task at least"
        raise ValueError(msg)
    draws = _seed_means(kept, resamples)
    low, high = np.percentile(draws, _LEVELS)
    value = float(np.mean([seed.mean() for seed in kept]))
    return Estimate(value, (float(low), float(high)), max(map(len, kept)), len(kept))


def difference(
    ours: Sequence[Float[np.ndarray, "task"]],
    other: Sequence[Float[np.ndarray, "task"]],
    *,
    resamples: int = 2000,
) -> Estimate:
    """Mean of `ours` less `other` on the same tasks and seeds, with its interval; see `estimate`."""
    paired = [a - b for a, b in zip(ours, other, strict=False) if a.shape == b.shape]
    return estimate(paired, resamples=resamples)


def calibration_estimate(results: Sequence[Sequence[TaskResult]], *, resamples: int = 2000) -> Estimate:
    """Calibration error of all tasks of a seed taken together, mean over seeds; see `estimate`."""
    tables = [np.array([[*r.gaps, r.answers] for r in seed]) for seed in results if len(seed)]
    if not tables:
        msg = "a calibration error needs one task at least"
        raise ValueError(msg)
    rng = np.random.default_rng(0)
    draws = []
    for size in _chunks(resamples):
        errors = []
        for table in tables:
            tasks = len(table)
            weights = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size)
            errors.append(_pooled(weights @ table))
        draws.append(_over_seeds(np.stack(errors), rng))
    low, high = np.percentile(np.concatenate(draws), _LEVELS)
    value = float(np.mean([_pooled(table.sum(0, keepdims=True))[0] for table in tables]))
    return Estimate(value, (float(low), float(high)), max(map(len, tables)), len(tables))


def _pooled(sums: Shaped[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
    errors: np.ndarray = np.abs(sums[:, :-1]).sum(1) / sums[:, -1]
    return errors


def _seed_means(scores: Sequence[Float[np.ndarray, "task"]], resamples: int) -> Float[np.ndarray, "draw"]:
    """Mean over redrawn seeds of the means over redrawn tasks."""
    rng, draws = np.random.default_rng(0), []
    for size in _chunks(resamples):
        means = [seed[rng.integers(len(seed), size=(size, len(seed)))].mean(1) for seed in scores]
        draws.append(_over_seeds(np.stack(means), rng))
    return np.concatenate(draws)


def _over_seeds(means: Float[np.ndarray, "seed draw"], rng: np.random.Generator) -> Float[np.ndarray, "draw"]:
    """Mean over as many seeds as there are, drawn with replacement anew for every draw."""
    seeds, draws = means.shape
    picks = rng.integers(seeds, size=(seeds, draws))
    drawn: np.ndarray = np.take_along_axis(means, picks, axis=0).mean(0)
    return drawn


def _chunks(resamples: int) -> list[int]:
    whole, rest = divmod(resamples, _CHUNK)
    return [_CHUNK] * whole + [rest] * (rest > 0)
