from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from landmeta.rivals import (
    forest_holdout,
    holdout_predictions,
    logistic_regression,
    pixel_reflectances,
    random_forest,
    tile_statistics,
)


@dataclass(frozen=True)
class Scene:
    """An image in memory, read like imagery; counts the pixels that were read."""

    image: np.ndarray
    windows: list[int]

    def read(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        self.windows.append(height * width)
        return self.image[:, row : row + height, col : col + width]


@dataclass(frozen=True)
class Points:
    rows: np.ndarray
    cols: np.ndarray
    codes: np.ndarray


def _two_clouds(n: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = np.arange(n) % 2 * 30 + 10
    return (rng.normal(size=(n, 4)) + gap * (codes == 40)[:, None]).astype(np.float32), codes


@pytest.mark.parametrize("fit", [random_forest, logistic_regression])
def test_a_rival_learns_separable_classes_and_repeats_itself(fit) -> None:  # type: ignore[no-untyped-def]
    features, codes = _two_clouds(80, gap=6.0)
    model = fit(features[:40], codes[:40], 7)
    assert (model.predict(features[40:]) == codes[40:]).mean() > 0.95
    again = fit(features[:40], codes[:40], 7)
    assert np.array_equal(again.predict_proba(features), model.predict_proba(features))


def test_logistic_regression_takes_bands_of_very_different_scale() -> None:
    features, codes = _two_clouds(80, gap=6.0)
    scaled = features * np.float32([1e-4, 1.0, 1e3, 1e4])
    model = logistic_regression(scaled[:40], codes[:40])
    assert (model.predict(scaled[40:]) == codes[40:]).mean() > 0.95


def test_tile_statistics_are_five_figures_a_band_grouped_by_figure() -> None:
    ramp = np.arange(10, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    image = np.stack([ramp, np.full((10, 4), 3, np.float32)])
    mean, spread, low, high, texture = tile_statistics(image).reshape(5, 2)
    assert mean.tolist() == [4.5, 3.0]
    assert spread == pytest.approx([np.std(np.arange(10)), 0.0], abs=1e-6)
    assert low == pytest.approx([np.percentile(ramp, 10), 3.0])
    assert high == pytest.approx([np.percentile(ramp, 90), 3.0])
    assert texture.tolist() == [1.0, 0.0]


def test_texture_is_measured_down_the_columns_only() -> None:
    stripes = np.tile(np.float32([0, 1]), (1, 6, 3))
    assert tile_statistics(stripes)[4] == 0
    assert tile_statistics(np.swapaxes(stripes, 1, 2))[4] == 1


def test_reflectances_come_back_in_the_order_of_samples_without_reading_the_scene() -> None:
    rng = np.random.default_rng(1)
    scene = Scene(rng.random((3, 1200, 1100), dtype=np.float32), [])
    rows, cols = np.array([1190, 3, 700, 5]), np.array([1099, 4, 20, 2])
    found = pixel_reflectances(scene, rows, cols)
    assert np.array_equal(found, scene.image[:, rows, cols].T)
    assert sorted(scene.windows) == [1, 1, 9]  # the two near neighbours share a window


def test_every_fold_is_predicted_by_a_forest_that_never_saw_it() -> None:
    features = np.arange(8, dtype=np.float32)[:, None]
    codes = np.array([1, 1, 1, 1, 2, 2, 2, 2])
    fold = np.array([0, 0, 1, 1, 0, 1, -1, -1])
    told: list[set[float]] = []

    def fit(x: np.ndarray, y: np.ndarray, seed: int):  # type: ignore[no-untyped-def]
        told.append(set(x[:, 0].tolist()))
        return random_forest(x, y, seed, trees=5)

    predicted = holdout_predictions(features, codes, fold, fit=fit)
    assert told == [{2, 3, 5, 6, 7}, {0, 1, 4, 6, 7}]
    assert (predicted[6:] == -1).all()
    assert set(predicted[:6]) <= {1, 2}


def test_the_forest_is_held_out_on_the_samples_that_ours_used() -> None:
    image = np.zeros((2, 20, 20), np.float32)
    image[:, :, 10:] = 0.5
    rows, cols = (a.ravel() for a in np.mgrid[:20, :20])
    labels = Points(rows, cols, np.where(cols < 10, 1, 2))
    samples = np.arange(0, 400, 3)
    fold = samples % 4 - 1
    predicted = forest_holdout(Scene(image, []), labels, fold, samples=samples)
    assert np.array_equal(predicted[fold >= 0], labels.codes[samples][fold >= 0])
    assert (predicted[fold < 0] == -1).all()
