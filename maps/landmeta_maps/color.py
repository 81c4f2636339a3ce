"""Colours: palettes of class maps, the ramp of confidence, true-colour stretch, readable ink."""

from __future__ import annotations

import numpy as np

from landmeta.legend import NODATA, Legend

RGBA = tuple[int, int, int, int]

_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Confidence from low to high: dark to light at every step, so it reads without colour vision too."""


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue (0..255) of `#rrggbb`."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def palette(legend: Legend) -> dict[int, RGBA]:
    """Colour table of a class raster: opaque classes, transparent nodata."""
    table: dict[int, RGBA] = {c.code: (*rgb(c.color), 255) for c in legend}
    table[NODATA] = (0, 0, 0, 0)
    return table


def class_table(legend: Legend) -> np.ndarray:
    """RGBA of every code, uint8 (256, 4); codes that the legend lacks are transparent."""
    table = np.zeros((256, 4), np.uint8)
    for code, color in palette(legend).items():
        table[code] = color
    return table


def ramp_table() -> np.ndarray:
    """RGBA of confidence steps 0..254 from low to high and of 255 = nodata (transparent), uint8 (256, 4)."""
    stops = np.array([rgb(color) for color in _RAMP], float)
    at = np.linspace(0, len(stops) - 1, NODATA)
    table = np.zeros((256, 4), np.uint8)
    for channel in range(3):
        table[:NODATA, channel] = np.rint(np.interp(at, np.arange(len(stops)), stops[:, channel]))
    table[:NODATA, 3] = 255
    return table


def ramp_css() -> str:
    """The ramp of confidence as a CSS gradient from left (low) to right (high)."""
    return f"linear-gradient(to right, {', '.join(_RAMP)})"


def confidence_steps(confidence: np.ndarray, lowest: float) -> np.ndarray:
    """Float confidence `lowest`..1 (NaN = nodata) as uint8 steps 0..254 of `ramp_table`, 255 = nodata.

    `lowest` (below 1) is what the winner of an even vote has, one over the number of classes.
    """
    share = np.clip((confidence - lowest) / max(1.0 - lowest, 1e-6), 0.0, 1.0)
    steps = np.rint(np.nan_to_num(share) * (NODATA - 1)).astype(np.uint8)
    steps[np.isnan(confidence)] = NODATA
    return steps


def true_color(reflectance: np.ndarray) -> np.ndarray:
    """Stretch float32 (3, y, x) red, green, blue reflectance (NaN = nodata) to uint8 RGBA (y, x, 4).

    Of each band 70 % of its own 1st percentile is taken off, which is most of the haze; white is the same
    for all, 1.3 times their 98th percentile, which keeps the hue; gamma 1.6, for land is darker than roofs.
    """
    valid = np.isfinite(reflectance).all(axis=0)
    image = np.zeros((*valid.shape, 4), np.uint8)
    if not valid.any():
        return image
    pixels = reflectance[:, valid].astype(np.float32)
    pixels -= 0.7 * np.percentile(pixels, 1, axis=1, keepdims=True)
    white = max(float(np.percentile(pixels, 98)), 1e-6) * 1.3
    image[valid, :3] = np.rint(255 * np.clip(pixels / white, 0, 1) ** (1 / 1.6)).T
    image[valid, 3] = 255
    return image


def ink(color: str) -> str:
    """Black or white, whichever is easier to read on `color` (`#rrggbb`, WCAG relative luminance)."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in rgb(color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
