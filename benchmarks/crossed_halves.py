"""Folders in which the clusters that the shipped start was trained on are held out: for `seams.py`.

`python benchmarks/crossed_halves.py DATA OUT` makes OUT/half0 and OUT/half1: links to the data, and a
splits.json in which every second train cluster of hls_worldcover is the part `half0` (`half1`) and all
others, those of val and test too, are trained on. Train a start in each folder and look at its half:

    for half in half0 half1; do
        python benchmarks/train_starter.py --data OUT/$half --out $half.safetensors
        python benchmarks/seams.py --data OUT/$half --start $half.safetensors --only $half --seeds 2
    done

Nothing made so is shipped, and the parts of splits.json stay what every other figure is made with: this only
asks whether a difference seen on 34 clusters is there on others too; 48 of the 52 hold enough classes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

LINKED = ("hls_worldcover", "eurosat_rgb")


def crossed(splits: dict[str, dict[str, list[str]]], half: int) -> dict[str, dict[str, list[str]]]:
    """The splits with one half of the train clusters held out and all other clusters trained on."""
    clusters = splits["hls_worldcover"]
    held = clusters["train"][half::2]
    known = [c for part in ("train", "val", "test") for c in clusters[part] if c not in held]
    return {**splits, "hls_worldcover": {"train": sorted(known, key=int), f"half{half}": held}}


def main() -> None:
    """Make both folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    a = parser.parse_args()
    splits = json.loads((a.data / "splits.json").read_text())
    for half in (0, 1):
        folder = a.out / f"half{half}"
        folder.mkdir(parents=True)
        for name in LINKED:
            (folder / name).symlink_to((a.data / name).resolve())
        (folder / "splits.json").write_text(json.dumps(crossed(splits, half), indent=1) + "\n")


if __name__ == "__main__":
    main()
