"""Adapt the meta-learned start to a region: from imagery and labelled pixels to an ensemble of class models.

`quick` fits the class heads in closed form on features computed once. `standard` also tunes the last block,
`full` every block, by gradient steps through the closed-form fit. `paper` is METEOR's published behaviour.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from landmeta.checkpoints import load_start
from landmeta.ensemble import Ensemble
from landmeta.errors import CheckpointError
from landmeta.features import Standardization
from landmeta.heads import Heads
from landmeta.labels import Labels
from landmeta.networks import ResNet12
from landmeta.published import PublishedEnsemble, adapt_published
from landmeta.raster import Imagery
from landmeta.sampling import (
    SUPPORT_LIMIT,
    Region,
    RegionFeatures,
    group_tiles,
    in_order,
    label_windows,
    region_sample,
    thin,
)
from landmeta.splits import group_folds
from landmeta.start import Start, balanced_cross_entropy
from landmeta.tuning import OUT, TUNED_BLOCKS, Tail, tail_of, tune

EFFORTS = ("quick", "standard", "full", "paper")
Progress = Callable[[str, int, int], None]
Refit = Callable[[Bool[np.ndarray, " sample"]], Tensor]
_TEMPERATURES = np.geomspace(0.2, 5.0, 25)


@dataclass(frozen=True)
class Adapted:
    """An adapted ensemble with what hold-out and calibration need.

    Attributes:
        ensemble: The mapping model.
        features: Standardized feature vectors of the samples used, (sample, feature).
        samples: Indices into the labels' arrays of the samples used.
        start: The meta-learned start.
        refit: Adapts the network anew without some samples and gives the logits of those, (held, class);
            None at `quick`, where the network is not adapted.
        timing_s: Seconds of each step.
        warnings: One line each.
    """

    ensemble: Ensemble | PublishedEnsemble
    features: Float[Tensor, "sample feature"] = field(repr=False)
    samples: Int[np.ndarray, " sample"] = field(repr=False)
    start: Start = field(repr=False)
    refit: Refit | None = field(default=None, repr=False)
    timing_s: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    temperature: float = 1.0


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def adapt_region(
    imagery: Imagery,
    labels: Labels,
    *,
    effort: str = "quick",
    checkpoint: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Adapted:
    """Adapt one-vs-all class models to the labelled pixels of a region.

    Args:
        imagery: Reflectance on a grid, any subset of the 13 Sentinel-2 bands.
        labels: Labelled pixels on that grid.
        effort: `quick`, `standard`, `full` or `paper`.
        checkpoint: A start to use instead of the shipped starter.
        seed: Seed of the sampling of labelled pixels and windows.
        device: Where to compute, one of `landmeta.devices.choose_device`, which also sets the precision; the
            tensors of the result are there.
        progress: Called with stage, done and total.

    Raises:
        CheckpointError: The checkpoint cannot be read or knows none of the bands.
        ValueError: The effort is unknown.
    """
    if effort not in EFFORTS:
        msg = f"effort {effort!r} is not one of {', '.join(EFFORTS)}"
        raise ValueError(msg)
    tell, rng, begun = progress or _silent, np.random.default_rng(seed), time.perf_counter()
    start = load_start(checkpoint)[0].to(device)
    network = _network_for(start, imagery)
    fill, blocks = region_sample(imagery, rng, labels)
    samples = thin(labels, SUPPORT_LIMIT, rng)
    target = _targets(labels, samples, device)
    windows = label_windows(imagery, labels.rows[samples], labels.cols[samples])
    region = Region(network, fill.to(device), blocks, windows)
    features = region.features(tell)
    timing = {"features": time.perf_counter() - begun}
    ensemble, standardized = _finish(start, region, features, target, labels, imagery)
    adapted = _calibrated(Adapted(ensemble, standardized, samples, start, None, timing), labels)
    if effort in TUNED_BLOCKS:
        return _tuned(adapted, tail_of(region, features, effort), labels, imagery, effort, seed, tell)
    if effort == "paper":
        return adapt_as_published(adapted, imagery, labels, seed=seed, tell=tell)
    return adapted


def _network_for(start: Start, imagery: Imagery) -> ResNet12:
    try:
        return start.for_bands(imagery.bands.names)
    except ValueError as fault:
        found = ", ".join(imagery.bands.names)
        msg = f"the start knows the Sentinel-2 bands B01 to B12, the imagery has {found}"
        raise CheckpointError(msg, "--bands with the Sentinel-2 bands only") from fault


def _targets(labels: Labels, samples: Int[np.ndarray, " sample"], device: torch.device | str) -> Tensor:
    position = {code: i for i, code in enumerate(labels.legend.codes)}
    return torch.tensor([position[int(c)] for c in labels.codes[samples]], device=device)


def _tuned(
    adapted: Adapted, tail: Tail, labels: Labels, imagery: Imagery, effort: str, seed: int, tell: Progress
) -> Adapted:
    """Tune the last blocks on all folds; `refit` repeats it without some samples, for the hold-out."""
    begun, start = time.perf_counter(), adapted.start
    target, classes = _targets(labels, adapted.samples, adapted.features.device), len(labels.legend)
    codes, groups = labels.codes[adapted.samples], labels.groups[adapted.samples]

    def tuned(folds: Int[np.ndarray, " sample"]) -> tuple[Region, RegionFeatures]:
        network = tune(start, tail, target, folds, effort, np.random.default_rng(seed), tell)
        return replace(tail.region, network=network), tail.renewed(network)

    def refit(held: Bool[np.ndarray, " sample"]) -> Tensor:
        folds = np.full(len(held), OUT)
        folds[~held] = group_folds(codes[~held], groups[~held])
        points = _standardized(start, tuned(folds)[1], len(imagery.bands.names))
        train, test = torch.from_numpy(~held), torch.from_numpy(held)
        return start.fit_heads(points[train], target[train], classes)(points[test])

    region, features = tuned(group_folds(codes, groups))
    ensemble, standardized = _finish(start, region, features, target, labels, imagery)
    timing = {**adapted.timing_s, "tuning": time.perf_counter() - begun}
    found = replace(adapted, ensemble=ensemble, features=standardized, refit=refit, timing_s=timing)
    return _rescaled(found, adapted.temperature)


def _standardized(start: Start, features: RegionFeatures, bands: int) -> Tensor:
    return start.standardization(features.sample, bands)(features.labelled)


def held_out_logits(
    start: Start, features: Tensor, target: Tensor, folds: Int[np.ndarray, " sample"]
) -> tuple[Float[Tensor, "sample class"], Tensor]:
    """Logits of every sample from heads fitted without its fold, and which samples have them."""
    classes, fold = int(target.max()) + 1, torch.from_numpy(np.asarray(folds))
    logits = features.new_zeros(len(target), classes)
    for k in fold[fold >= 0].unique().tolist():
        train, test = fold != k, fold == k
        logits[test] = start.fit_heads(features[train], target[train], classes)(features[test])
    return logits, fold >= 0


def _finish(
    start: Start, region: Region, features: RegionFeatures, target: Tensor, labels: Labels, imagery: Imagery
) -> tuple[Ensemble, Tensor]:
    scaled: Standardization = start.standardization(features.sample, len(imagery.bands.names))
    standardized = scaled(features.labelled)
    heads = start.fit_heads(standardized, target, len(labels.legend))
    weight = heads.weight * scaled.gain  # fold the standardization into the heads: they take raw features
    raw = Heads(weight, heads.bias - weight @ scaled.mean)
    return Ensemble(
        region.network, features.moments, raw, region.fill, labels.legend, imagery.bands
    ), standardized


def _calibrated(adapted: Adapted, labels: Labels) -> Adapted:
    """Divide the logits by the temperature under which held-out samples are most likely."""
    target = _targets(labels, adapted.samples, adapted.features.device)
    folds = group_folds(labels.codes[adapted.samples], labels.groups[adapted.samples])
    logits, held = held_out_logits(adapted.start, adapted.features, target, folds)
    if not held.any():
        note = "confidence is not calibrated: no class has two polygons, patches or tiles to hold one out"
        return replace(adapted, warnings=(*adapted.warnings, note))
    losses = [float(balanced_cross_entropy(logits[held] / t, target[held])) for t in _TEMPERATURES]
    return _rescaled(adapted, float(_TEMPERATURES[int(np.argmin(losses))]))


def _rescaled(adapted: Adapted, temperature: float) -> Adapted:
    ensemble = adapted.ensemble
    if not isinstance(ensemble, Ensemble):
        return adapted
    heads = Heads(ensemble.heads.weight / temperature, ensemble.heads.bias / temperature)
    return replace(adapted, ensemble=replace(ensemble, heads=heads), temperature=temperature)


def cross_validate(
    adapted: Adapted,
    labels: Labels,
    folds: Int[np.ndarray, " sample"],
    *,
    progress: Progress | None = None,
) -> Int[np.ndarray, " sample"]:
    """Class codes of the samples, each predicted by a model fitted without its fold; -1 where fold is -1.

    At `quick` only the heads are fitted anew, on cached features. Where the network itself was adapted to
    the labels, it is adapted anew without each fold: its features would have seen what is held out.
    """
    target = _targets(labels, adapted.samples, adapted.features.device)
    fold = torch.from_numpy(np.asarray(folds))
    if adapted.refit is None:
        logits, _ = held_out_logits(adapted.start, adapted.features, target, folds)
    else:
        logits = adapted.features.new_zeros(len(target), len(labels.legend))
        left_out = fold[fold >= 0].unique().tolist()
        for done, k in enumerate(left_out):
            if progress is not None:
                progress("hold out", done, len(left_out))
            logits[fold == k] = adapted.refit((fold == k).numpy())
    codes = np.array(labels.legend.codes)[logits.argmax(dim=1).cpu().numpy()]
    return np.where(np.asarray(folds) >= 0, codes, -1)


def adapt_as_published(
    adapted: Adapted, imagery: Imagery, labels: Labels, *, seed: int = 0, tell: Progress = _silent
) -> Adapted:
    """METEOR's published adaptation on the 128 px tile around each label group (METHODS 4.6).

    Small polygons are thus taken for whole tiles: the method does so, which is why it is not the default.
    """
    begun, network = time.perf_counter(), _network_for(adapted.start, imagery)
    fill = adapted.ensemble.fill
    tiles, target, groups = group_tiles(imagery, labels, np.random.default_rng(seed))
    found = adapt_published(network, tiles, target, fill, labels.legend, imagery.bands, seed=seed, tell=tell)
    rows, cols = labels.rows[adapted.samples], labels.cols[adapted.samples]

    def refit(held: Bool[np.ndarray, " sample"]) -> Tensor:
        keep = torch.from_numpy(~np.isin(groups, labels.groups[adapted.samples[held]]))
        fresh = _network_for(adapted.start, imagery)
        model = adapt_published(
            fresh, tiles[keep], target[keep], fill, labels.legend, imagery.bands, seed=seed, tell=tell
        )
        windows = label_windows(imagery, rows[held], cols[held], model.context)
        return in_order([model.logits(w.image, None)[:, w.rows, w.cols].T for w in windows], windows)

    timing = {**adapted.timing_s, "published": time.perf_counter() - begun}
    note = "effort paper: confidence is not calibrated, one-vs-all logits are no probabilities"
    return replace(adapted, ensemble=found, refit=refit, timing_s=timing, warnings=(*adapted.warnings, note))
