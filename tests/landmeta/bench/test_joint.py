"""The jointly trained rival learns its regions' classes, and then a task from its support."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from landmeta.bench.joint import JointlyTrained, images_of, log_odds, train_jointly
from landmeta.bench.presets import PRESETS
from landmeta.tile_table import TileTable


@dataclass(frozen=True)
class Stripes:
    """Tiles of 16 px, two bands: class 0 is striped along x, class 1 along y, class 2 is flat."""

    codes: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Tiles (row, band, y, x)."""
        rng = np.random.default_rng(int(rows.sum()))
        wave = np.sin(np.arange(16))
        kinds = np.stack([np.tile(wave, (16, 1)), np.tile(wave, (16, 1)).T, np.zeros((16, 16))])
        noise = 0.3 * rng.standard_normal((len(rows), 2, 16, 16))
        return (kinds[self.codes[rows] // 10][:, None] + noise).astype(np.float32)


TILES = Stripes(np.arange(90) % 3 * 10)
SIZE = replace(PRESETS["smoke"], steps=12, rate=3e-3, widths=(4, 8, 8, 16))


@pytest.fixture(scope="module")
def trained() -> tuple[JointlyTrained, list[float]]:
    network, losses = train_jointly(TILES, TileTable.of(region="a", code=TILES.codes), 2, SIZE, seed=0)
    return JointlyTrained(network), losses


def test_the_loss_falls_and_the_images_are_as_many_as_in_episodes(trained):
    _, losses = trained
    assert len(losses) == SIZE.steps
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    assert images_of(SIZE) == 4 * 4 * 4


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
