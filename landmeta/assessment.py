"""How good a map is: accuracy per class, hold-out folds that keep groups together, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

METRIC = "balanced accuracy"
"""What every hold-out and benchmark score of landmeta is: the mean recall of the classes present."""

_LEVELS = (2.5, 97.5)
_CHUNK = 500  # resamples drawn at once: bounds the memory of a bootstrap over many groups


# --- accuracy --------------------------------------------------------------------------------------


def confusion(
    truth: Int[np.ndarray, "sample"],
    predicted: Int[np.ndarray, "sample"],
    codes: Sequence[int] | None = None,
) -> Int[np.ndarray, "reference mapped"]:
    """Count samples by class: row i holds the samples of true class `codes[i]`, columns what was predicted.

    Args:
        truth: true class codes.
        predicted: predicted class codes.
        codes: order of rows and columns; by default every code that occurs, ascending. Samples whose true
            or predicted code is not among them are not counted.
    """
    known = np.unique(np.concatenate([truth, predicted])) if codes is None else np.asarray(codes, np.int64)
    order = np.argsort(known)
    table = np.zeros((len(known), len(known)), np.int64)
    inside = np.isin(truth, known) & np.isin(predicted, known)
    rows = order[np.searchsorted(known, truth[inside], sorter=order)]
    columns = order[np.searchsorted(known, predicted[inside], sorter=order)]
    np.add.at(table, (rows, columns), 1)
    return table


def class_support(truth: Int[np.ndarray, "sample"]) -> dict[int, int]:
    """Number of samples of every class present, by code."""
    codes, counts = np.unique(truth, return_counts=True)
    return {int(code): int(count) for code, count in zip(codes, counts, strict=True)}


def class_recall(truth: Int[np.ndarray, "sample"], predicted: Int[np.ndarray, "sample"]) -> dict[int, float]:
    """Share of the samples of every class present that was predicted as that class, by code."""
    hit = truth == predicted
    return {code: float(hit[truth == code].mean()) for code in class_support(truth)}


def balanced_accuracy(truth: Int[np.ndarray, "sample"], predicted: Int[np.ndarray, "sample"]) -> float:
    """Mean recall over the classes present in `truth`, 0..1.

    Raises:
        ValueError: there is no sample.
    """
    if not len(truth):
        msg = "balanced accuracy needs at least one sample, found none"
        raise ValueError(msg)
    return float(np.mean(list(class_recall(truth, predicted).values())))


def expected_calibration_error(
    confidence: Float[np.ndarray, "sample"], correct: Bool[np.ndarray, "sample"], bins: int = 15
) -> float:
    """Mean distance between confidence and accuracy over equally wide bins of confidence, 0..1.

    Args:
        confidence: probability that the predicted class is right, 0..1.
        correct: whether it was.
        bins: number of bins; each weighs as much as it has samples.

    Raises:
        ValueError: there is no sample.
    """
    if not len(confidence):
        msg = "a calibration error needs at least one sample, found none"
        raise ValueError(msg)
    which = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


# --- hold-out by group -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holdout:
    """Accuracy on samples that were held out, with a 95 % interval that treats a group as one draw.

    `recall` and `support` are by class code; `confusion` has a row (truth) and a column (predicted) for each
    of `codes`; `block` says what was held out together ("polygon", "point", "patch", "tile"); `n` counts
    scored samples.
    """

    metric: str
    value: float
    ci95: tuple[float, float]
    block: str
    folds: int
    n: int
    recall: dict[int, float]
    support: dict[int, int]
    confusion: Int[np.ndarray, "class class"]
    codes: tuple[int, ...]

    def as_report(self) -> dict[str, object]:
        """The fields that report.json holds, rounded to 4 decimals."""
        return {
            "metric": self.metric,
            "value": round(self.value, 4),
            "ci95": [round(bound, 4) for bound in self.ci95],
            "block": self.block,
            "folds": self.folds,
            "n": self.n,
        }


def holdout_score(
    truth: Int[np.ndarray, "sample"],
    predicted: Int[np.ndarray, "sample"],
    groups: Int[np.ndarray, "sample"],
    *,
    block: str = "polygon",
    folds: int = 5,
    seed: int = 0,
    resamples: int = 2000,
) -> Holdout:
    """Score held-out predictions pooled over folds.

    The interval comes from drawing groups with replacement within their class; neighbouring pixels of one
    polygon are no independent evidence. A class with a single group contributes no spread.

    Args:
        truth: true class codes of the held-out samples (leave out those with fold -1).
        predicted: predicted class codes.
        groups: id of the polygon or tile of each sample.
        block: what a group is, for the report.
        folds: how many folds were used, for the report.
        seed: of the bootstrap.
        resamples: draws of the bootstrap.

    Raises:
        ValueError: there is no sample.
    """
    value = balanced_accuracy(truth, predicted)
    codes = tuple(int(code) for code in np.unique(np.concatenate([truth, predicted])))
    return Holdout(
        metric=METRIC,
        value=value,
        ci95=_percentiles(_group_scores(truth, [predicted], groups, resamples, seed)[0]),
        block=block,
        folds=folds,
        n=len(truth),
        recall=class_recall(truth, predicted),
        support=class_support(truth),
        confusion=confusion(truth, predicted, codes),
        codes=codes,
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods on the same held-out samples: the score of each, `diff` = ours - rival and its interval."""

    ours: Holdout
    rival: Holdout
    diff: float
    diff_ci95: tuple[float, float]

    def as_report(self) -> dict[str, object]:
        """The difference as report.json holds it, rounded to 4 decimals."""
        return {"diff": round(self.diff, 4), "ci95": [round(bound, 4) for bound in self.diff_ci95]}


