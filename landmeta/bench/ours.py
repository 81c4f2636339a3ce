"""landmeta as a classifier of the acceptance protocols: the same path as `landmeta adapt` at quick effort."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.bench.acceptance import Classifiers
from landmeta.checkpoints import load_start
from landmeta.norms import PooledMoments
from landmeta.raster import imagery_of_array
from landmeta.sampling import SUPPORT_LIMIT, Region, label_windows, region_sample, thin_groups
from landmeta.start import Start, tile_features

_TILES_AT_ONCE = 32
_MOMENT_PIXELS = 24 * 128**2  # of the tiles from which moments are measured
_KEEP_ALL = 256 * 256  # pixels of a scene whose vectors are kept for all support draws: 150 MB


@dataclass(frozen=True)
class PreparedScene:
    """Standardized feature vectors of the pixels of one scene, computed where they are first asked for."""

    start: Start
    region: Region
    image: Float[np.ndarray, "band y x"]
    names: tuple[str, ...]

    def classify(
        self,
        train_index: Int[np.ndarray, " support"],
        train_codes: Int[np.ndarray, " support"],
        query_index: Int[np.ndarray, " query"],
        seed: int,
        groups: Int[np.ndarray, " support"] | None = None,
    ) -> Int[np.ndarray, " query"]:
        """Fit the heads on at most `SUPPORT_LIMIT` support pixels a class and classify the query pixels."""
        rng = np.random.default_rng(seed)
        apart = np.arange(len(train_index)) if groups is None else groups
        kept = thin_groups(train_codes, apart, SUPPORT_LIMIT, rng)
        codes, target = np.unique(train_codes[kept], return_inverse=True)
        vectors = self._vectors_at(np.concatenate([train_index[kept], query_index]))
        support, query = vectors[: len(kept)], vectors[len(kept) :]
        heads = self.start.fit_heads(support, torch.from_numpy(target), len(codes))
        chosen: Int[np.ndarray, " query"] = codes[heads(query).argmax(dim=1).numpy()]
        return chosen

    def _vectors_at(self, index: Int[np.ndarray, " pixel"]) -> Tensor:
        if self.image[0].size <= _KEEP_ALL:
            return self._all_vectors[torch.from_numpy(index)]
        return self._vectors(index)

    @cached_property
    def _all_vectors(self) -> Tensor:
        return self._vectors(np.arange(self.image[0].size))

    def _vectors(self, index: Int[np.ndarray, " pixel"]) -> Tensor:
        imagery = imagery_of_array(self.image, self.names)
        rows, cols = np.divmod(index, self.image.shape[2])
        region = Region(
            self.region.network, self.region.fill, self.region.blocks, label_windows(imagery, rows, cols)
        )
        features = region.features()
        return self.start.standardization(features.sample, len(self.names))(features.labelled)


@dataclass(frozen=True)
class PixelHeads:
    """Pixel classifier: `prepare` measures the scene's moments once for all support draws."""

    start: Start

    def prepare(self, image: Float[np.ndarray, "band y x"], band_names: tuple[str, ...]) -> PreparedScene:
        """Take in one scene of reflectance."""
        fill, blocks = region_sample(imagery_of_array(image, band_names), np.random.default_rng(0))
        region = Region(self.start.for_bands(band_names), fill, blocks, [])
        return PreparedScene(self.start, region, image, band_names)


@dataclass(frozen=True)
class TileHeads:
    """Tile classifier: heads on the feature vector of each tile (`start.tile_features`)."""

    start: Start

    def __call__(
        self,
        support: Float[np.ndarray, "support band y x"],
        codes: Int[np.ndarray, " support"],
        query: Float[np.ndarray, "query band y x"],
        band_names: tuple[str, ...],
        seed: int,
    ) -> Int[np.ndarray, " query"]:
        """Fit the heads on the support tiles and classify the query tiles.

        Moments and scales are measured on all of them, without labels.
        """
        tiles = np.concatenate([support, query]).astype(np.float32, copy=False)
        vectors = self._vectors(torch.from_numpy(tiles), band_names, np.random.default_rng(seed))
        scaled = self.start.tile_standardization(vectors, len(band_names))(vectors)
        values, target = np.unique(codes, return_inverse=True)
        heads = self.start.fit_heads(scaled[: len(support)], torch.from_numpy(target), len(values))
        chosen: Int[np.ndarray, " query"] = values[heads(scaled[len(support) :]).argmax(dim=1).numpy()]
        return chosen

    @torch.inference_mode()
    def _vectors(
        self, tiles: Float[Tensor, "n band y x"], names: tuple[str, ...], rng: np.random.Generator
    ) -> Tensor:
        network, pooled = self.start.for_bands(names), PooledMoments()
        few = max(1, min(len(tiles), _MOMENT_PIXELS // tiles[0, 0].numel()))
        network.features(tiles[torch.from_numpy(rng.permutation(len(tiles))[:few])], pooled)
        return torch.cat([tile_features(network, t, pooled.measured) for t in tiles.split(_TILES_AT_ONCE)])


def our_classifiers(checkpoint: Path | None = None) -> Classifiers:
    """Landmeta's classifiers with the shipped starter, or the start in `checkpoint`."""
    start, header = load_start(checkpoint)
    trained_on = tuple(header["training"].get("trained_on", ()))
    return Classifiers(PixelHeads(start), TileHeads(start), trained_on)
