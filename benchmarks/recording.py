"""What every stored result says of its making."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

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
