"""Speed and memory against the naive reference in the same code base, as ratios of one run.

The reference (`bench.reference`) is timed on a sample and scaled linearly; the result says so. Ours is timed
whole. All are interleaved and repeated; ratios are of medians. `speed_accuracy` tells at what accuracy.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from landmeta.adaptation import adapt_region
from landmeta.bench.reference import (
    SAMPLE_STEPS,
    SAMPLE_WINDOWS,
    WINDOW_STRIDE,
    time_adaptation,
    time_mapping,
)
from landmeta.bench.work import gflop_of, mapping_work, matrix_speed, seconds_of
from landmeta.labels import Labels
from landmeta.prediction import map_blocks
from landmeta.published import MINIBATCH, STEPS, TILE
from landmeta.raster import Imagery
from landmeta.sampling import group_tiles

GOALS = {"adapt quick": 50.0, "adapt standard": 8.0, "map": 50.0}
"""Ratios that the project sets itself, on two CPU cores."""

_RIVALS = {"adapt quick": "reference adapt", "adapt standard": "reference adapt", "map": "reference map"}

Progress = Callable[[str, int, int], None]


def run_speed(
    imagery: Imagery, labels: Labels, *, repeats: int = 3, threads: int = 2, progress: Progress | None = None
) -> dict[str, Any]:
    """Time ours against the reference on a scene with 5 classes x 5 labelled tiles of 128 px and 13 bands.

    Args:
        imagery: The scene to adapt to and to map.
        labels: Pixels of the labelled tiles.
        repeats: Interleaved repetitions; medians are reported.
        threads: CPU threads for both sides.
        progress: Called before each repetition.

    Returns:
        `rows` with seconds, ratios, work and the share of the machine's speed that was reached; for the map
        that share without the work on halos; and what is needed to repeat them.
    """
    torch.set_num_threads(threads)
    tiles = torch.nan_to_num(group_tiles(imagery, labels, np.random.default_rng(0), side=TILE)[0])
    classes = len(labels.legend)
    ensemble = adapt_region(imagery, labels).ensemble
    ours: dict[str, Callable[[], object]] = {
        "adapt quick": partial(adapt_region, imagery, labels, effort="quick"),
        "adapt standard": partial(adapt_region, imagery, labels, effort="standard"),
        "map": lambda: sum(1 for _ in map_blocks(ensemble, imagery)),
    }
    reference = {
        "reference adapt": partial(time_adaptation, tiles, imagery.bands.names, classes),
        "reference map": partial(time_mapping, tiles, imagery.bands.names, min(imagery.shape), classes),
    }
    mapping = mapping_work(ensemble, imagery)  # also the warm-up, as counting the others is
    work = {what: gflop_of(job) for what, job in ours.items() if what != "map"} | {"map": mapping.gflop}
    seconds: dict[str, list[float]] = {what: [] for what in (*reference, *ours)}
    speeds: list[float] = []  # of matrix products, measured in every repetition: the machine's changes too
    for i in range(repeats):
        if progress is not None:
            progress("speed", i, repeats)
        for what, scaled in reference.items():
            seconds[what].append(scaled())
        for what, job in ours.items():
            seconds[what].append(seconds_of(job))
        speeds.append(matrix_speed())
    return {
        "rows": [_row(what, seconds, work[what], speeds) for what in ours],
        "useful_share_of_matrix_product": round(_share(mapping.useful, seconds["map"], speeds), 2),
        "reference": (
            f"one class after the other, whole network; timed on {SAMPLE_STEPS} of {STEPS} steps of "
            f"minibatch {MINIBATCH} and on {SAMPLE_WINDOWS} windows of {TILE} px at stride {WINDOW_STRIDE}, "
            "scaled linearly"
        ),
        "scaled_linearly": {
            "reference adapt": {"steps": [SAMPLE_STEPS, STEPS], "classes": [1, classes]},
            "reference map": {
                "windows": [SAMPLE_WINDOWS, ((min(imagery.shape) - TILE) // WINDOW_STRIDE + 1) ** 2],
                "classes": [1, classes],
            },
        },
        "seconds": {k: [round(s, 3) for s in v] for k, v in seconds.items()},
        "scene": {
            "shape": list(imagery.shape),
            "bands": len(imagery.bands),
            "classes": classes,
            "tiles": len(tiles),
        },
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "threads": threads,
            "gflops": round(statistics.median(speeds), 1),
            "torch": torch.__version__,
        },
    }


def _share(gflop: float, seconds: Sequence[float], speeds: Sequence[float]) -> float:
    """Share of the speed of matrix products, the median of what it was in each repetition."""
    return statistics.median(gflop / s / speed for s, speed in zip(seconds, speeds, strict=True))


def _row(what: str, seconds: dict[str, list[float]], gflop: float, speeds: Sequence[float]) -> dict[str, Any]:
    reference, ours = (statistics.median(seconds[k]) for k in (_RIVALS[what], what))
    ratio = reference / ours
    return {
        "what": what,
        "reference_s": round(reference, 2),
        "ours_s": round(ours, 2),
        "ratio": round(ratio, 1),
        "goal": GOALS[what],
        "reached": ratio >= GOALS[what],
        "gflop": round(gflop, 1),
        "gflops": round(gflop / ours, 1),
        "share_of_matrix_product": round(_share(gflop, seconds[what], speeds), 2),
    }
