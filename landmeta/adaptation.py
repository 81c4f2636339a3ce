"""Adapt the meta-learned start to a region: from imagery and labelled pixels to an ensemble of class models.

`quick` fits the class heads in closed form on features computed once. `standard` also tunes the last block,
`full` every block, by gradient steps through the closed-form fit; the tuned network is kept only if it
separates held-out label groups better than the start does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.checkpoints import load_start
from landmeta.ensemble import Ensemble, fill_nodata
from landmeta.errors import CheckpointError
from landmeta.features import Standardization, spectral_maps
from landmeta.heads import Heads
from landmeta.labels import Labels
from landmeta.networks import ResNet12
from landmeta.norms import FrozenMoments, Moments, PooledMoments
from landmeta.raster import Imagery
from landmeta.sampling import SUPPORT_LIMIT, Window, label_windows, region_sample, sample_maps, thin
from landmeta.splits import group_folds
from landmeta.start import Start, balanced_cross_entropy
from landmeta.tuning import TUNED_BLOCKS, tune_blocks

EFFORTS = ("quick", "standard", "full", "paper")
Progress = Callable[[str, int, int], None]
_TEMPERATURES = np.geomspace(0.2, 5.0, 25)


@dataclass(frozen=True)
class Adapted:
    """An adapted ensemble with what hold-out and calibration need.

    Attributes:
        ensemble: The mapping model.
        features: Standardized feature vectors of the samples used, (sample, feature).
        samples: Indices into the labels' arrays of the samples used.
        start: The meta-learned start.
        timing_s: Seconds of each step.
        warnings: One line each.
    """

    ensemble: Ensemble
    features: Float[Tensor, "sample feature"]
    samples: Int[np.ndarray, " sample"]
    start: Start
    timing_s: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def adapt_region(
    imagery: Imagery,
    labels: Labels,
    *,
    effort: str = "quick",
    checkpoint: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Adapted:
    """Adapt one-vs-all class models to the labelled pixels of a region.

    Args:
        imagery: Reflectance on a grid, any subset of the 13 Sentinel-2 bands.
        labels: Labelled pixels on that grid.
        effort: `quick`, `standard` or `full`.
        checkpoint: A start to use instead of the shipped starter.
        seed: Seed of the sampling of labelled pixels and windows.
        progress: Called with stage, done and total.

    Raises:
        CheckpointError: The checkpoint cannot be read or knows none of the bands.
        ValueError: The effort is unknown.
    """
    if effort not in EFFORTS:
        msg = f"effort {effort!r} is not one of {', '.join(EFFORTS)}"
        raise ValueError(msg)
    tell, rng, begun = progress or _silent, np.random.default_rng(seed), time.perf_counter()
    start, _ = load_start(checkpoint)
    network = _network_for(start, imagery)
    fill, blocks = region_sample(imagery, rng)
    samples = thin(labels, SUPPORT_LIMIT, rng)
    target = _targets(labels, samples)
    windows = label_windows(imagery, labels.rows[samples], labels.cols[samples])
    region = Region(network, fill, blocks, windows)
    features = region.features(tell)
    timing = {"features": time.perf_counter() - begun}
    if effort in TUNED_BLOCKS:
        folds = group_folds(labels.codes[samples], labels.groups[samples])
        region, features = _tuned(start, region, features, target, folds, effort, tell)
        timing["tuning"] = time.perf_counter() - begun - timing["features"]
    ensemble, standardized = _finish(start, region, features, target, labels, imagery)
    adapted = Adapted(ensemble, standardized, samples, start, timing)
    return _calibrated(adapted, labels)


@dataclass(frozen=True)
class Region:
    """A network and the windows of one region; `moments` are measured on the unlabelled blocks."""

    network: ResNet12
    fill: Tensor
    blocks: Float[Tensor, "n band y x"]
    windows: list[Window]

    def measure(self) -> tuple[Moments, Float[Tensor, "n feature"]]:
        """Moments of all norm layers over the blocks, and feature vectors of a sample of their pixels."""
        pooled = PooledMoments()
        with torch.inference_mode():
            images = fill_nodata(self.blocks, self.fill)
            maps = [spectral_maps(images), *self.network.features(images, pooled)]
            side = torch.arange(images.shape[2] * images.shape[3])[:: max(1, images.shape[2] // 16)]
            rows, cols = side // images.shape[3], side % images.shape[3]
            valid = self.blocks.isfinite().all(dim=1)
            vectors = [sample_maps([m[i : i + 1] for m in maps], rows, cols) for i in range(len(images))]
            keep = torch.cat([valid[i, rows, cols] for i in range(len(images))])
        return pooled.measured, torch.cat(vectors)[keep]

    def features(self, tell: Progress = _silent) -> tuple[Moments, Tensor, Tensor]:
        """Moments, the unlabelled sample's vectors, and the vectors of the labelled pixels."""
        moments, sample = self.measure()
        normalize, labelled = FrozenMoments(moments), []
        order = torch.cat([w.order for w in self.windows])
        with torch.inference_mode():
            for i, window in enumerate(self.windows):
                tell("features", i, len(self.windows))
                image = fill_nodata(window.image[None], self.fill)
                maps = [spectral_maps(image), *self.network.features(image, normalize)]
                labelled.append(sample_maps(maps, window.rows, window.cols))
        vectors = torch.cat(labelled)
        return moments, sample, vectors[torch.argsort(order)]


