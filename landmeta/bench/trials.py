"""The test tasks of a benchmark: drawn from the regions held out, the same for every cell."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from landmeta.bench.presets import QUERIES, SHOTS, WAYS
from landmeta.errors import DataError
from landmeta.splits import GAP
from landmeta.tasks import FixedTasks, Task, TaskSampler, region_task
from landmeta.tile_table import TileTable

_SEED = 5_000_011
"""Of all test tasks; trainings have small seeds."""

NATURAL = (
    "Whole regions: of the classes with more tiles than the support takes, every tile of a region-season "
    "held out that is neither support nor within 256 px (or the patch) of it is a query, so these classes "
    "occur in the archive's own shares; where there are more than the preset's limit, as many are drawn at "
    "random, one a class at least."
)
"""How imbalance comes about, in words."""


def balanced_tasks(table: TileTable, count: int, *, gap: int = GAP) -> list[Task]:
    """Balanced 4-way 2-shot tasks of the regions in the table.

    Raises:
        DataError: No region-season has enough classes with enough tiles.
    """
    sampler = TaskSampler(table, ways=WAYS, shots=SHOTS, queries=QUERIES, seed=_SEED, gap=gap)
    return [sampler.task(number) for number in range(count)]


@dataclass(frozen=True, slots=True)
class RegionTasks:
    """Tasks of whole region-seasons: `whole` with all queries, `asked` with as many as are asked of each."""

    whole: list[Task]
    asked: list[Task]


def region_tasks(
    table: TileTable, *, shots: int, draws: int, limit: int, least: int = 0, gap: int = GAP
) -> RegionTasks:
    """Tasks of every region-season as a whole; those with too few classes or tiles are left out.

    Of each there are `draws`, or as many more as make `least` tasks of all region-seasons.

    Raises:
        DataError: None is left.
    """
    found = RegionTasks([], [])
    faults: list[DataError] = []
    places = table.region_seasons()
    draws = max(draws, -(-least // max(1, len(places))))
    for number, (region, season) in enumerate(places):
        for draw in range(draws):
            rng = np.random.default_rng((_SEED, number, draw))
            try:
                task = region_task(table, region, season, shots=shots, rng=rng, gap=gap)
            except DataError as fault:
                faults.append(fault)
                continue
            found.whole.append(task)
            found.asked.append(_thinned(task, limit, rng))
    if not found.whole:
        raise faults[0] if faults else DataError("no region is held out", "ingest the test regions")
    return found


def _thinned(task: Task, limit: int, rng: np.random.Generator) -> Task:
    """The task with at most `limit` queries, in random order by class; one a class at least."""
    if len(task.query) <= limit:
        return task
    first = [int(rng.choice(np.flatnonzero(task.query_codes == code))) for code in task.classes]
    others = rng.permutation(np.setdiff1d(np.arange(len(task.query)), first))
    keep = np.sort(np.concatenate([first, others[: max(0, limit - len(first))]]))
    return replace(task, query=task.query[keep], query_codes=task.query_codes[keep])


def tasks_in(tasks: FixedTasks, regions: Collection[str]) -> list[Task]:
    """The tasks that lie in these regions.

    Raises:
        DataError: None does.
    """
    found = [task for task in tasks.tasks if task.region in regions]
    if not found:
        msg = f"none of {len(tasks)} published tasks lies in a region held out ({', '.join(sorted(regions))})"
        raise DataError(msg, "leave out --tasks, or give a table with tasks of those regions")
    return found
