"""A simulated region of some season and climate: its land cover, what it is made of, and its spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    lay_out,
    take,
)
from landmeta_catalog.materials import clothe
from landmeta_catalog.noise import Field, fractal
from landmeta_catalog.spectra import MATERIAL, Atmosphere, Surface, library

SHRUBLAND, SAVANNA = 2, 3
_SHARES: Mapping[int, float] = {
    FOREST: 0.22, GRASSLAND: 0.17, WETLANDS: 0.11, CROPLANDS: 0.20, URBAN: 0.11, BARREN: 0.09, WATER: 0.10,
}  # fmt: skip
_FADE = {"spring": 0.15, "summer": 0.0, "fall": 0.35, "autumn": 0.35, "winter": 0.6}
"""How far leaves have turned and fields are bare, 0 high summer to 1."""
_LEAVES = ("broadleaf", "reed", "wet_meadow", "lush_grass", "mown_grass")
_CROPS = ("wheat", "rape", "root_crop", "maize")


@dataclass(frozen=True, slots=True)
class Region:
    """Land of one region and season; arrays are (y, x).

    `truth` holds DFC2020 codes; `table` is the reflectance of each material (material, band); `conifer` is
    the share 0..1 of conifers; `dry` 0 humid to 1 dry.
    """

    truth: npt.NDArray[np.uint8]
    surface: Surface
    height: Field
    table: npt.NDArray[np.float32]
    weather: Atmosphere
    conifer: Field
    dry: float


def make_region(rng: np.random.Generator, size: int, season: str, *, shift: float, savanna: bool) -> Region:
    """Land of `size` x `size` pixels of 10 m.

    Args:
        rng: source of everything.
        size: pixels a side.
        season: spring, summer, fall, autumn or winter: how green it is.
        shift: 0 the same spectra, climate and texture everywhere; 1 as far apart as regions of the Earth.
        savanna: whether there may be savanna, which DFC2020's labels do not have.
    """
    layout_rng, surface_rng, spectra_rng, dry_rng = rng.spawn(4)
    dry = float(0.35 + shift * (rng.beta(0.8, 1.0) - 0.35))
    scale = float(1.5 * np.exp(shift * 0.3 * rng.standard_normal()))
    land = lay_out(layout_rng, size, scale, _shares(rng, dry, shift))
    surface = clothe(surface_rng, land, shadow=False)
    truth = _grow_dry_land(dry_rng, land, surface, dry, savanna=savanna)
    table, weather = library(spectra_rng, shift)
    _turn(table, season, float(rng.uniform(0.7, 1.0)))
    needles = np.where(surface.first == MATERIAL["conifer"], surface.share, 0)
    conifer = np.where(truth == FOREST, needles, 0).astype(np.float32)
    return Region(truth, surface, land.height, table, weather, conifer, dry)


def _shares(rng: np.random.Generator, dry: float, shift: float) -> Mapping[int, float]:
    drawn = np.array(list(_SHARES.values())) * np.exp(0.45 * shift * rng.standard_normal(len(_SHARES)))
    leaning = {FOREST: 0.6, GRASSLAND: 1.6, WETLANDS: 0.6, BARREN: 1.8}
    drawn *= [1 + dry * (leaning.get(code, 1) - 1) for code in _SHARES]
    return dict(zip(_SHARES, (drawn / drawn.sum()).tolist(), strict=True))


def _grow_dry_land(
    rng: np.random.Generator, land: Landscape, surface: Surface, dry: float, *, savanna: bool
) -> npt.NDArray[np.uint8]:
    """Class codes with shrubland and savanna in place of some fields and woods; repaints `surface` there."""
    truth, size = land.truth.copy(), len(land.truth)
    broad = _coarse(rng, size, longest=500 * land.scale)
    ragged = fractal(rng, size, longest=50 * land.scale, hurst=0.4)
    clumps = fractal(rng, size, longest=22, shortest=2.5, hurst=0.25)
    score = broad + 0.25 * ragged
    away = np.asarray((-2 * land.towns.reach).clip(0, 1), np.float32)
    open_land = np.isin(truth, (GRASSLAND, CROPLANDS))
    if savanna:
        area = int(0.16 * max(dry - 0.25, 0) / 0.75 * truth.size)
        truth[take(score + away, open_land, area)] = SAVANNA
    area = int((0.05 + 0.12 * dry) * truth.size)
    woods = np.isin(truth, (GRASSLAND, CROPLANDS, FOREST))
    truth[take(away - score, woods, area)] = SHRUBLAND
    shrubs, trees = truth == SHRUBLAND, truth == SAVANNA
    for target, material in ((surface.first, "conifer"), (surface.second, "dry_grass")):
        target[shrubs] = MATERIAL[material]
    surface.second[shrubs & (ragged > 0.4 - dry)] = MATERIAL["light_soil"]
    surface.share[shrubs] = (0.42 + 0.16 * clumps + 0.05 * broad)[shrubs].clip(0.05, 0.9)
    surface.first[trees], surface.second[trees] = MATERIAL["broadleaf"], MATERIAL["dry_grass"]
    surface.share[trees] = (0.08 + 0.7 * (clumps > 1.25) + 0.04 * ragged)[trees].clip(0, 0.9)
    return truth


def _coarse(rng: np.random.Generator, size: int, *, longest: float, step: int = 8) -> Field:
    """Smooth noise (y, x), drawn at every `step` pixels and interpolated."""
    small = fractal(rng, -(-size // step) + 1, longest=longest / step, hurst=0.8)
    return np.asarray(ndimage.zoom(small, step, order=1)[:size, :size], np.float32)


def _turn(table: npt.NDArray[np.float32], season: str, strength: float) -> None:
    """Turn leaves brown and crops to bare soil, in place, as far as the season has them."""
    fade = np.float32(_FADE[season] * strength)
    for names, material in ((_LEAVES, "dry_grass"), (_CROPS, "dark_soil")):
        rows = [MATERIAL[name] for name in names]
        table[rows] = (1 - fade) * table[rows] + fade * table[MATERIAL[material]]
