"""What to do about moments: own ones a block, blended or not, or frozen for the region, on the same pixels.

Instance norm takes its moments from the block, so blocks that touch disagree: a seam. A `Scheme` is one way
out; `Trained` is the class models fitted under it, which tell the classes of pixels when the raster's origin
or the block grid lies elsewhere too. The heads are linear: blending logits is blending features, which is how
it is done here. The product (`landmeta.prediction`) knows the scheme that won; this module compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.bench.local_moments import MixedMoments, NeighbourhoodMoments
from landmeta.features import fill_nodata, fold
from landmeta.heads import Heads
from landmeta.networks import CONTEXT, ResNet12
from landmeta.norms import Moments, PooledMoments
from landmeta.raster import imagery_of_array
from landmeta.sampling import SUPPORT_LIMIT, region_sample, sample_features, thin_groups
from landmeta.start import Start

SHIFTS = 63
"""Most pixels by which an origin is shifted."""

_AT_ONCE = 16  # blocks of 64 px in one pass
_SAMPLE = 2048  # pixels from which the features' scales are measured


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to take moments and to join blocks.

    Attributes:
        name: For tables.
        moments: `own` of each window; frozen from the `region` as the product samples it, from a `sample` of
            a quarter of the region's windows of `probe` pixels, or from such windows about the `support`.
        core: Side of a block without halo, pixels.
        halo: Pixels read around a block; own moments are those of block and halo.
        blended: Blocks overlap by half, under a Hann window; otherwise they are cut.
        space: What is blended.
        edge: What stands outside the raster: the region's mean (`fill`), or its own pixels in the mirror.
        probe: Side of the windows from which moments of a `sample` or the `support` are measured.
        phases: Pixels (down, right) by which the blocks are moved, once for each: logits are averaged, which
            blurs where the network's pooling windows happen to lie. Not together with `blended`.
        one_phase_fit: The class models are fitted on features of the first phase alone, which costs less.
        own_share: Share of each window's own moments mixed into frozen ones, 0 to 1.
        neighbourhood: Side of the square about each pixel that gives its moments, where they are `own`; the
            whole window if 0.
        local_from: Where moments are frozen and there is a neighbourhood, the first of the network's blocks
            (0 to 3) whose moments it gives.
    """

    name: str
    moments: Literal["own", "region", "sample", "support"]
    core: int
    halo: int = CONTEXT
    blended: bool = False
    space: Literal["logits", "probabilities"] = "logits"
    edge: Literal["fill", "reflect"] = "fill"
    probe: int = 32
    phases: tuple[tuple[int, int], ...] = ((0, 0),)
    one_phase_fit: bool = False
    own_share: float = 0.0
    neighbourhood: int = 0
    local_from: int = 0

    @property
    def sees_blocks(self) -> bool:
        """Whether what a pixel becomes depends on the block it lies in."""
        return self.moments == "own" or self.own_share > 0 or self.neighbourhood > 0


@dataclass(frozen=True, slots=True)
class Views:
    """Pixels as the blocks that hold them see them: (view, pixel) weights that sum to 1, and features."""

    weights: Float[Tensor, "view pixel"]
    features: Float[Tensor, "view pixel feature"]

    @property
    def blended(self) -> Float[Tensor, "pixel feature"]:
        """Weighted mean over the views."""
        return torch.einsum("vn,vnf->nf", self.weights, self.features)


