"""Where things are in a simulated landscape: relief, waters, towns, roads, parcels and land cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.sparse.csgraph import minimum_spanning_tree
from shapely import MultiPoint

from landmeta_catalog.noise import (
    Field,
    Mask,
    Points,
    draw,
    draw_line,
    fractal,
    meander,
    voronoi_cells,
    wiggly,
)

FOREST, GRASSLAND, WETLANDS, CROPLANDS, URBAN, BARREN, WATER = 1, 4, 5, 6, 7, 9, 10
SHARES: Mapping[int, float] = {
    FOREST: 0.35, GRASSLAND: 0.18, WETLANDS: 0.025, CROPLANDS: 0.30, URBAN: 0.07, BARREN: 0.015, WATER: 0.06,
}  # fmt: skip
"""Share of each class code in the default scene; croplands take what the others leave."""


@dataclass(frozen=True, slots=True)
class Waters:
    """Masks (y, x) of flowing and standing water, and pixels to the nearest of either."""

    river: Mask
    streams: Mask
    lake: Mask
    distance: Field

    @property
    def all(self) -> Mask:
        """Every water pixel."""
        return self.river | self.streams | self.lake


@dataclass(frozen=True, slots=True)
class Towns:
    """Places by size: centres (town, 2) as (x, y), radii in pixels, bearing of the streets."""

    centres: Points
    radii: Points
    bearings: Points
    nearest: npt.NDArray[np.int32]
    """Number of the place whose influence is strongest, (y, x)."""
    reach: Field
    """1 at that place's centre, 0 at its radius, negative outside, (y, x)."""


@dataclass(frozen=True, slots=True)
class Parcels:
    """Agricultural parcels: number (y, x) from 0, count, and metres across the tillage direction."""

    number: npt.NDArray[np.int32]
    count: int
    across: Field
    edge: Mask

    def mean(self, field: npt.NDArray[np.floating]) -> Points:
        """Mean of `field` (y, x) in each parcel, (parcel,)."""
        total = np.bincount(self.number.ravel(), field.ravel(), self.count)
        return np.asarray(total / np.bincount(self.number.ravel(), minlength=self.count))


@dataclass(frozen=True, slots=True)
class Landscape:
    """The layout of a scene; arrays are (y, x), heights in metres."""

    truth: npt.NDArray[np.uint8]
    height: Field
    waters: Waters
    towns: Towns
    parcels: Parcels
    roads: Mask
    scale: float
    """Size of features relative to the default scene."""


def lay_out(rng: np.random.Generator, size: int, scale: float, shares: Mapping[int, float]) -> Landscape:
    """Lay out a landscape of `size` x `size` pixels with about the given class shares (sum <= 1)."""
    river, streams = _courses(rng, size, scale)
    height = _relief(rng, river, streams, scale)
    waters = _fill_lake(rng, river, streams, height, scale, int(shares[WATER] * size * size))
    towns = _found_towns(rng, waters, height, scale, shares[URBAN])
    roads = _build_roads(rng, towns, waters.lake, scale)
    parcels = _divide(rng, size, scale)
    truth = _cover(rng, (height, waters, towns, parcels, roads), scale, shares)
    return Landscape(truth, height, waters, towns, parcels, roads, scale)


def take(score: Field, free: Mask, count: int) -> Mask:
    """The `count` free pixels of highest score; all of them if there are fewer."""
    values = score[free]
    if count <= 0 or values.size == 0:
        return np.zeros_like(free)
    if count >= values.size:
        return free.copy()
    least = np.partition(values, values.size - count)[values.size - count]
    return np.asarray(free & (score >= least), bool)


def distance_to(mask: Mask) -> Field:
    """Pixels to the nearest true pixel (y, x); the side of the scene where there is none."""
    if not mask.any():
        return np.full(mask.shape, mask.shape[0], np.float32)
    return np.asarray(ndimage.distance_transform_edt(~mask), np.float32)


