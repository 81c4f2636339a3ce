"""What lower precision and compilation are worth in meta-training: `python benchmarks/precision.py`.

Outer gradients of second and first order, in float32 and under bf16 autocast, beside float64: cosine of the
angle, and time. Then a forward and backward pass of the network, the first-order path, plain
and by torch.compile. Writes benchmarks/results/precision.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from recording import made
from torch import Tensor

from landmeta.bench.engine_speed import OuterStep, Setting
from landmeta.bench.work import seconds_of

SETTING = Setting(1, tasks=2)


def direction(gradient: list[Tensor]) -> Tensor:
    """A gradient as one vector of length one, float64."""
    flat = torch.cat([g.double().flatten() for g in gradient])
    return flat / flat.norm()


def medians(jobs: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each job, interleaved, after one for warming up."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            seconds = seconds_of(job, device)
            if repeat:
                found[name].append(seconds)
    return {name: statistics.median(times) for name, times in found.items()}


def precisions(order: int, device: str, repeats: int) -> list[dict[str, object]]:
    """A row a precision: cosine to float64, and the time by that of float32."""
    setting = replace(SETTING, device=device)
    exact, single = OuterStep(setting, dtype=torch.float64), OuterStep(setting)
    for step in (exact, single):
        step.inner = replace(step.inner, order=order)
    truth = direction(exact("loop"))

    def gradient(dtype: torch.dtype | None) -> list[Tensor]:
        with torch.autocast(device, dtype) if dtype else nullcontext():
            return single("loop")

    kinds = {"float32": None, "bf16": torch.bfloat16}
    jobs = {name: lambda dtype=dtype: gradient(dtype) for name, dtype in kinds.items()}
    seconds = medians(jobs, repeats, device)
    return [
        {
            "order": order,
            "precision": name,
            "cosine_to_float64": round(float(direction(gradient(dtype)) @ truth), 4),
            "rate_to_float32": round(seconds["float32"] / seconds[name], 2),
        }
        for name, dtype in kinds.items()
    ]


def compiled(device: str, repeats: int) -> dict[str, object]:
    """Rate of the compiled network by that of the plain one, and the seconds of compiling."""
    step = OuterStep(replace(SETTING, device=device))
    network, images = step.learner.network.requires_grad_(), step.tasks[0].support.images
    fast = torch.compile(network)

    def passes(of: Callable[[Tensor], Tensor]) -> None:
        of(images).square().mean().backward()

    took = seconds_of(lambda: passes(fast), device)
    seconds = medians({"plain": lambda: passes(network), "compiled": lambda: passes(fast)}, repeats, device)
    return {
        "rate_to_plain": round(seconds["plain"] / seconds["compiled"], 2),
        "compiling_s": round(took, 1),
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision.json"))
    a = parser.parse_args()
    result = {
        **made(f"python benchmarks/precision.py --device {a.device}"),
        "setting": asdict(SETTING),
        "precision": [row for order in (1, 2) for row in precisions(order, a.device, a.repeats)],
        "compile": compiled(a.device, a.repeats),
    }
    a.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
