"""Scores of few-shot tasks answered by one class model a class, with intervals over tasks and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

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
RESAMPLES = 2000


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


def mean_result(results: Sequence[TaskResult]) -> TaskResult:
    """Several draws of one task as one: mean scores, where they are numbers, and all answers pooled."""
    scores = {}
    for name in results[0].scores:
        numbers = [result.scores[name] for result in results if np.isfinite(result.scores[name])]
        scores[name] = float(np.mean(numbers)) if numbers else float("nan")
    gaps = np.sum([result.gaps for result in results], axis=0)
    return TaskResult(scores, tuple(gaps.tolist()), sum(result.answers for result in results))


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
    """A mean over tasks and seeds with its 95 % interval, and how many of both there were.

    Attributes:
        value: The mean.
        ci95: Ends of the interval.
        tasks: Test tasks.
        seeds: Trainings; the interval of a single one does not hold the variation of trainings.
        groups: Groups (region-seasons) that the tasks were drawn in; 0 where tasks are not grouped.
    """

    value: float
    ci95: tuple[float, float]
    tasks: int
    seeds: int
    groups: int = 0


def estimate(
    scores: Sequence[Float[np.ndarray, "_"]],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean score, with an interval from drawing seeds, and tasks that all seeds share, with replacement.

    A single seed adds no spread: the interval then holds for that one training. Bootstrap intervals of very
    few seeds or groups come out somewhat too narrow.

    Args:
        scores: Of the tasks of each seed, the same tasks in the same order; NaN where a task has none.
        groups: The group of each task, such as the region-season that it was drawn in. Tasks of one group
            are alike, so whole groups are drawn; if there is only one, its tasks are drawn instead.
        resamples: Draws of the bootstrap.

    Raises:
        ValueError: No task of any seed has a score.
    """
    longest = max((len(seed) for seed in scores), default=0)
    padded = [np.pad(seed, (0, longest - len(seed)), constant_values=np.nan) for seed in scores]
    kept = [seed for seed in padded if np.isfinite(seed).any()]
    if not kept:
        msg = "an estimate needs the score of one task at least"
        raise ValueError(msg)
    table = np.stack(kept).astype(np.float64)
    finite = np.isfinite(table)
    weights = _task_weights(_named(groups, longest), resamples)
    with np.errstate(invalid="ignore"):  # a draw without a task that has a score is left out below
        means = (weights @ np.where(finite, table, 0.0).T) / (weights @ finite.T)
    drawn_in = {groups[task] for task in np.flatnonzero(finite.any(0)).tolist()} if groups else ()
    return Estimate(
        float(np.nanmean(table, axis=1).mean()),
        _interval(means.T),
        int(finite.sum(1).max()),
        len(table),
        len(drawn_in),
    )


def difference(
    ours: Sequence[Float[np.ndarray, "_"]],
    other: Sequence[Float[np.ndarray, "_"]],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean of `ours` less `other` on the same tasks and seeds, with its interval; see `estimate`."""
    paired = [a - b for a, b in zip(ours, other, strict=False) if a.shape == b.shape]
    return estimate(paired, groups=groups, resamples=resamples)


def calibration_estimate(
    results: Sequence[Sequence[TaskResult]],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Calibration error of all tasks of a seed taken together, mean over seeds; see `estimate`."""
    tables = [np.array([[*r.gaps, r.answers] for r in seed]) for seed in results if len(seed)]
    if not tables:
        msg = "a calibration error needs one task at least"
        raise ValueError(msg)
    longest = max(map(len, tables))
    weights = _task_weights(_named(groups, longest), resamples)
    errors = np.stack([_pooled(weights[:, : len(table)] @ table) for table in tables])
    value = float(np.mean([_pooled(table.sum(0, keepdims=True))[0] for table in tables]))
    return Estimate(value, _interval(errors), longest, len(tables), len(set(groups or ())))


def _pooled(sums: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
    errors: np.ndarray = np.abs(sums[:, :-1]).sum(1) / sums[:, -1]
    return errors


def _named(groups: Sequence[str] | None, tasks: int) -> tuple[str, ...]:
    """Groups to draw of: those given if there are several, else every task is its own."""
    if groups is not None and len(groups) != tasks:
        msg = f"{len(groups)} groups are given for {tasks} tasks"
        raise ValueError(msg)
    several = groups is not None and len(set(groups)) > 1
    return tuple(groups) if groups is not None and several else tuple(map(str, range(tasks)))


@lru_cache(maxsize=16)
def _task_weights(groups: tuple[str, ...], resamples: int) -> Float[np.ndarray, "draw task"]:
    """How often each draw of groups with replacement holds each task.

    All estimates over the same tasks share the draws, which a report asks for hundreds of times.
    """
    names, which = np.unique(groups, return_inverse=True)
    counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    weights: np.ndarray = counts[:, which].astype(np.float64)
    weights.flags.writeable = False
    return weights


def _interval(means: Float[np.ndarray, "seed draw"]) -> tuple[float, float]:
    """Percentiles of the mean over as many seeds as there are, drawn with replacement for every draw."""
    seeds, draws = means.shape
    picks = np.random.default_rng(1).integers(seeds, size=(seeds, draws))
    low, high = np.nanpercentile(np.take_along_axis(means, picks, axis=0).mean(0), _LEVELS)
    return float(low), float(high)
