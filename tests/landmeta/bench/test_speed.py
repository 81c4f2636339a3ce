"""The measuring works and says what it did; figures of scenes this small say nothing about speed."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest

from landmeta.bench import reference, speed_accuracy
from landmeta.bench.reference import classify_pixels
from landmeta.bench.speed import GOALS, run_speed
from landmeta.bench.speed_accuracy import compare, hls_tasks, make_task
from landmeta.labels import Labels
from landmeta.legend import LandClass, Legend
from landmeta.raster import Imagery, imagery_of_array

BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def striped() -> tuple[Imagery, Labels, np.ndarray]:
    """136 x 136 px, the west dark and the east bright, four labelled squares, the codes of all pixels."""
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(136) < 68, 1, 2)[None, :].repeat(136, axis=0).astype(np.int64)
    image = 0.1 + 0.1 * (truth == 2) + 0.02 * rng.standard_normal((4, 136, 136))
    pixels = []
    for group, (row, col) in enumerate([(20, 20), (100, 20), (20, 100), (100, 100)]):
        grid = np.mgrid[row : row + 6, col : col + 6].reshape(2, -1)
        pixels.append(np.stack([*grid, truth[grid[0], grid[1]], np.full(36, group)]))
    rows, cols, codes, groups = np.concatenate(pixels, axis=1).astype(np.int64)
    legend = Legend((LandClass(1, "dark", "#101010"), LandClass(2, "bright", "#e0e0e0")))
    footprints = gpd.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
    labels = Labels(legend, rows, cols, codes, groups, footprints)
    return imagery_of_array(image.astype(np.float32), BANDS), labels, truth


def test_a_run_has_a_row_for_every_goal_and_says_what_was_scaled(striped, monkeypatch):
    monkeypatch.setattr(reference, "SAMPLE_STEPS", 1)
    monkeypatch.setattr(reference, "SAMPLE_WINDOWS", 2)
    told = []
    found = run_speed(*striped[:2], repeats=1, threads=1, progress=lambda *a: told.append(a))
    assert told == [("speed", 0, 1)]
    assert {row["what"]: row["goal"] for row in found["rows"]} == GOALS
    for row in found["rows"]:
        assert row["ratio"] == pytest.approx(row["reference_s"] / row["ours_s"], rel=0.2)
        assert row["reached"] == (row["ratio"] >= row["goal"])
        assert row["gflop"] > 0
        assert 0 < row["share_of_matrix_product"] < 1.5
    assert found["scaled_linearly"]["reference adapt"] == {"steps": [6, 60], "classes": [1, 2]}
    assert found["scaled_linearly"]["reference map"]["windows"] == [64, 4]
    assert {len(seconds) for seconds in found["seconds"].values()} == {1}


def test_the_reference_classifies_pixels_by_the_windows_around_them(striped):
    imagery, labels, _ = striped
    rows, cols = np.array([3, 60, 130]), np.array([10, 120, 133])
    codes = classify_pixels(imagery, labels, rows, cols, side=32, steps=1)
    assert codes.shape == (3,)
    assert set(codes) <= {1, 2}


def test_a_task_scores_so_many_random_pixels_a_class(striped):
    imagery, labels, truth = striped
    index = np.arange(truth.size)[::3]
    task = make_task("stripes", imagery, labels, index, truth.ravel()[index])
    assert np.bincount(task.codes).tolist() == [0, 150, 150]
    np.testing.assert_array_equal(truth[task.rows, task.cols], task.codes)


def test_accuracies_are_compared_in_pairs(striped, monkeypatch):
    made = iter([{"reference": 0.5, "quick": 0.6, "standard": 0.4}] * 2)
    monkeypatch.setattr(speed_accuracy, "accuracies", lambda task: next(made))
    task = make_task("stripes", *striped[:2], np.arange(100), striped[2].ravel()[:100])
    quick, standard = compare("stripes", [task, task])
    assert (quick["effort"], quick["diff"], quick["diff_ci95"], quick["as_good"]) == (
        "quick",
        0.1,
        [0.1, 0.1],
        True,
    )
    assert (standard["ours"], standard["reference"], standard["as_good"]) == (0.4, 0.5, False)
    assert quick["tasks"] == 2


@pytest.mark.real
def test_tasks_of_real_chips_are_labelled_by_pixels_of_their_west(data):
    tasks = list(hls_tasks(data, 2))
    assert len({task.name for task in tasks}) == 2
    for task in tasks:
        assert task.labels.cols.max() < 56
        assert task.cols.min() >= 72
        assert np.bincount(task.labels.codes).max() == 5
