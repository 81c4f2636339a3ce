"""Sentinel-1 over a simulated region: backscatter of each material, relief, speckle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from landmeta_catalog._simulated_land import Region
from landmeta_catalog.layout import URBAN, WATER
from landmeta_catalog.spectra import MATERIAL

# Sigma nought in dB, (VV, VH), at about 38 degrees. Levels of water, woods, fields, bare ground and towns
# follow the land-cover signatures of the Sentinel-1 Global Backscatter Model (Bauer-Marschallinger et al.
# 2021, doi 10.1038/s41597-021-01059-7), those of crops the time series of Vreugdenhil et al. 2018
# (doi 10.3390/rs10091396) at full growth; both by eye, to a decibel or two.
_DECIBELS: Mapping[str, tuple[float, float]] = {
    "broadleaf": (-8.5, -14.0), "conifer": (-9.2, -15.0), "lush_grass": (-12.0, -18.8),
    "dry_grass": (-13.3, -20.3), "mown_grass": (-12.8, -20.5), "wheat": (-13.0, -19.5),
    "rape": (-10.0, -14.8), "root_crop": (-9.8, -15.8), "maize": (-10.2, -16.2),
    "ripe_cereal": (-12.4, -19.0), "stubble": (-11.8, -19.8), "dark_soil": (-10.8, -19.6),
    "light_soil": (-12.6, -21.6), "red_roof": (-4.8, -11.8), "grey_roof": (-4.6, -12.0),
    "bright_roof": (-3.2, -11.0), "concrete": (-6.5, -14.5), "asphalt": (-13.5, -21.0),
    "clear_water": (-21.0, -28.0), "turbid_water": (-19.0, -27.0), "reed": (-8.8, -15.8),
    "wet_meadow": (-11.2, -18.0), "bare_rock": (-10.8, -18.8), "gravel": (-12.4, -20.8),
    "limestone": (-11.8, -20.6),
}  # fmt: skip
_FLOOR = 10**-2.6
"""Power of the sensor's own noise, -26 dB; the product specification asks for less than -22 dB."""
_LOOKS = 2
"""Side of the square of single looks in a pixel: 4 looks, where the product of 10 m has 4.4 (ESA)."""


def backscatter(rng: np.random.Generator, region: Region, *, shift: float) -> npt.NDArray[np.float32]:
    """VV and VH in dB, float32 (2, y, x), as a ground-range detected product of 10 m shows the region.

    `shift` moves moisture of the soil, roughness of the water and every material's level from region to
    region, 0 not at all.
    """
    level = np.array([_DECIBELS[name] for name in MATERIAL], np.float32)
    wet, wind = 1.3 * shift * rng.standard_normal(), 3 * shift * abs(rng.standard_normal())
    level += wet + 0.6 * shift * rng.standard_normal((len(level), 2)).astype(np.float32)
    waters = [MATERIAL["clear_water"], MATERIAL["turbid_water"]]
    level[waters] += np.array([wind, 0.5 * wind], np.float32) - wet
    power = 10 ** (level / 10)
    surface, size = region.surface, len(region.truth)
    gain = 10 ** ((_relief(region) + _rough(rng, region)) / 10)
    image = np.empty((2, size, size), np.float32)
    for band in range(2):
        second = power[:, band][surface.second]
        ground = second + surface.share * (power[:, band][surface.first] - second)
        seen = ndimage.gaussian_filter(ground * gain, 0.6, truncate=3.0) + np.float32(_FLOOR)
        image[band] = 10 * np.log10(seen * _speckle(rng, size))
    return image


def _relief(region: Region) -> npt.NDArray[np.float32]:
    """Slopes that face the sensor, in the east, are brighter: dB (y, x)."""
    slope = np.gradient(ndimage.gaussian_filter(region.height, 1.5), 10.0, axis=1)
    facing = np.asarray((-9 * slope).clip(-2, 2.5), np.float32)
    return np.where(region.truth == WATER, np.float32(0), facing)


def _rough(rng: np.random.Generator, region: Region) -> npt.NDArray[np.float32]:
    """Corners of walls that happen to face the sensor stand out in settlements: dB (y, x)."""
    corners = ndimage.gaussian_filter(rng.standard_normal(region.truth.shape, np.float32), 0.8)
    return np.where(region.truth == URBAN, 9 * corners, np.float32(0)).astype(np.float32)


def _speckle(rng: np.random.Generator, size: int) -> npt.NDArray[np.float32]:
    """Multiplicative noise of mean 1 (y, x): means of single looks, which neighbouring pixels share."""
    single = rng.standard_exponential((size + _LOOKS - 1,) * 2, np.float32)
    rows = single[1:] + single[:-1]
    return np.asarray((rows[:, 1:] + rows[:, :-1]) / _LOOKS**2, np.float32)
