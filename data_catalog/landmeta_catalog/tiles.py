"""What is stored of a tile: its arrays and how their numbers become physical values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a data set: physical value = stored number * `scale` + `offset`.

    `name` is `s2`, `s1`, `rgb` or `labels`; `bands` are canonical names (`labels` has one of that name);
    `dtype` is uint16 (reflectance x 10000), int16 (dB x 100, or reflectance with sign) or uint8; `nodata` is
    the stored number of missing pixels; `side` is in pixels.
    """

    name: str
    bands: tuple[str, ...]
    dtype: str
    scale: float
    offset: float
    nodata: int | None
    side: int
