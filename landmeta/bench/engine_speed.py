"""Rate and memory of the engines of the outer gradient against a plain double-backward loop (METHODS 9).

The reference is the loop that everybody writes first: torch's own operations, one task after the other, the
graph of all steps kept. All are interleaved in one run; memory is measured in a process of its own for each.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from landmeta.bands import SENTINEL2
from landmeta.bench.work import gflop_of, matrix_speed, seconds_of
from landmeta.learning.class_ensemble import fit_one_vs_all
from landmeta.learning.engines import ENGINES, outer_gradient
from landmeta.learning.inner import Inner, Sgd, adapted_names
from landmeta.learning.learner import Batch, BinaryLoss, Learner, TaskTensors
from landmeta.networks import ResNet12
from landmeta.networks.resnet12 import WIDTHS

REFERENCE = "plain loop"
"""Name of the reference beside those of `ENGINES`."""

RATE_GOAL, MEMORY_GOAL, MEMORY_RATE_GOAL = 1.15, 0.5, 0.5
"""On a CPU: some engine's rate at one step; some engine's memory at five steps, and its rate there."""

CUDA_RATE_GOAL, CUDA_SHARE_GOAL = 3.0, 0.35
"""On a GPU at one step: rate, and share of the device's rate of matrix products."""

_RATE = 0.05  # of the inner steps; without influence on time

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """An outer step to time: `tasks` tasks of `images` support and as many query images of `side` px.

    Half of the images are positive; `width` is the share of the published channels.
    """

    steps: int
    tasks: int = 4
    images: int = 8
    side: int = 64
    width: float = 0.25
    device: str = "cpu"

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four blocks."""
        return tuple(int(channels * self.width) for channels in WIDTHS)


CPU_SETTINGS = (Setting(1), Setting(5))
FULL_WIDTH = Setting(1, tasks=1, side=128, width=1.0)
"""Timed once on a CPU: 8 million parameters."""

CUDA_SETTINGS = tuple(Setting(steps, side=128, width=1.0, device="cuda") for steps in (1, 5))


class OuterStep:
    """One outer gradient of random tasks by any engine or by the reference."""

    def __init__(self, setting: Setting, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        self.setting, self.dtype = setting, dtype
        generator = torch.Generator().manual_seed(seed)
        network = ResNet12(len(SENTINEL2), setting.widths, generator=generator).to(setting.device, dtype)
        self.learner = Learner(network, BinaryLoss(4.0))
        self.inner = Inner(Sgd(_RATE), adapted_names(network), setting.steps)
        self.theta = self.learner.parameters()
        self.tasks = [self._task(generator) for _ in range(setting.tasks)]

    def _task(self, generator: torch.Generator) -> TaskTensors:
        def batch() -> Batch:
            shape = (self.setting.images, len(SENTINEL2), self.setting.side, self.setting.side)
            images = torch.rand(shape, generator=generator)
            half = torch.arange(self.setting.images) % 2
            return Batch(*(values.to(self.setting.device, self.dtype) for values in (images, half)))

        return TaskTensors(batch(), batch())

    def __call__(self, engine: str) -> list[Tensor]:
        """The gradients by all parameters, on the device when this returns."""
        gradient = self._reference if engine == REFERENCE else partial(self._engine, engine)
        found = gradient()
        if self.setting.device == "cuda":
            torch.cuda.synchronize()
        return found

    def _engine(self, engine: str) -> list[Tensor]:
        outer = outer_gradient(self.learner, self.inner, self.theta, {}, self.tasks, engine=engine)
        return list(outer.theta.values())

    def _reference(self) -> list[Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in self.theta.items()}
        for task in self.tasks:
            phi = dict(leaves)
            for _ in range(self.setting.steps):
                loss = self._plain_loss(phi, task.support)
                moving = [phi[name] for name in self.inner.adapted]
                grads = torch.autograd.grad(loss, moving, create_graph=True)
                phi |= {
                    name: value - _RATE * grad
                    for name, value, grad in zip(self.inner.adapted, moving, grads, strict=True)
                }
            (self._plain_loss(phi, task.query) / len(self.tasks)).backward()
        return [leaf.grad for leaf in leaves.values() if leaf.grad is not None]

    def _plain_loss(self, params: Mapping[str, Tensor], batch: Batch) -> Tensor:
        logits = functional_call(self.learner.network, dict(params), (batch.images,))
        return self.learner.loss(logits, batch.targets)


def engine_rows(
    settings: Sequence[Setting],
    *,
    repeats: int = 5,
    threads: int = 2,
    engines: Sequence[str] = tuple(ENGINES),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Time engines on some settings.

    Args:
        settings: What to time.
        repeats: Interleaved repetitions after one for warming up; medians count.
        threads: CPU threads.
        engines: Which, besides the reference.
        progress: Told before each setting.

    Returns:
        A row for each setting and engine: tasks a second and their ratio to the reference; the memory that
        the step takes on top of what the process held before it, MB, and its ratio; work and share of the
        device's rate of matrix products. Memory is None where the system does not tell it.
    """
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    for done, setting in enumerate(settings):
        if progress is not None:
            progress("engines", done, len(settings))
        rows.extend(_rows(setting, (REFERENCE, *engines), repeats, threads))
    return rows


