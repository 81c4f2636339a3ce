"""Speed and memory against the naive reference in the same code base, as ratios of one run.

The reference adapts one class after the other with the whole network in every step (`published`) and maps
with overlapping windows at stride 8, one class model after the other. It is timed on a sample (6 steps of
one class, 64 windows) and scaled linearly; the result says so. Ours is timed whole. All are interleaved
and repeated; ratios are of medians.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landmeta.adaptation import adapt_region
from landmeta.bands import SENTINEL2
from landmeta.checkpoints import load_start
from landmeta.labels import Labels
from landmeta.prediction import predict
from landmeta.published import MINIBATCH, STEPS, TILE, adapt_class
from landmeta.raster import Imagery
from landmeta.sampling import group_tiles

SAMPLE_STEPS, SAMPLE_WINDOWS, WINDOW_STRIDE = 6, 64, 8
GOALS = {"adapt quick": 50.0, "adapt standard": 8.0, "map": 50.0}
"""Ratios that the project sets itself, on two CPU cores."""

Progress = Callable[[str, int, int], None]


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def reference_adaptation(tiles: Tensor, classes: int) -> float:
    """Seconds of the published adaptation of all classes, scaled from `SAMPLE_STEPS` steps of one class."""
    network = load_start()[0].for_bands(SENTINEL2)
    positive = (torch.arange(len(tiles)) % classes == 0).long()
    generator = torch.Generator().manual_seed(0)
    seconds = _timed(lambda: adapt_class(network, tiles, positive, generator, SAMPLE_STEPS))
    return seconds * STEPS / SAMPLE_STEPS * classes


def reference_mapping(tiles: Tensor, side: int, classes: int) -> float:
    """Seconds of mapping side x side pixels by windows at stride 8, scaled from `SAMPLE_WINDOWS` windows."""
    network = load_start()[0].for_bands(SENTINEL2)
    batches = [tiles[torch.arange(i, i + 16) % len(tiles)] for i in range(0, SAMPLE_WINDOWS, 16)]
    with torch.inference_mode():
        seconds = _timed(lambda: [network(b) for b in batches])
    windows = ((side - TILE) // WINDOW_STRIDE + 1) ** 2
    return seconds * windows / SAMPLE_WINDOWS * classes


def run_speed(
    imagery: Imagery, labels: Labels, *, repeats: int = 3, threads: int = 2, progress: Progress | None = None
) -> dict[str, Any]:
    """Time ours against the reference on a scene with 5 classes x 5 labelled tiles of 128 px and 13 bands.

    Args:
        imagery: The scene to adapt to and to map.
        labels: Pixels of the labelled tiles.
        repeats: Interleaved repetitions; medians are reported.
        threads: CPU threads for both sides.
        progress: Called after each repetition.

    Returns:
        `rows` with seconds and ratios, and what is needed to repeat them.
    """
    torch.set_num_threads(threads)
    tiles = torch.nan_to_num(group_tiles(imagery, labels, np.random.default_rng(0), side=TILE)[0])
    classes = len(labels.legend)
    seconds: dict[str, list[float]] = {
        k: [] for k in ("reference adapt", "quick", "standard", "reference map", "map")
    }
    for i in range(repeats):
        seconds["reference adapt"].append(reference_adaptation(tiles, classes))
        seconds["quick"].append(_timed(lambda: adapt_region(imagery, labels, effort="quick")))
        seconds["standard"].append(_timed(lambda: adapt_region(imagery, labels, effort="standard")))
        ensemble = adapt_region(imagery, labels, effort="quick").ensemble
        seconds["reference map"].append(reference_mapping(tiles, min(imagery.shape), classes))
        seconds["map"].append(_timed(partial(predict, ensemble, imagery)))
        if progress is not None:
            progress("speed", i + 1, repeats)
    median = {k: statistics.median(v) for k, v in seconds.items()}
    return {
        "rows": [
            _row("adapt quick", median["reference adapt"], median["quick"]),
            _row("adapt standard", median["reference adapt"], median["standard"]),
            _row("map", median["reference map"], median["map"]),
        ],
        "reference": (
            f"one class after the other, whole network; timed on {SAMPLE_STEPS} of {STEPS} steps of "
            f"minibatch {MINIBATCH} and on {SAMPLE_WINDOWS} windows of {TILE} px at stride {WINDOW_STRIDE}, "
            "scaled linearly"
        ),
        "seconds": {k: [round(s, 3) for s in v] for k, v in seconds.items()},
        "scene": {
            "shape": list(imagery.shape),
            "bands": len(imagery.bands),
            "classes": classes,
            "tiles": len(tiles),
        },
        "hardware": {
            "cpu": _cpu(),
            "threads": threads,
            "gflops": round(_gflops(), 1),
            "torch": torch.__version__,
        },
    }


def _row(what: str, reference: float, ours: float) -> dict[str, Any]:
    ratio = reference / ours
    return {
        "what": what,
        "reference_s": round(reference, 2),
        "ours_s": round(ours, 2),
        "ratio": round(ratio, 1),
        "goal": GOALS[what],
        "reached": ratio >= GOALS[what],
    }


def _gflops() -> float:
    """What a float32 matrix product reaches on this machine."""
    a = torch.rand(1024, 1024)
    a @ a
    return 10 * 2 * 1024**3 / _timed(lambda: [a @ a for _ in range(10)]) / 1e9


def _cpu() -> str:
    return platform.processor() or platform.machine()
