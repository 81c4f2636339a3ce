"""What a simulated landscape is made of: crops, canopies, roofs, soils and the light on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from landmeta_catalog.layout import (
    BARREN,
    CROPLANDS,
    FOREST,
    GRASSLAND,
    URBAN,
    WATER,
    WETLANDS,
    Landscape,
    distance_to,
)
from landmeta_catalog.noise import Field, Mask, fractal
from landmeta_catalog.spectra import MATERIAL, Surface

_CROPS = ("wheat", "rape", "root_crop", "maize", "ripe_cereal", "stubble", "dark_soil", "lush_grass")
_PASTURES = ("lush_grass", "dry_grass", "mown_grass")
_ROOFS = ("red_roof", "grey_roof", "concrete", "bright_roof")


def clothe(rng: np.random.Generator, land: Landscape, *, shadow: bool) -> Surface:
    """Give every pixel its two materials, their shares and its light."""
    size = len(land.truth)
    grain = fractal(rng, size, longest=12, shortest=1.5, hurst=0.1)
    patch = fractal(rng, size, longest=120 * land.scale, shortest=5, hurst=0.5)
    paint = _Paint(size)
    _farm(rng, land, paint, grain, patch)
    _wood(rng, land, paint, grain, patch)
    _marsh(land, paint, grain, patch)
    _bare(land, paint, grain, patch)
    _build(rng, land, paint, grain)
    _wet(rng, land, paint, patch)
    light = paint.light * np.where(land.truth == WATER, 1, _hill_shade(land.height))
    dark = _cloud_shadow(rng, size, land.scale) if shadow else np.zeros((size, size), np.float32)
    return Surface(paint.first, paint.second, paint.share.clip(0, 1), light.astype(np.float32), dark)


class _Paint:
    """Arrays (y, x) under construction; see Surface for what they mean."""

    def __init__(self, size: int) -> None:
        self.first = np.zeros((size, size), np.uint8)
        self.second = np.zeros((size, size), np.uint8)
        self.share = np.ones((size, size), np.float32)
        self.light = np.ones((size, size), np.float32)

    def put(
        self,
        where: Mask,
        first: npt.NDArray[np.uint8] | str,
        second: npt.NDArray[np.uint8] | str,
        share: Field | float,
        light: Field | float = 1.0,
    ) -> None:
        """Set the pixels `where`; materials by name or as an array (y, x)."""
        for target, value in ((self.first, first), (self.second, second)):
            target[where] = MATERIAL[value] if isinstance(value, str) else value[where]
        for field, level in ((self.share, share), (self.light, light)):
            field[where] = level if isinstance(level, float) else level[where]


def _pick(
    rng: np.random.Generator, names: tuple[str, ...], weights: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.uint8]:
    """`count` random materials of `names`, uint8 (count,)."""
    numbers = np.array([MATERIAL[n] for n in names], np.uint8)
    return numbers[rng.choice(len(names), count, p=weights / weights.sum())]


def _farm(rng: np.random.Generator, land: Landscape, paint: _Paint, grain: Field, patch: Field) -> None:
    """Crops and pastures, one kind, vigour and brightness a parcel, with tramlines and hedges."""
    parcels, number = land.parcels, land.parcels.number
    weights = np.array([3.2, 1.0, 1.2, 2.0, 1.6, 0.9, 1.1, 0.7]) * np.exp(0.35 * rng.standard_normal(8))
    crop = _pick(rng, _CROPS, weights, parcels.count)[number]
    soil_map = fractal(rng, len(number), longest=500 * land.scale, hurst=0.8) + 0.5 * patch
    soil = np.where(soil_map > 0.3, MATERIAL["light_soil"], MATERIAL["dark_soil"]).astype(np.uint8)
    cover = rng.beta(5, 1.4, parcels.count).astype(np.float32)[number]
    tone = (1 + 0.06 * rng.standard_normal(parcels.count)).astype(np.float32)[number]
    period = rng.uniform(28, 60, parcels.count).astype(np.float32)[number]
    contrast = (0.05 * rng.uniform(0, 1, parcels.count)).astype(np.float32)[number]
    tramline = contrast * np.sin(2 * np.pi * land.parcels.across / period)
    share = cover + 0.05 * patch + tramline - 0.015 * grain
    fields = land.truth == CROPLANDS
    paint.put(fields, crop, soil, share, tone * (1 + 0.5 * tramline + 0.012 * grain))
    sward = _pick(rng, _PASTURES, np.array([3.0, 1.3, 1.2]), parcels.count)[number]
    other = np.where(sward == MATERIAL["lush_grass"], MATERIAL["dry_grass"], MATERIAL["lush_grass"])
    mix = rng.uniform(0.5, 1, parcels.count).astype(np.float32)[number] + 0.12 * patch + 0.04 * grain
    grass = land.truth == GRASSLAND
    paint.put(grass, sward, other.astype(np.uint8), mix, tone * (1 + 0.025 * grain))
    hedged = (fractal(rng, len(number), longest=200 * land.scale, hurst=0.6) > 0.1) & (grain > -0.6)
    hedge = parcels.edge & hedged & (grass | fields)
    paint.put(hedge, "broadleaf", "lush_grass", 0.55, 0.85)
    track = parcels.edge & ~hedged & (grass | fields)
    paint.put(track, "dry_grass", "light_soil", 0.7, 1.0)


def _wood(rng: np.random.Generator, land: Landscape, paint: _Paint, grain: Field, patch: Field) -> None:
    """Broadleaf and conifer stands with a rough canopy."""
    size = len(land.truth)
    stand = fractal(rng, size, longest=180 * land.scale, shortest=4, hurst=0.45) + 0.35 * land.height / 150
    share = 1 / (1 + np.exp(-4 * (stand - stand.mean() - 0.1 + 0.25 * patch)))
    canopy = 0.96 + 0.07 * grain + 0.04 * patch
    woods = land.truth == FOREST
    paint.put(woods, "conifer", "broadleaf", share.astype(np.float32), canopy)
    clearing = woods & (fractal(rng, size, longest=70 * land.scale, shortest=8, hurst=0.6) > 2.35)
    paint.put(clearing, "dry_grass", "broadleaf", 0.55, 0.95)


def _marsh(land: Landscape, paint: _Paint, grain: Field, patch: Field) -> None:
    """Reed and wet meadow with pools."""
    marsh = land.truth == WETLANDS
    paint.put(marsh, "reed", "wet_meadow", (0.5 + 0.4 * patch).clip(0, 1), 0.97 + 0.05 * grain)
    pool = marsh & (grain + 0.6 * patch > 1.5)
    paint.put(pool, "turbid_water", "reed", 0.5, 1.0)


def _bare(land: Landscape, paint: _Paint, grain: Field, patch: Field) -> None:
    """Gravel at the water, rock high up, limestone in the pits between."""
    bare = land.truth == BARREN
    near = bare & (land.waters.distance < 24 * land.scale)
    high = bare & (land.height > np.quantile(land.height, 0.97))
    light = 1 + 0.06 * grain + 0.05 * patch
    # Quarries are cut in benches: bright floors between dark walls.
    benches = np.floor(distance_to(~bare) / (5 * land.scale + 1))
    walls = 1 - 0.22 * (benches != np.roll(benches, 1, 0)) + 0.05 * (benches % 2)
    paint.put(bare, "limestone", "light_soil", (0.6 + 0.25 * patch).clip(0.1, 1), light * walls)
    paint.put(high, "bare_rock", "dry_grass", (0.45 + 0.2 * patch + 0.1 * grain).clip(0.1, 1), light)
    paint.put(near, "gravel", "dark_soil", (0.8 + 0.15 * patch).clip(0.4, 1), light)


def _build(rng: np.random.Generator, land: Landscape, paint: _Paint, grain: Field) -> None:
    """Street grids with blocks of roofs and gardens, industrial halls at the rim, then the roads."""
    towns, town = land.towns, land.truth == URBAN
    if town.any() and len(towns.radii):
        u, v = _street_axes(land)
        row, column = np.floor(u / 7).astype(np.int64), np.floor(v / 10).astype(np.int64)
        draw = rng.uniform(0, 1, (3, 4093)).astype(np.float32)
        salt = towns.nearest * 101
        block = (row * 3571 + column * 7919 + salt) % 4093
        quarter = ((row // 4) * 3571 + (column // 3) * 7919 + salt) % 4093
        house = (np.floor(u / 3.5).astype(np.int64) * 6133 + np.floor(v / 3.4).astype(np.int64) * 2711) % 4093
        centre = towns.reach.clip(0, 1)
        roofs = 0.42 + 0.5 * centre + 0.2 * (draw[0][block] + draw[0][house] - 1) + 0.1 * grain
        # Half of the houses look like their block, the others as they like.
        taste = np.where(draw[2][house] < 0.5, draw[1][block], draw[1][house])
        kind = np.array([MATERIAL[n] for n in _ROOFS], np.uint8)
        roof = kind[np.searchsorted([0.55, 0.82, 0.985], taste)]
        paint.put(town, roof, "broadleaf", roofs.clip(0.15, 1), 0.93 + 0.1 * grain)
        large = np.asarray(towns.radii > 30 * land.scale)[towns.nearest]
        works = town & large & (draw[2][quarter] < 0.16) & (centre < 0.55)
        bright, dull = MATERIAL["bright_roof"], MATERIAL["concrete"]
        hall = np.where(draw[1][quarter] < 0.2, bright, dull).astype(np.uint8)
        paint.put(works, hall, "asphalt", 0.25 + 0.7 * (draw[0][block] > 0.4), 1.0 + 0.05 * grain)
        street = town & ((u % 7 < 1.2) | (v % 10 < 1.2)) & (centre > 0.0)
        paint.put(street, "asphalt", "broadleaf", 0.7, 0.92)
    paint.put(land.roads & town, "asphalt", "dry_grass", 0.85, 1.0)


def _street_axes(land: Landscape) -> tuple[Field, Field]:
    """Pixels along and across the streets of the nearest place, (y, x) each."""
    size = len(land.truth)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    turn = land.towns.bearings[land.towns.nearest].astype(np.float32)
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _wet(rng: np.random.Generator, land: Landscape, paint: _Paint, patch: Field) -> None:
    """Clear lakes, darker with depth, and turbid rivers."""
    waters = land.waters
    water = land.truth == WATER
    depth = distance_to(~waters.lake) / (14 * land.scale)
    swirl = fractal(rng, len(water), longest=200 * land.scale, shortest=6, hurst=0.8)
    turbid = np.where(waters.lake, 0.55 * np.exp(-depth) + 0.08 + 0.05 * swirl, 0.75 + 0.1 * patch)
    paint.put(water, "turbid_water", "clear_water", turbid.clip(0, 1).astype(np.float32), 1.0)


def _hill_shade(height: Field) -> Field:
    """Light relative to flat ground (y, x), sun in the south-east at 48 degrees."""
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(height, 1.0), 10.0)
    elevation, azimuth = np.radians(48), np.radians(150)
    # Image rows grow southwards, so the northward slope is -slope_y.
    east, north = np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation)
    normal = np.sqrt(1 + slope_x**2 + slope_y**2)
    incidence = (np.sin(elevation) - east * slope_x + north * slope_y) / normal
    return np.asarray(0.25 + 0.75 * (incidence / np.sin(elevation)).clip(0, 2), np.float32)


def _cloud_shadow(rng: np.random.Generator, size: int, scale: float) -> Field:
    """Soft shadow 0..1 near the south-eastern corner: its cloud hangs outside, towards the sun."""
    y, x = np.ogrid[:size, :size]
    cx, cy = rng.uniform(0.76, 0.88, 2) * size
    radius = rng.uniform(0.05, 0.075) * size
    distance = np.hypot((x - cx) / 1.5, y - cy).astype(np.float32) / radius
    lumpy = distance + 0.22 * fractal(rng, size, longest=1.2 * radius, shortest=4, hurst=0.6)
    return np.asarray(0.5 - 0.5 * np.tanh((lumpy - 1) * np.float32(9)), np.float32)
