"""Which tile of which patch goes to which place of the store: settled from headers, kept on disk.

The plan is what makes an ingest resumable: places once given are never given anew, so a shard that is
written stays valid, and patches that join the archive later get the places after the last shard.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from landmeta.errors import DataError
from landmeta_catalog._atomic import replacing
from landmeta_catalog.archives.base import Patch, Place, quadrant_window
from landmeta_catalog.tiles import SHARD_TILES

if TYPE_CHECKING:
    import pandas as pd

UNPLANNED, SPARE = -2, -1
"""Instead of a slot: not decided yet; not stored (another tile holds the ground, or the patch is broken)."""

_AFFINE = ("a", "b", "c", "d", "e", "f")
_TEXTS = ("region", "season", "patch", "crs", "reason")
_SIZES = ("rows", "cols")
_ROW_GROUP = 20_000
_HALF = 0.501
"""Rounds to the nearest pixel; grids that differ by half a pixel do not fall on the border."""

Numbers = npt.NDArray[np.int64]


class Key(NamedTuple):
    """What names a patch in its archive."""

    region: str
    season: str
    patch: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Patches by row number, and the slots of their tiles.

    `patches` has the columns region, season, patch, crs ("" without georeference), a to f (affine
    coefficients), rows, cols (pixels) and reason ("" or why the patch is quarantined). `slots` is (patch,
    quadrant) in the order of `quadrants`: a place in the store, `SPARE` or `UNPLANNED`.
    """

    quadrants: tuple[str, ...]
    patches: pd.DataFrame
    slots: Numbers

    def keys(self, rows: Sequence[int] | Numbers | slice = slice(None)) -> list[Key]:
        """Keys of some rows, by default of all."""
        some = self.patches[list(Key._fields)].iloc[rows if isinstance(rows, slice) else list(rows)]
        # There are few regions and seasons, and up to hundreds of thousands of keys.
        region, season, patch = (some[name].tolist() for name in some.columns)
        return [*map(Key, map(sys.intern, region), map(sys.intern, season), patch)]

    def places(self, rows: Sequence[int]) -> list[Place | None]:
        """Where the patches of some rows lie; None without georeference."""
        found = self.patches.iloc[list(rows)]
        columns = (found[name].tolist() for name in ("crs", *_AFFINE, *_SIZES))
        return [
            Place(crs, (a, b, c, d, e, f), (height, width)) if crs else None
            for crs, a, b, c, d, e, f, height, width in zip(*columns, strict=True)
        ]

    def healthy(self) -> npt.NDArray[np.bool_]:
        """Rows of patches that are not quarantined."""
        return np.asarray(self.patches["reason"] == "", bool)


class Finding(NamedTuple):
    """What the headers of a patch say: its place, or the reason why it is quarantined."""

    key: Key
    place: Place | None
    reason: str = ""


class Source(NamedTuple):
    """A tile in the plan: row of its patch, and which of the quadrants."""

    row: int
    quadrant: int


class TileJob(NamedTuple):
    """The slot of a tile, its source by plan, and all sources of its ground that may be read, best first."""

    slot: int
    planned: Source
    sources: tuple[Source, ...]


def key_of(patch: Patch) -> Key:
    """Key of a patch."""
    return Key(patch.region, patch.season, patch.patch)


def empty_plan(quadrants: Sequence[str]) -> Plan:
    """A plan without patches."""
    return Plan(tuple(quadrants), _frame([]), np.empty((0, len(quadrants)), np.int64))


def _frame(findings: Sequence[Finding]) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, list[str] | list[float] | list[int]] = {
        "region": [f.key.region for f in findings],
        "season": [f.key.season for f in findings],
        "patch": [f.key.patch for f in findings],
        "crs": [f.place.crs if f.place else "" for f in findings],
        "reason": [f.reason for f in findings],
    }
    for at, name in enumerate(_AFFINE):
        columns[name] = [f.place.transform[at] if f.place else np.nan for f in findings]
    for at, name in enumerate(_SIZES):
        columns[name] = [f.place.shape[at] if f.place else 0 for f in findings]
    types = {
        **dict.fromkeys(_TEXTS, "str"),
        **dict.fromkeys(_AFFINE, "float64"),
        **dict.fromkeys(_SIZES, "int32"),
    }
    return pd.DataFrame(columns).astype(types)


