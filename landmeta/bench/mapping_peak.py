"""Map a raster with a saved model and print the peak resident memory in MB: run by `bench.speed`.

`python -m landmeta.bench.mapping_peak MODEL_FOLDER RASTER BANDS SCALE THREADS`
"""

from __future__ import annotations

import sys
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
    for _ in map_blocks(load_ensemble(Path(folder)), imagery):
        pass  # a block at a time, as the writer of the map takes them
    sys.stdout.write("null" if (peak := peak_memory()) is None else str(peak))


if __name__ == "__main__":
    main(*sys.argv[1:])
