"""Rivals that learn a task from its support alone: forest and regression on simple or random features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int

from landmeta.bench.evaluation import Answers
from landmeta.rivals import Fit, logistic_regression, random_forest, tile_statistics

_FILTERS = 256
_SIDE = 5
_SURE = 1e-4  # probabilities are held this far from 0 and 1: their logits stay finite

Describe: TypeAlias = Callable[[Float32[np.ndarray, "tile band y x"]], Float[np.ndarray, "tile feature"]]
"""Features of tiles."""


@dataclass(frozen=True, slots=True)
class TileRival:
    """A classifier on features of tiles (see `landmeta.bench.evaluation.Contender`)."""

    describe: Describe
    fit: Fit
    seed: int
    depends_on_batch: bool = False

    def learn(
        self, images: Float32[np.ndarray, "support band y x"], positions: Int[np.ndarray, "support"]
    ) -> Answers:
        """Train on the support; the logits of its answers are those of the classes' probabilities."""
        fitted = self.fit(self.describe(images), positions, self.seed)

        def answer(
            query: Float32[np.ndarray, "query band y x"], batches: Sequence[Int[np.ndarray, "_"]]
        ) -> Float[np.ndarray, "query class"]:
            del batches
            odds = np.clip(fitted.predict_proba(self.describe(query)), _SURE, 1 - _SURE)
            logits: np.ndarray = np.log(odds / (1 - odds)).astype(np.float32)
            return logits

        return answer


def band_statistics(images: Float32[np.ndarray, "tile band y x"]) -> Float[np.ndarray, "tile feature"]:
    """Five figures a band: mean, deviation, two percentiles and texture."""
    return np.stack([tile_statistics(image) for image in images])


@dataclass(frozen=True, slots=True)
class RandomFilters:
    """Mean response to random filters and to their negatives, rectified, as in MOSAIKS.

    The filters are normal noise, a filter's mean taken out so that none only measures brightness; the
    means of the bands stand beside the responses.
    """

    seed: int

    def __call__(self, images: Float32[np.ndarray, "tile band y x"]) -> Float[np.ndarray, "tile feature"]:
        """Features (tile, 2 * filters + bands)."""
        bands = images.shape[1]
        generator = torch.Generator().manual_seed(self.seed)
        filters = torch.randn(_FILTERS, bands, _SIDE, _SIDE, generator=generator)
        filters -= filters.mean(dim=(1, 2, 3), keepdim=True)
        filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
        rows = []
        for image in torch.from_numpy(images):  # one at a time bounds the memory
            response = F.conv2d(image[None], filters)[0]
            parts = [F.relu(response).mean((1, 2)), F.relu(-response).mean((1, 2)), image.mean((1, 2))]
            rows.append(torch.cat(parts))
        found: np.ndarray = torch.stack(rows).numpy()
        return found


def tile_rival(name: str, seed: int) -> TileRival:
    """The rival of a name in `landmeta.bench.presets.SUPPORT_RIVALS`."""
    made: Mapping[str, TileRival] = {
        "random_forest": TileRival(band_statistics, random_forest, seed),
        "logistic_regression": TileRival(band_statistics, logistic_regression, seed),
        "random_features": TileRival(RandomFilters(seed), logistic_regression, seed),
    }
    return made[name]