def read_plan(path: Path, quadrants: Sequence[str]) -> Plan:
    """The plan at `path`, an empty one where there is none.

    Raises:
        DataError: the file is damaged or of another crop.
    """
    import pandas as pd

    if not path.exists():
        return empty_plan(quadrants)
    try:
        frame = pd.read_parquet(path)
        slots = np.stack([frame.pop(f"slot_{name}").to_numpy(np.int64) for name in quadrants], axis=1)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path} cannot be read as the plan of an ingest: {error}"
        raise DataError(msg, f"delete {path.parent} and ingest again") from error
    return Plan(tuple(quadrants), frame, slots)


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan as Parquet, whole or not at all; raises OutputError where it cannot be written."""
    import pyarrow

    columns = {f"slot_{name}": plan.slots[:, at] for at, name in enumerate(plan.quadrants)}
    with replacing(path) as part:
        plan.patches.assign(**columns).to_parquet(part, index=False, row_group_size=_ROW_GROUP)
    # What Arrow needed for that is large, and it would keep it for the next time.
    pyarrow.default_memory_pool().release_unused()


def having(plan: Plan, findings: Sequence[Finding]) -> Plan:
    """The plan with what was found in headers; known patches are looked at anew, others come at the end."""
    import pandas as pd

    wanted = {f.key for f in findings}
    known = {key: row for row, key in enumerate(plan.keys()) if key in wanted}
    again = [f for f in findings if f.key in known]
    others = [f for f in findings if f.key not in known]
    patches, slots = plan.patches.copy(), plan.slots.copy()
    if again:
        rows = [known[f.key] for f in again]
        renewed = _frame(again)
        for name in renewed.columns:
            patches.loc[rows, name] = renewed[name].to_numpy()
        slots[rows] = UNPLANNED
    patches = pd.concat([patches, _frame(others)], ignore_index=True) if others else patches
    fresh = np.full((len(others), len(plan.quadrants)), UNPLANNED, np.int64)
    return replace(plan, patches=patches, slots=np.concatenate([slots, fresh]))


def grounds(plan: Plan) -> Numbers:
    """Number of the ground under every tile (patch, quadrant): the same for tiles of one place.

    Tiles are of one place that share region, season, CRS, pixel size and, rounded to pixels, their upper
    left corner. A tile without georeference has a ground of its own.
    """
    pixel = _pixel_size(plan)
    names = ["region", "season", "crs", "c", "f"]
    cells = (
        plan.patches[names]
        .assign(pixel=np.round(pixel, 6))
        .groupby(["region", "season", "crs", "pixel"], sort=False, dropna=False)
    )
    # Pixels are counted from a patch of the region: its grid may lie anywhere, and headers are rounded.
    anchor = cells[["c", "f"]].transform("first").to_numpy(np.float64)
    cell = np.repeat(cells.ngroup().to_numpy(np.int64), len(plan.quadrants))
    steps = _corners(plan)  # from here on in place: an archive has hundreds of thousands of tiles
    steps -= anchor[:, None]
    steps /= pixel[:, None, None]
    steps += _HALF
    steps = np.floor(steps, out=steps).reshape(-1, 2)
    nowhere = np.isnan(steps).any(axis=1)
    cell[nowhere] = -1
    steps[nowhere] = np.stack([np.arange(nowhere.sum())] * 2, axis=1)
    order = np.lexsort((steps[:, 1], steps[:, 0], cell))
    other = (np.diff(steps[order], axis=0) != 0).any(axis=1) | (np.diff(cell[order]) != 0)
    ground = np.empty(len(order), np.int64)
    ground[order] = np.concatenate([np.zeros(min(len(order), 1), np.int64), np.cumsum(other)])
    return ground.reshape(plan.slots.shape)


def _pixel_size(plan: Plan) -> npt.NDArray[np.float64]:
    along = plan.patches[["a", "d"]].to_numpy(np.float64)
    return np.asarray(np.hypot(along[:, 0], along[:, 1]))


def _corners(plan: Plan) -> npt.NDArray[np.float64]:
    """Upper left corners in the patch's CRS, (patch, quadrant, xy); NaN without georeference."""
    a, b, c, d, e, f = (plan.patches[name].to_numpy(np.float64) for name in _AFFINE)
    found = np.full((*plan.slots.shape, 2), np.nan)
    sizes = plan.patches[list(_SIZES)].to_numpy()
    for shape in {(int(rows), int(cols)) for rows, cols in np.unique(sizes, axis=0).tolist()}:
        of_shape = (sizes == shape).all(axis=1)
        for at, name in enumerate(plan.quadrants):
            row, col, *_ = quadrant_window(name, shape)
            found[of_shape, at, 0] = (a * col + b * row + c)[of_shape]
            found[of_shape, at, 1] = (d * col + e * row + f)[of_shape]
    return found


