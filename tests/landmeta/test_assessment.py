from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from landmeta.assessment import (
    PairedTrial,
    balanced_accuracy,
    class_recall,
    class_support,
    confusion,
    expected_calibration_error,
    holdout_score,
    paired_holdout,
    paired_sample_interval,
    paired_unit_interval,
)


@pytest.fixture
def noisy() -> tuple[np.ndarray, np.ndarray]:
    """Three very unequal classes, a third of the predictions wrong, all of them among the true codes."""
    rng = np.random.default_rng(0)
    truth = rng.choice([10, 20, 50], 600, p=[0.8, 0.15, 0.05])
    return truth, np.where(rng.random(600) < 0.33, rng.choice([10, 20, 50], 600), truth)


def test_balanced_accuracy_and_confusion_equal_scikit_learns(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = noisy
    assert balanced_accuracy(truth, predicted) == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert np.array_equal(confusion(truth, predicted), confusion_matrix(truth, predicted))


def test_a_class_only_predicted_does_not_count_as_a_class_of_the_truth() -> None:
    truth, predicted = np.array([1, 1, 2, 2]), np.array([1, 3, 2, 2])
    assert balanced_accuracy(truth, predicted) == pytest.approx(0.75)


def test_recall_and_support_are_per_class_present_in_the_truth() -> None:
    truth, predicted = np.array([4, 4, 4, 9]), np.array([4, 9, 4, 4])
    assert class_recall(truth, predicted) == {4: pytest.approx(2 / 3), 9: 0.0}
    assert class_support(truth) == {4: 3, 9: 1}


def test_confusion_follows_the_order_of_codes_asked_for_and_ignores_others() -> None:
    table = confusion(np.array([1, 2, 2, 7]), np.array([1, 1, 2, 2]), codes=(2, 1))
    assert table.tolist() == [[1, 1], [0, 1]]


def test_a_score_without_samples_is_refused() -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="at least one sample"):
        balanced_accuracy(none, none)
    with pytest.raises(ValueError, match="at least one sample"):
        expected_calibration_error(np.zeros(0), np.zeros(0, bool))


def test_calibration_error_is_zero_when_confidence_is_accuracy_and_the_gap_when_it_is_not() -> None:
    correct = np.arange(1000) % 4 != 0
    assert expected_calibration_error(np.full(1000, 0.75), correct) == pytest.approx(0.0)
    assert expected_calibration_error(np.full(1000, 1.0), correct) == pytest.approx(0.25)


def test_calibration_error_does_not_let_one_bin_make_up_for_another() -> None:
    confidence = np.repeat([0.2, 0.9], 100)
    correct = np.concatenate([np.arange(100) < 40, np.arange(100) < 70])  # 0.2 too low, 0.2 too high
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(0.2)


def test_the_interval_of_a_hold_out_is_wider_when_pixels_share_few_groups() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([1, 2], 500)
    polygon = np.arange(1000) // 50  # ten polygons a class, right or wrong as a whole
    predicted = np.where(rng.random(20)[polygon] < 0.3, 3 - truth, truth)
    by_polygon = holdout_score(truth, predicted, polygon, block="polygon", folds=5)
    by_pixel = holdout_score(truth, predicted, np.arange(1000), block="pixel", folds=5)
    assert by_polygon.value == by_pixel.value
    width = [score.ci95[1] - score.ci95[0] for score in (by_polygon, by_pixel)]
    assert width[0] > 3 * width[1]
    assert by_polygon.ci95[0] <= by_polygon.value <= by_polygon.ci95[1]


def test_the_interval_of_a_hold_out_draws_groups_within_their_class() -> None:
    """Nine sure polygons of one class and one of another, half of it right: no draw is without a class."""
    truth, groups = np.repeat([1, 2], [90, 10]), np.arange(100) // 10
    predicted = np.where(np.arange(100) < 95, truth, 1)
    score = holdout_score(truth, predicted, groups)
    assert (score.value, score.ci95) == (0.75, (0.75, 0.75))
    assert paired_holdout(truth, predicted, np.ones_like(truth), groups) == (0.25, (0.25, 0.25))


