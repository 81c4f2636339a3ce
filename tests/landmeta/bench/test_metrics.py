"""Scores of single tasks, and their intervals over tasks and seeds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from landmeta.bench.metrics import (
    METRICS,
    TaskResult,
    calibration_estimate,
    difference,
    estimate,
    mean_result,
    task_result,
)

TRUTH = np.array([0, 0, 1, 1, 2, 2, 3, 3])


def logits_of(truth: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    right = 4.0 * np.eye(4)[truth] - 2.0
    return (right + np.random.default_rng(seed).normal(0, noise, right.shape)).astype(np.float32)


def test_right_answers_score_one_everywhere() -> None:
    scores = task_result(logits_of(TRUTH, 0.0), TRUTH).scores
    assert set(scores) == set(METRICS) - {"calibration_error"}
    assert all(score == pytest.approx(1.0) for score in scores.values())


def test_saying_no_to_everything_scores_three_quarters_binary_and_half_balanced() -> None:
    scores = task_result(np.full((8, 4), -1.0, np.float32), TRUTH).scores
    assert scores["binary_accuracy"] == 0.75
    assert scores["binary_balanced_accuracy"] == 0.5
    assert scores["auroc"] == 0.5
    assert scores["accuracy"] == 0.25


def test_f1_and_auroc_are_those_of_scikit_learn() -> None:
    truth = np.repeat([0, 1, 2, 3], [20, 5, 4, 3])
    logits = logits_of(truth, 3.0)
    scores = task_result(logits, truth).scores
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, logits.argmax(1), average="macro"))
    areas = [roc_auc_score(truth == k, logits[:, k]) for k in range(4)]
    assert scores["auroc"] == pytest.approx(np.mean(areas))


def test_a_class_model_that_diverged_answers_no_and_the_others_are_scored() -> None:
    logits = np.array([[np.nan, 2.0, -1.0], [np.nan, -2.0, 1.0], [np.nan, 3.0, -3.0]])
    found = task_result(logits, np.array([0, 2, 1]))
    sure = task_result(np.where(np.isnan(logits), -1e30, logits), np.array([0, 2, 1]))
    assert found == sure
    assert found.scores["accuracy"] == pytest.approx(2 / 3)
    assert np.isfinite(found.gaps).all()


def test_a_query_of_one_class_has_no_roc_curve() -> None:
    assert np.isnan(task_result(logits_of(np.zeros(5, np.int64), 1.0), np.zeros(5, np.int64)).scores["auroc"])


def test_a_class_that_the_query_lacks_takes_no_part_in_binary_scores() -> None:
    """Its model says no to everything, which would be half right and half without meaning."""
    truth = np.array([0, 0, 1, 1])
    logits = np.array([[1, -1, -1], [-1, -1, -1], [-1, 1, -1], [-1, 1, -1]], np.float32)
    scores = task_result(logits, truth).scores
    assert scores["binary_balanced_accuracy"] == pytest.approx((0.75 + 1) / 2)
    assert scores["auroc"] == pytest.approx((0.75 + 1) / 2)


def test_calibration_is_pooled_over_tasks() -> None:
    """Logit 0 says one half: right in half of all cases, though never so within a task of one class."""
    sure = np.full((8, 4), -30.0, np.float32)
    assert calibration_estimate([[task_result(sure, TRUTH)]]).value == pytest.approx(0.25)
    right = [task_result(logits_of(TRUTH, 0.0) * 30, TRUTH) for _ in range(5)]
    assert calibration_estimate([right]).value == pytest.approx(0.0, abs=1e-6)


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = estimate([rng.normal(0.5, 0.2, 40)], resamples=400).ci95
        inside += low <= 0.5 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    tasks = rng.normal(0, 0.05, (3, 100))
    alike = estimate(list(0.6 + tasks))
    apart = estimate(list(np.array([[0.4], [0.6], [0.8]]) + tasks))
    assert apart.ci95[1] - apart.ci95[0] > 3 * (alike.ci95[1] - alike.ci95[0])


def test_tasks_that_all_seeds_share_are_drawn_once_for_all_of_them() -> None:
    """Three trainings that agree on every task are worth one, not three times as many tasks."""
    tasks = np.random.default_rng(3).normal(0.5, 0.2, 50)
    one, three = estimate([tasks]), estimate([tasks, tasks, tasks])
    assert three.ci95 == pytest.approx(one.ci95)
    assert (one.seeds, three.seeds, three.tasks) == (1, 3, 50)
    results = [task_result(logits_of(TRUTH, 3.0, seed), TRUTH) for seed in range(30)]
    assert calibration_estimate([results] * 3).ci95 == pytest.approx(calibration_estimate([results]).ci95)


def test_tasks_of_one_region_are_drawn_together() -> None:
    """Every region drawn twice has the interval of the regions drawn once."""
    regions = np.random.default_rng(4).uniform(0, 1, 6)
    names = [name for name in "abcdef" for _ in range(2)]
    twice = estimate([np.repeat(regions, 2)], groups=names)
    assert twice.ci95 == pytest.approx(estimate([regions]).ci95)
    assert (twice.tasks, twice.groups) == (12, 6)
    alone = estimate([np.repeat(regions, 2)])
    assert alone.ci95[1] - alone.ci95[0] < 0.85 * (twice.ci95[1] - twice.ci95[0])


def test_tasks_of_a_single_region_are_drawn_one_by_one() -> None:
    scores = np.random.default_rng(5).uniform(0, 1, 8)
    pool = estimate([scores], groups=["test"] * 8)
    assert pool.ci95 == estimate([scores]).ci95
    assert pool.groups == 1
    with pytest.raises(ValueError, match="3 groups are given for 8 tasks"):
        estimate([scores], groups=["a", "b", "c"])


def test_a_difference_on_the_same_tasks_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(2)
    hard = rng.uniform(0, 1, 100)
    found = difference([hard + 0.1], [hard + rng.normal(0, 0.01, 100)])
    assert found.value == pytest.approx(0.1, abs=0.01)
    assert found.ci95[1] - found.ci95[0] < 0.01


def test_tasks_without_a_score_are_left_out() -> None:
    assert estimate([np.array([0.5, np.nan, 0.7])]).tasks == 2
    with pytest.raises(ValueError, match="one task"):
        estimate([np.array([np.nan])])


def test_draws_of_one_task_count_as_one_and_scores_that_are_no_numbers_do_not() -> None:
    first = TaskResult({"accuracy": 0.5, "auroc": float("nan")}, (1.0, 0.0), 4)
    second = TaskResult({"accuracy": 1.0, "auroc": 0.8}, (0.5, -1.0), 6)
    assert mean_result([first, second]) == TaskResult({"accuracy": 0.75, "auroc": 0.8}, (1.5, -1.0), 10)
    assert np.isnan(mean_result([first, first]).scores["auroc"])
