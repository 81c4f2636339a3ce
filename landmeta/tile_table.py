"""What tasks need to know of tiles: region, season, class, patch and place, as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from landmeta.errors import DataError
from landmeta.splits import Part, Places

_Column = Sequence[object] | np.ndarray | pd.Series | str | int | float


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
        code: Sequence[int] | np.ndarray | pd.Series,
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
        """A table from the classes of its tiles and other columns, of which a single value counts for all.

        Without `block` every tile is a block of its own. Blocks are told apart within region and season.
        """
        codes = np.asarray(code, np.int64)
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
        """The table of a store's index; rows quarantined or without class are left out.

        Columns region, season and class_code must be there; class_name, block, patch, crs, x, y, pixel,
        side, status and dataset are used as far as they are. Tiles keep their row numbers, counted from 0.

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
        usable = frame["class_code"].to_numpy() >= 0
        if "status" in frame:
            usable = usable & (frame["status"] == "ok").to_numpy(bool)
        row = np.flatnonzero(usable)
        if len(row) < len(frame):
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

    def take(self, tiles: Int[np.ndarray, "_"]) -> TileTable:
        """The tiles at these places of the table, in that order; they keep their row numbers."""
        names = ("row", "region", "season", "code", "block", "crs", "x", "y", "pixel", "side")
        return replace(self, **{name: getattr(self, name)[tiles] for name in names})

    def where(self, keep: Bool[np.ndarray, "_"]) -> TileTable:
        """The tiles where `keep` is true; they keep their row numbers."""
        return self.take(np.flatnonzero(keep))

    def part(self, part: Part, part_of: Callable[[str, str], Part | None]) -> TileTable:
        """The tiles of one part of a split, such as `holdout` under `splits.region_part` or `scene_part`."""
        wanted = np.array([[part_of(s, r) == part for s in self.seasons] for r in self.regions], bool)
        return self.where(wanted[self.region, self.season])

    def region_seasons(self) -> list[tuple[str, str]]:
        """Region and season of every such pair that has tiles, sorted."""
        pairs = np.unique(self.region * len(self.seasons) + self.season).tolist()
        return [(self.regions[p // len(self.seasons)], self.seasons[p % len(self.seasons)]) for p in pairs]

    def of_region(self, region: str, season: str) -> TileTable:
        """The tiles of one region and season.

        Raises:
            DataError: there are none; those that exist are named.
        """
        if (region, season) not in (known := self.region_seasons()):
            names = ", ".join(" ".join(pair).strip() for pair in known[:12]) + (", ..." if known[12:] else "")
            msg = f"no tile of region {region!r} in season {season!r}: the table has {names}"
            raise DataError(msg, "name one of those, or ingest that region first")
        at = self.regions.index(region), self.seasons.index(season)
        return self.where((self.region == at[0]) & (self.season == at[1]))

    def by_region(self) -> list[RegionTiles]:
        """The tiles of each region and season, in the order of their names, with classes ascending."""
        pair = self.region * len(self.seasons) + self.season
        order = np.lexsort((self.code, pair))
        table, bounds = self.take(order), _runs(pair[order])
        places, groups = table.places(), []
        for low, high in bounds:
            codes = table.code[low:high]
            classes = {int(codes[a]): np.arange(a, b) for a, b in _runs(codes)}
            region, season = self.regions[table.region[low]], self.seasons[table.season[low]]
            groups.append(RegionTiles(region, season, table.row[low:high], places.part(low, high), classes))
        return groups

    def places(self) -> Places:
        """Where the tiles lie, for splits that keep a gap on the ground."""
        half = self.pixel * self.side / 2
        return Places(self.x + half, self.y - half, half, self.pixel, self.crs, self.block)

    def class_name(self, code: int) -> str:
        """Name of a class, or `class 3` where the table knows none."""
        return self.class_names.get(code, f"class {code}")


@dataclass(frozen=True, slots=True)
class RegionTiles:
    """The tiles of one region and season: row numbers, places, and the tiles of each class."""

    region: str
    season: str
    rows: Int[np.ndarray, "tile"]
    places: Places
    classes: Mapping[int, Int[np.ndarray, "_"]]

    def describe(self, class_name: Callable[[int], str]) -> str:
        """Such as `122 fall (Forest 12, Water 5)`."""
        counts = ", ".join(f"{class_name(code)} {len(tiles)}" for code, tiles in self.classes.items())
        return f"{' '.join((self.region, self.season)).strip()} ({counts})"

    def fitting(self, least: int) -> list[int]:
        """Codes of the classes with at least so many tiles."""
        return [code for code, tiles in self.classes.items() if len(tiles) >= least]

    def separable(self, code: int, shots: int, queries: int, gap: int) -> bool:
        """Whether the tiles of a class can be parted into support and query."""
        tiles = self.classes[code]
        return self.places.part(int(tiles[0]), int(tiles[-1]) + 1).separable(shots, queries, gap)


def _runs(values: Int[np.ndarray, "_"]) -> list[tuple[int, int]]:
    """First and one past the last place of each run of equal values."""
    if not len(values):
        return []
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(edges))


def _numbered(values: _Column, tiles: int) -> tuple[Int[np.ndarray, "tile"], tuple[str, ...]]:
    """Number of each value among the sorted distinct ones, as text; missing values are the empty text."""
    if isinstance(values, pd.Series):
        column = values
    else:
        column = pd.Series(np.broadcast_to(np.asarray(values), tiles))
    # Not sort=True: that is the order of a column's categories, which hangs on the store's other datasets.
    found, distinct = pd.factorize(column)
    names = list(distinct)
    order = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names) + 1, np.int64)
    rank[order], rank[-1] = np.arange(len(names)), -1  # -1: missing
    ids, texts = rank[found], [str(names[i]) for i in order]
    if (ids < 0).any():
        texts = texts if "" in texts else [*texts, ""]
        ids = np.where(ids < 0, texts.index(""), ids)
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
