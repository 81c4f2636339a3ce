"""What strips of the first block are worth in mapping: `python benchmarks/strips.py`.

One block of 512 px with its halo, 13 bands and 5 classes, by a model adapted to a simulated scene: the time
of its logits with the network's first block computed whole and in strips of rows, interleaved.
Writes benchmarks/results/strips.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from recording import made

from landmeta.adaptation import adapt_region
from landmeta.bench.work import seconds_of
from landmeta.ensemble import Ensemble
from landmeta.prediction import BLOCK
from landmeta.raster import imagery_of_array
from landmeta_catalog.simulate import BANDS, SCALE, simulate_scene
from landmeta_cli.simulated_labels import tile_labels

ROWS = (32, 64, 96, 128)


def model_and_window() -> tuple[Ensemble, torch.Tensor]:
    """A model adapted to tiles of a simulated scene, and the window of one block of it."""
    scene = simulate_scene(0, 1000, per_class=0, nodata_corner=False)
    values = scene.image.astype(np.float32) * np.float32(SCALE)
    ensemble = adapt_region(imagery_of_array(values, BANDS, scene.grid), tile_labels(scene, 32)).ensemble
    assert isinstance(ensemble, Ensemble)
    side = BLOCK + 2 * ensemble.context
    return ensemble, torch.from_numpy(values[:, :side, :side].copy())


def compare(ensemble: Ensemble, window: torch.Tensor, threads: int, repeats: int) -> list[dict[str, float]]:
    """A row for each height of strips: seconds (medians), and the median ratio to the whole block's."""
    torch.set_num_threads(threads)
    state, whole = ensemble.prepare(), window.shape[1]
    seconds: dict[int, list[float]] = {rows: [] for rows in (whole, *ROWS)}
    for repeat in range(repeats + 1):  # the first one warms up
        for rows, found in seconds.items():
            with patch("landmeta.ensemble._STRIP", rows):
                taken = seconds_of(lambda: ensemble.logits(window, state), "cpu")
            if repeat:
                found.append(taken)
    return [
        {
            "threads": threads,
            "rows": rows,
            "seconds": round(statistics.median(found), 3),
            "ratio": round(statistics.median(a / b for a, b in zip(found, seconds[whole], strict=True)), 3),
        }
        for rows, found in seconds.items()
    ]


def main() -> None:
    """Measure on one and on two threads, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "strips.json")
    arguments = parser.parse_args()
    head = made(f"python benchmarks/strips.py --repeats {arguments.repeats}")
    ensemble, window = model_and_window()
    rows = [row for threads in (1, 2) for row in compare(ensemble, window, threads, arguments.repeats)]
    for row in rows:
        print(json.dumps(row))
    arguments.out.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