def paired_holdout(
    truth: Int[np.ndarray, "sample"],
    ours: Int[np.ndarray, "sample"],
    rival: Int[np.ndarray, "sample"],
    groups: Int[np.ndarray, "sample"],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[float, tuple[float, float]]:
    """Difference in balanced accuracy of two methods on the same held-out samples, and its 95 % interval.

    Both are scored on the same redrawn groups, see `holdout_score`: what a group makes easy or hard for both
    does not widen the interval.

    Raises:
        ValueError: there is no sample.
    """
    difference = balanced_accuracy(truth, ours) - balanced_accuracy(truth, rival)
    drawn = _group_scores(truth, [ours, rival], groups, resamples, seed)
    return difference, _percentiles(drawn[0] - drawn[1])


def _group_scores(
    truth: Int[np.ndarray, "sample"],
    methods: Sequence[Int[np.ndarray, "sample"]],
    groups: Int[np.ndarray, "sample"],
    resamples: int,
    seed: int,
) -> Float[np.ndarray, "method draw"]:
    """Balanced accuracy of each method's predictions under the same redrawn groups."""
    classes, class_of = np.unique(truth, return_inverse=True)
    ids, group_of = np.unique(groups, return_inverse=True)
    counts, *hits = np.zeros((1 + len(methods), len(ids), len(classes)))
    np.add.at(counts, (group_of, class_of), 1)
    for hit, predicted in zip(hits, methods, strict=True):
        np.add.at(hit, (group_of, class_of), truth == predicted)
    strata = [np.flatnonzero(counts.argmax(1) == k) for k in range(len(classes))]
    rng, scores = np.random.default_rng(seed), []
    for size in _chunks(resamples):
        weights = np.zeros((size, len(ids)))
        for members in filter(len, strata):
            weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size)
        scores.append(np.stack([_mean_ratio(weights @ hit, weights @ counts) for hit in hits]))
    return np.concatenate(scores, axis=1)


# --- paired differences ----------------------------------------------------------------------------


