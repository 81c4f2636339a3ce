"""Work a job does and the rate at which a device could do it, to compare the times of benchmarks with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


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


def matrix_speed(device: str = "cpu") -> float:
    """GFLOP/s that float32 matrix products reach on a device, the median of some."""
    side = 1024 if device == "cpu" else 8192
    a = torch.rand(side, side, device=device)
    return 2 * side**3 / 1e9 / statistics.median(seconds_of(lambda: a @ a, device) for _ in range(15))
