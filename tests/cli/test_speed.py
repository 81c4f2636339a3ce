"""`landmeta bench speed`: its scenes, its table, and once the whole."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from landmeta_catalog.simulate import simulate_scene
from landmeta_cli.speed import simulated_tasks, tile_labels
from landmeta_cli.speed_tables import speed_table

from .conftest import Said

FOUND = {
    "rows": [
        {
            "what": "adapt quick",
            "reference_s": 150.0,
            "ours_s": 1.5,
            "ratio": 100.0,
            "goal": 50.0,
            "gflops": 90.2,
            "share_of_matrix_product": 0.451,
        }
    ],
    "reference": "timed on a sample",
    "hardware": {"threads": 2, "gflops": 200.0},
    "mapping_peak_mb": 812.4,
    "accuracy": [
        {
            "source": "simulated",
            "effort": "quick",
            "tasks": 6,
            "ours": 0.7,
            "reference": 0.3,
            "diff": 0.4,
            "diff_ci95": [0.31, 0.48],
        }
    ],
    "accuracy_sample": "6 scenes; hls_worldcover left out: no --data",
}


def test_the_table_shows_ratio_work_accuracy_and_memory() -> None:
    lines = speed_table(FOUND).splitlines()
    assert lines[1].split() == ["adapt", "quick", "150.0", "1.50", "100", "50", "90", "45%"]
    assert any("812 MB" in line for line in lines)
    assert "simulated quick 6 0.700 0.300 +0.400 +0.310..+0.480" in [" ".join(line.split()) for line in lines]
    assert "left out: no --data" in lines[-1]


def test_the_table_does_without_accuracy_and_without_a_peak() -> None:
    text = speed_table({**FOUND, "accuracy": [], "mapping_peak_mb": None})
    assert "not measured on this system" in text
    assert "simulated" not in text


def test_the_table_shows_the_engines_beside_the_plain_loop() -> None:
    row = {"steps": 5, "side": 64, "width": 0.25, "device": "cpu", "engine": "hvp", "tasks_per_s": 1.234}
    row |= {"ratio": 0.8, "memory_mb": 120.4, "memory_ratio": 0.21, "share_of_matrix_product": 0.7}
    ensemble = {"classes": 5, "images": 64, "device": "cpu", "passes": 5.2}
    text = speed_table({"engines": [row], "engine_gpu": "no GPU here", "ensembles": [ensemble]})
    assert "hvp 1.23 0.80 120 0.21 70%" in " ".join(text.split())
    assert "the time of 5.20 passes" in text
    assert "reference s" not in text


def test_an_unknown_part_is_one_line(landmeta: Callable[..., Said]) -> None:
    said = landmeta("bench", "speed", "--part", "engine")
    assert said.code == 2
    assert "--part takes" in said.err
    assert said.out == ""


def test_labelled_tiles_are_whole_and_apart_and_the_purest_of_their_class() -> None:
    scene = simulate_scene(0, 128, per_class=0)
    labels = tile_labels(scene, 16, width=64)
    assert np.bincount(labels.groups).tolist() == [256] * 25
    assert labels.cols.max() < 64
    assert len(np.unique(labels.rows * 128 + labels.cols)) == len(labels)
    assert (scene.truth[labels.rows, labels.cols] == labels.codes).mean() > 0.5


def test_simulated_tasks_are_labelled_in_the_west_and_scored_in_the_east() -> None:
    (task,) = simulated_tasks(1)
    assert task.labels.cols.max() < 192
    assert task.cols.min() >= 224
    assert set(task.codes) <= set(task.labels.legend.codes)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_benchmark_prints_what_it_promises(landmeta: Callable[..., Said]) -> None:
    said = landmeta("bench", "speed", "--part", "map", "--repeats", 1, "--tasks", 1, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert {row["what"] for row in found["rows"]} == {"adapt quick", "adapt standard", "map"}
    assert {row["effort"] for row in found["accuracy"]} == {"quick", "standard"}
    assert "left out" in found["accuracy_sample"]
    assert 100 < found["mapping_peak_mb"] < 1500
