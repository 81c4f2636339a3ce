"""Few-shot tasks of one region and season: which tiles are support, which are query, which class is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int

from landmeta.errors import DataError
from landmeta.splits import Blocked, Places

_ATTEMPTS = 100  # draws of a task that may find no room for the gap before the table is said to have none

_Column = npt.ArrayLike | pd.Series


class TileSource(Protocol):
    """Where the pixels of tiles come from: a store, or arrays in a test."""

    def read(self, rows: Int[np.ndarray, "tile"]) -> Float32[np.ndarray, "tile band y x"]:
        """Reflectance (dB for radar) of the tiles with these row numbers; NaN is no data."""
        ...


class TaskSource(Protocol):
    """Tasks by number, from 0 on: the same number gives the same task in every process and run."""

    def task(self, number: int) -> Task:
        """The task of a number.

        Raises:
            IndexError: the source is finite and has no such task.
        """
        ...


@dataclass(frozen=True, slots=True)
class TileTable:
    """What tasks need to know of tiles, one entry a tile; `TileTable.of` and `from_frame` make one.

    `row` is the tile's row in the frame that it came from: tasks name tiles by it. `region` and `season`
    number `regions` and `seasons`; `code` is the class; `block` (patch, cluster) and `crs` are numbers, -1
    is no CRS; `x`, `y` are the top-left corner in the CRS (NaN: none), `pixel` the side of a pixel in its
    units and `side` that of the tile in pixels.
    """

    row: Int[np.ndarray, "tile"]
    region: Int[np.ndarray, "tile"]
    season: Int[np.ndarray, "tile"]
    code: Int[np.ndarray, "tile"]
    block: Int[np.ndarray, "tile"]
    crs: Int[np.ndarray, "tile"]
    x: Float[np.ndarray, "tile"]
    y: Float[np.ndarray, "tile"]
    pixel: Float[np.ndarray, "tile"]
    side: Int[np.ndarray, "tile"]
    regions: tuple[str, ...]
    seasons: tuple[str, ...]
    class_names: Mapping[int, str]

    @classmethod
    def of(
        cls,
        *,
        region: _Column,
        code: _Column,
        season: _Column = "",
        block: _Column | None = None,
        crs: _Column = "",
        x: _Column = math.nan,
        y: _Column = math.nan,
        pixel: _Column = 10.0,
        side: _Column = 128,
        row: _Column | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> TileTable:
        """A table from columns; a single value counts for every tile.

        Without `block` every tile is a block of its own. Blocks are told apart within region and season.
        """
        codes = np.atleast_1d(np.asarray(code)).astype(np.int64)
        tiles = len(codes)
        region_id, regions = _numbered(region, tiles)
        season_id, seasons = _numbered(season, tiles)
        blocks = np.arange(tiles) if block is None else _numbered(block, tiles)[0]
        cell = region_id * len(seasons) + season_id
        crs_id, systems = _numbered(crs, tiles)
        if "" in systems:
            crs_id = np.where(crs_id == systems.index(""), -1, crs_id)
        at, to = (np.broadcast_to(np.asarray(v, np.float64), tiles) for v in (x, y))
        return cls(
            row=np.arange(tiles) if row is None else np.asarray(row, np.int64),
            region=region_id,
            season=season_id,
            code=codes,
            block=cell * (int(blocks.max(initial=0)) + 1) + blocks,
            crs=np.where(np.isfinite(at) & np.isfinite(to), crs_id, -1),
            x=at,
            y=to,
            pixel=np.broadcast_to(np.asarray(pixel, np.float64), tiles),
            side=np.broadcast_to(np.asarray(side, np.int64), tiles),
            regions=regions,
            seasons=seasons,
            class_names=dict(class_names or {}),
        )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> TileTable:
        """The table of a store's index; quarantined rows are left out, the others keep their row numbers.

        Columns region, season and class_code must be there; class_name, block, patch, crs, x, y, pixel,
        side, status and dataset are used as far as they are. Rows are counted from 0.

        Raises:
            DataError: a column is lacking, tiles of several datasets, or none at all.
        """
        lacking = [name for name in ("region", "season", "class_code") if name not in frame]
        if lacking:
            msg = f"the index has no column {lacking[0]}: expected region, season and class_code"
            raise DataError(msg, "read those columns from the store's index as well")
        if "dataset" in frame and frame["dataset"].nunique() > 1:
            names = ", ".join(sorted(map(str, frame["dataset"].unique())))
            msg = f"the index holds tiles of several datasets ({names}): tasks are drawn from one"
            raise DataError(msg, "choose one dataset when reading the index")
        row = np.arange(len(frame))
        if "status" in frame:
            row = np.flatnonzero(frame["status"].to_numpy() == "ok")
            frame = frame.iloc[row]
        if not len(frame):
            msg = "the index holds no usable tile"
            raise DataError(msg, "ingest the archive first, or choose another region or dataset")
        given = {name: frame[name] for name in ("crs", "x", "y", "pixel", "side") if name in frame}
        return cls.of(
            region=frame["region"],
            season=frame["season"],
            code=frame["class_code"],
            block=_blocks(frame),
            row=row,
            class_names=_class_names(frame),
            **given,
        )

    def __len__(self) -> int:
        return len(self.row)

    def where(self, keep: Bool[np.ndarray, "tile"]) -> TileTable:
        """The tiles where `keep` is true; they keep their row numbers."""
        names = ("row", "region", "season", "code", "block", "crs", "x", "y", "pixel", "side")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def places(self) -> Places:
        """Where the tiles lie, for splits that keep a gap on the ground."""
        half = self.pixel * self.side / 2
        return Places(self.x + half, self.y - half, half, self.pixel, self.crs, self.block)

    def class_name(self, code: int) -> str:
        """Name of a class, or `class 3` where the table knows none."""
        return self.class_names.get(code, f"class {code}")


@dataclass(frozen=True, slots=True)
class Task:
    """Support and query tiles of one region and season, each given by row number and class code.

    `classes` are the codes taking part, `target` the one that counts as positive in a one-vs-all task (None:
    all classes are asked). Tiles stand class by class in the order of `classes`. `blocked` says how far
    support and query are apart.
    """

    region: str
    season: str
    classes: tuple[int, ...]
    target: int | None
    support: Int[np.ndarray, "support"]
    query: Int[np.ndarray, "query"]
    support_codes: Int[np.ndarray, "support"]
    query_codes: Int[np.ndarray, "query"]
    blocked: Blocked

    @property
    def support_targets(self) -> Int[np.ndarray, "support"]:
        """1 where the support tile is of the target class, else 0."""
        return _binary(self.support_codes, self._positive())

    @property
    def query_targets(self) -> Int[np.ndarray, "query"]:
        """1 where the query tile is of the target class, else 0."""
        return _binary(self.query_codes, self._positive())

    def one_vs_all(self, target: int) -> Task:
        """The same tiles with `target` as the positive class."""
        if target not in self.classes:
            msg = f"class {target} is not among the task's classes {self.classes}"
            raise ValueError(msg)
        return replace(self, target=target)

    def _positive(self) -> int:
        if self.target is None:
            msg = "a task without target has no binary labels: choose one with one_vs_all"
            raise ValueError(msg)
        return self.target


def _binary(codes: Int[np.ndarray, "tile"], positive: int) -> Int[np.ndarray, "tile"]:
    return np.equal(codes, positive).astype(np.int64)


def _numbered(values: _Column, tiles: int) -> tuple[Int[np.ndarray, "tile"], tuple[str, ...]]:
    """Number of each value among the sorted distinct ones, as text; missing values are the empty text."""
    if isinstance(values, pd.Series):
        column = values
    else:
        column = pd.Series(np.broadcast_to(np.asarray(values), tiles))
    ids, names = pd.factorize(column, sort=True)
    texts = [str(name) for name in names]
    if (ids < 0).any():
        ids, texts = np.where(ids < 0, len(texts), ids), [*texts, ""]
    return ids.astype(np.int64), tuple(texts)


def _blocks(frame: pd.DataFrame) -> _Column | None:
    """The block of each row, else its patch; None if the frame knows neither."""
    columns = [frame[name] for name in ("block", "patch") if name in frame]
    if len(columns) == 2:
        unnamed = columns[0].isna() | (columns[0].astype(str) == "")
        return columns[0].astype(str).where(~unnamed, columns[1].astype(str)) if unnamed.any() else columns[0]
    return columns[0] if columns else None


def _class_names(frame: pd.DataFrame) -> dict[int, str]:
    if "class_name" not in frame:
        return {}
    pairs = frame[["class_code", "class_name"]].drop_duplicates()
    return {int(c): str(n) for c, n in zip(pairs["class_code"], pairs["class_name"], strict=True)}
