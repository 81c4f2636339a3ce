"""The part of `landmeta bench speed` that is about tile archives: store, index, tasks and ingest."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta_cli.console import table

if TYPE_CHECKING:
    from landmeta_catalog.ingest_speed import IngestSpeed
    from landmeta_catalog.store_speed import IndexSpeed, TaskSpeed, TileSpeed
    from landmeta_cli.console import Progress

TILES_PER_S, TILES_RATIO, TASKS_PER_S, INDEX_S, INGEST_MB = 1500, 10.0, 150, 0.5, 1000
"""Goals that the project sets itself, on two CPU cores: the last two are upper bounds."""

_PROCESSES = 2
_INGESTS = ((250, 0), (1000, 0))
"""Patches, and shards after which to stop (0: none), of the ingests whose times are compared."""
_LINEAR = 1.3
"""Tiles of a larger archive may take this much longer than those of the smallest."""
_FIRST_SHARDS = 16


def store_run(*, repeats: int, seed: int, progress: Progress) -> dict[str, Any]:
    """Measure the tile store against rasterio and against its goals, and ingest by size.

    Args:
        repeats: Repetitions; medians are reported.
        seed: Of pixels, tasks and order of tiles.
        progress: Told what is being done.

    Returns:
        `rows` in the shape of those of `bench.speed.run_speed`: seconds for one item by the reference and by
        landmeta, with the goals for ratio and seconds; `ingest`, a row an archive; hardware and load.
    """
    from landmeta_catalog.ingest_speed import SEN12MS_PATCHES, ingest_speed
    from landmeta_catalog.store_speed import index_speed, task_speed, tile_speed, write_speed_files

    load = [_load()]
    with tempfile.TemporaryDirectory() as folder:
        files = write_speed_files(Path(folder) / "tiles", seed=seed)
        told: dict[str, Any] = {"repeats": repeats, "seed": seed, "progress": progress}
        tiles = tile_speed(files, processes=_PROCESSES, **told)
        tasks = [task_speed(files, workers=_PROCESSES, augment=augment, **told) for augment in (True, False)]
        index = index_speed(Path(folder) / "index", **told)
    archives = (*_INGESTS, (SEN12MS_PATCHES, _FIRST_SHARDS))
    ingests = []
    for number, (patches, shards) in enumerate(archives):
        progress("ingest", number, len(archives))
        ingests.append(ingest_speed(patches, workers=_PROCESSES, shards=shards))
    load.append(_load())
    hardware = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": load}
    return {
        "rows": [_tile_row(tiles), *map(_task_row, tasks), _index_row(index)],
        "ingest": [_ingest_row(found, ingests[0]) for found in ingests],
        "measured": {"tiles": asdict(tiles), "tasks": [*map(asdict, tasks)], "index": asdict(index)},
        "hardware": hardware,
    }


def _load() -> float | None:
    """Processes that were busy in the last minute, where the system tells it."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def _row(
    what: str,
    reference: float | None,
    ours: float,
    *,
    ratio: float | None = None,
    seconds: float,
) -> dict[str, Any]:
    """Seconds by the reference and by landmeta, and the goals for their ratio and for the latter."""
    found = reference / ours if reference else None
    return {
        "what": what,
        "reference_s": reference,
        "ours_s": ours,
        "ratio": found and round(found, 1),
        "goal": ratio,
        "goal_s": seconds,
        "reached": ours <= seconds and (ratio is None or (found or 0) >= ratio),
    }


def _tile_row(found: TileSpeed) -> dict[str, Any]:
    rasterio = 1 / max(found.reference_default, found.reference_tiled)
    what = f"a random tile, {found.processes} processes"
    return _row(what, rasterio, 1 / found.store, ratio=TILES_RATIO, seconds=1 / TILES_PER_S)


def _task_row(found: TaskSpeed) -> dict[str, Any]:
    what = "a task of 8 tiles" + (", augmented" if found.augment else "")
    return _row(what, None, 1 / found.tasks_per_s, seconds=1 / TASKS_PER_S)


def _index_row(found: IndexSpeed) -> dict[str, Any]:
    what = f"a region of {found.rows:,} rows"
    return _row(what, found.reference_s, found.filter_s, seconds=INDEX_S)


def _ingest_row(found: IngestSpeed, smallest: IngestSpeed) -> dict[str, Any]:
    """An ingest and whether it keeps to the bounds."""
    rates = smallest.tiles_per_s, found.tiles_per_s
    growth = rates[0] / rates[1] if rates[0] and rates[1] else None
    return {
        **asdict(found),
        "goal_mb": INGEST_MB,
        "seconds_a_tile_to_smallest": growth and round(growth, 2),
        "reached": (found.peak_mb or 0) < INGEST_MB and (growth or 0) < _LINEAR,
    }


def store_table(found: Mapping[str, Any]) -> str:
    """The figures as two plain tables: what the store gives in a second, what an ingest takes."""
    rates = [
        (
            row["what"],
            f"{1 / row['reference_s']:,.1f}" if row["reference_s"] else "",
            f"{1 / row['ours_s']:,.1f}",
            f"{row['ratio']:.0f}" if row["ratio"] else "",
            " and ".join(filter(None, (row["goal"] and f"x {row['goal']:.0f}", f"{1 / row['goal_s']:,.0f}"))),
            "yes" if row["reached"] else "no",
        )
        for row in found["rows"]
    ]
    ingests = [
        (
            f"{row['patches']:,}",
            f"{row['tiles']:,}",
            f"{row['seconds']:.1f}",
            f"{row['tiles_per_s']:,.0f}" if row["tiles_per_s"] else "",
            "not known" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
            "" if (growth := row["seconds_a_tile_to_smallest"]) is None else f"{growth:.2f}",
            "yes" if row["reached"] else "no",
        )
        for row in found["ingest"]
    ]
    rate_head = ("times a second", "reference", "landmeta", "ratio", "goal", "reached")
    ingest_head = (
        "ingest of patches",
        "tiles written",
        "seconds",
        "tiles/s",
        "peak MB",
        "time a tile",
        "reached",
    )
    return "\n".join(
        [
            table(rate_head, rates, indent=0),
            "\nReference: rasterio opening deflate GeoTIFFs, and reading the whole index.\n",
            table(ingest_head, ingests, indent=0),
            "\nPeak MB: resident memory of all processes; time a tile: in that of the first line.",
        ]
    )
