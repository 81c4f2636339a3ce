"""What a stored tile is: the arrays of a dataset, the columns of the tile index, ids and checksums."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SHARD_TILES = 128
"""Tiles in one shard: 55 MB of 13 bands at 128 px, the unit of writing and of resuming."""

OK, QUARANTINED = "ok", "quarantined"
"""The two values of the column `status`."""

DTYPES = ("uint8", "uint16", "int16")
"""Types of stored numbers: class codes and RGB, reflectance x 10000, dB x 100 or signed reflectance."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a dataset, axes (tile, band, y, x).

    physical = stored * `scale` + `offset` (reflectance 0..1, dB, or class codes); `nodata` is the stored
    code of no data, None where every code is a value; `bands` are canonical names, `side` is in pixels.
    """

    name: str
    bands: tuple[str, ...]
    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: int | None = None
    side: int = 128

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            msg = f"array {self.name!r} has the type {self.dtype!r}; a store holds {', '.join(DTYPES)}"
            raise ValueError(msg)
        if not self.bands or self.side < 1:
            msg = f"array {self.name!r} has {len(self.bands)} bands of {self.side} px; both must be positive"
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns of a tile."""
        return len(self.bands), self.side, self.side

    @property
    def fill(self) -> int:
        """Stored code of a tile that is not there: `nodata`, or 0 where there is none."""
        return 0 if self.nodata is None else self.nodata

    def plain(self) -> dict[str, Any]:
        """The same with JSON types only; `ArraySpec(**...)` after `bands` is a tuple again."""
        return {**asdict(self), "bands": list(self.bands)}


INDEX_DEFAULTS: dict[str, Any] = {
    "id": "",
    "dataset": "",
    "region": "",
    "season": "",
    "patch": "",
    "quadrant": "",
    "block": "",
    "class_code": -1,
    "class_name": "",
    "class_fractions": (),
    "valid_fraction": math.nan,
    "crs": "",
    "x": math.nan,
    "y": math.nan,
    "pixel": math.nan,
    "side": 0,
    "geometry": None,
    "checksum": "",
    "slot": -1,
    "status": OK,
    "reason": "",
}
"""Columns of the index in their order, each with what stands for "not known".

`class_fractions` are in legend order; `x`, `y` the tile's top left corner and `pixel` its pixel size in
units of `crs`; `geometry` the footprint in longitude and latitude; `slot` the place in every array of the
dataset, -1 for a quarantined tile, whose `reason` says why.
"""

INDEX_COLUMNS: tuple[str, ...] = tuple(INDEX_DEFAULTS)


def tile_id(dataset: str, region: str, season: str, patch: str, quadrant: str) -> str:
    """Name of a tile, unique in a store."""
    return "/".join((dataset, region, season, patch, quadrant))


def tile_checksum(pixels: Iterable[np.ndarray]) -> str:
    """128 bits of SHA-256 as 32 hexadecimal digits, over the stored numbers of a tile's arrays in order.

    The numbers are taken as little-endian (band, y, x); how they are compressed does not matter.
    """
    digest = hashlib.sha256()
    for values in pixels:
        digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return digest.hexdigest()[:32]


def index_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of the index from mappings of column names to values; what a mapping lacks is not known.

    Raises:
        ValueError: a name that is no column of the index.
    """
    import pandas as pd

    records = [{**INDEX_DEFAULTS, **row} for row in rows]
    unknown = sorted({name for record in records for name in record} - set(INDEX_COLUMNS))
    if unknown:
        msg = f"the tile index has no column {', '.join(unknown)}; its columns are {', '.join(INDEX_COLUMNS)}"
        raise ValueError(msg)
    return pd.DataFrame.from_records(records, columns=list(INDEX_COLUMNS))
