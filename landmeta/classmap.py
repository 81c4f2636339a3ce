"""The result of a prediction: classes, probabilities and confidence on a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from landmeta.legend import NODATA, Legend

PROBABILITY_SCALE = 1e-4
"""Probability of one count in `ClassMap.probabilities` and `ClassMap.confidence`."""

PROBABILITY_NODATA = 65535
"""Count of pixels without a probability."""


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A land-cover map in memory, all arrays on `grid` (rows from north to south, as the imagery has them).

    `codes`: uint8 (y, x), class codes of `legend`, 255 = nodata.
    `probabilities`: uint16 (class, y, x) in the legend's order, x 1e-4, 65535 = nodata.
    `confidence`: uint16 (y, x), calibrated probability of the winning class, x 1e-4, 65535 = nodata.
    """

    codes: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray
    grid: GeoBox
    legend: Legend

    def __post_init__(self) -> None:
        rows, cols = self.grid.shape
        for name, found, dtype, shape in (
            ("codes", self.codes, np.uint8, (rows, cols)),
            ("probabilities", self.probabilities, np.uint16, (len(self.legend), rows, cols)),
            ("confidence", self.confidence, np.uint16, (rows, cols)),
        ):
            if found.shape != shape or found.dtype != dtype:
                msg = f"{name} is {found.dtype} {found.shape}, expected {np.dtype(dtype)} {shape}"
                raise ValueError(msg)

    @property
    def block(self) -> MapBlock:
        """The whole map as one block."""
        return MapBlock(0, 0, self.codes, self.probabilities, self.confidence)


@dataclass(frozen=True, eq=False, slots=True)
class MapBlock:
    """A rectangle of a map from pixel (`row`, `col`) of the map's grid on; arrays as in `ClassMap`."""

    row: int
    col: int
    codes: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray

    def within(self, inside: np.ndarray) -> MapBlock:
        """The block with nodata wherever `inside`, bool (y, x), is False."""
        return replace(
            self,
            codes=np.where(inside, self.codes, np.uint8(NODATA)),
            probabilities=np.where(inside, self.probabilities, np.uint16(PROBABILITY_NODATA)),
            confidence=np.where(inside, self.confidence, np.uint16(PROBABILITY_NODATA)),
        )


def encode_probability(values: np.ndarray) -> np.ndarray:
    """Probabilities 0..1 (any float type and shape, NaN = nodata) as uint16 x 1e-4 with nodata 65535."""
    counts = np.rint(np.clip(values, 0.0, 1.0, dtype=np.float32) / PROBABILITY_SCALE)
    return np.where(np.isnan(counts), PROBABILITY_NODATA, np.nan_to_num(counts)).astype(np.uint16)


def decode_probability(counts: np.ndarray) -> np.ndarray:
    """Counts as `encode_probability` makes them, back to float32 0..1 with NaN = nodata."""
    values = counts.astype(np.float32) * np.float32(PROBABILITY_SCALE)
    values[counts == PROBABILITY_NODATA] = np.nan
    return values
