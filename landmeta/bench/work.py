"""Work a job does and the rate at which a device could do it, to compare the times of benchmarks with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from landmeta.prediction import MappingModel, map_window, read_window, windows_of
from landmeta.raster import Imagery


def seconds_of(job: Callable[[], object], device: str = "cpu") -> float:
    """Seconds until a job is done, on the device too."""
    begun = time.perf_counter()
    job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def gflop_of(job: Callable[[], object]) -> float:
    """Floating-point work of a job's convolutions and matrix products, 1e9 operations."""
    with FlopCounterMode(display=False) as counter:
        job()
    return float(counter.get_total_flops()) / 1e9


@dataclass(frozen=True, slots=True)
class MappingWork:
    """Work of a map, 1e9 operations: all of it, and what its pixels would take without any halo."""

    gflop: float
    useful: float


def mapping_work(model: MappingModel, imagery: Imagery) -> MappingWork:
    """Count the work of a map by mapping it here, block by block: other threads' work is not counted."""
    state, gflop = model.prepare(), 0.0
    for window in windows_of(model, imagery):
        gflop += gflop_of(partial(map_window, model, state, read_window(imagery, window), window))
    height, width = imagery.shape
    return MappingWork(gflop, height * width * _gflop_of_a_pixel(model, state, len(imagery.bands)))


def _gflop_of_a_pixel(model: MappingModel, state: Any, bands: int) -> float:
    """What one pixel more takes in a large window: work is a square polynomial in the window's side."""
    align = model.align * model.stride
    side = -(-(2 * model.context + 1) // align) * align
    works = [
        gflop_of(partial(model.logits, torch.zeros(bands, n * side, n * side), state)) for n in (1, 2, 3)
    ]
    return (works[2] - 2 * works[1] + works[0]) / (2 * side**2)


def matrix_speed(device: str = "cpu") -> float:
    """GFLOP/s that float32 matrix products reach on a device, the median of some."""
    side = 1024 if device == "cpu" else 8192
    a = torch.rand(side, side, device=device)
    return 2 * side**3 / 1e9 / statistics.median(seconds_of(lambda: a @ a, device) for _ in range(15))
