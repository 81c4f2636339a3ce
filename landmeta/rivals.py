"""Honest rivals on simple features: what an analyst would reach with scikit-learn and an afternoon."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TREES = 200
_WORKERS = 2
_BLOCK = 512  # pixels; a scene is read in blocks of this side, and only where it has samples


@runtime_checkable
class Fitted(Protocol):
    """A rival after training."""

    def predict(self, features: np.ndarray, /) -> np.ndarray:
        """Class codes, int64 (sample,), of features (sample, feature)."""
        ...

    def predict_proba(self, features: np.ndarray, /) -> np.ndarray:
        """Probabilities (sample, class), columns in ascending order of class code."""
        ...


Fit = Callable[[np.ndarray, np.ndarray, int], Fitted]
"""Trains a rival on features (sample, feature), codes (sample,) and a seed."""


@runtime_checkable
class PixelSource(Protocol):
    """What of `landmeta.raster.Imagery` is needed here."""

    def read(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """A window as float32 reflectance (band, y, x), NaN outside the raster."""
        ...


@runtime_checkable
class PixelLabels(Protocol):
    """What of `landmeta.labels.Labels` is needed here: positions and codes of samples, int64 (sample,)."""

    @property
    def rows(self) -> np.ndarray:
        """Pixel row of every sample on the imagery's grid."""
        ...

    @property
    def cols(self) -> np.ndarray:
        """Pixel column of every sample on the imagery's grid."""
        ...

    @property
    def codes(self) -> np.ndarray:
        """Class code of every sample."""
        ...


# --- methods ---------------------------------------------------------------------------------------


def random_forest(
    features: Shaped[np.ndarray, "sample feature"],
    codes: Int[np.ndarray, "sample"],
    seed: int = 0,
    trees: int = TREES,
) -> Fitted:
    """A random forest with scikit-learn's defaults, trained; the same bytes for the same seed."""
    model = RandomForestClassifier(trees, random_state=seed, n_jobs=_WORKERS)
    fitted: Fitted = model.fit(features, codes)
    return fitted


def logistic_regression(
    features: Shaped[np.ndarray, "sample feature"], codes: Int[np.ndarray, "sample"], seed: int = 0
) -> Fitted:
    """A logistic regression on standardised features, classes weighted alike, trained."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced", random_state=seed)
    )
    with warnings.catch_warnings():
        # Separable classes have no finite optimum; where it stops is good enough for a rival.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted: Fitted = model.fit(features, codes)
    return fitted


# --- features --------------------------------------------------------------------------------------


def tile_statistics(image: Float[np.ndarray, "band y x"]) -> Float[np.ndarray, "feature"]:
    """Five figures a band that describe a tile, (5 * band,), grouped by figure and not by band.

    They are the mean, the standard deviation, the 10th and 90th percentile, and the mean absolute
    difference between vertical neighbours (a measure of texture), in the unit of the image.
    """
    values = image.reshape(len(image), -1)
    low, high = (np.percentile(values, q, axis=1) for q in (10, 90))
    texture = np.abs(np.diff(image, axis=1)).mean(axis=(1, 2))
    return np.concatenate([values.mean(axis=1), values.std(axis=1), low, high, texture])


def pixel_reflectances(
    imagery: PixelSource, rows: Int[np.ndarray, "sample"], cols: Int[np.ndarray, "sample"]
) -> Float[np.ndarray, "sample band"]:
    """Reflectance 0..1 of single pixels in all bands, float32; NaN where the imagery has none."""
    block = np.stack([rows // _BLOCK, cols // _BLOCK], axis=1)
    corners, which = np.unique(block, axis=0, return_inverse=True)
    found: np.ndarray | None = None
    for i in range(len(corners)):
        here = np.flatnonzero(which == i)
        top, left = int(rows[here].min()), int(cols[here].min())
        height, width = int(rows[here].max()) - top + 1, int(cols[here].max()) - left + 1
        window = imagery.read(top, left, height, width)
        if found is None:
            found = np.empty((len(rows), len(window)), np.float32)
        found[here] = window[:, rows[here] - top, cols[here] - left].T
    return np.empty((0, 0), np.float32) if found is None else found


# --- hold-out --------------------------------------------------------------------------------------


def holdout_predictions(
    features: Shaped[np.ndarray, "sample feature"],
    codes: Int[np.ndarray, "sample"],
    fold: Int[np.ndarray, "sample"],
    *,
    fit: Fit = random_forest,
    seed: int = 0,
) -> Int[np.ndarray, "sample"]:
    """Predict every fold by a rival trained on all other samples; -1 where `fold` is -1 (never held out)."""
    predicted = np.full(len(codes), -1, np.int64)
    for k in np.unique(fold[fold >= 0]):
        held = fold == k
        predicted[held] = fit(features[~held], codes[~held], seed).predict(features[held])
    return predicted


def forest_holdout(
    imagery: PixelSource,
    labels: PixelLabels,
    fold: Int[np.ndarray, "sample"],
    *,
    samples: Int[np.ndarray, "sample"] | None = None,
    fit: Fit = random_forest,
    seed: int = 0,
) -> Int[np.ndarray, "sample"]:
    """Predict held-out samples from the reflectance of their pixel alone, on the folds given.

    Args:
        imagery: where the reflectances come from.
        labels: samples and their codes.
        fold: fold of every sample used, -1 where it is never held out (`splits.group_folds`).
        samples: indices into `labels` of the samples used; all by default.
        fit: the rival; `logistic_regression` fits as well.
        seed: of the rival.

    Returns:
        Predicted codes, int64; -1 where `fold` is -1.
    """
    used = np.arange(len(labels.codes)) if samples is None else samples
    features = pixel_reflectances(imagery, labels.rows[used], labels.cols[used])
    return holdout_predictions(features, labels.codes[used], fold, fit=fit, seed=seed)
