"""Tuning moves the tail's convolutions a little, by labels that take part alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from landmeta import sampling, tuning
from landmeta.checkpoints import load_start
from landmeta.features import fold
from landmeta.sampling import Region, in_order, label_windows, region_sample
from landmeta.splits import group_folds
from landmeta.tuning import OUT, tail_of, tune


@pytest.fixture(scope="module")
def start():
    return load_start()[0]


@pytest.fixture(scope="module")
def region(stripes, start) -> Region:
    imagery, labels, _ = stripes
    fill, blocks = region_sample(imagery, np.random.default_rng(0))
    windows = label_windows(imagery, labels.rows, labels.cols)
    return Region(start.for_bands(imagery.bands.names), fill, blocks, windows)


@pytest.fixture(scope="module")
def task(stripes) -> tuple[torch.Tensor, np.ndarray]:
    labels = stripes[1]
    return torch.from_numpy(labels.codes - 1), group_folds(labels.codes, labels.groups)


def tuned(start, tail, target, folds, effort="standard"):
    return tune(start, tail, target, folds, effort, np.random.default_rng(0), lambda *_: None)


@pytest.mark.parametrize("effort", ["standard", "full"])
def test_features_renewed_by_the_same_network_are_the_same(region, effort):
    features = region.features()
    renewed = tail_of(region, features, effort).renewed(region.network)
    torch.testing.assert_close(renewed.labelled, features.labelled, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(renewed.sample, features.sample, rtol=1e-3, atol=1e-3)


def test_full_moves_every_convolution_a_little_and_no_norm(start, region, task, monkeypatch):
    monkeypatch.setitem(tuning._STEPS, "full", 2)
    before = {k: v.clone() for k, v in region.network.state_dict().items()}
    after = tuned(start, tail_of(region, region.features(), "full"), *task, "full").state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert moved == {k for k, v in before.items() if v.dim() == 4}
    for k in moved:
        assert (after[k] - before[k]).norm() < 0.05 * before[k].norm()
    assert all(torch.equal(before[k], v) for k, v in region.network.state_dict().items())


def test_samples_that_take_no_part_teach_nothing(start, region, task):
    target, folds = task
    tail = tail_of(region, region.features(), "standard")
    out = np.where(folds == 0, OUT, folds)
    first = tuned(start, tail, target, out)
    second = tuned(start, tail, torch.where(torch.from_numpy(folds == 0), 1 - target, target), out)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # a step changes the weights by 3e-3 of them


def test_a_step_judges_the_fold_left_out_by_heads_that_have_seen_the_others_alone(
    stripes, start, region, task, monkeypatch
):
    fitted, judged = [], []
    fit, loss = type(start).fit_heads, tuning.balanced_cross_entropy

    def watched_fit(self, points, target, classes):
        fitted.append(points.detach())
        return fit(self, points, target, classes)

    def watched_loss(logits, target):
        judged.append(target)
        return loss(logits, target)

    monkeypatch.setattr(type(start), "fit_heads", watched_fit)
    monkeypatch.setattr(tuning, "balanced_cross_entropy", watched_loss)
    monkeypatch.setitem(tuning._STEPS, "standard", 1)
    # Three groups of each class: of two the fold is left out, one is never held out, one takes no part.
    folds = np.array([0, 1, 1, 0, -1, OUT])[stripes[1].groups]
    tail = tail_of(region, region.features(), "standard")
    tuned(start, tail, task[0], folds)
    folded = fold(region.network, tail.features.moments, tail.first)
    seen = in_order([tail.vectors(folded, i) for i in range(len(region.windows))], region.windows)
    points = start.standardization(tail.features.sample, region.fill.shape[0])(seen)
    others = points[torch.from_numpy((folds == 1) | (folds == -1))]
    assert len(fitted[0]) == len(others)
    torch.testing.assert_close(fitted[0].sum(dim=0), others.sum(dim=0), rtol=1e-3, atol=0.5)
    assert torch.equal(judged[0].sort().values, task[0][torch.from_numpy(folds == 0)].sort().values)


def test_nothing_moves_where_no_group_can_be_left_out(start, region, task):
    target, folds = task
    same = tuned(start, tail_of(region, region.features(), "standard"), target, np.full_like(folds, -1))
    for a, b in zip(same.parameters(), region.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_looks_at_a_few_windows_only(stripes, start, region, task, monkeypatch):
    monkeypatch.setattr(sampling, "_CORE", 32)
    windows = label_windows(stripes[0], stripes[1].rows, stripes[1].cols)
    assert len(windows) > 2
    small = replace(region, windows=windows)
    tail = tail_of(small, small.features(), "standard")
    seen = []
    monkeypatch.setattr(tuning, "_STEP_PIXELS", 1)
    monkeypatch.setattr(tuning, "_step_loss", lambda *a: seen.append(a[4]))
    tuned(start, tail, *task)
    assert {len(chosen) for chosen in seen} == {2}
