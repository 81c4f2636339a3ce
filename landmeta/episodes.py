"""Episodes of the starter: heads are fitted in closed form on a support set and judged on a query set.

The loop is visible: draw an episode, compute features, fit the heads on the support, back-propagate the
query loss through the fit into the network, step. Sources of episodes are callables. Meta-training by
gradient steps on tasks of whole tiles is `landmeta.metatraining`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.start import Start, balanced_cross_entropy, pixel_features


@dataclass(frozen=True, slots=True)
class Episode:
    """A task of one region: images with labelled support and query samples.

    Attributes:
        images: Reflectances (n, band, y, x), no NaN.
        bands: Canonical names of the bands.
        classes: Number of classes.
        support: Flat indices of support samples; pixels (image, y, x) if `dense`, else images.
        support_target: Class index of each support sample.
        query: Flat indices of query samples.
        query_target: Class index of each query sample.
        dense: Whether samples are pixels (True) or whole images.
    """

    images: Tensor
    bands: tuple[str, ...]
    classes: int
    support: Tensor
    support_target: Tensor
    query: Tensor
    query_target: Tensor
    dense: bool = True


EpisodeSource = Callable[[np.random.Generator], Episode]


def episode_logits(start: Start, episode: Episode) -> Float[Tensor, "query class"]:
    """Adapt heads to the episode's support and return the query logits (one pure inner step)."""
    maps = pixel_features(start, episode.images, episode.bands)
    flat = maps.permute(0, 2, 3, 1).flatten(0, 2) if episode.dense else maps.mean(dim=(2, 3))
    sample = flat[:: max(1, len(flat) // 2048)]
    scaled = start.standardization(sample, len(episode.bands))
    heads = start.fit_heads(scaled(flat[episode.support]), episode.support_target, episode.classes)
    logits: Tensor = heads(scaled(flat[episode.query]))
    return logits


def draw_pixels(
    target: Int[np.ndarray, " pixel"], classes: Sequence[int], limit: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Up to `limit` random pixels a class: flat indices and class positions within `classes`."""
    drawn = [rng.permutation(np.flatnonzero(target == k))[:limit] for k in classes]
    index = torch.from_numpy(np.concatenate(drawn))
    return index, torch.cat([torch.full((len(d),), i) for i, d in enumerate(drawn)])


def halves_episode(
    image: Float[np.ndarray, "band y x"],
    labels: Int[np.ndarray, "y x"],
    bands: tuple[str, ...],
    rng: np.random.Generator,
    *,
    shots: Sequence[int] = (3, 5, 5, 10, 20, 40),
    gap: int = 16,
) -> Episode | None:
    """An episode inside one scene: support from its left part, query from the right, `gap` pixels between.

    Flips and rotations move the parts to every side; classes need 60 pixels on both sides. Returns None
    where fewer than two classes qualify.
    """
    turn, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, labels = (np.rot90(a, turn, axes=(-2, -1)) for a in (image, labels))
    if flip:
        image, labels = image[..., ::-1], labels[..., ::-1]
    column = np.arange(labels.size) % labels.shape[1]
    middle = labels.shape[1] // 2
    flat = labels.ravel()
    left = np.where(column < middle - gap // 2, flat, -1)
    right = np.where(column >= middle + gap // 2, flat, -1)
    classes = [int(k) for k in np.unique(flat) if k >= 0 and min((left == k).sum(), (right == k).sum()) >= 60]
    if len(classes) < 2:
        return None
    support, support_target = draw_pixels(left, classes, int(rng.choice(shots)), rng)
    query, query_target = draw_pixels(right, classes, 150, rng)
    keep = band_subset(len(bands), rng)
    images = torch.from_numpy(np.ascontiguousarray(image[keep])[None])
    names = tuple(bands[i] for i in keep)
    return Episode(images, names, len(classes), support, support_target, query, query_target)


def band_subset(bands: int, rng: np.random.Generator) -> list[int]:
    """All bands half of the time, else a random subset of at least three (or all if there are fewer)."""
    if bands <= 3 or rng.random() < 0.5:
        return list(range(bands))
    return sorted(rng.permutation(bands)[: int(rng.integers(3, bands + 1))].tolist())


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Outer loop: Adam with a cosine schedule; `tasks` episodes a step; gradient norm clipped at `clip`."""

    steps: int = 1000
    tasks: int = 4
    rate: float = 1e-3
    head_rate: float = 1e-2
    clip: float = 1.0
    seed: int = 0


def train(
    start: Start,
    source: EpisodeSource,
    settings: TrainSettings,
    after_step: Callable[[int, float], bool] = lambda _step, _loss: True,
) -> None:
    """Meta-train `start` in place; `after_step(step, loss)` may log, save, and end the run by False."""
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.Adam(
        [
            {"params": list(start.network.blocks.parameters()), "lr": settings.rate},
            {"params": [start.log_scale, start.log_ridge, start.log_temperature], "lr": settings.head_rate},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [settings.rate, settings.head_rate], total_steps=settings.steps + 1, pct_start=0.1
    )
    for step in range(1, settings.steps + 1):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(settings.tasks):
            episode = source(rng)
            loss = balanced_cross_entropy(episode_logits(start, episode), episode.query_target)
            (loss / settings.tasks).backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(start.parameters(), settings.clip)
        optimizer.step()
        schedule.step()
        if not after_step(step, total / settings.tasks):
            break
