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

from landmeta.start import Start, balanced_cross_entropy, feature_maps, image_vectors, pixel_vectors


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
    maps = feature_maps(start, episode.images, episode.bands)
    flat = pixel_vectors(maps) if episode.dense else image_vectors(maps)
    sample = flat[:: max(1, len(flat) // 2048)]
    scaled = start.standardization(sample, len(episode.bands))
    support = scaled(flat[episode.support])
    heads = start.fit_heads(support, episode.support_target, episode.classes)
    logits: Tensor = heads(scaled(flat[episode.query]))
    return logits


def draw_pixels(
    target: Int[np.ndarray, " pixel"], classes: Sequence[int], limit: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Up to `limit` random pixels a class: flat indices and class positions within `classes`."""
    drawn = [rng.permutation(np.flatnonzero(target == k))[:limit] for k in classes]
    index = torch.from_numpy(np.concatenate(drawn))
    return index, torch.cat([torch.full((len(d),), i) for i, d in enumerate(drawn)])


def draw_patches(
    target: Int[np.ndarray, "y x"], classes: Sequence[int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """All pixels of each class within 2 to 8 random windows of 3 to 9 px: indices and class positions."""
    patches, reach = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    drawn = []
    for k in classes:
        near = np.zeros(target.shape, dtype=bool)
        for y, x in rng.permutation(np.argwhere(target == k))[:patches]:
            near[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
        drawn.append(np.flatnonzero(near & (target == k)))
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

    The support is single pixels (`shots` of a class) or small patches, one as often as the other. Classes
    need 60 pixels on both sides. Returns None where fewer than two classes qualify.
    """
    column = np.arange(labels.size) % labels.shape[1]
    middle = labels.shape[1] // 2
    flat = labels.ravel()
    left = np.where(column < middle - gap // 2, flat, -1)
    right = np.where(column >= middle + gap // 2, flat, -1)
    classes = [int(k) for k in np.unique(flat) if k >= 0 and min((left == k).sum(), (right == k).sum()) >= 60]
    if len(classes) < 2:
        return None
    if rng.random() < 0.5:
        support, support_target = draw_pixels(left, classes, int(rng.choice(shots)), rng)
    else:  # as an analyst draws polygons: many pixels that tell little more than a few
        support, support_target = draw_patches(left.reshape(labels.shape), classes, rng)
    query, query_target = draw_pixels(right, classes, 150, rng)
    images = torch.from_numpy(np.ascontiguousarray(image)[None])
    return Episode(images, bands, len(classes), support, support_target, query, query_target)


def varied(
    image: Float[np.ndarray, "band y x"],
    labels: Int[np.ndarray, "y x"],
    bands: tuple[str, ...],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "kept v u"], Int[np.ndarray, "v u"], tuple[str, ...]]:
    """The scene as another sensor might have seen it: turned, brighter, finer, with fewer bands.

    Turned and mirrored at random; reflectance times a common factor (10 %) and one a band (5 %); three times
    in ten a window of half the side at twice the resolution, for imagery finer than that of the archives.
    """
    turn, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, labels = (np.rot90(a, turn, axes=(-2, -1)) for a in (image, labels))
    if flip:
        image, labels = image[..., ::-1], labels[..., ::-1]
    if rng.random() < 0.3:
        image, labels = _doubled(image, labels, rng)
    keep = band_subset(len(bands), rng)
    gain = np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.05, len(keep))).astype(np.float32)
    return image[keep] * gain[:, None, None], labels, tuple(bands[i] for i in keep)


def _doubled(
    image: Float[np.ndarray, "band y x"], labels: Int[np.ndarray, "y x"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "band y x"], Int[np.ndarray, "y x"]]:
    """A window of half the side at twice the resolution; the labels keep their codes."""
    height, width = labels.shape
    top, left = int(rng.integers(height // 2 + 1)), int(rng.integers(width // 2 + 1))
    window = np.s_[..., top : top + height // 2, left : left + width // 2]
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(image[window]))[None], scale_factor=2.0, mode="bilinear"
    )
    return fine[0].numpy(), labels[window].repeat(2, axis=0).repeat(2, axis=1)


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