def test_a_hold_out_carries_what_the_report_needs_and_repeats_itself(
    noisy: tuple[np.ndarray, np.ndarray],
) -> None:
    truth, predicted = noisy
    groups = np.arange(600) // 6
    score = holdout_score(truth, predicted, groups, block="tile", folds=4, seed=3)
    assert score.as_report() == {
        "metric": "balanced accuracy",
        "value": round(balanced_accuracy_score(truth, predicted), 4),
        "ci95": [round(bound, 4) for bound in score.ci95],
        "block": "tile",
        "folds": 4,
        "n": 600,
    }
    assert score.codes == (10, 20, 50)
    assert sum(score.support.values()) == score.confusion.sum() == 600
    again = holdout_score(truth, predicted, groups, block="tile", folds=4, seed=3)
    assert again.ci95 == score.ci95


def test_the_paired_interval_sees_a_small_gain_through_large_differences_between_units() -> None:
    rng = np.random.default_rng(2)
    rival = rng.normal(0.6, 0.13, 17)
    low, high = paired_unit_interval(rival + rng.normal(0.02, 0.01, 17), rival)
    assert 0 < low < 0.02 < high < 0.04


def test_the_interval_over_units_has_the_width_of_the_standard_error() -> None:
    ours = np.random.default_rng(3).normal(0.0, 0.1, 400)
    low, high = paired_unit_interval(ours, np.zeros(400))
    assert high - low == pytest.approx(2 * 1.96 * ours.std() / 20, rel=0.05)


def _trial(samples: np.ndarray, truth: np.ndarray, ours: float, rival: float, seed: int) -> PairedTrial:
    rng = np.random.default_rng(seed)
    guess = [np.where(rng.random(len(truth)) < share, truth, truth + 100) for share in (ours, rival)]
    return PairedTrial(samples, truth, *guess)


def test_the_interval_over_samples_is_the_plain_stratified_bootstrap() -> None:
    truth = np.repeat([0, 1], [60, 40])
    trial = _trial(np.arange(100), truth, 0.8, 0.6, seed=4)
    gain = (trial.ours == truth).astype(float) - (trial.rival == truth)
    rng = np.random.default_rng(5)
    drawn = [
        np.mean([rng.choice(gain[truth == k], (truth == k).sum()).mean() for k in (0, 1)])
        for _ in range(10_000)
    ]
    assert paired_sample_interval([trial]) == pytest.approx(
        tuple(np.percentile(drawn, (2.5, 97.5))), abs=0.012
    )


def test_the_interval_over_samples_copes_with_queries_that_change_from_trial_to_trial() -> None:
    truth = np.arange(60) % 3
    trials = []
    for seed in range(4):
        query = np.sort(np.random.default_rng(seed).permutation(60)[:40])
        trials.append(_trial(query, truth[query], 0.9, 0.5, seed))
    low, high = paired_sample_interval(trials)
    mean = np.mean([ours - rival for ours, rival in (trial.scores for trial in trials)])
    assert low < mean < high
    assert high - low < 0.4


def test_equal_predictions_have_no_difference_at_all() -> None:
    truth = np.arange(30) % 2
    same = PairedTrial(np.arange(30), truth, truth[::-1].copy(), truth[::-1].copy())
    assert paired_sample_interval([same, same]) == (0.0, 0.0)


def test_the_paired_interval_over_groups_is_that_of_the_difference() -> None:
    rng = np.random.default_rng(2)
    truth, groups = np.repeat([0, 1], 200), np.arange(400) // 10
    ours = np.where(rng.random(400) < 0.9, truth, 1 - truth)
    rival = np.where(rng.random(400) < 0.7, truth, 1 - truth)
    diff, (low, high) = paired_holdout(truth, ours, rival, groups)
    assert diff == pytest.approx(balanced_accuracy(truth, ours) - balanced_accuracy(truth, rival))
    assert low < diff < high
    assert high - low < 0.2
    assert paired_holdout(truth, ours, ours, groups) == (0.0, (0.0, 0.0))


def test_what_is_hard_for_both_does_not_widen_the_paired_interval() -> None:
    """Half of the groups are lost to both, ours wins one sample more in each: the difference is sure."""
    truth, groups = np.repeat([0, 1], 100), np.arange(200) // 10
    lost = groups % 2 == 0
    rival = np.where(lost, 1 - truth, truth)
    ours = rival.copy()
    rival[::10] = 1 - truth[::10]
    ours[::10] = truth[::10]
    single = holdout_score(truth, ours, groups).ci95
    _, (low, high) = paired_holdout(truth, ours, rival, groups)
    assert single[1] - single[0] > 0.3
    assert high - low < 0.01
