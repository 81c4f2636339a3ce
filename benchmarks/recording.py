"""What every stored result says of its making."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
from pathlib import Path
from typing import Any

import torch

from landmeta.checkpoints import starter_path
from landmeta.checksums import sha256
from landmeta_cli.provenance import commit


def made(command: str, *, seed: int = 0) -> dict[str, Any]:
    """Command, commit, seed and hardware, with the load at this moment: call it before measuring times."""
    cuda = torch.cuda.is_available()
    return {
        "command": command,
        "commit": commit(),
        "seed": seed,
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
            "torch": torch.__version__,
            "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        },
    }


def record(script: str, a: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of a comparison of the shipped start or of `--start`, with the command and what else made them."""
    words = ["python", f"benchmarks/{script}", "--seeds", str(a.seeds), "--only", *a.only]
    if chosen := vars(a).get("schemes"):
        words += ["--schemes", chosen]
    start: Path | None = vars(a).get("start")
    if start:
        words += ["--data", a.data.name, "--start", start.name]
    command = shlex.join([*words, "--out", str(a.out)])
    return {**made(command), "start_sha256": sha256(start or starter_path()), "rows": rows}
