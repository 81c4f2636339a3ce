"""Reflectance of surface materials in the 13 Sentinel-2 bands, and the sensor that sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from landmeta_catalog.noise import Field

NAMES = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_WAVELENGTHS = np.array([443, 497, 560, 665, 704, 740, 783, 835, 865, 945, 1374, 1614, 2202], float)
_BLOCK = (6, 1, 1, 1, 2, 2, 2, 1, 2, 6, 6, 2, 2)  # native pixel in units of 10 m
_RAYLEIGH = np.array([110, 72, 42, 22, 18, 15, 12, 9, 8, 5, 0, 1, 0]) * 1e-3

# Per mille; B01-B08, B8A, then B11, B12. B09 and B10 follow from the atmosphere, see `library`.
_MATERIALS: dict[str, tuple[int, ...]] = {
    "broadleaf": (20, 24, 46, 26, 76, 250, 338, 368, 385, 170, 76),
    "conifer": (15, 18, 29, 19, 46, 128, 168, 188, 198, 88, 40),
    "lush_grass": (32, 40, 84, 46, 128, 320, 405, 435, 455, 225, 115),
    "dry_grass": (45, 58, 96, 98, 150, 235, 275, 305, 325, 290, 185),
    "mown_grass": (48, 62, 110, 92, 165, 280, 335, 368, 388, 295, 180),
    "wheat": (22, 29, 60, 30, 86, 335, 465, 505, 525, 200, 92),
    "rape": (36, 42, 150, 125, 205, 360, 430, 470, 490, 225, 112),
    "root_crop": (27, 34, 78, 38, 110, 360, 490, 530, 550, 215, 98),
    "maize": (28, 36, 74, 44, 105, 290, 375, 415, 435, 210, 105),
    "ripe_cereal": (60, 79, 128, 165, 200, 248, 280, 312, 330, 330, 222),
    "stubble": (74, 94, 136, 180, 208, 235, 256, 280, 296, 368, 290),
    "dark_soil": (46, 58, 78, 102, 120, 134, 145, 160, 170, 225, 200),
    "light_soil": (84, 106, 148, 196, 225, 245, 262, 282, 296, 380, 335),
    "red_roof": (60, 74, 104, 185, 214, 230, 242, 258, 268, 300, 270),
    "grey_roof": (88, 102, 116, 126, 134, 140, 146, 155, 160, 178, 165),
    "bright_roof": (225, 258, 284, 300, 308, 314, 319, 330, 336, 330, 300),
    "concrete": (138, 162, 190, 214, 228, 236, 242, 256, 262, 290, 268),
    "asphalt": (70, 80, 92, 101, 108, 112, 117, 125, 130, 150, 142),
    "clear_water": (44, 40, 30, 13, 10, 8, 8, 7, 6, 4, 3),
    "turbid_water": (52, 60, 78, 62, 48, 27, 25, 21, 18, 9, 6),
    "reed": (30, 38, 60, 56, 90, 168, 208, 232, 244, 150, 84),
    "wet_meadow": (24, 30, 52, 38, 74, 185, 235, 258, 268, 128, 62),
    "bare_rock": (92, 108, 130, 150, 160, 168, 173, 181, 187, 235, 222),
    "gravel": (100, 121, 150, 176, 191, 200, 206, 215, 221, 280, 262),
    "limestone": (128, 154, 188, 218, 233, 242, 248, 257, 263, 318, 292),
}
MATERIAL = {name: number for number, name in enumerate(_MATERIALS)}
_SOILS = ("dark_soil", "light_soil", "stubble", "bare_rock", "gravel")
_GREEN = (
    "lush_grass",
    "mown_grass",
    "wheat",
    "rape",
    "root_crop",
    "maize",
    "broadleaf",
    "reed",
    "wet_meadow",
)


@dataclass(frozen=True, slots=True)
class Surface:
    """What lies in each pixel: two materials, their shares and the light, arrays (y, x)."""

    first: npt.NDArray[np.uint8]
    second: npt.NDArray[np.uint8]
    share: Field
    """Share 0..1 of the first material."""
    light: Field
    """Brightness relative to a flat sunlit pixel, from canopy texture and hill shading."""
    shadow: Field
    """Cloud shadow, 0 none to 1 full."""


@dataclass(frozen=True, slots=True)
class Atmosphere:
    """Region-wide conditions: `haze` 0 none to 1 strong, `gain` of the illumination."""

    haze: float = 0.25
    gain: float = 1.0


def library(rng: np.random.Generator, shift: float) -> tuple[npt.NDArray[np.float32], Atmosphere]:
    """Reflectance table (material, band), float32, and the atmosphere of one region.

    `shift` 0 gives the reference spectra; 1 draws a region of another season, soil, haze and
    illumination, with every material's spectrum bent smoothly on its own as well.
    """
    table = _complete(np.array(list(_MATERIALS.values()), float) / 1000)
    tilt, season, haze, gain = rng.normal(), rng.uniform(), rng.uniform(), rng.normal()
    soil_bend, own_bends = _bends(rng, 1), _bends(rng, len(table))
    if shift > 0:
        dry = table[MATERIAL["dry_grass"]]
        for name in _GREEN:
            fade = 0.6 * shift * season**2
            table[MATERIAL[name]] = (1 - fade) * table[MATERIAL[name]] + fade * dry
        for name in _SOILS:
            slope = (_WAVELENGTHS - 800) / 1400
            table[MATERIAL[name]] *= np.exp(shift * (0.2 * soil_bend[0] + 0.25 * tilt * slope))
        table *= np.exp(0.13 * shift * own_bends)
    table[:, 10] = 0.0012
    weather = Atmosphere(0.25 + shift * (haze - 0.25), float(np.exp(0.12 * shift * gain)))
    return table.astype(np.float32), weather


def _complete(measured: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Insert B09 (dimmed by water vapour) and B10 (which sees no ground) into (material, 11)."""
    vapour = 0.42 * measured[:, 8:9]
    return np.concatenate([measured[:, :9], vapour, np.full_like(vapour, 0.0012), measured[:, 9:]], 1)


