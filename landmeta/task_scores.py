"""How well queries of few-shot tasks are told apart, task by task and over many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.stats import rankdata


@dataclass(frozen=True, slots=True)
class TaskScores:
    """Means over tasks.

    Attributes:
        tasks: How many.
        loss: Of the queries.
        balanced_accuracy: Mean recall of a task's classes, or of positive and negative.
        ci95: Half the width of the 95 % interval of `balanced_accuracy` over tasks.
        accuracy: Share of right predictions; all negative gives 1 - 1 / ways in a one-vs-all task.
        auroc: Area under the ROC curve of a one-vs-all task; NaN with all classes.
        auroc_ci95: Half the width of its 95 % interval over tasks.
        unadapted: Balanced accuracy of the same network before it saw the support.
        ensemble: Share of right classes where a model of each class votes by its logit; NaN if not measured.
    """

    tasks: int
    loss: float
    balanced_accuracy: float
    ci95: float
    accuracy: float
    auroc: float
    auroc_ci95: float
    unadapted: float
    ensemble: float


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """What came of one task: loss and logits of its queries, adapted and not, and their targets.

    Logits are (query,) with targets 0 and 1, or (query, class) with the positions of the classes. `classes`
    are (query, class) logits of one adapted model a class, `positions` the true ones, where measured.
    """

    loss: float
    logits: Float[np.ndarray, "*shape"]
    unadapted: Float[np.ndarray, "*shape"]
    targets: Int[np.ndarray, "query"]
    classes: Float[np.ndarray, "query class"] | None = None
    positions: Int[np.ndarray, "query"] | None = None


def score_tasks(outcomes: Sequence[TaskOutcome]) -> TaskScores:
    """The scores of some tasks.

    Raises:
        ValueError: There is no task.
    """
    if not outcomes:
        msg = "no task to score"
        raise ValueError(msg)
    balanced = np.array([mean_recall(o.targets, predicted(o.logits)) for o in outcomes])
    areas = np.array([auroc(o.targets, o.logits) for o in outcomes])
    return TaskScores(
        tasks=len(outcomes),
        loss=float(np.mean([o.loss for o in outcomes])),
        balanced_accuracy=float(balanced.mean()),
        ci95=_ci95(balanced),
        accuracy=float(np.mean([(predicted(o.logits) == o.targets).mean() for o in outcomes])),
        auroc=float(areas.mean()),
        auroc_ci95=_ci95(areas),
        unadapted=float(np.mean([mean_recall(o.targets, predicted(o.unadapted)) for o in outcomes])),
        ensemble=float(np.mean([_ensemble(o) for o in outcomes])),
    )


def _ci95(scores: Float[np.ndarray, "task"]) -> float:
    return float(1.96 * scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else float("nan")


def predicted(logits: Float[np.ndarray, "*shape"]) -> Int[np.ndarray, "query"]:
    """1 where a logit is positive, or the position of the largest of several."""
    choice: Int[np.ndarray, "query"] = (logits > 0).astype(np.int64) if logits.ndim == 1 else logits.argmax(1)
    return choice


def mean_recall(truth: Shaped[np.ndarray, "query"], found: Shaped[np.ndarray, "query"]) -> float:
    """Mean, over the classes present, of the share of queries that were found as that class."""
    return float(np.mean([(found[truth == k] == k).mean() for k in np.unique(truth)]))


def auroc(truth: Int[np.ndarray, "query"], logits: Float[np.ndarray, "*shape"]) -> float:
    """Chance that a positive query has a larger logit than a negative one; NaN without both."""
    positive = int((truth == 1).sum())
    negative = len(truth) - positive
    if logits.ndim > 1 or not positive or not negative:
        return float("nan")
    ranks = rankdata(logits)[truth == 1].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def _ensemble(outcome: TaskOutcome) -> float:
    if outcome.classes is None or outcome.positions is None:
        return float("nan")
    return float((outcome.classes.argmax(1) == outcome.positions).mean())
