"""Compare starts under the same heads: `python benchmarks/evaluate_starter.py A.safetensors B.safetensors`.

The first one is also compared with each of the others, and those with what they would reach with its
learned scales, ridge and temperature of the heads: what is left then is owed to the network.

Protocol hls-Npx of the acceptance suite on the validation clusters: support from columns 0-55, scored on
columns 72-127, balanced accuracy, seeds averaged within a cluster, paired differences over clusters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier

from landmeta.assessment import balanced_accuracy, paired_unit_interval
from landmeta.checkpoints import load_start
from landmeta.episodes import Episode, draw_pixels, episode_logits
from landmeta.start import Start
from landmeta_catalog.archives.chips import HLS_BANDS, Chip, hls_chips


def halves(chip: Chip) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Left and right label vectors (-1 elsewhere) and the classes with 60 pixels in both."""
    column = np.arange(chip.labels.size) % chip.labels.shape[1]
    left = np.where(column < 56, chip.labels.ravel(), -1)
    right = np.where(column >= 72, chip.labels.ravel(), -1)
    return (
        left,
        right,
        [k for k in np.unique(left) if k >= 0 and min((left == k).sum(), (right == k).sum()) >= 60],
    )


def score(chip: Chip, start: Start | None, shots: int, seeds: int) -> float:
    """Balanced accuracy on the right part, mean over support draws; `None` stands for a random forest."""
    left, right, classes = halves(chip)
    query = np.flatnonzero(np.isin(right, classes))
    runs = []
    for seed in range(seeds):
        support, target = draw_pixels(left, classes, shots, np.random.default_rng(seed))
        if start is None:
            pixels = chip.image.reshape(len(chip.image), -1).T
            forest = RandomForestClassifier(200, random_state=seed, n_jobs=1).fit(pixels[support], target)
            guess = forest.predict(pixels[query])
        else:
            image = torch.from_numpy(np.nan_to_num(chip.image))[None]
            index = torch.from_numpy(query)
            episode = Episode(image, HLS_BANDS, len(classes), support, target, index, index)
            with torch.no_grad():
                guess = episode_logits(start, episode).argmax(dim=1).numpy()
        runs.append(balanced_accuracy(right[query], np.array(classes)[guess]))
    return float(np.mean(runs))


def named_starts(paths: list[Path]) -> dict[str, Start]:
    """Each start, and all but the first once more with the first one's head parameters."""
    found = {p.name: load_start(p)[0] for p in paths}
    learned = {k: v for k, v in found[paths[0].name].state_dict().items() if k.startswith("log_")}
    for path in paths[1:]:
        other = load_start(path)[0]
        other.load_state_dict({**other.state_dict(), **learned})
        found[f"{path.name}, heads of {paths[0].name}"] = other
    return found


def main() -> None:
    """Print one JSON row a start and number of shots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("starts", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--part", default="val")
    parser.add_argument("--seeds", type=int, default=4)
    a = parser.parse_args()
    clusters = json.loads((a.data / "splits.json").read_text())["hls_worldcover"][a.part]
    first = {c.cluster: c for c in reversed(hls_chips(a.data / "hls_worldcover", clusters))}
    chips = [c for c in first.values() if len(halves(c)[2]) >= 2]
    for shots in (5, 20):
        forest = np.array([score(c, None, shots, a.seeds) for c in chips])
        starts = named_starts(a.starts)
        scores = {k: np.array([score(c, s, shots, a.seeds) for c in chips]) for k, s in starts.items()}
        first_start = scores[a.starts[0].name]
        for name, ours in scores.items():
            row: dict[str, object] = {"start": name, "shots": shots, "clusters": len(chips)}
            row |= {
                "ours": round(ours.mean(), 4),
                "forest": round(forest.mean(), 4),
                **paired("forest", ours, forest),
            }
            if name != a.starts[0].name:
                row |= paired(name, first_start, ours)
            print(json.dumps(row), flush=True)


def paired(name: str, ours: np.ndarray, other: np.ndarray) -> dict[str, object]:
    """Mean difference over clusters and its 95 % interval by bootstrap."""
    low, high = paired_unit_interval(ours, other)
    return {
        f"minus_{name}": round(float((ours - other).mean()), 4),
        f"minus_{name}_ci95": [round(low, 4), round(high, 4)],
    }


if __name__ == "__main__":
    main()
