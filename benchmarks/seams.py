"""Moments and seams on real scenes and the demo: `python benchmarks/seams.py --data ../shared/data`.

Every scheme of `landmeta.bench.seams` classifies the same held-out pixels from the same support: the clusters
of hls_worldcover of the parts val and test (protocols hls-5px and hls-20px), Aberystwyth in five folds, and
the demo region against its truth. `--only` takes any other part of splits.json too (the shipped start
was trained on `train`). Differences to the product's scheme are paired: over clusters, and over patches of
held-out pixels where there is one scene.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import record
from scenes import aberystwyth_unit, demo_unit, hls_units, spots_in
from scipy import ndimage
from seam_schemes import PRODUCT, SCHEMES, Average, averages

from landmeta.assessment import balanced_accuracy, paired_holdout, paired_unit_interval
from landmeta.bench._acceptance_units import PixelEpisode, PixelUnit
from landmeta.bench.seams import (
    SHIFTS,
    Place,
    Scheme,
    Scores,
    fit,
    fitting,
    place_for,
    region_pixels,
    thinned,
)
from landmeta.checkpoints import load_start
from landmeta.start import Start

_SHIFTED = 2  # shifts looked at, of the raster's origin and of the block grid
_STABLE = 1200  # pixels whose classes are compared under shifts


@dataclass(frozen=True)
class Outcome:
    """A scheme on one unit.

    Attributes:
        held_out: Scores of the query of every trial, fold by fold.
        stable: Scores of the pixels on which stability is measured, by the models of the first trial.
        origins, grids: The same under shifts of the raster's origin and of the block grid.
        seconds: What it took.
    """

    held_out: list[list[Scores]]
    stable: Scores
    origins: list[Scores]
    grids: list[Scores]
    seconds: float

    @property
    def predicted(self) -> list[np.ndarray]:
        """Held-out codes of every trial."""
        return [np.concatenate([fold.classes for fold in trial]) for trial in self.held_out]

    @property
    def origin_shift(self) -> float:
        """Share of pixels that keep their class when the origin moves."""
        return self._kept(self.origins)

    @property
    def block_shift(self) -> float:
        """Share of pixels that keep their class when the block grid moves."""
        return self._kept(self.grids)

    def _kept(self, moved: Sequence[Scores]) -> float:
        before = self.stable.classes
        return float(np.mean([(scores.classes == before).mean() for scores in moved]))

    def averaged(self, other: Outcome, share: float) -> Outcome:
        """See `Average`."""
        return Outcome(
            [_averaged(a, b, share) for a, b in zip(self.held_out, other.held_out, strict=True)],
            self.stable.averaged(other.stable, share),
            _averaged(self.origins, other.origins, share),
            _averaged(self.grids, other.grids, share),
            self.seconds + other.seconds,
        )


def _averaged(ours: Sequence[Scores], others: Sequence[Scores], share: float) -> list[Scores]:
    return [a.averaged(b, share) for a, b in zip(ours, others, strict=True)]


def run_unit(
    unit: PixelUnit, start: Start, chosen: Sequence[Scheme], joined: Sequence[Average], stable: np.ndarray
) -> dict[str, Outcome]:
    """Fit and classify every trial of a unit under each scheme, then average.

    Schemes that see pixels alike share that work, so `seconds` is for all of them.
    """
    alike: dict[Scheme, list[Scheme]] = {}
    for scheme in chosen:
        alike.setdefault(replace(scheme, name="", space="logits", one_phase_fit=False), []).append(scheme)
    found: dict[str, Outcome] = {}
    for group in alike.values():
        found |= _run_alike(unit, start, group, stable)
    ordered = {scheme.name: found[scheme.name] for scheme in chosen}
    return ordered | {a.name: found[a.scheme].averaged(found[a.other], a.share) for a in joined}


def _run_alike(
    unit: PixelUnit, start: Start, group: Sequence[Scheme], stable: np.ndarray
) -> dict[str, Outcome]:
    begun, image = time.perf_counter(), unit.values * np.float32(unit.scale)
    sample = region_pixels(image)
    episodes = [e for trial in unit.trials for e in trial]
    known = (i for e in episodes for i in (e.train_index, e.query_index))
    index = np.unique(np.concatenate([sample, stable, *known]))
    place = place_for(group[0], image, unit.bands, start, _spread(episodes[0]))
    views = place.views(index)
    still = _some(views, np.searchsorted(index, stable))
    origins, grids = ([place.views(stable, shift) for shift in shifts] for shifts in _shifts(place))
    grids = grids or [still] * _SHIFTED
    outcomes = {}
    for scheme in group:
        fitted_on, held_out, first = fitting(scheme, views), [], None
        around = fitted_on[np.searchsorted(index, sample)]
        for seed, trial in enumerate(unit.trials):
            scores = []
            for e in trial:
                kept = thinned(e.train_codes, e.groups, seed)
                support = fitted_on[np.searchsorted(index, e.train_index[kept])]
                model = fit(replace(place, scheme=scheme), start, around, support, e.train_codes[kept])
                first = first or model
                scores.append(model.scores(_some(views, np.searchsorted(index, e.query_index))))
            held_out.append(scores)
        assert first is not None
        outcomes[scheme.name] = Outcome(
            held_out,
            first.scores(still),
            [first.scores(moved) for moved in origins],
            [first.scores(moved) for moved in grids],
            time.perf_counter() - begun,
        )
    return outcomes


def _shifts(place: Place) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Shifts of the raster's origin by 1 to 63 px, and of the block grid by multiples of 8.

    The latter is left out where moments are frozen: it moves nothing there if the halo holds the context
    (tests of the product).
    """
    rng = np.random.default_rng(0)
    origins = -rng.integers(1, SHIFTS, (_SHIFTED, 2), endpoint=True)
    grids = -8 * rng.integers(1, SHIFTS // 8, (_SHIFTED, 2), endpoint=True)
    return _pairs(origins), _pairs(grids) if place.scheme.sees_blocks else []


def _pairs(values: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in values]


def _some(views: Any, at: np.ndarray) -> Any:
    where = torch.from_numpy(at)
    return type(views)(views.weights[:, where], views.features[:, where])


def _spread(episode: PixelEpisode) -> np.ndarray:
    """One labelled pixel a polygon, as many of each class; all labelled pixels where there are none."""
    if episode.groups is None:
        return episode.train_index
    middle = {g: np.flatnonzero(episode.groups == g) for g in np.unique(episode.groups)}
    chosen = np.array([m[len(m) // 2] for m in middle.values()])
    codes = episode.train_codes[chosen]
    few = min(15, np.unique(codes, return_counts=True)[1].min())
    return np.concatenate([episode.train_index[chosen[codes == c][:few]] for c in np.unique(codes)])


# --- tables ----------------------------------------------------------------------------------------


def truths(unit: PixelUnit) -> list[np.ndarray]:
    """Codes of the query pixels of each trial, all folds together."""
    return [np.concatenate([e.truth for e in t]) for t in unit.trials]


def unit_rows(
    task: str, units: Sequence[PixelUnit], outcomes: dict[str, list[Outcome]], trials: slice
) -> list[dict[str, Any]]:
    """One row a scheme over many units: means over units, differences to the product with their interval."""
    table = {}
    for name, found in outcomes.items():
        scores = []
        for unit, outcome in zip(units, found, strict=True):
            pairs = list(zip(truths(unit)[trials], outcome.predicted[trials], strict=True))
            scores.append(
                [np.mean([f(t, p) for t, p in pairs]) for f in (balanced_accuracy, natural_accuracy)]
            )
        table[name] = np.array(scores)
    dominant = np.array([np.bincount(truths(u)[0]).max() / len(truths(u)[0]) for u in units])
    rows = []
    for name, scores in table.items():
        row = {"task": task, "scheme": name, "units": len(units)} | _means(scores, outcomes[name])
        row["imbalanced_units"] = int((dominant >= 0.7).sum())
        row["accuracy_imbalanced"] = round(float(scores[dominant >= 0.7, 1].mean()), 4)
        for j, metric in enumerate(("balanced_accuracy", "accuracy")):
            row[f"minus_product_{metric}"] = _interval(scores[:, j], table[PRODUCT][:, j])
        few = dominant >= 0.7
        row["minus_product_accuracy_imbalanced"] = _interval(scores[few, 1], table[PRODUCT][few, 1])
        row["gap_minus_product"] = _interval(
            scores[:, 1] - scores[:, 0], table[PRODUCT][:, 1] - table[PRODUCT][:, 0]
        )
        row["by_unit"] = {u.name: np.round(v, 4).tolist() for u, v in zip(units, scores, strict=True)}
        rows.append(row)
    best = max(table, key=lambda n: table[n][:, 0].mean())
    next(r for r in rows if r["scheme"] == PRODUCT)["product_minus_best"] = {"best": best} | _interval(
        table[PRODUCT][:, 0], table[best][:, 0]
    )
    return rows


def natural_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of pixels that are right, classes as frequent as they are there."""
    return float((truth == predicted).mean())


def _means(scores: np.ndarray, found: Sequence[Outcome]) -> dict[str, float]:
    return {
        "balanced_accuracy": round(float(scores[:, 0].mean()), 4),
        "accuracy": round(float(scores[:, 1].mean()), 4),
        "gap": round(float((scores[:, 1] - scores[:, 0]).mean()), 4),
        "origin_shift": round(float(np.mean([o.origin_shift for o in found])), 4),
        "block_shift": round(float(np.mean([o.block_shift for o in found])), 4),
        "seconds": round(float(np.mean([o.seconds for o in found])), 2),
    }


def _interval(ours: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    low, high = paired_unit_interval(ours, other)
    return {"diff": round(float((ours - other).mean()), 4), "ci95": [round(low, 4), round(high, 4)]}


def scene_rows(task: str, unit: PixelUnit, outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """One row a scheme on one scene; patches of held-out pixels that touch are drawn as one."""
    truth, product = truths(unit)[0], outcomes[PRODUCT].predicted[0]
    groups = np.concatenate([_patches(e.query_index, unit.values.shape[1:]) for e in unit.trials[0]])

    def against(ours: np.ndarray, other: np.ndarray) -> dict[str, Any]:
        diff, (low, high) = paired_holdout(truth, ours, other, groups)
        return {"diff": round(diff, 4), "ci95": [round(low, 4), round(high, 4)]}

    rows = []
    for name, outcome in outcomes.items():
        scores = np.array([[f(truth, outcome.predicted[0]) for f in (balanced_accuracy, natural_accuracy)]])
        row = {"task": task, "scheme": name, "units": 1, "n": len(truth)} | _means(scores, [outcome])
        rows.append(row | {"minus_product_balanced_accuracy": against(outcome.predicted[0], product)})
    best = max(rows, key=lambda r: r["balanced_accuracy"])["scheme"]
    next(r for r in rows if r["scheme"] == PRODUCT)["product_minus_best"] = {"best": best} | against(
        product, outcomes[best].predicted[0]
    )
    return rows


def _patches(index: np.ndarray, shape: tuple[int, ...], close: int = 12) -> np.ndarray:
    """Patch of each pixel: pixels that lie within `close` of each other, and no others, share one."""
    mask = np.zeros(shape, bool)
    mask.ravel()[index] = True
    grown = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=close // 2)
    found: np.ndarray = ndimage.label(grown)[0].ravel()[index].astype(np.int64)
    return found + shape[0] * shape[1] * int(index[0])  # unlike those of other folds


# --- the whole -------------------------------------------------------------------------------------


def main() -> None:
    """Classify under every scheme, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=["val", "test", "aberystwyth", "demo"])
    parser.add_argument("--start", type=Path, help="instead of the shipped one (crossed_halves.py)")
    parser.add_argument("--schemes", default="", help="only the product and those with this in their name")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    start, _ = load_start(a.start)
    rows: list[dict[str, Any]] = []
    for what in a.only:
        found = _task(what, a, start)
        rows += found
        for row in found:
            print(json.dumps({k: v for k, v in row.items() if k != "by_unit"}), flush=True)
        if a.out:
            a.out.write_text(json.dumps(record("seams.py", a, rows), indent=1) + "\n")


def _task(what: str, a: argparse.Namespace, start: Start) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    scene = what in ("aberystwyth", "demo")
    known = SCHEMES["scene" if scene else "chips"]
    joined = [average for average in averages(known) if a.schemes in average.name]
    named = {PRODUCT, *(average.other for average in joined)}
    chosen = [s for s in known if s.name in named or a.schemes in s.name]
    if not scene:
        units = hls_units(a.data, what, a.seeds)
        outcomes: dict[str, list[Outcome]] = {}
        for unit in units:
            eligible = np.zeros(unit.values.shape[1:], bool)
            eligible.ravel()[unit.trials[0][0].query_index] = True
            stable = spots_in(eligible, 2, _STABLE // 2, rng, side=40)
            for name, outcome in run_unit(unit, start, chosen, joined, stable).items():
                outcomes.setdefault(name, []).append(outcome)
            print(unit.name, file=sys.stderr, flush=True)
        few, many = slice(0, a.seeds), slice(a.seeds, None)
        return [
            *unit_rows(f"hls-5px {what}", units, outcomes, few),
            *unit_rows(f"hls-20px {what}", units, outcomes, many),
        ]
    with tempfile.TemporaryDirectory() as scratch:
        load: dict[str, Callable[[], PixelUnit]] = {
            "aberystwyth": lambda: aberystwyth_unit(a.data),
            "demo": lambda: demo_unit(Path(scratch)),
        }
        unit = load[what]()
    valid = np.isfinite(unit.values).all(axis=0) & (unit.values != 0).any(axis=0)
    stable = spots_in(valid, 4, _STABLE // 4, rng)
    return scene_rows(what, unit, run_unit(unit, start, chosen, joined, stable))


if __name__ == "__main__":
    main()
