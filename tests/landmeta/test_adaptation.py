from __future__ import annotations

from dataclasses import replace

import geopandas
import numpy as np
import pytest
import torch

from landmeta import adaptation, published, tuning
from landmeta.adaptation import adapt_region, cross_validate
from landmeta.errors import CheckpointError
from landmeta.labels import Labels
from landmeta.legend import legend_for
from landmeta.prediction import predict
from landmeta.raster import imagery_of_array
from landmeta.sampling import thin, thin_groups
from landmeta.splits import group_folds
from landmeta.start import balanced_cross_entropy

from .conftest import BANDS, make_labels


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


def test_hold_out_of_the_published_adaptation_sees_no_tile_of_a_group_held_out(stripes, monkeypatch):
    imagery, labels, _ = stripes
    given = []

    def watched(network, tiles, target, *rest, **options):
        given.append((tiles, target))
        return published.adapt_published(network, tiles, target, *rest, **options, steps=0)

    monkeypatch.setattr(adaptation, "adapt_published", watched)
    quick = adapt_region(imagery, labels)
    refit = adaptation.adapt_as_published(quick, imagery, labels).refit
    assert refit is not None
    held = np.isin(labels.groups[quick.samples], [0, 4])
    assert len(refit(held)) == held.sum()
    (tiles, target), (left, left_target) = given
    others = torch.tensor([1, 2, 3, 5])
    torch.testing.assert_close(left, tiles[others], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(left_target, target[others])


def test_logits_are_divided_by_the_temperature_under_which_held_out_samples_are_most_likely(
    stripes, monkeypatch
):
    imagery, labels, _ = stripes
    adapted = adapt_region(imagery, labels)
    codes = labels.codes[adapted.samples]
    target, folds = torch.from_numpy(codes - 1), group_folds(codes, labels.groups[adapted.samples])
    logits, held = adaptation.held_out_logits(adapted.start, adapted.features, target, folds)
    assert held.all()
    losses = {t: float(balanced_cross_entropy(logits / t, target)) for t in np.geomspace(0.2, 5.0, 25)}
    assert adapted.temperature == min(losses, key=losses.__getitem__) != 1
    monkeypatch.setattr(adaptation, "_TEMPERATURES", np.array([1.0]))
    plain = adapt_region(imagery, labels).ensemble.heads
    torch.testing.assert_close(adapted.ensemble.heads.weight * adapted.temperature, plain.weight)
    torch.testing.assert_close(adapted.ensemble.heads.bias * adapted.temperature, plain.bias)


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


def test_thinning_draws_among_groups_where_they_are_more_than_samples():
    codes, groups = np.repeat([1, 2], 1000), np.arange(2000)
    one, other = (thin_groups(codes, groups, 200, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.bincount(codes[one]).tolist() == [0, 200, 200]
    assert 60 < (one % 1000 >= 500).sum() / 2 < 140  # the second half of the file too
    assert set(one) != set(other)


def test_of_a_label_raster_pixels_are_drawn_and_not_specks():
    """A lake of 900 px and 100 specks of 1 px: samples of the lake are nine in ten, not 1 in 100."""
    groups = np.concatenate([np.zeros(900, np.int64), np.arange(1, 101)])
    codes = np.ones(1000, np.int64)
    footprints = geopandas.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
    legend = legend_for(["water"])
    labels = Labels(legend, groups, groups, codes, groups, footprints, patches=True)
    lake = (groups[thin(labels, 100, np.random.default_rng(0))] == 0).mean()
    assert 0.8 < lake < 1
    each = (groups[thin(replace(labels, patches=False), 100, np.random.default_rng(0))] == 0).mean()
    assert each <= 0.01


@pytest.mark.parametrize("side", [5, 8, 12, 16])
def test_very_small_imagery_is_adapted_to_and_told_apart(side: int):
    rng, half = np.random.default_rng(0), side // 2
    truth = (np.arange(side) >= half)[:, None].repeat(side, axis=1) + 1
    image = (0.1 + 0.2 * (truth == 2) + 0.01 * rng.standard_normal((4, side, side))).astype(np.float32)
    rows, cols = np.mgrid[:side, : side // 3].reshape(2, -1)
    labels = make_labels(rows, cols, truth[rows, cols], np.arange(len(rows)))
    imagery = imagery_of_array(image, BANDS)
    found = predict(adapt_region(imagery, labels).ensemble, imagery).codes
    assert (found == truth).mean() > 0.8


@pytest.mark.parametrize("side", [3, 5])
def test_imagery_clipped_to_small_labelled_patches_is_adapted_to(side: int):
    rng, image, pixels = np.random.default_rng(1), np.full((4, 1000, 1000), np.nan, np.float32), []
    for group, (row, col) in enumerate(rng.integers(100, 900, (6, 2))):
        at = np.mgrid[row : row + side, col : col + side].reshape(2, -1)
        code = 1 + group % 2
        image[:, at[0], at[1]] = 0.1 * code + 0.01 * rng.standard_normal((4, side**2))
        pixels.append(np.stack([*at, np.full(side**2, code), np.full(side**2, group)]))
    labels = make_labels(*np.concatenate(pixels, axis=1).astype(np.int64))
    adapted = adapt_region(imagery_of_array(image, BANDS), labels)
    folds = group_folds(labels.codes[adapted.samples], labels.groups[adapted.samples])
    right = cross_validate(adapted, labels, folds) == labels.codes[adapted.samples]
    assert right[folds >= 0].mean() > 0.9
