from __future__ import annotations

import math

import numpy as np
import pytest

from landmeta.task_scores import TaskOutcome, auroc, mean_recall, score_tasks


def outcome(logits, targets, **options):
    return TaskOutcome(0.5, np.array(logits), np.zeros(len(targets)), np.array(targets), **options)


def test_all_negative_is_accurate_but_not_balanced():
    scores = score_tasks([outcome([-1.0, -1, -1, -1], [1, 0, 0, 0])])
    assert (scores.accuracy, scores.balanced_accuracy) == (0.75, 0.5)
    assert math.isnan(scores.ci95)
    assert math.isnan(scores.ensemble)


def test_scores_are_means_over_tasks_with_their_interval():
    tasks = [outcome([1.0, -1, -1], [1, 0, 0]), outcome([-1.0, -1, 1], [1, 0, 0])]
    scores = score_tasks(tasks)
    assert (scores.tasks, scores.balanced_accuracy) == (2, pytest.approx((1 + 0.25) / 2))
    assert scores.ci95 == pytest.approx(1.96 * np.std([1, 0.25], ddof=1) / np.sqrt(2))
    assert (scores.unadapted, scores.loss) == (0.5, 0.5)


def test_auroc_counts_ties_as_half_and_is_not_there_for_one_class():
    truth = np.array([1, 0, 0, 1])
    assert auroc(truth, np.array([2.0, 1.0, 2.0, 3.0])) == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert math.isnan(auroc(np.ones(2, int), np.array([1.0, 2.0])))
    assert math.isnan(auroc(truth, np.zeros((4, 2))))


def test_tasks_of_all_classes_are_scored_by_the_largest_logit():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    task = TaskOutcome(0.1, logits, logits[::-1], np.array([0, 1, 2]))
    assert score_tasks([task]).balanced_accuracy == pytest.approx(2 / 3)
    assert mean_recall(np.array([1, 1, 3]), np.array([1, 2, 3])) == 0.75


def test_the_ensemble_chooses_the_class_whose_model_is_surest():
    classes = np.array([[0.2, 0.9], [0.8, 0.1]])
    found = outcome([1.0, -1], [1, 0], classes=classes, positions=np.array([1, 1]))
    assert score_tasks([found]).ensemble == 0.5


def test_no_task_has_no_score():
    with pytest.raises(ValueError, match="no task"):
        score_tasks([])
