"""Tiles of the store as a network takes them: bands chosen and stacked, values scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int

from landmeta.augmentation import turned
from landmeta.bands import RADAR
from landmeta.errors import DataError
from landmeta_catalog.store import TileStore
from landmeta_catalog.tiles import ArraySpec

_STACK = ("s1", "s2")
"""Arrays that come first when bands are not chosen: radar before reflectance, as METEOR stacks them."""


@dataclass(frozen=True, slots=True)
class Line:
    """input = physical * `factor` + `offset`, held between `low` and `high`; `missing` where no data is."""

    factor: float = 1.0
    offset: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    missing: float = np.nan


@dataclass(frozen=True, slots=True)
class Scaling:
    """From physical values to a network's inputs, for reflectance (0..1) and for backscatter (dB)."""

    reflectance: Line
    backscatter: Line

    def fill(
        self,
        stored: npt.NDArray[Any],
        spec: ArraySpec,
        radar: bool,
        out: Float32[np.ndarray, "tile band y x"],
    ) -> None:
        """Write the inputs of stored numbers (tile, band, y, x) of an array into `out`."""
        line = self.backscatter if radar else self.reflectance
        factor = np.float32(spec.scale * line.factor)
        offset = np.float32(spec.offset * line.factor + line.offset)
        for tile, result in zip(stored, out, strict=True):  # tile by tile: each stays in the cache
            np.multiply(tile, factor, out=result, dtype=np.float32)
            if offset != 0:
                result += offset
            if line.low > -np.inf or line.high < np.inf:
                np.clip(result, line.low, line.high, out=result)
            if spec.nodata is not None:
                missing = tile == spec.nodata
                if missing.any():
                    result[missing] = line.missing


PHYSICAL = Scaling(Line(), Line())
"""Reflectance and dB as they are, NaN where there is no data."""

METEOR = Scaling(Line(missing=0.0), Line(factor=1e-2, missing=0.0))
"""As METEOR trains: reflectance (x 10000) times 1e-4, dB times 1e-2, no data 0; nothing is clipped."""

BASELINE = Scaling(
    Line(low=0.0, high=1.0, missing=0.0), Line(factor=1 / 25, offset=1.0, low=0.0, high=1.0, missing=1.0)
)
"""As the SEN12MS and DFC2020 baselines: reflectance clipped to 0..1, dB from -25..0 to 0..1; no data in dB
counts as 0 dB there."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Neighbouring inputs that come from one array, and so from one read of it."""

    spec: ArraySpec
    bands: tuple[str, ...]
    at: slice

    @property
    def radar(self) -> bool:
        return self.bands[0] in RADAR


class TileInputs:
    """The tiles of one dataset as a network takes them: bands chosen and stacked, values scaled.

    It is the `TileSource` of tasks whose rows are those of `slots`, and pickles with its store's path.

    Args:
        store: An open store.
        dataset: Name of one of its datasets.
        slots: Place of every row that tasks name: the column `slot` of the index they were drawn from.
        bands: Canonical names in the order of the inputs, from any arrays of the dataset; by default all
            bands, S1 before S2.
        scaling: `PHYSICAL`, `METEOR`, `BASELINE` or another.

    Raises:
        DataError: no such dataset, or no array of it has one of the bands.
    """

    def __init__(
        self,
        store: TileStore,
        dataset: str,
        slots: Int[np.ndarray, "row"],
        *,
        bands: Sequence[str] | None = None,
        scaling: Scaling = PHYSICAL,
    ) -> None:
        self.store, self.dataset, self.scaling = store, dataset, scaling
        self._slots = np.asarray(slots, np.int64)
        self._parts = _parts(store.arrays(dataset), bands)

    @property
    def bands(self) -> tuple[str, ...]:
        """Canonical names of the bands in the order of the inputs."""
        return tuple(band for part in self._parts for band in part.bands)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns of a tile's inputs."""
        side = self._parts[0].spec.side
        return len(self.bands), side, side

    def read(
        self,
        rows: Int[np.ndarray, "tile"],
        symmetries: Int[np.ndarray, "tile"] | None = None,
        out: Float32[np.ndarray, "tile band y x"] | None = None,
    ) -> Float32[np.ndarray, "tile band y x"]:
        """Inputs of the tiles with these row numbers, each under its symmetry of the square if given.

        They are written to `out` where that is given.

        Raises:
            DataError: a damaged shard, or a row whose tile is quarantined.
        """
        if out is None:
            out = np.empty((len(rows), *self.shape), np.float32)
        for part in self._parts:
            stored = self.store.read(self.dataset, part.spec.name, self._slots[rows], part.bands)
            if symmetries is not None:
                stored = turned(stored, symmetries)
            self.scaling.fill(stored, part.spec, part.radar, out[:, part.at])
        return out


def _parts(specs: Sequence[ArraySpec], bands: Sequence[str] | None) -> tuple[_Part, ...]:
    pixels = [spec for spec in specs if spec.name != "labels"]
    pixels.sort(key=lambda spec: _STACK.index(spec.name) if spec.name in _STACK else len(_STACK))
    holder: dict[str, ArraySpec] = {}
    for spec in pixels:
        holder.update({band: spec for band in spec.bands if band not in holder})
    chosen = [band for spec in pixels for band in spec.bands] if bands is None else list(bands)
    missing = [band for band in chosen if band not in holder]
    if missing or not chosen:
        msg = f"the dataset has no band {', '.join(missing)}" if missing else "no band is chosen"
        raise DataError(msg, f"its bands are {', '.join(holder)}")
    parts, first = [], 0
    for _, run in groupby(chosen, key=lambda band: holder[band].name):
        names = tuple(run)
        parts.append(_Part(holder[names[0]], names, slice(first, first + len(names))))
        first += len(names)
    if len(sides := {part.spec.side for part in parts}) > 1:
        msg = f"bands of tiles of {sorted(sides)} px cannot be stacked"
        raise DataError(msg, "choose bands of one array")
    return tuple(parts)
