"""Schemes of moments over clusters of several parts together: `python benchmarks/pool_clusters.py`.

Reads what `benchmarks/seams.py` stored and computes nothing anew: balanced accuracy of each scheme less that
of the product, or of another scheme, with its 95 % interval from drawing clusters with replacement.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from seam_schemes import PRODUCT

from landmeta.assessment import paired_unit_interval

PARTS = ("val", "test", "half0", "half1")
STORED = Path(__file__).parent / "results" / "seams.json"


def main() -> None:
    """Print one line a protocol and scheme."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default=PRODUCT, help="name of the scheme to compare with")
    parser.add_argument("--parts", nargs="+", default=["val", "test"], choices=PARTS)
    arguments = parser.parse_args()
    against = arguments.against
    rows = [row for run in json.loads(STORED.read_text())["runs"] for row in run["rows"] if "by_unit" in row]
    for protocol in ("hls-5px", "hls-20px"):
        scores: dict[str, dict[str, float]] = {}
        for row in rows:
            task, part = row["task"].split()
            if task == protocol and part in arguments.parts:
                found = {f"{part} {unit}": pair[0] for unit, pair in row["by_unit"].items()}
                scores.setdefault(row["scheme"], {}).update(found)
        if against not in scores:
            parser.error(f"--against is one of: {'; '.join(scores)}")
        compared = np.array(list(scores[against].values()))
        for scheme, by_unit in scores.items():
            if by_unit.keys() != scores[against].keys():
                continue  # not looked at on all of these parts
            other = np.array([by_unit[unit] for unit in scores[against]])
            low, high = paired_unit_interval(other, compared)
            difference = f"{(other - compared).mean():+.3f} ({low:+.3f} to {high:+.3f})"
            print(f"{protocol}, {len(other)} clusters: {scheme}: {difference}")


if __name__ == "__main__":
    main()
