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
from landmeta.memory import keep_freed_memory, peak_memory
from landmeta.prediction import map_blocks
from landmeta.raster import open_imagery


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
