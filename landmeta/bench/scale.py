"""How mapping grows: seconds and memory with the raster, and seconds with the workers of a Dask cluster."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landmeta.bench.work import mapping_work, matrix_speed, seconds_of
from landmeta.blocks.folder import BlockFolder
from landmeta.checkpoints import save_ensemble
from landmeta.cluster import connect, map_on_cluster
from landmeta.ensemble import Ensemble
from landmeta.legend import Legend
from landmeta.prediction import MappingModel, map_window, read_window, windows_of
from landmeta.published import PublishedEnsemble
from landmeta.raster import Imagery

PEAK_MB, LINEAR, TWO_WORKERS = 1500.0, 1.15, 1.8
"""Goals: peak memory at any size; seconds a pixel of the largest against the smallest; two workers."""


@dataclass(frozen=True, slots=True)
class RasterFile:
    """A raster to map in a process of its own: path, band names, reflectance of one number."""

    path: Path
    bands: Sequence[str]
    scale: float


def mapped_alone(
    ensemble: Ensemble | PublishedEnsemble, raster: RasterFile, *, threads: int
) -> dict[str, float | None]:
    """Map a raster in a new process that does nothing else.

    Returns:
        `seconds` of the mapping; `peak_mb`, resident memory with all imports, None where the system does not
        tell it.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_ensemble(ensemble, Path(folder))
        command = [sys.executable, "-m", "landmeta.bench.mapping_peak", folder, str(raster.path)]
        options = [",".join(raster.bands), str(raster.scale), str(threads)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    found: dict[str, float | None] = json.loads(done.stdout)
    return found


def worker_row(
    model: MappingModel, imagery: Imagery, *, workers: Sequence[int] = (1, 2), repeats: int = 3
) -> dict[str, Any]:
    """Map with so many local workers of one core each; clusters are started before the clock and warmed up.

    Returns:
        Median seconds by number of workers, and the ratio of the first to the last.
    """
    seconds: dict[int, list[float]] = {count: [] for count in workers}
    for repeat in range(repeats + 1):
        for count in workers:
            with connect(None, count) as client, tempfile.TemporaryDirectory() as folder:
                client.run(_import_all)
                begun = time.perf_counter()
                map_on_cluster(model, imagery, client, BlockFolder(Path(folder), {}))
                if repeat:  # the first warms up caches of files
                    seconds[count].append(time.perf_counter() - begun)
    middle = {count: statistics.median(times) for count, times in seconds.items()}
    ratio = middle[workers[0]] / middle[workers[-1]]
    return {
        "pixels": int(np.prod(imagery.shape)),
        "seconds": {str(count): round(value, 2) for count, value in middle.items()},
        "ratio": round(ratio, 2),
        "goal": TWO_WORKERS,
        "reached": ratio >= TWO_WORKERS,
    }


def _import_all() -> None:
    import landmeta.ensemble  # a worker that has just started has imported nothing
    import landmeta.raster  # noqa: F401


@dataclass(frozen=True, slots=True)
class _Constant:
    """A mapping model that gives logits without computing: what is left is the engine's own work."""

    model: MappingModel
    values: Tensor

    @property
    def legend(self) -> Legend:
        return self.model.legend

    @property
    def stride(self) -> int:
        return self.model.stride

    @property
    def align(self) -> int:
        return self.model.align

    @property
    def context(self) -> int:
        return self.model.context

    @property
    def overlap(self) -> int:
        return self.model.overlap

    def prepare(self) -> None:
        """No state."""

    def logits(self, window: Tensor, state: Any) -> Tensor:
        del state
        rows, cols = window.shape[-2] // self.stride, window.shape[-1] // self.stride
        return self.values[:, :rows, :cols]


def device_row(model: Ensemble | PublishedEnsemble, imagery: Imagery, device: str) -> dict[str, float]:
    """How much of a device's rate of matrix products the computing of a map reaches, halos not counted.

    Returns:
        `seconds` of the network passes alone with the copies to the device, median of 5; `gflop` of useful
        work; `gflops` of the device in float32 matrix products; `share` of them.
    """
    useful, there = mapping_work(model, imagery).useful, model.to(device)
    windows = windows_of(model, imagery)
    pixels = [torch.from_numpy(read_window(imagery, window)) for window in windows]
    state: Any = there.prepare()

    def compute() -> None:
        for window in pixels:
            there.logits(window, state)

    seconds = statistics.median([seconds_of(compute, device) for _ in range(6)][1:])
    speed = matrix_speed(device)
    return {
        "seconds": round(seconds, 3),
        "gflop": round(useful, 1),
        "gflops": round(speed, 1),
        "share": round(useful / seconds / speed, 3),
    }


def stage_seconds(model: MappingModel, imagery: Imagery) -> Mapping[str, float]:
    """Seconds that reading, and all work after the logits, take for the whole imagery, each alone.

    Returns:
        `read`, and `encode`: upsampling, probabilities, codes and counts.
    """
    windows = windows_of(model, imagery)
    begun = time.perf_counter()
    pixels = [read_window(imagery, window) for window in windows]
    read = time.perf_counter() - begun
    largest = max(max(p.shape[-2:]) for p in pixels) // model.stride
    values = torch.rand(len(model.legend), largest, largest, generator=torch.Generator().manual_seed(0))
    constant = _Constant(model, values)
    begun = time.perf_counter()
    for window, found in zip(windows, pixels, strict=True):
        map_window(constant, None, found, window)
    return {"read": round(read, 3), "encode": round(time.perf_counter() - begun, 3)}
