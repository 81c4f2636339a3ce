"""Are borders where they are on the ground? `python benchmarks/borders.py --data ../shared/data`.

Per-pixel accuracy and accuracy within 2 px of a class border of the reference, on held-out halves of the
clusters of hls_worldcover (protocols hls-5px and hls-20px), for the product's features and heads, for their
logits averaged over cells of 8 px and brought back to pixels by bicubic interpolation, for heads on the
features of stride 8 alone with logits upsampled so, and for a random forest on the pixels' reflectances.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from recording import record
from scenes import hls_units
from scipy import ndimage
from seam_schemes import PRODUCT, schemes

from landmeta.assessment import balanced_accuracy, paired_unit_interval
from landmeta.bench._acceptance_units import HLS_BANDS, PixelEpisode, PixelUnit, reading
from landmeta.bench.seams import Place, Trained, fit, fitting, place_for, region_pixels
from landmeta.checkpoints import load_start
from landmeta.features import fold
from landmeta.heads import Heads
from landmeta.rivals import random_forest
from landmeta.start import Start

OURS, POOLED, DEEP, FOREST = (
    "ours",
    "ours at stride 8, bicubic",
    "stride-8 features, bicubic",
    "random forest",
)
_CELL, _NEAR, _FIRST = 8, 2, 56  # pixels of a cell; from a border; first column whose map is looked at
_SCHEME = next(s for s in schemes(64, 16, 32) if s.name == PRODUCT)


def near_border(labels: np.ndarray) -> np.ndarray:
    """Pixels with another class within 2 px (in a square), bool (y, x)."""
    side = 2 * _NEAR + 1
    found: np.ndarray = ndimage.maximum_filter(labels, side) != ndimage.minimum_filter(labels, side)
    return found


def predictions(unit: PixelUnit, start: Start) -> dict[str, list[np.ndarray]]:
    """Codes of the query pixels of every trial, by method."""
    image = unit.values * np.float32(unit.scale)
    height, width = image.shape[1:]
    episodes = [trial[0] for trial in unit.trials]
    place = place_for(_SCHEME, image, unit.bands, start, episodes[0].train_index)
    sample = region_pixels(image)
    mapped = np.flatnonzero(np.arange(height * width) % width >= _FIRST)
    index = np.unique(np.concatenate([sample, mapped, *(e.train_index for e in episodes)]))
    views = place.views(index)
    fitted_on, features = fitting(_SCHEME, views), views.blended[np.searchsorted(index, mapped)]
    deep = _deep_cells(place)
    pixels = image.reshape(len(image), -1).T
    found: dict[str, list[np.ndarray]] = {name: [] for name in (OURS, POOLED, DEEP, FOREST)}
    for seed, e in enumerate(episodes):
        around, support = (fitted_on[np.searchsorted(index, i)] for i in (sample, e.train_index))
        trained = fit(place, start, around, support, e.train_codes)
        logits = trained.heads((features - trained.mean) * trained.gain).T.reshape(-1, height, width - _FIRST)
        cells = F.avg_pool2d(logits[None], _CELL)
        query = np.searchsorted(mapped, e.query_index)
        for name, maps in (
            (OURS, logits[None]),
            (POOLED, F.interpolate(cells, scale_factor=_CELL, mode="bicubic")),
            (DEEP, _deep_logits(deep, start, trained, e, (height, width))[..., _FIRST:]),
        ):
            codes = trained.codes[maps[0].argmax(dim=0).numpy().ravel()]
            found[name].append(codes[query])
        forest = random_forest(pixels[e.train_index], e.train_codes, seed)
        found[FOREST].append(forest.predict(pixels[e.query_index]))
    return found


def _deep_cells(place: Place) -> torch.Tensor:
    """Features of stride 8, (1, channel, 17, 17); cell j is centred at pixel 8 j - 0.5."""
    assert place.moments is not None
    side = place.image.shape[1]
    with torch.inference_mode():
        return fold(place.network, place.moments).features(place.windows([(0, 0)], side))[-1]


def _deep_logits(
    cells: torch.Tensor, start: Start, trained: Trained, episode: PixelEpisode, shape: tuple[int, int]
) -> torch.Tensor:
    """Logits (1, class, y, x) of heads on the cells alone, trained at the support's places among them."""
    channels = cells.shape[1]
    fine = F.interpolate(cells, scale_factor=_CELL, mode="bilinear")[..., 4:-4, 4:-4]
    rows, cols = np.divmod(episode.train_index, shape[1])
    mean, gain = trained.mean[-channels:], trained.gain[-channels:]
    support = (fine[0][:, rows, cols].T - mean) * gain
    target = torch.from_numpy(np.searchsorted(trained.codes, episode.train_codes))
    heads: Heads = start.fit_heads(support, target, len(trained.codes))
    scores = heads((cells[0].permute(1, 2, 0).flatten(0, 1) - mean) * gain)
    maps = scores.T.reshape(1, -1, *cells.shape[2:])
    return F.interpolate(maps, scale_factor=_CELL, mode="bicubic")[..., 4:-4, 4:-4]