Features = tuple[Moments, Tensor, Tensor]


def _network_for(start: Start, imagery: Imagery) -> ResNet12:
    try:
        return start.for_bands(imagery.bands.names)
    except ValueError as fault:
        msg = f"the start knows the Sentinel-2 bands B01 to B12, the imagery has {', '.join(imagery.bands.names)}"
        raise CheckpointError(msg, "--bands with the Sentinel-2 bands only") from fault


def _targets(labels: Labels, samples: Int[np.ndarray, " sample"]) -> Tensor:
    position = {code: i for i, code in enumerate(labels.legend.codes)}
    return torch.tensor([position[int(c)] for c in labels.codes[samples]])


def _tuned(
    start: Start, region: Region, features: Features, target: Tensor, folds: np.ndarray, effort: str, tell: Progress
) -> tuple[Region, Features]:
    """The region with a tuned network if that lowers the held-out loss, else as it was."""
    bands = region.blocks.shape[1]
    network = tune_blocks(start, region.network, features, region.windows, region.fill, target, folds, effort, tell)
    tuned = replace(region, network=network)
    after = tuned.features(tell)
    losses = [_held_out_loss(start, f, target, folds, bands) for f in (features, after)]
    return (tuned, after) if losses[1] < losses[0] else (region, features)


def _held_out_loss(start: Start, features: Features, target: Tensor, folds: np.ndarray, bands: int) -> float:
    standardized = start.standardization(features[1], bands)(features[2])
    logits, held = held_out_logits(start, standardized, target, folds)
    return float(balanced_cross_entropy(logits[held], target[held])) if held.any() else 0.0


def held_out_logits(
    start: Start, features: Tensor, target: Tensor, folds: Int[np.ndarray, " sample"]
) -> tuple[Float[Tensor, "sample class"], Tensor]:
    """Logits of every sample from heads fitted without its fold, and which samples have them."""
    classes, fold = int(target.max()) + 1, torch.from_numpy(np.asarray(folds))
    logits = torch.zeros(len(target), classes)
    for k in fold[fold >= 0].unique().tolist():
        train, test = fold != k, fold == k
        logits[test] = start.fit_heads(features[train], target[train], classes)(features[test])
    return logits, fold >= 0


def _finish(
    start: Start, region: Region, features: Features, target: Tensor, labels: Labels, imagery: Imagery
) -> tuple[Ensemble, Tensor]:
    moments, sample, vectors = features
    scaled: Standardization = start.standardization(sample, len(imagery.bands.names))
    standardized = scaled(vectors)
    heads = start.fit_heads(standardized, target, len(labels.legend))
    weight = heads.weight * scaled.gain  # fold the standardization into the heads: they take raw features
    raw = Heads(weight, heads.bias - weight @ scaled.mean)
    return Ensemble(region.network, moments, raw, region.fill, labels.legend, imagery.bands), standardized


def _calibrated(adapted: Adapted, labels: Labels) -> Adapted:
    """Divide the logits by the temperature under which held-out samples are most likely."""
    target = _targets(labels, adapted.samples)
    folds = group_folds(labels.codes[adapted.samples], labels.groups[adapted.samples])
    logits, held = held_out_logits(adapted.start, adapted.features, target, folds)
    if not held.any():
        note = "confidence is not calibrated: no class has two polygons or tiles to hold one out"
        return replace(adapted, warnings=(*adapted.warnings, note))
    losses = [float(balanced_cross_entropy(logits[held] / t, target[held])) for t in _TEMPERATURES]
    factor = 1.0 / float(_TEMPERATURES[int(np.argmin(losses))])
    heads = adapted.ensemble.heads
    calibrated = Heads(heads.weight * factor, heads.bias * factor)
    return replace(adapted, ensemble=replace(adapted.ensemble, heads=calibrated))


def cross_validate(
    adapted: Adapted, labels: Labels, folds: Int[np.ndarray, " sample"]
) -> Int[np.ndarray, " sample"]:
    """Class codes of the adapted samples, each predicted by heads fitted without its fold; -1 where fold is -1.

    The features are those of the adapted network (cached); only the heads are fitted anew.
    """
    target = _targets(labels, adapted.samples)
    logits, held = held_out_logits(adapted.start, adapted.features, target, folds)
    codes = np.array(labels.legend.codes)[logits.argmax(dim=1).numpy()]
    return np.where(held.numpy(), codes, -1)
