"""The naive reference that speed is measured against: METEOR's published way, in the same code base.

It adapts one class after the other with the whole network in every step (`published`), and maps with
overlapping windows, one class model after the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.checkpoints import load_start
from landmeta.labels import Labels
from landmeta.networks import ResNet12
from landmeta.published import STEPS, TILE, adapt_class, adapt_published
from landmeta.raster import Imagery
from landmeta.sampling import group_tiles, region_sample

SAMPLE_STEPS, SAMPLE_WINDOWS, WINDOW_STRIDE = 6, 64, 8
_WINDOWS_AT_ONCE = 16


def _network(bands: Sequence[str]) -> ResNet12:
    return load_start()[0].for_bands(bands)


def time_adaptation(tiles: Float[Tensor, "n band y x"], bands: Sequence[str], classes: int) -> float:
    """Seconds of adapting all classes, scaled linearly from `SAMPLE_STEPS` steps of one class."""
    network = _network(bands)
    positive = (torch.arange(len(tiles)) % classes == 0).long()
    generator = torch.Generator().manual_seed(0)
    begun = time.perf_counter()
    adapt_class(network, tiles, positive, generator, SAMPLE_STEPS)
    return (time.perf_counter() - begun) * STEPS / SAMPLE_STEPS * classes


def time_mapping(tiles: Float[Tensor, "n band y x"], bands: Sequence[str], side: int, classes: int) -> float:
    """Seconds of mapping side x side pixels by windows, scaled linearly from `SAMPLE_WINDOWS` windows."""
    network = _network(bands)
    chosen = torch.arange(SAMPLE_WINDOWS) % len(tiles)
    with torch.inference_mode():
        begun = time.perf_counter()
        for batch in chosen.split(_WINDOWS_AT_ONCE):
            network(tiles[batch])
        seconds = time.perf_counter() - begun
    windows = ((side - TILE) // WINDOW_STRIDE + 1) ** 2
    return seconds * windows / SAMPLE_WINDOWS * classes


def classify_pixels(
    imagery: Imagery,
    labels: Labels,
    rows: Int[np.ndarray, " query"],
    cols: Int[np.ndarray, " query"],
    *,
    side: int,
    steps: int = STEPS,
    seed: int = 0,
) -> Int[np.ndarray, " query"]:
    """Codes of pixels by the reference: adapted to tiles around the label groups, a window around each pixel.

    Args:
        imagery: The scene.
        labels: Its labels; the tile around each group counts as a whole for the group's class.
        rows: Rows of the pixels to classify.
        cols: Their columns.
        side: Side of tiles and windows in pixels.
        steps: Steps of each class model.
        seed: Seed of the minibatches.
    """
    tiles, target, _ = group_tiles(imagery, labels, np.random.default_rng(seed), side=side)
    fill, _ = region_sample(imagery, np.random.default_rng(seed), labels)
    network = _network(imagery.bands.names)
    model = adapt_published(
        network, tiles, target, fill, labels.legend, imagery.bands, seed=seed, steps=steps
    )
    logits = []
    for part in torch.arange(len(rows)).split(_WINDOWS_AT_ONCE * (TILE // side) ** 2):
        corners = [(int(rows[i]) - side // 2, int(cols[i]) - side // 2) for i in part.tolist()]
        windows = np.stack([imagery.read(row, col, side, side) for row, col in corners])
        logits.append(model.tile_logits(torch.from_numpy(windows)))
    codes: Int[np.ndarray, " query"] = np.array(labels.legend.codes)[torch.cat(logits).argmax(dim=1).numpy()]
    return codes