def scores(unit: PixelUnit, found: dict[str, list[np.ndarray]], border: np.ndarray) -> dict[str, np.ndarray]:
    """Four figures a method and trial: accuracy, at borders, away from them, and balanced accuracy."""
    table = {}
    for name, predicted in found.items():
        rows = []
        for (e,), codes in zip(unit.trials, predicted, strict=True):
            near, hit = border.ravel()[e.query_index], codes == e.truth
            rows.append([hit.mean(), hit[near].mean(), hit[~near].mean(), balanced_accuracy(e.truth, codes)])
        table[name] = np.array(rows)
    return table


METRICS = ("accuracy", "border_accuracy", "inner_accuracy", "balanced_accuracy")


def rows_of(task: str, tables: list[dict[str, np.ndarray]], trials: slice) -> list[dict[str, Any]]:
    """One row a method: means over units, and ours minus it with the interval over units."""
    rows = []
    means = {m: np.array([np.nanmean(t[m][trials], axis=0) for t in tables]) for m in tables[0]}
    for name, values in means.items():
        row: dict[str, Any] = {"task": task, "method": name, "units": len(tables)}
        for j, metric in enumerate(METRICS):
            kept = np.isfinite(values[:, j])
            row[metric] = round(float(values[kept, j].mean()), 4)
            if name != OURS:
                ours = means[OURS][kept, j]
                low, high = paired_unit_interval(ours, values[kept, j])
                diff = round(float((ours - values[kept, j]).mean()), 4)
                row[f"ours_minus_{metric}"] = {"diff": diff, "ci95": [round(low, 4), round(high, 4)]}
        rows.append(row)
    return rows


def labels_by_cluster(data: Path) -> dict[str, np.ndarray]:
    """The reference of each cluster's first chip, (y, x)."""
    import csv

    folder, chips = data / "hls_worldcover", {}
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            chips[row["cluster"]] = min(row["path"], chips.get(row["cluster"], row["path"]))
    found = {}
    with reading(data):
        for cluster, path in chips.items():
            with rasterio.open(folder / path) as source:
                found[cluster] = source.read(len(HLS_BANDS) + 1)
    return found


def main() -> None:
    """Classify by every method, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=["test"])
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    start, labels = load_start(None)[0], labels_by_cluster(a.data)
    rows = []
    for part in a.only:
        units = hls_units(a.data, part, a.seeds)
        tables = [scores(u, predictions(u, start), near_border(labels[u.name])) for u in units]
        rows += rows_of(f"hls-5px {part}", tables, slice(0, a.seeds))
        rows += rows_of(f"hls-20px {part}", tables, slice(a.seeds, None))
    for row in rows:
        print(json.dumps(row), flush=True)
    if a.out:
        a.out.write_text(json.dumps(record("borders.py", a, rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