def settled(plan: Plan, order: Sequence[Key], first_slot: int) -> Plan:
    """The plan with slots for all tiles that have none, from `first_slot` on.

    Unplanned patches are laid out by region and season, within them from north to south in rows, else in
    the `order` of the archive: tiles of a region lie side by side, and a resumed ingest gets the same places
    as an undisturbed one. Of the tiles of one ground one is kept: from patches of which all tiles are kept
    where possible, so that few patches need to be read.
    """
    open_rows = np.flatnonzero((plan.slots == UNPLANNED).any(axis=1))
    plan = _in_order(plan, open_rows, order)
    ground = grounds(plan)
    taken = np.zeros(int(ground.max(initial=-1)) + 1, bool)
    taken[ground[plan.slots >= 0]] = True
    slots = plan.slots.copy()
    slots[open_rows] = SPARE
    kept = np.zeros(slots.shape, bool)
    healthy = plan.healthy()
    candidates = [row for row in open_rows.tolist() if healthy[row]]
    for row in candidates:
        if not taken[ground[row]].any():
            taken[ground[row]] = kept[row] = True
    for row in candidates:
        for at in np.flatnonzero(~taken[ground[row]]):
            taken[ground[row, at]] = kept[row, at] = True
    slots[kept] = first_slot + np.arange(int(kept.sum()))
    return replace(plan, slots=slots)


def _in_order(plan: Plan, rows: Numbers, order: Sequence[Key]) -> Plan:
    """The plan with its unplanned `rows` rearranged among themselves."""
    import pandas as pd

    position = {key: at for at, key in enumerate(order)}
    listed = [position.get(key, len(position)) for key in plan.keys(rows)]
    del position
    some = plan.patches.iloc[rows]
    step = (_pixel_size(plan)[rows] * some["rows"].to_numpy()) / 2
    table = pd.DataFrame(
        {
            "region": some["region"].to_numpy(),
            "season": some["season"].to_numpy(),
            "crs": some["crs"].to_numpy(),
            # Half a patch: patches of one row whose corners differ by a pixel stay in one row.
            "south": -np.floor(some["f"].to_numpy() / np.where(step > 0, step, np.nan) + _HALF),
            "east": some["c"].to_numpy(),
            "listed": listed,
        }
    )
    sequence = table.sort_values(list(table.columns), kind="stable").index.to_numpy()
    moved = np.arange(len(plan.slots))
    moved[rows] = rows[sequence]
    return replace(plan, patches=plan.patches.iloc[moved].reset_index(drop=True), slots=plan.slots[moved])


def next_slot(plan: Plan, done: frozenset[int]) -> int:
    """First slot of the first shard that neither the plan nor the shards written so far use."""
    used = max(int(plan.slots.max(initial=-1)) // SHARD_TILES, max(done, default=-1))
    return (used + 1) * SHARD_TILES


def tiles_to_place(plan: Plan) -> int:
    """One more than the last slot."""
    return int(plan.slots.max(initial=-1)) + 1


def amended(plan: Plan, broken: Mapping[int, str], moved: Mapping[int, Source | None]) -> Plan:
    """The plan after tiles have been read.

    Args:
        plan: The plan.
        broken: Reason by row, of patches whose pixels cannot be read.
        moved: By slot the source that fills it instead of the planned one, None where nothing does.
    """
    patches, slots = plan.patches.copy(), plan.slots.copy()
    for row, reason in broken.items():
        patches.loc[row, "reason"] = reason
    holders = {slots[row, at]: (row, at) for row, at in np.argwhere(np.isin(slots, list(moved))).tolist()}
    for slot, source in moved.items():
        if slot in holders:
            slots[holders[slot]] = SPARE
        if source is not None:
            slots[source] = slot
    return replace(plan, patches=patches, slots=slots)


class Sources:
    """The tiles of every shard of a plan, each with the patches that hold its ground."""

    def __init__(self, plan: Plan) -> None:
        self._width = len(plan.quadrants)
        self._slots, self._ground = plan.slots.ravel(), grounds(plan).ravel()
        self._by_slot = np.argsort(self._slots, kind="stable")
        # Broken patches are no source; the others come in the order of their rows.
        by_ground = np.argsort(self._ground, kind="stable")
        self._by_ground = by_ground[np.repeat(plan.healthy(), self._width)[by_ground]]
        self._grounds_in_order = self._ground[self._by_ground]

    def tiles(self, shard: int) -> tuple[TileJob, ...]:
        """Tiles of a shard in the order of their slots."""
        ends = (shard * SHARD_TILES, (shard + 1) * SHARD_TILES)
        first, last = np.searchsorted(self._slots, ends, sorter=self._by_slot)
        return tuple(self._tile(at) for at in self._by_slot[first:last].tolist())

    def _tile(self, at: int) -> TileJob:
        ground = self._ground[at]
        first, last = np.searchsorted(self._grounds_in_order, (ground, ground + 1))
        same = sorted(self._by_ground[first:last].tolist(), key=lambda other: (other != at, other))
        sources = tuple(Source(*divmod(other, self._width)) for other in same)
        return TileJob(int(self._slots[at]), Source(*divmod(at, self._width)), sources)
