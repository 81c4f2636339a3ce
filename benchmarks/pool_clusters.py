"""Schemes of moments over validation and test clusters together: `python benchmarks/pool_clusters.py`.

Reads what `benchmarks/seams.py` stored and computes nothing anew: balanced accuracy of each scheme less the
product's, with its 95 % interval from drawing clusters with replacement.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from seams import PRODUCT

from landmeta.assessment import paired_unit_interval

STORED = Path(__file__).parent / "results" / "seams.json"


def main() -> None:
    """Print one line a protocol and scheme."""
    rows = [row for run in json.loads(STORED.read_text())["runs"] for row in run["rows"] if "by_unit" in row]
    for protocol in ("hls-5px", "hls-20px"):
        scores: dict[str, dict[str, float]] = {}
        for row in rows:
            task, part = row["task"].split()
            if task == protocol:
                found = {f"{part} {unit}": pair[0] for unit, pair in row["by_unit"].items()}
                scores.setdefault(row["scheme"], {}).update(found)
        product = np.array(list(scores[PRODUCT].values()))
        for scheme, by_unit in scores.items():
            other = np.array([by_unit[unit] for unit in scores[PRODUCT]])
            low, high = paired_unit_interval(other, product)
            difference = f"{(other - product).mean():+.3f} ({low:+.3f} to {high:+.3f})"
            print(f"{protocol}, {len(other)} clusters: {scheme}: {difference}")


if __name__ == "__main__":
    main()
