from __future__ import annotations

import numpy as np
import pytest
import torch

from landmeta import adaptation, tuning
from landmeta.adaptation import adapt_region, cross_validate
from landmeta.errors import CheckpointError
from landmeta.raster import imagery_of_array
from landmeta.sampling import thin_groups
from landmeta.splits import group_folds


def test_quick_separates_labelled_groups_it_has_not_seen(stripes):
    imagery, labels, _ = stripes
    adapted = adapt_region(imagery, labels)
    codes = labels.codes[adapted.samples]
    fold = group_folds(codes, labels.groups[adapted.samples])
    predicted = cross_validate(adapted, labels, fold)
    assert set(predicted[fold < 0]) <= {-1}
    assert (predicted == codes)[fold >= 0].mean() > 0.9


def test_the_same_seed_adapts_to_the_same_ensemble(stripes):
    first, second = (adapt_region(*stripes[:2], seed=3).ensemble for _ in range(2))
    assert torch.equal(first.heads.weight, second.heads.weight)


def test_standard_moves_the_last_block_only_and_not_its_norms(stripes):
    quick, standard = (adapt_region(*stripes[:2], effort=e).ensemble.network for e in ("quick", "standard"))
    moved = {
        name
        for (name, a), b in zip(quick.state_dict().items(), standard.state_dict().values(), strict=True)
        if not torch.equal(a, b)
    }
    assert moved == {f"blocks.3.{part}.weight" for part in ("conv1", "conv2", "conv3", "shortcut")}


def test_hold_out_of_a_tuned_network_tunes_it_anew_on_the_groups_that_are_left(stripes, monkeypatch):
    imagery, labels, _ = stripes
    adapted = adapt_region(imagery, labels, effort="standard")
    fold = group_folds(labels.codes, labels.groups)[adapted.samples]
    given, told = [], []

    def watched(start, tail, target, folds, *rest):
        given.append(folds)
        return tuning.tune(start, tail, target, folds, *rest)

    monkeypatch.setattr(adaptation, "tune", watched)
    split = np.where(fold == 0, 0, -1)
    predicted = cross_validate(adapted, labels, split, progress=lambda *a: told.append(a))
    assert (predicted[fold == 0] > 0).all()
    assert (predicted[fold != 0] == -1).all()
    assert told == [("hold out", 0, 1)]
    (inner,) = given
    assert (inner[fold == 0] == tuning.OUT).all()
    assert len(np.unique(inner[fold != 0])) > 1  # else no step is taken and the start is what is measured


def test_an_adapted_model_is_shown_in_a_few_words(stripes):
    imagery, labels, _ = stripes
    shown = repr(adapt_region(imagery, labels))
    assert "tensor" not in shown
    assert len(shown) < 1000
    assert labels.legend.names[0] in shown


def test_an_unknown_effort_is_refused(stripes):
    with pytest.raises(ValueError, match="quick, standard, full, paper"):
        adapt_region(*stripes[:2], effort="heroic")


def test_radar_bands_that_the_start_does_not_know_are_refused(stripes):
    radar = imagery_of_array(np.zeros((2, 200, 168), np.float32), ("VV", "VH"))
    with pytest.raises(CheckpointError, match="VV, VH"):
        adapt_region(radar, stripes[1])


def test_thinning_takes_evenly_from_groups_and_all_of_small_classes():
    codes = np.repeat([1, 2], [1000, 5])
    groups = np.concatenate([np.repeat([0, 1], [990, 10]), np.full(5, 2)])
    kept = thin_groups(codes, groups, 20, np.random.default_rng(0))
    assert np.bincount(groups[kept]).tolist() == [10, 10, 5]
