"""Map a raster with a saved model and print seconds and peak memory: run by `bench.speed` and `bench.scale`.

`python -m landmeta.bench.mapping_peak MODEL_FOLDER RASTER BANDS SCALE THREADS` prints JSON: `seconds` of the
mapping alone, and `peak_mb`, the peak resident memory of the process with all imports.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from landmeta.checkpoints import load_ensemble
from landmeta.memory import keep_freed_memory
from landmeta.prediction import map_blocks
from landmeta.raster import open_imagery


def peak_memory() -> float | None:
    """Peak resident memory of this process since it was started, MB; None where /proc does not tell it.

    Not `getrusage`: its figure starts from that of the parent process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return round(peaks[0], 1) if peaks else None


def main(folder: str, raster: str, bands: str, scale: str, threads: str) -> None:
    """Map and print."""
    keep_freed_memory()
    torch.set_num_threads(int(threads))
    imagery = open_imagery([Path(raster)], bands=bands, scale=float(scale))
    ensemble = load_ensemble(Path(folder))
    begun = time.perf_counter()
    for _ in map_blocks(ensemble, imagery):
        pass  # a block at a time, as the writer of the map takes them
    seconds = time.perf_counter() - begun
    sys.stdout.write(json.dumps({"seconds": round(seconds, 2), "peak_mb": peak_memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