def _rows(setting: Setting, names: Sequence[str], repeats: int, threads: int) -> list[dict[str, Any]]:
    step = OuterStep(setting)
    gflop = {name: _gflop(step, name) for name in names}  # also the warm-up
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            seconds[name].append(seconds_of(partial(step, name)))  # a step waits for its device
    memory = {name: step_memory(step, name, threads) for name in names}
    speed = matrix_speed(setting.device)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        {
            **asdict(setting),
            "engine": name,
            "tasks_per_s": round(setting.tasks / middle[name], 3),
            "ratio": round(middle[REFERENCE] / middle[name], 2),
            "memory_mb": memory[name],
            "memory_ratio": _share(memory[name], memory[REFERENCE]),
            "gflop": round(gflop[name], 1),
            "share_of_matrix_product": round(gflop[name] / middle[name] / speed, 2),
        }
        for name in names
    ]


def _gflop(step: OuterStep, name: str) -> float:
    """Work of a step; a counter does not see into other threads, whose work is that of the loop."""
    if name == "threads":
        step(name)
        return gflop_of(partial(step, "loop"))
    return gflop_of(partial(step, name))


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 2)


def largest_difference(setting: Setting) -> dict[str, float]:
    """How far each engine's gradient is from the reference's in float64, by the largest value of the latter.

    In float32 the two part by rounding, which pools and kinks enlarge (METHODS 9.2).
    """
    step = OuterStep(setting, dtype=torch.float64)
    plain = step(REFERENCE)
    largest = max(float(g.abs().max()) for g in plain)

    def apart(engine: str) -> float:
        return max(float((a - b).abs().max()) for a, b in zip(step(engine), plain, strict=True)) / largest

    return {engine: apart(engine) for engine in ENGINES}


def ensemble_row(
    *, classes: int = 5, images: int = 64, repeats: int = 5, device: str = "cpu"
) -> dict[str, Any]:
    """Time `classes` class models on `images` tiles against as many passes of a single network.

    Goals: at most 1.15 times as long on a CPU; on a GPU, where they are asked at once, shorter.
    """
    setting = Setting(1, tasks=1, images=images, device=device)
    step = OuterStep(setting)
    support = Batch(step.tasks[0].support.images, torch.arange(images, device=device) % classes)
    inner = Inner(Sgd(_RATE), step.inner.adapted, 1)
    models = fit_one_vs_all(step.learner, inner, step.theta, {}, support)
    queries = step.tasks[0].query.images

    @torch.no_grad()
    def single() -> None:
        for part in queries.split(16):
            step.learner.network(part)

    jobs: dict[str, Callable[[], object]] = {"ensemble": lambda: models.logits(queries), "single": single}
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            taken = seconds_of(job, device)
            if repeat:  # the first warms up
                seconds[name].append(taken)
    ours, one = (statistics.median(seconds[name]) for name in ("ensemble", "single"))
    return {
        "device": device,
        "classes": classes,
        "images": images,
        "ensemble_s": round(ours, 4),
        "single_s": round(one, 4),
        "passes": round(ours / one, 2),
        "of_single_passes": round(ours / one / classes, 2),
    }


# --- memory ----------------------------------------------------------------------------------------


def step_memory(step: OuterStep, engine: str, threads: int) -> float | None:
    """MB that one outer step takes at its peak; None where the system does not tell it."""
    if step.setting.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(engine)
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    request = json.dumps({"engine": engine, "threads": threads, "setting": asdict(step.setting)})
    command = [sys.executable, "-m", "landmeta.bench.engine_peak", request]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak: float | None = json.loads(done.stdout)
    return peak