def _bends(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Smooth random curves over the wavelengths (count, band), unit standard deviation."""
    distance = np.log(_WAVELENGTHS)[:, None] - np.log(_WAVELENGTHS)[None, :]
    covariance = np.exp(-0.5 * (distance / 0.35) ** 2) + 1e-6 * np.eye(len(_WAVELENGTHS))
    return np.asarray(rng.standard_normal((count, len(_WAVELENGTHS))) @ np.linalg.cholesky(covariance).T)


def observe(
    surface: Surface, table: npt.NDArray[np.float32], weather: Atmosphere, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """The scene as the sensor records it: uint16 (band, y, x), reflectance x 10000, at least 1.

    Every band is blurred by the point spread, averaged to its native 10, 20 or 60 m pixel, given
    noise there and interpolated back to 10 m.
    """
    size = surface.share.shape[0]
    image = np.empty((len(NAMES), size, size), np.uint16)
    cirrus = ndimage.zoom(rng.standard_normal((4, 4)), size / 4, order=3)[:size, :size] * 0.0002
    for band, block in enumerate(_BLOCK):
        ground = _ground(surface, table[:, band], weather, band)
        if band == NAMES.index("B10"):
            ground = ground * 0 + np.float32(0.0012) + cirrus.astype(np.float32)
        seen = _native(ground, block)
        seen += rng.standard_normal(seen.shape, np.float32) * (np.float32(0.0009) + np.float32(0.009) * seen)
        seen = _to_10m(seen, block, size)
        image[band] = np.clip(np.rint(seen * 10000), 1, 65535).astype(np.uint16)
    return image


def _ground(surface: Surface, column: npt.NDArray[np.float32], weather: Atmosphere, band: int) -> Field:
    """Radiance of one band as reflectance (y, x) before the sensor."""
    second = column[surface.second]
    mixed = second + surface.share * (column[surface.first] - second)
    # Shade is lit by the blue sky only, so it is darker at longer wavelengths.
    sky = 0.45 * (_WAVELENGTHS[band] / 443) ** -0.75
    mixed *= surface.light * (1 - surface.shadow * np.float32(0.8 * (1 - sky))) * np.float32(weather.gain)
    haze = np.float32(weather.haze * _RAYLEIGH[band])
    return np.asarray(mixed * (1 - 0.5 * haze) + haze, np.float32)


def _native(ground: Field, block: int) -> Field:
    """Point spread and average to pixels of `block` x 10 m."""
    blurred = ndimage.gaussian_filter(ground, 0.5 if block == 1 else 0.35 * block, truncate=3.0)
    if block == 1:
        return np.asarray(blurred, np.float32)
    missing = -len(ground) % block
    padded = np.pad(blurred, (0, missing), mode="edge")
    count = len(padded) // block
    return np.asarray(padded.reshape(count, block, count, block).mean((1, 3)), np.float32)


def _to_10m(seen: Field, block: int, size: int) -> Field:
    """Interpolate linearly from native pixels to 10 m."""
    if block == 1:
        return seen
    fine = ndimage.zoom(seen, block, order=1, mode="nearest", grid_mode=True)
    return np.asarray(fine[:size, :size], np.float32)