@dataclass(frozen=True, eq=False)
class Place:
    """A scene under one scheme: image (band, y, x) in reflectance, NaN = nodata, and moments if frozen."""

    image: Float[np.ndarray, "band y x"]
    fill: Float[Tensor, " band"]
    network: ResNet12
    scheme: Scheme
    moments: Moments | None = None

    def windows(
        self, corners: Sequence[tuple[int, int]], side: int
    ) -> Float[Tensor, "window band side side"]:
        """Square windows with their first pixel at `corners`, which may lie outside."""
        height, width = self.image.shape[1:]
        cut = []
        for row, col in corners:
            rows, cols = np.arange(row, row + side), np.arange(col, col + side)
            window = self.image[:, _mirrored(rows, height)][:, :, _mirrored(cols, width)]
            if self.scheme.edge == "fill":
                window[:, (rows < 0) | (rows >= height)] = np.nan
                window[:, :, (cols < 0) | (cols >= width)] = np.nan
            cut.append(torch.from_numpy(window))
        return fill_nodata(torch.stack(cut), self.fill)

    def frozen(self, corners: Sequence[tuple[int, int]]) -> Place:
        """The same place with the moments of windows of `probe` pixels at `corners`, frozen."""
        pooled = PooledMoments()
        with torch.inference_mode():
            self.network.features(self.windows(corners, self.scheme.probe), pooled)
        return replace(self, moments=pooled.measured)

    @torch.inference_mode()
    def views(self, index: Int[np.ndarray, " pixel"], origin: tuple[int, int] = (0, 0)) -> Views:
        """Features of pixels (flat row-major indices) in the blocks of a grid that begins at `origin`.

        An origin that is no multiple of 8 moves the network's pooling windows as well, as a raster that
        begins there would.
        """
        rows, cols = np.divmod(index, self.image.shape[2])
        core, reach = self.scheme.core, self.scheme.core // 2
        steps = (
            [(0, 0), (0, reach), (reach, 0), (reach, reach)] if self.scheme.blended else self.scheme.phases
        )
        weights, features = [], []
        for down, right in steps:
            v, u = rows - origin[0] + down, cols - origin[1] + right
            vectors: Tensor | None = None
            for members, found in self._blocks(v // core, u // core, rows, cols, origin, (down, right)):
                if vectors is None:
                    vectors = found.new_empty(len(index), found.shape[1])
                vectors[members] = found
            assert vectors is not None
            features.append(vectors)
            weights.append(_hann(v % core, core) * _hann(u % core, core))
        if not self.scheme.blended:
            weights = [torch.full((len(index),), 1 / len(steps))] * len(steps)
        return Views(torch.stack(weights), torch.stack(features))

    def _features(self) -> Callable[[Tensor], list[Tensor]]:
        """The network's depths of a batch of windows under the scheme's moments."""
        scheme, features = self.scheme, self.network.features
        if scheme.neighbourhood:
            window = scheme.core + 2 * scheme.halo
            before = tuple(f"block{i + 1}." for i in range(scheme.local_from))
            frozen = {n: m for n, m in (self.moments or {}).items() if n.startswith(before)}
            return partial(features, normalize=NeighbourhoodMoments(scheme.neighbourhood, window, frozen))
        if self.moments is None:
            return features
        if scheme.own_share:
            return partial(features, normalize=MixedMoments(self.moments, scheme.own_share))
        return fold(self.network, self.moments).features

    def _blocks(
        self,
        block_rows: Int[np.ndarray, " pixel"],
        block_cols: Int[np.ndarray, " pixel"],
        rows: Int[np.ndarray, " pixel"],
        cols: Int[np.ndarray, " pixel"],
        origin: tuple[int, int],
        step: tuple[int, int],
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels of each block, as places in the index, with their feature vectors."""
        core, halo = self.scheme.core, self.scheme.halo
        blocks, of = np.unique(np.stack([block_rows, block_cols]), axis=1, return_inverse=True)
        corners = [
            (int(r) * core + origin[0] - step[0] - halo, int(c) * core + origin[1] - step[1] - halo)
            for r, c in blocks.T
        ]
        features, side = self._features(), core + 2 * halo
        chunk = max(1, _AT_ONCE * 64**2 // side**2)
        for first in range(0, len(corners), chunk):
            images = self.windows(corners[first : first + chunk], side)
            depths = features(images)
            for i in range(len(images)):
                members = np.flatnonzero(of.ravel() == first + i)
                at = [
                    torch.from_numpy(p[members] - corner)
                    for p, corner in zip((rows, cols), corners[first + i], strict=True)
                ]
                yield (
                    torch.from_numpy(members),
                    sample_features(images[i : i + 1], [d[i : i + 1] for d in depths], at[0], at[1]),
                )


def _mirrored(at: Int[np.ndarray, " n"], size: int) -> Int[np.ndarray, " n"]:
    """Positions inside 0..size-1 that mirror those outside at the edge pixel, as often as needed."""
    period = max(2 * (size - 1), 1)
    folded = np.abs(at) % period
    inside: np.ndarray = np.where(folded < size, folded, period - folded)
    return inside


def _hann(at: Int[np.ndarray, " pixel"], core: int) -> Float[Tensor, " pixel"]:
    """Weight of positions in a block; those of two blocks that overlap by half sum to 1."""
    return torch.sin(torch.pi * (torch.from_numpy(at).float() + 0.5) / core) ** 2


def fitting(scheme: Scheme, views: Views) -> Float[Tensor, "pixel feature"]:
    """What the class models of a scheme are fitted on: blended features, or those of the first phase."""
    return views.features[0] if scheme.one_phase_fit else views.blended


@dataclass(frozen=True, slots=True)
class Scores:
    """What pixels score as the classes of `codes`."""

    codes: Int[np.ndarray, " class"]
    values: Float[np.ndarray, "pixel class"]

    @property
    def classes(self) -> Int[np.ndarray, " pixel"]:
        """Class codes of pixels."""
        found: Int[np.ndarray, " pixel"] = self.codes[self.values.argmax(axis=1)]
        return found

    def averaged(self, other: Scores, share: float) -> Scores:
        """The average with the scores of other models of the same classes, theirs with `share`."""
        return Scores(self.codes, (1 - share) * self.values + share * other.values)


@dataclass(frozen=True)
class Trained:
    """Class models under a scheme; `heads` take standardized features, `codes` are those of their outputs."""

    place: Place
    mean: Tensor
    gain: Tensor
    heads: Heads
    codes: Int[np.ndarray, " class"]

    def scores(self, views: Views) -> Scores:
        """Logits of pixels, or probabilities if the scheme blends those."""
        if self.place.scheme.space == "logits":
            found = self.heads((views.blended - self.mean) * self.gain)
        else:
            each = torch.stack([self.heads((v - self.mean) * self.gain) for v in views.features]).softmax(-1)
            found = torch.einsum("vn,vnc->nc", views.weights, each)
        return Scores(self.codes, found.numpy())


def place_for(
    scheme: Scheme,
    image: Float[np.ndarray, "band y x"],
    names: tuple[str, ...],
    start: Start,
    support: Int[np.ndarray, " support"],
) -> Place:
    """The scene with what the scheme measures on it before any block is mapped.

    `support` are flat indices of labelled pixels, one for each window about the support.
    """
    imagery, rng = imagery_of_array(image, names), np.random.default_rng(0)
    fill, windows = region_sample(imagery, rng)
    place = Place(image, fill, start.for_bands(names), scheme)
    probe, (height, width) = scheme.probe, imagery.shape
    if scheme.moments == "region":
        pooled = PooledMoments()
        with torch.inference_mode():
            place.network.features(fill_nodata(torch.stack([w.image for w in windows]), fill), pooled)
        return replace(place, moments=pooled.measured)
    if scheme.moments == "sample":
        corners = [(r, c) for r in range(0, height, probe) for c in range(0, width, probe)]
        return place.frozen([corners[i] for i in rng.permutation(len(corners))[: max(1, len(corners) // 4)]])
    if scheme.moments == "support":
        rows, cols = np.divmod(support, width)
        corners = list(zip((rows - probe // 2).tolist(), (cols - probe // 2).tolist(), strict=True))
        return place.frozen(corners)
    return place


def region_pixels(image: Float[np.ndarray, "band y x"], seed: int = 0) -> Int[np.ndarray, " pixel"]:
    """Flat indices of unlabelled pixels with data, from 8 spots, whose features set the scales."""
    rng, (height, width) = np.random.default_rng(seed), image.shape[1:]
    valid, spots, side = np.isfinite(image).all(axis=0), 8, 96
    found = []
    for _ in range(spots):
        row, col = (int(rng.integers(0, max(size - side, 0) + 1)) for size in (height, width))
        inside = np.zeros_like(valid)
        inside[row : row + side, col : col + side] = True
        found.append(rng.permutation(np.flatnonzero(inside & valid))[: _SAMPLE // spots])
    return np.unique(np.concatenate(found))


@torch.no_grad()
def fit(
    place: Place,
    start: Start,
    sample: Float[Tensor, "pixel feature"],
    support: Float[Tensor, "support feature"],
    codes: Int[np.ndarray, " support"],
) -> Trained:
    """Fit the class models on blended features of the support, scaled by those of the region's sample."""
    scale = start.standardization(sample, len(place.image))
    values, target = np.unique(codes, return_inverse=True)
    heads = start.fit_heads(scale(support), torch.from_numpy(target), len(values))
    return Trained(place, scale.mean, scale.gain, heads, values)


def thinned(
    codes: Int[np.ndarray, " support"], groups: Int[np.ndarray, " support"] | None, seed: int
) -> Int[np.ndarray, " support"]:
    """The support samples that adaptation keeps: at most `SUPPORT_LIMIT` a class."""
    apart = np.arange(len(codes)) if groups is None else groups
    return thin_groups(codes, apart, SUPPORT_LIMIT, np.random.default_rng(seed))
