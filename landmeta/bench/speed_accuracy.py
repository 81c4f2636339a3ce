"""Whether what is faster is as accurate: hold-out accuracy of the reference, `quick` and `standard`.

Each task is a scene with a few labels and pixels elsewhere in it whose class is known; all methods adapt to
the same labels and classify the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from jaxtyping import Int

from landmeta.adaptation import adapt_region
from landmeta.assessment import METRIC, balanced_accuracy, paired_unit_interval
from landmeta.bench._acceptance_units import PixelUnit, Selection, reading, units_of
from landmeta.bench.reference import classify_pixels
from landmeta.labels import Labels
from landmeta.legend import LandClass, Legend
from landmeta.prediction import predict
from landmeta.raster import Imagery, imagery_of_array

METHODS = ("reference", "quick", "standard")
TILE = 32
"""Side of the reference's tiles and windows here, in pixels: tiles of 128 would take minutes a task."""

_QUERY = 150  # pixels a class that are scored

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class AccuracyTask:
    """A scene with labels, and pixels elsewhere in it: positions on its grid and class codes."""

    name: str
    imagery: Imagery
    labels: Labels
    rows: Int[np.ndarray, " query"]
    cols: Int[np.ndarray, " query"]
    codes: Int[np.ndarray, " query"]


def make_task(
    name: str,
    imagery: Imagery,
    labels: Labels,
    index: Int[np.ndarray, " pixel"],
    codes: Int[np.ndarray, " pixel"],
) -> AccuracyTask:
    """A task that scores up to `_QUERY` random pixels a class out of those at flat positions `index`."""
    rng, chosen = np.random.default_rng(0), []
    for code in labels.legend.codes:
        chosen.append(rng.permutation(np.flatnonzero(codes == code))[:_QUERY])
    kept = np.concatenate(chosen)
    rows, cols = np.divmod(index[kept], imagery.shape[1])
    return AccuracyTask(name, imagery, labels, rows, cols, codes[kept])


def hls_tasks(data: Path, limit: int) -> Iterator[AccuracyTask]:
    """The acceptance task `hls-5px` on test clusters, its first draw, the first `limit` eligible clusters.

    Raises:
        DataError: The folder lacks the task's files.
    """
    found = 0
    for load in units_of("hls-5px", Selection(data, "test", 1)):
        with reading(data):
            unit = load()
        if not isinstance(unit, PixelUnit):
            continue
        yield _task_of_unit(unit)
        found += 1
        if found == limit:
            return


def _task_of_unit(unit: PixelUnit) -> AccuracyTask:
    episode = unit.trials[0][0]
    imagery = imagery_of_array(unit.values * np.float32(unit.scale), unit.bands)
    classes = np.unique(episode.train_codes)
    legend = Legend(tuple(LandClass(int(k), f"class {k}", "#808080") for k in classes))
    rows, cols = np.divmod(episode.train_index, imagery.shape[1])
    groups = np.arange(len(rows))  # each labelled pixel stands for itself
    footprints = gpd.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
    labels = Labels(legend, rows, cols, episode.train_codes, groups, footprints)
    return make_task(unit.name, imagery, labels, episode.query_index, episode.truth)


def accuracies(task: AccuracyTask) -> dict[str, float]:
    """Balanced accuracy of each of `METHODS` on the task's pixels."""
    found = {
        "reference": classify_pixels(task.imagery, task.labels, task.rows, task.cols, side=TILE),
    }
    for effort in METHODS[1:]:
        ensemble = adapt_region(task.imagery, task.labels, effort=effort).ensemble
        found[effort] = predict(ensemble, task.imagery).codes[task.rows, task.cols].astype(np.int64)
    return {method: balanced_accuracy(task.codes, codes) for method, codes in found.items()}


def compare(
    source: str, tasks: Iterable[AccuracyTask], progress: Progress | None = None
) -> list[dict[str, Any]]:
    """One row for each of our efforts: its mean accuracy and the reference's, and the paired difference.

    The 95 % interval is of the mean difference over tasks.
    """
    scores: list[dict[str, float]] = []
    for done, task in enumerate(tasks):
        if progress is not None:
            progress(f"accuracy {source}", done, 0)
        scores.append(accuracies(task))
    column = {m: np.array([s[m] for s in scores]) for m in METHODS}
    rows = []
    for effort in METHODS[1:]:
        difference = column[effort] - column["reference"]
        low, high = paired_unit_interval(column[effort], column["reference"], seed=0)
        rows.append(
            {
                "source": source,
                "effort": effort,
                "tasks": len(scores),
                "metric": METRIC,
                "ours": round(float(column[effort].mean()), 4),
                "reference": round(float(column["reference"].mean()), 4),
                "diff": round(float(difference.mean()), 4),
                "diff_ci95": [round(low, 4), round(high, 4)],
                "as_good": bool(high >= 0),
            }
        )
    return rows
