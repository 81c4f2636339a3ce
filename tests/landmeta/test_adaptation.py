from __future__ import annotations

import numpy as np
import pytest
import torch

from landmeta.adaptation import adapt_region, cross_validate
from landmeta.bands import BandSet
from landmeta.errors import CheckpointError
from landmeta.networks import ResNet12
from landmeta.published import adapt_class, adapt_published
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


def test_hold_out_of_a_tuned_network_adapts_it_anew_without_the_fold(stripes):
    """If the held-out labels are flipped, a prediction that never saw them does not change."""
    imagery, labels, _ = stripes
    fold = group_folds(labels.codes, labels.groups)
    split = np.where(fold == 0, 0, -1)
    adapted = adapt_region(imagery, labels, effort="standard")
    predicted = cross_validate(adapted, labels, split[adapted.samples])
    assert (predicted[split[adapted.samples] == 0] > 0).all()
    assert (predicted[split[adapted.samples] < 0] == -1).all()
    assert adapted.refit is not None


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


def make_network(seed=0):
    return ResNet12(3, (4, 4, 4, 4), generator=torch.Generator().manual_seed(seed)).requires_grad_(False)


def test_published_adaptation_leaves_the_start_and_the_norms_as_they_were():
    network, tiles = make_network(), torch.rand(6, 3, 32, 32)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    adapted = adapt_class(network, tiles, torch.arange(6) % 2, torch.Generator().manual_seed(0), steps=2)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not any("norm" in k for k in adapted)
    assert any(not torch.equal(before[k], v) for k, v in adapted.items())


def test_published_class_models_tell_bright_tiles_from_dark_ones(stripes):
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(8, 3, 32, 32, generator=generator)
    target = torch.arange(8) % 2
    tiles = torch.where(target[:, None, None, None] == 1, texture.cumsum(3) / 32, texture)
    legend, bands = stripes[1].legend, BandSet(("B02", "B03", "B04"))
    model = adapt_published(make_network(), tiles, target, torch.zeros(3), legend, bands, steps=30)
    assert (model.tile_logits(tiles).argmax(dim=1) == target).float().mean() >= 0.75
    assert model.logits(tiles[0], None).shape == (2, 32, 32)
