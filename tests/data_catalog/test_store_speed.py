from __future__ import annotations

from pathlib import Path

import pytest

from landmeta_catalog.store_speed import index_speed, task_speed, tile_speed, write_speed_files

# Figures of a run this small say nothing about speed; the tests see to it that the measuring works.


def test_the_index_is_filtered_and_compared_with_reading_all_of_it(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = index_speed(tmp_path, rows=2000, repeats=2, progress=lambda *step: seen.append(step))
    assert found.rows == 2000
    assert found.found == 16, "one of 125 regions"
    assert found.ratio == pytest.approx(found.reference_s / found.filter_s)
    assert seen == [("index", 1, 2), ("index", 2, 2)]


def test_tasks_are_timed_without_worker_processes(tmp_path: Path) -> None:
    files = write_speed_files(tmp_path, patches=4, scene_side=300)
    found = task_speed(files, workers=0, tasks=3, repeats=1)
    assert (found.workers, found.tasks) == (0, 3)
    assert found.tasks_per_s > 0


@pytest.mark.slow
def test_tiles_and_tasks_are_timed_in_processes(tmp_path: Path) -> None:
    files = write_speed_files(tmp_path, patches=4, scene_side=300)
    found = tile_speed(files, processes=2, tiles=20, reference_tiles=4, repeats=2)
    assert found.tiles == 40
    assert found.ratio == pytest.approx(found.store / max(found.reference_default, found.reference_tiled))
    assert task_speed(files, workers=1, tasks=3, repeats=1).tasks_per_s > 0
