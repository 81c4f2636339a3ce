"""`landmeta bench speed`: its scenes, its table, and once the whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from landmeta.adaptation import adapt_region
from landmeta.raster import imagery_of_array
from landmeta_catalog.simulate import BANDS, SCALE, simulate_scene
from landmeta_cli import scale_bench, speed
from landmeta_cli.simulated_labels import tile_labels
from landmeta_cli.speed import simulated_tasks
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
    "useful_share_of_matrix_product": 0.31,
    "reference": "timed on a sample",
    "hardware": {"threads": 2, "gflops": 200.0},
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


def test_the_table_shows_ratio_work_and_accuracy() -> None:
    lines = speed_table(FOUND).splitlines()
    assert lines[1].split() == ["adapt", "quick", "150.0", "1.50", "100", "50", "90", "45%"]
    assert "simulated quick 6 0.700 0.300 +0.400 +0.310..+0.480" in [" ".join(line.split()) for line in lines]
    assert "left out: no --data" in lines[-1]


def test_the_table_does_without_accuracy() -> None:
    assert "simulated" not in speed_table({**FOUND, "accuracy": []})


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


def test_a_folder_without_chips_is_told_before_anything_is_timed(
    landmeta: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta.bench.speed.run_speed", lambda *_, **__: pytest.fail("timed"))
    lacking = landmeta("bench", "speed", "--part", "map", "--data", tmp_path)
    assert (lacking.code, "index.csv" in lacking.err) == (2, True)
    (tmp_path / "hls_worldcover").mkdir()
    (tmp_path / "hls_worldcover" / "index.csv").write_text("path,cluster\n", encoding="utf-8")
    empty = landmeta("bench", "speed", "--part", "map", "--data", tmp_path)
    assert (empty.code, "no test cluster" in empty.err) == (2, True)


def test_the_accuracy_says_on_how_many_chips_it_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = simulated_tasks(1)
    monkeypatch.setattr("landmeta.bench.speed_accuracy.compare", lambda *_: [])
    found = speed._accuracy([task] * 2, 6, lambda *_: None)
    assert "the first 2 test clusters" in found["accuracy_sample"]


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
    assert all(row["gflop"] > 0 for row in found["rows"])
    assert 0 < found["useful_share_of_matrix_product"] < found["rows"][2]["share_of_matrix_product"]
    assert {row["effort"] for row in found["accuracy"]} == {"quick", "standard"}
    assert "left out" in found["accuracy_sample"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sizes_stages_and_workers_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"_SIDE": 640, "_SIDES": (640, 1280), "_TILE_SIDE": 3000, "_WORKERS_SIDE": 640}
    for name, value in small.items():
        monkeypatch.setattr(scale_bench, name, value)
    found = scale_bench.scale_run(repeats=1, threads=2, progress=lambda *_: None)
    assert [row["side"] for row in found["rows"]] == [640, 1280, 3000]
    assert [row["data_share"] for row in found["rows"]] == [1, 1, pytest.approx(0.0455, abs=1e-4)]
    assert all(0 < row["peak_mb"] < 1500 for row in found["rows"])
    assert 0.5 < found["linear"]["ratio"] < 2
    assert set(found["workers"]["seconds"]) == {"1", "2"}
    assert found["stages"]["total"] > 0
    text = speed_table({"scale": found})
    assert "ratio" in text
    assert "3,000" in text


def test_the_part_of_a_gpu_measures_its_share_and_a_whole_tile_and_says_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scale_bench, "_SIDE", 160)
    monkeypatch.setattr(scale_bench, "_TILE_SIDE", 200)
    scene = simulate_scene(0, 160, per_class=0, nodata_corner=False)
    imagery = imagery_of_array(scene.image.astype(np.float32) * np.float32(SCALE), BANDS, scene.grid)
    ensemble = adapt_region(imagery, tile_labels(scene, 32)).ensemble
    found = scale_bench.device_part(ensemble, scene, imagery, tmp_path, "cpu")
    assert 0 < found["share"] < 1.5
    assert found["gflop"] > 1
    assert found["tile"]["side"] == 200
    assert (tmp_path / "tile" / "landcover.tif").is_file()
    row = {**found, "device": "a GPU"}
    assert "a GPU: " in scale_bench.device_line(row)
    assert "200 px" in scale_bench.device_line(row)
    assert "No GPU here" in scale_bench.device_line(None)
