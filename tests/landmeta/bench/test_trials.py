"""Test tasks, presets, curves, rivals and the learner of benchmark cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from landmeta.bench.cells import Cell
from landmeta.bench.curves import convergence, training_curve
from landmeta.bench.learners import MetaLearned
from landmeta.bench.presets import PRESETS, SUPPORT_RIVALS, preset, regions_split, training_tables
from landmeta.bench.protocols import ClassLearner, fair, fit_classes
from landmeta.bench.registry import runnable_suite
from landmeta.bench.tile_rivals import tile_rival
from landmeta.bench.trials import balanced_tasks, region_tasks, tasks_in
from landmeta.errors import BenchError, DataError
from landmeta.learning.algorithms import inner_settings
from landmeta.networks import build_network
from landmeta.tasks import FixedTasks
from landmeta.tile_table import TileTable
from landmeta.train_config import parse_config


def table(counts: tuple[int, ...] = (60, 20, 12, 8)) -> TileTable:
    """A region-season whose classes have so many tiles, each a patch of its own."""
    codes = np.repeat(np.arange(len(counts)), counts)
    return TileTable.of(region="8", season="summer", code=codes)


def test_whole_regions_keep_the_archives_shares_and_every_class() -> None:
    found = region_tasks(table(), shots=2, draws=1, limit=40)
    (task,), (thinned,) = found.whole, found.asked
    assert len(task.query) == 100 - 4 * 2
    assert len(thinned.query) == 40
    assert thinned.support.tolist() == task.support.tolist()
    assert set(thinned.query) <= set(task.query)
    assert set(thinned.query_codes) == {0, 1, 2, 3}
    assert 0.45 < (thinned.query_codes == 0).mean() < 0.8
    assert not set(thinned.query) & set(thinned.support)
    several = region_tasks(table(), shots=2, draws=1, least=3, limit=40).asked
    assert len({tuple(task.support) for task in several}) == 3


def test_test_tasks_are_the_same_for_every_cell_and_balanced() -> None:
    first, second = balanced_tasks(table(), 3), balanced_tasks(table(), 3)
    assert [t.support.tolist() for t in first] == [t.support.tolist() for t in second]
    assert all(len(t.query) == 8 for t in first)


def test_regions_without_enough_tiles_are_an_error() -> None:
    with pytest.raises(DataError):
        region_tasks(table((3, 1)), shots=5, draws=1, limit=10)


def test_published_tasks_of_no_region_held_out_are_an_error_before_anything_runs() -> None:
    tasks = FixedTasks(tuple(balanced_tasks(table(), 2)))
    assert tasks_in(tasks, {"8", "9"}) == list(tasks.tasks)
    with pytest.raises(DataError, match=r"none of 2 published tasks .* held out \(10, 9\)") as caught:
        tasks_in(tasks, {"9", "10"})
    assert "--tasks" in caught.value.hint


def test_every_method_of_the_runnable_suites_makes_a_valid_training() -> None:
    methods = [m for name in ("000/table1a", "000/table1b") for m in runnable_suite(name).methods]
    for size in PRESETS.values():
        for method in methods:
            data = {"store": "store", "dataset": "sen12ms_rgb", **regions_split("sen12ms_rgb", [])}
            cell = Cell(method.method, method.norm, "sen12ms_rgb", 1)
            config = parse_config(training_tables(cell, size, data, "out"))
            assert (config.seed, config.network.norm, config.outer.steps) == (1, method.norm, size.steps)


def test_the_split_is_disjoint_and_refuses_too_few_regions() -> None:
    split = regions_split("own", [str(i) for i in range(20)])
    parts = [set(split[name]) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [11, 4, 5]
    assert len(set.union(*parts)) == 20
    with pytest.raises(BenchError, match="expected three"):
        regions_split("own", ["1", "2"])
    with pytest.raises(BenchError, match="no preset"):
        preset("huge")


@pytest.mark.parametrize(
    ("scores", "losses", "sound", "words"),
    [
        ([0.5, 0.7], [0.9, 0.6], True, "0.700"),
        ([0.5, 0.52], [0.9, 0.6], False, "not above chance"),
        ([0.5, 0.6, 0.7], [0.8, 0.6, 0.9], False, "loss rose"),
        ([0.5], [0.6], False, "no validation"),
    ],
)
def test_a_training_no_better_than_chance_did_not_converge(
    scores: list[float], losses: list[float], sound: bool, words: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    names = ("loss", "balanced_accuracy", "ci95")
    lines = []
    for step, score in enumerate(scores):
        validation = {**dict.fromkeys(names, 0.5), "auroc": score, "auroc_ci95": 0.05}
        lines += [{"step": step, "loss": loss} for loss in losses[step : step + 1]]
        lines.append({"step": step, "validation": validation})
    log.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    found, why = convergence(training_curve(log))
    assert found is sound
    assert words in why


@pytest.mark.parametrize("name", SUPPORT_RIVALS)
def test_rivals_tell_textures_apart_and_give_logits_of_probabilities(name: str) -> None:
    rng = np.random.default_rng(0)
    rough = rng.normal(0.3, 0.1, (12, 2, 16, 16))
    smooth = 0.3 + 0.1 * rng.normal(0, 1, (12, 2, 1, 1)) + 0.002 * rng.normal(0, 1, (12, 2, 16, 16))
    images = np.concatenate([rough, smooth]).astype(np.float32)
    truth = np.repeat([0, 1], 12)
    answer = tile_rival(name, 0).learn(images[::2], truth[::2])
    logits = answer(images[1::2], [np.arange(12)])
    assert (logits.argmax(1) == truth[1::2]).mean() > 0.9
    np.testing.assert_allclose((1 / (1 + np.exp(-logits))).sum(1), 1, atol=1e-3)


@pytest.mark.parametrize("method", ["maml", "sparse_maml"])
def test_the_learner_steps_at_the_rate_of_the_protocol_and_leaves_its_start_untouched(method: str) -> None:
    settings = {"name": "resnet12", "bands": ["B04"], "widths": [2, 2, 2, 2], "norm": "in"}
    network = build_network(settings, generator=torch.Generator().manual_seed(0))
    inner = inner_settings(method, network, rate=0.1)
    learned = inner.rule.initial(dict(network.named_parameters()), inner.adapted)
    learner: ClassLearner = MetaLearned(network, inner, learned)
    before = {name: value.clone() for name, value in learner.params.items()}
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[1.0, 0, 0, 0]])
    recipe, name = fair(steps=2, rate=0.1, pos_weight=1.0), "classifier.bias"
    twice_as_fast = fair(steps=2, rate=0.2, pos_weight=1.0)
    all_for_yes = fair(steps=2, rate=0.1, pos_weight=50.0)
    once, twice, up = (
        learner.steps(learner.params, learner.state, images, targets, way)[0][0][name] - before[name]
        for way in (recipe, twice_as_fast, all_for_yes)
    )
    torch.testing.assert_close(twice, 2 * once)
    assert up > 0 > once
    models = fit_classes(learner, images, np.array([0, 0, 1, 1]), recipe)
    assert len(models) == 2
    assert all(torch.equal(learner.params[name], value) for name, value in before.items())
