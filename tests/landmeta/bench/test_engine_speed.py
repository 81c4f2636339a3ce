"""The engines' benchmark measures what it says; steps this small say nothing about speed."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from landmeta.bench import engine_speed
from landmeta.bench.engine_speed import (
    REFERENCE,
    OuterStep,
    Setting,
    engine_rows,
    ensemble_row,
    largest_difference,
)
from landmeta.learning.engines import ENGINES

SMALL = Setting(2, tasks=2, images=4, side=16, width=1 / 16)


def test_all_engines_give_the_gradient_of_the_plain_loop():
    differences = largest_difference(SMALL)
    assert set(differences) == set(ENGINES)
    assert max(differences.values()) < 1e-9


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_a_step_takes_more_memory_on_more_images():
    few, many = (
        engine_speed.step_memory(OuterStep(replace(SMALL, images=n, side=32)), "loop", 1) for n in (4, 64)
    )
    assert few < many < 500


def test_there_is_a_row_for_every_engine_and_ratios_are_to_the_plain_loop(monkeypatch):
    monkeypatch.setattr(engine_speed, "step_memory", lambda _step, engine, _threads: float(len(engine)))
    told = []
    rows = engine_rows([SMALL], repeats=1, threads=1, progress=lambda *a: told.append(a))
    assert told == [("engines", 0, 1)]
    assert [row["engine"] for row in rows] == [REFERENCE, *ENGINES]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert row["ratio"] == pytest.approx(row["tasks_per_s"] / rows[0]["tasks_per_s"], abs=0.02, rel=0.05)
        assert row["gflop"] > 0
        assert row["memory_ratio"] == round(len(row["engine"]) / len(REFERENCE), 2)


def test_an_ensemble_is_compared_with_as_many_single_passes():
    row = ensemble_row(classes=3, images=6, repeats=1)
    assert row["passes"] == pytest.approx(row["ensemble_s"] / row["single_s"], rel=0.1)
    assert row["of_single_passes"] == pytest.approx(row["passes"] / 3, rel=0.1)