def paired_unit_interval(
    ours: Float[np.ndarray, "unit"],
    rival: Float[np.ndarray, "unit"],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the mean of `ours - rival` over units, from drawing units with replacement.

    Units differ far more from each other than methods do within a unit, so only paired differences tell.

    Raises:
        ValueError: there is no unit.
    """
    if not len(ours):
        msg = "a bootstrap over units needs at least one unit, found none"
        raise ValueError(msg)
    rng, diff = np.random.default_rng(seed), ours - rival
    means = [diff[rng.integers(len(diff), size=(size, len(diff)))].mean(1) for size in _chunks(resamples)]
    return _percentiles(np.concatenate(means))


@dataclass(frozen=True, slots=True)
class PairedTrial:
    """Two methods on the same query samples: `samples` are ids that are the same thing in every trial."""

    samples: Int[np.ndarray, "sample"]
    truth: Int[np.ndarray, "sample"]
    ours: Int[np.ndarray, "sample"]
    rival: Int[np.ndarray, "sample"]

    @property
    def scores(self) -> tuple[float, float]:
        """Balanced accuracy of ours and of the rival."""
        return balanced_accuracy(self.truth, self.ours), balanced_accuracy(self.truth, self.rival)


def paired_sample_interval(
    trials: Sequence[PairedTrial], *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the difference in balanced accuracy, averaged over the trials of one unit.

    Query samples are drawn with replacement within their class; one that occurs in several trials is drawn
    for all of them at once.

    Raises:
        ValueError: there is no trial.
    """
    if not trials:
        msg = "a bootstrap over samples needs at least one trial, found none"
        raise ValueError(msg)
    truth, present, gain = _outcomes(trials)
    rng, diffs = np.random.default_rng(seed), []
    patterns = [
        np.unique(np.hstack([present[truth == k], gain[truth == k]]), axis=0, return_counts=True)
        for k in np.unique(truth)
    ]
    for size in _chunks(resamples):
        total, number = np.zeros((2, size, len(trials)))
        for rows, counts in patterns:
            # Samples with the same outcomes are interchangeable: drawing how often each outcome comes up is
            # drawing the samples, at a cost that does not grow with their number.
            weights = rng.multinomial(counts.sum(), counts / counts.sum(), size).astype(np.float64)
            seen, won = np.split(weights @ rows.astype(np.float64), 2, axis=1)
            total += np.divide(won, seen, out=np.zeros_like(won), where=seen > 0)
            number += seen > 0
        diffs.append(np.divide(total, number, out=np.zeros_like(total), where=number > 0).mean(1))
    return _percentiles(np.concatenate(diffs))


def _outcomes(
    trials: Sequence[PairedTrial],
) -> tuple[Int[np.ndarray, "sample"], Int[np.ndarray, "sample trial"], Int[np.ndarray, "sample trial"]]:
    """Every sample's class, whether it is in each trial, and hits of ours minus hits of the rival."""
    ids, first = np.unique(np.concatenate([t.samples for t in trials]), return_index=True)
    truth = np.concatenate([t.truth for t in trials])[first]
    present, gain = np.zeros((2, len(ids), len(trials)), np.int8)
    for j, trial in enumerate(trials):
        rows = np.searchsorted(ids, trial.samples)
        present[rows, j] = 1
        gain[rows, j] = (trial.ours == trial.truth).astype(np.int8) - (trial.rival == trial.truth)
    return truth, present, gain


# --- small helpers ---------------------------------------------------------------------------------


def _chunks(resamples: int) -> list[int]:
    """`resamples` in pieces of at most _CHUNK."""
    whole, rest = divmod(resamples, _CHUNK)
    return [_CHUNK] * whole + [rest] * (rest > 0)


def _mean_ratio(
    hits: Shaped[np.ndarray, "draw class"], counts: Shaped[np.ndarray, "draw class"]
) -> Float[np.ndarray, "draw"]:
    """Mean over the classes drawn at all of hits / counts."""
    recall = np.divide(hits, counts, out=np.zeros_like(hits), where=counts > 0)
    means: np.ndarray = recall.sum(1) / (counts > 0).sum(1)
    return means


def _percentiles(scores: Float[np.ndarray, "draw"]) -> tuple[float, float]:
    low, high = np.percentile(scores, _LEVELS)
    return float(low), float(high)
