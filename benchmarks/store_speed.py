"""Measure the tile store: `python benchmarks/store_speed.py --out benchmarks/results/store.json`.

Random tiles against rasterio, tasks through the loader, the index of SEN12MS by region. Other programs on the
machine slow all of it down: the ratio to rasterio is interleaved, the others are not; `load` says how busy
the machine was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

from landmeta_catalog.store_speed import index_speed, task_speed, tile_speed, write_speed_files

GOALS = {"tiles_per_s": 1500, "tiles_ratio": 10, "tasks_per_s": 150, "index_filter_s": 0.5}


def measure(folder: Path, seed: int, processes: int) -> dict[str, object]:
    files = write_speed_files(folder / "tiles", seed=seed)
    tiles = tile_speed(files, processes=processes, seed=seed)
    tasks = [task_speed(files, workers=processes, augment=a, seed=seed) for a in (True, False)]
    index = index_speed(folder / "index", seed=seed)
    return {
        "tiles": asdict(tiles),
        "tasks": [asdict(task) for task in tasks],
        "index": asdict(index),
        "goals": GOALS,
        "reached": {
            "tiles_per_s": tiles.store >= GOALS["tiles_per_s"],
            "tiles_ratio": tiles.ratio >= GOALS["tiles_ratio"],
            "tasks_per_s": tasks[0].tasks_per_s >= GOALS["tasks_per_s"],
            "index_filter_s": index.filter_s < GOALS["index_filter_s"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), chosen.seed, chosen.processes)
    result = {
        "command": f"python benchmarks/store_speed.py --out {chosen.out} --seed {chosen.seed}",
        "commit": commit.stdout.strip(),
        "seed": chosen.seed,
        **found,
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": {"before": round(before, 1), "after": round(os.getloadavg()[0], 1)},
        },
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