def _courses(rng: np.random.Generator, size: int, scale: float) -> tuple[Mask, list[Points]]:
    """The main river's mask with its oxbows, and the streams' centre lines, lake stream first."""
    bearing = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(bearing), np.sin(bearing)])
    across = np.array([-along[1], along[0]])
    middle = size / 2 + across * rng.uniform(-0.22, 0.22) * size
    ends = middle - 0.8 * size * along, middle + 0.8 * size * along
    width = max(12 * scale, 3.0)
    wavelength = 11 * width + 20 * scale
    main = meander(rng, *ends, wavelength=wavelength, swing=1.0, wander=0.35)
    mask = draw_line(main, width, size)
    oxbows = meander(rng, *ends, wavelength=wavelength, swing=1.25, wander=0.2)
    offset = main[len(main) // 2] - oxbows[len(oxbows) // 2]
    keep = np.cumsum(rng.uniform(0, 1, len(oxbows)) < 1 / 20) % 6 == 0
    for piece in np.split(np.arange(len(oxbows)), np.flatnonzero(np.diff(keep)) + 1):
        if keep[piece[0]] and len(piece) > 5:
            mask |= draw_line(oxbows[piece] + offset, max(3.5 * scale, 2), size)
    streams = []
    for side in (1, -1, 1, -1) if size > 400 else (1, -1):
        mouth = main[int(len(main) * rng.uniform(0.25, 0.75))]
        source = mouth + side * across * size * rng.uniform(0.6, 0.9) + along * size * rng.uniform(-0.4, 0.4)
        streams.append(meander(rng, source, mouth, wavelength=30 * scale + 8, swing=0.75, wander=0.5))
    return mask, streams


def _relief(rng: np.random.Generator, river: Mask, streams: list[Points], scale: float) -> Field:
    """Height in metres: a flood plain along the river, hills away from it, valleys along streams."""
    size = len(river)
    rolling = fractal(rng, size, longest=420 * scale, shortest=14 * scale + 2, hurst=0.95)
    ridged = 1.0 - np.abs(fractal(rng, size, longest=260 * scale, shortest=12 * scale + 2, hurst=0.9))
    away = distance_to(river) / (300 * scale)
    plain = 1 - np.exp(-((away + 0.12 * rolling).clip(0) ** 2))
    valley = np.zeros_like(river)
    for stream in streams:
        valley |= draw_line(stream, 2, size)
    cut = np.exp(-distance_to(valley) / (45 * scale))
    height = plain * (150 + 110 * rolling + 90 * ridged) * (1 - 0.55 * cut) - 12 * cut
    return np.asarray(scale * height, np.float32)


def _fill_lake(
    rng: np.random.Generator, river: Mask, streams: list[Points], height: Field, scale: float, area: int
) -> Waters:
    """Draw the streams and dam the first one so that water covers `area` pixels in all."""
    size = len(river)
    mask = np.zeros_like(river)
    for stream in streams:
        mask |= draw_line(stream, max(2.4 * scale, 1.6), size)
    inside = [p for p in streams[0][::4] if 0.15 * size < p.min() and p.max() < 0.85 * size]
    at = int(len(inside) * rng.uniform(0.2, 0.6))
    centre = inside[at] if inside else np.full(2, size / 2)
    valley = inside[min(at + 5, len(inside) - 1)] - inside[max(at - 5, 0)] if inside else np.ones(2)
    missing = area - int((river | mask).sum())
    lake = np.zeros_like(river)
    if missing > 0:
        y, x = np.ogrid[:size, :size]
        radius = np.sqrt(missing / np.pi)
        cos, sin = valley / max(float(np.hypot(*valley)), 1e-6)
        along = (x - centre[0]) * cos + (y - centre[1]) * sin
        across = (y - centre[1]) * cos - (x - centre[0]) * sin
        distance = np.hypot(along / 1.6, across * 1.6).astype(np.float32) / radius
        low = (height - height.min()) / max(float(np.ptp(height)), 1e-6)
        score = -distance - 2.5 * low + 0.22 * fractal(rng, size, longest=1.6 * radius, hurst=0.75)
        lake = take(score.astype(np.float32), ~(river | mask), missing)
        lake = np.asarray(ndimage.binary_opening(lake, iterations=2)) if scale > 0.3 else lake
    # What the lake encloses of the streams' beds, and specks of land, belong to it.
    lake |= np.asarray(ndimage.binary_closing(lake, iterations=max(int(9 * scale), 1))) & (river | mask)
    lake = np.asarray(ndimage.binary_closing(lake | river, iterations=2)) & (lake | ~river)
    return Waters(river & ~lake, mask & ~lake, lake, distance_to(river | mask | lake))


def _found_towns(
    rng: np.random.Generator, waters: Waters, height: Field, scale: float, share: float
) -> Towns:
    """Choose places near, not in, the water and low down; one city, a few towns, many villages."""
    size = len(height)
    kinds = np.array([110, 62, 54, 44] + [17] * 6 + [11] * 14, float)
    sizes = kinds[: max(int(24 * (size / (1200 * scale)) ** 2), 2)]
    sizes = sizes * size * np.sqrt(0.85 * share / (np.pi * (sizes**2).sum()))
    candidates = rng.integers(0, size, (600, 2))
    x, y = candidates.T
    water, low = waters.distance[y, x], height[y, x] / (150 * scale)
    score = -np.abs(water / (70 * scale) - 1.0).clip(0, 4) * 0.3 - 2 * low + 0.5 * rng.standard_normal(600)
    score[water < 8 * scale] -= 10
    chosen: list[int] = []
    for radius in sizes:
        apart = np.full(600, np.inf)
        for c, r in zip(chosen, sizes, strict=False):
            apart = np.minimum(apart, np.hypot(*(candidates - candidates[c]).T) - r)
        edge = np.minimum(candidates.min(1), size - 1 - candidates.max(1))
        usable = np.where((apart > 1.3 * radius + 35 * scale) & (edge > 0.6 * radius), score, -np.inf)
        if not np.isfinite(usable.max()):
            break
        chosen.append(int(usable.argmax()))
    return _influence(rng, candidates[chosen].astype(float), sizes[: len(chosen)], size)


def _influence(rng: np.random.Generator, centres: Points, radii: Points, size: int) -> Towns:
    """For every pixel the place with the strongest influence and how far it lies inside it."""
    y, x = np.ogrid[:size, :size]
    reach = np.full((size, size), -np.inf, np.float32)
    nearest = np.zeros((size, size), np.int32)
    for number, ((cx, cy), radius) in enumerate(zip(centres, radii, strict=True)):
        dx, dy = (x - cx).astype(np.float32), (y - cy).astype(np.float32)
        here = 1 - np.sqrt(dx * dx + dy * dy) / np.float32(radius)
        stronger = here > reach
        reach[stronger] = here[stronger]
        nearest[stronger] = number
    return Towns(centres, radii, rng.uniform(0, np.pi / 2, len(radii)), nearest, reach)


def _build_roads(rng: np.random.Generator, towns: Towns, lake: Mask, scale: float) -> Mask:
    """Join the places by a tree of roads with a few short cuts, and cross the scene by a motorway."""
    size = len(lake)
    mask = np.zeros((size, size), bool)
    centres = towns.centres
    if len(centres) > 1:
        apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
        tree = np.argwhere(minimum_spanning_tree(apart).toarray() > 0)
        joined = {(int(min(pair)), int(max(pair))) for pair in tree}
        for place in range(4 if len(centres) > 8 else 0):
            second = int(np.argsort(apart[place])[2])
            joined.add((min(place, second), max(place, second)))
        for a, b in sorted(joined):
            width = 2.2 if max(a, b) < 4 else 1.6
            tries = [wiggly(rng, centres[a], centres[b], bend=k) for k in (0.03, 0.04, 0.06, 0.1, 0.15)]
            course = _driest(tries, lake)
            mask |= draw_line(course, max(width * min(scale * 1.3, 1), 1.5), size)
    if len(centres) <= 8:
        return mask
    city = centres[0] if len(centres) else np.full(2, size / 2)
    tries = []
    for bearing in rng.uniform(0, 2 * np.pi, 12):
        along = np.array([np.cos(bearing), np.sin(bearing)]) * 1.4 * size
        beside = city + np.array([-along[1], along[0]]) / 1.4 * 0.12
        tries.append(wiggly(rng, beside - along, beside + along, bend=0.02))
    return mask | draw_line(_driest(tries, lake), max(3.2 * scale, 1.6), size)


def _driest(courses: list[Points], lake: Mask) -> Points:
    """The first of the courses with the fewest points in the lake."""
    wet = []
    for course in courses:
        x, y = course.T.astype(int)
        inside = (x >= 0) & (y >= 0) & (x < len(lake)) & (y < len(lake))
        wet.append(int(lake[y[inside], x[inside]].sum()))
    return courses[int(np.argmin(wet))]


def _divide(rng: np.random.Generator, size: int, scale: float) -> Parcels:
    """Cut the land into blocks and each block into strips of its own bearing, width and length."""
    y, x = np.meshgrid(*[np.arange(size, dtype=np.float32)] * 2, indexing="ij")
    scale = max(scale, 0.5)
    bend = 9 * scale
    bx = x + bend * fractal(rng, size, longest=160 * scale, shortest=20, hurst=0.8)
    by = y + bend * fractal(rng, size, longest=160 * scale, shortest=20, hurst=0.8)
    block = voronoi_cells(rng, bx, by, 78 * scale)
    count = int(block.max()) + 1
    lie = fractal(rng, size, longest=500 * scale, hurst=0.9)
    total = np.maximum(np.bincount(block.ravel(), minlength=count), 1)
    bearing = 0.7 * np.bincount(block.ravel(), lie.ravel(), count) / total
    bearing += rng.normal(0, 0.18, count) + np.pi / 2 * rng.integers(0, 2, count)
    width = scale * np.exp(rng.normal(2.45, 0.42, count)).clip(5, 30)
    length = scale * np.exp(rng.normal(3.6, 0.35, count)).clip(16, 80)
    cos, sin = np.cos(bearing).astype(np.float32)[block], np.sin(bearing).astype(np.float32)[block]
    u, v = x * cos + y * sin, y * cos - x * sin
    strip = np.floor(u / width.astype(np.float32)[block]).astype(np.int64)
    slip = rng.uniform(0, 1, 997).astype(np.float32)[(strip * 7919 + block) % 997]
    piece = np.floor(v / length.astype(np.float32)[block] + slip).astype(np.int64)
    key = (block * 4096 + strip % 4096) * 4096 + piece % 4096
    number = pd.factorize(key.ravel(), sort=True)[0].reshape(size, size).astype(np.int32)
    edge = np.zeros((size, size), bool)
    edge[:, 1:] |= number[:, 1:] != number[:, :-1]
    edge[1:] |= number[1:] != number[:-1]
    return Parcels(np.asarray(number, np.int32), int(number.max()) + 1, u * 10, edge)


def _cover(
    rng: np.random.Generator,
    parts: tuple[Field, Waters, Towns, Parcels, Mask],
    scale: float,
    shares: Mapping[int, float],
) -> npt.NDArray[np.uint8]:
    """Class code of every pixel: each class takes its share of the best of the ground still free."""
    height, waters, towns, parcels, roads = parts
    size = len(height)
    area = {code: int(share * size * size) for code, share in shares.items()}
    truth = np.zeros((size, size), np.uint8)
    truth[waters.all] = WATER
    truth[roads] = URBAN
    ragged = fractal(rng, size, longest=60 * scale, hurst=0.35)
    broad = fractal(rng, size, longest=300 * scale, hurst=0.7)
    high = (height - height.mean()) / max(float(height.std()), 1e-6)
    chance = rng.standard_normal(parcels.count).astype(np.float32)

    ribbon = np.exp(-distance_to(roads) / (7 * scale))
    town = towns.reach + 0.13 * ragged + 0.14 * chance[parcels.number] + 0.35 * ribbon
    truth[take(town, truth == 0, area[URBAN] - int(roads.sum()))] = URBAN
    bare = _bare_score(rng, size, scale, waters, high) + 0.2 * ragged
    truth[take(bare, truth == 0, area[BARREN])] = BARREN
    marsh = -np.abs(waters.distance / (26 * scale) - 0.6) - 0.5 * high + 1.1 * broad + 0.25 * ragged
    truth[take(marsh, truth == 0, area[WETLANDS])] = WETLANDS

    wood = parcels.mean(high + 0.55 * broad)[parcels.number] * 0.5 + 0.5 * high + 0.4 * broad
    wood += 0.2 * ragged + 0.16 * chance[parcels.number] + 2.5 * (chance > 2.0)[parcels.number]
    wood += 1.6 * np.exp(-distance_to(waters.streams) / (3 * scale + 1)) - 1.5 * towns.reach.clip(-0.2)
    truth[take(wood.astype(np.float32), truth == 0, area[FOREST])] = FOREST
    wet = np.exp(-waters.distance / (60 * scale))
    meadow = parcels.mean(0.5 * high - 0.4 * broad + 1.1 * wet) + 0.9 * rng.standard_normal(parcels.count)
    grass = meadow.astype(np.float32)[parcels.number] + 0.05 * ragged
    truth[take(grass, truth == 0, area[GRASSLAND])] = GRASSLAND
    truth[truth == 0] = CROPLANDS
    return truth


def _bare_score(rng: np.random.Generator, size: int, scale: float, waters: Waters, high: Field) -> Field:
    """Where the ground is bare: a few quarries on the slopes, gravel at the water, rock on the summits."""
    score = 0.5 * (high - float(high.max())) + 0.9
    for centre in rng.uniform(0.1, 0.9, (4, 2)) * size:
        corners = centre + rng.normal(0, 17 * scale + 1, (9, 2)) * rng.uniform(0.6, 1.4, 2)
        score += 3 * _blurred(draw([MultiPoint(corners).convex_hull], size), 4 * scale)
    flats = fractal(rng, size, longest=120 * scale, hurst=0.6)
    gravel = 0.55 * flats - distance_to(waters.river) / (14 * scale)
    return np.asarray(np.maximum(score, gravel), np.float32)


def _blurred(mask: Mask, sigma: float) -> Field:
    """Gaussian blur of a small shape (y, x), worked out around it only."""
    out = np.zeros(mask.shape, np.float32)
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size:
        # The filter reaches 4 sigma; twice that keeps the cut edges at zero on both sides.
        reach = 2 * int(4 * sigma + 1)
        window = tuple(slice(max(at[0] - reach, 0), at[-1] + reach + 1) for at in (rows, cols))
        out[window] = ndimage.gaussian_filter(mask[window].astype(np.float32), sigma)
    return out
