"""The jointly trained rival learns its regions' classes, and then a task from its support."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from landmeta.bench.evaluation import Trial
from landmeta.bench.joint import (
    IMAGES,
    JointlyTrained,
    class_model_of,
    classifier_of,
    log_odds,
    losses_by_rate,
    rival_steps,
    train_jointly,
)
from landmeta.bench.presets import PRESETS
from landmeta.norms import NormPass, initial_state
from landmeta.tasks import region_task
from landmeta.tile_table import TileTable


@dataclass(frozen=True)
class Stripes:
    """Tiles of 16 px, two bands: class 0 is striped, class 1 checked, class 2 flat."""

    codes: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Tiles (row, band, y, x)."""
        rng = np.random.default_rng(int(rows.sum()))
        wave = np.sin(np.arange(16))
        kinds = np.stack([np.tile(wave, (16, 1)), np.sign(np.outer(wave, wave)), np.zeros((16, 16))])
        noise = 0.3 * rng.standard_normal((len(rows), 2, 16, 16))
        return (kinds[self.codes[rows] // 10][:, None] + noise).astype(np.float32)


TILES = Stripes(np.arange(90) % 3 * 10)
SIZE = replace(PRESETS["smoke"], warm_up=60, steps=12)


@pytest.fixture(scope="module")
def trained() -> tuple[JointlyTrained, list[float]]:
    table = TileTable.of(region="a", code=TILES.codes)
    network = classifier_of(table, 2, SIZE.widths, seed=0)
    losses = train_jointly(TILES, table, network, rival_steps(SIZE), seed=0)
    return JointlyTrained(network.requires_grad_(False), 1e-3), losses


def test_the_loss_falls_and_the_images_are_as_many_as_in_episodes(trained):
    _, losses = trained
    assert len(losses) == SIZE.warm_up + SIZE.steps * (4 * 4 * 4) // IMAGES
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


@pytest.mark.parametrize("norm", ["in", "tbn", "cbn", "tasknorm_i", "gn", "none"])
def test_every_norm_can_be_trained_and_gives_a_start_with_its_features(norm):
    table = TileTable.of(region="a", code=TILES.codes)
    network = classifier_of(table, 2, SIZE.widths, norm=norm, seed=1)
    losses = train_jointly(TILES, table, network, 6, seed=1)
    assert np.isfinite(losses).all()
    start, images = class_model_of(network), torch.from_numpy(TILES.read(np.arange(4)))
    assert start.norm == norm
    assert start(images).tolist() == [[0.0]] * 4
    for ours, theirs in zip(start.features(images), network.features(images), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_running_moments_are_those_of_the_training_images():
    table = TileTable.of(region="a", code=TILES.codes)
    network = classifier_of(table, 2, SIZE.widths, norm="cbn", seed=1)
    train_jointly(TILES, table, network, 60, seed=1)
    images = torch.from_numpy(TILES.read(np.arange(60)))
    asked = NormPass(initial_state(network), "query")
    ours, own = network(images, asked).detach(), network(images).detach()
    assert (ours.argmax(1) == own.argmax(1)).float().mean() > 0.8
    fresh = NormPass(initial_state(classifier_of(table, 2, SIZE.widths, norm="cbn", seed=1)), "query")
    lost = network(images, fresh).detach()
    assert (ours - own).abs().mean() < 0.5 * (lost - own).abs().mean()


def test_the_rate_of_fine_tuning_with_the_least_loss_on_tasks_is_known(trained):
    contender, _ = trained
    table = TileTable.of(region="a", code=TILES.codes)
    tasks = [region_task(table, "a", "", shots=4, rng=np.random.default_rng(0), blocked=False)]
    losses = losses_by_rate(contender.network, Trial(TILES, tasks, 2))
    assert list(losses) == [1e-3, 3e-3, 1e-2]
    # From a classifier of zeros, twenty steps at the least rate are too few to be sure of anything.
    assert losses[1e-2] < losses[1e-3] < np.log(3)


def test_it_learns_a_task_from_its_support(trained):
    contender, _ = trained
    support, query = np.arange(6), np.arange(30, 60)
    order = np.array([2, 0, 1])  # the task numbers the classes its own way
    answer = contender.learn(TILES.read(support), order[TILES.codes[support] // 10])
    logits = answer(TILES.read(query), [np.arange(30)])
    assert logits.shape == (30, 3)
    assert (logits.argmax(axis=1) == order[TILES.codes[query] // 10]).mean() > 0.8


def test_learning_a_task_leaves_the_network_as_it_was(trained):
    contender, _ = trained
    before = contender.network.blocks[0].conv1.weight.clone()
    contender.learn(TILES.read(np.arange(6)), TILES.codes[:6] // 10)
    assert torch.equal(contender.network.blocks[0].conv1.weight, before)


def test_log_odds_of_a_softmax_are_those_of_its_probabilities():
    logits = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    chance = logits.softmax(dim=1)
    torch.testing.assert_close(log_odds(logits), (chance / (1 - chance)).log())
