"""What the workers of an ingest do: look at headers, and make shards.

A shard's patches are read one after the other; where one is broken, its tiles come from others that hold
the same ground.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landmeta.errors import DataError
from landmeta_catalog._atomic import write_text
from landmeta_catalog._footprints import Window, footprints, upper_left
from landmeta_catalog._ingest_plan import Finding, Source, TileJob, key_of
from landmeta_catalog.archives.base import (
    Archive,
    Patch,
    PatchData,
    Place,
    TileClass,
    quadrant,
    quadrant_window,
)
from landmeta_catalog.store_writer import open_shard
from landmeta_catalog.tiles import ArraySpec, index_frame, tile_checksum

_LABELS = "labels"
"""Name of the array of class codes of pixels."""


@dataclass(frozen=True, slots=True)
class Located:
    """A patch, where it lies, or the reason why it cannot be read after all."""

    patch: Patch | None
    place: Place | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HeadersJob:
    """Patches to look at; `thorough` reads their pixels too."""

    archive: Archive
    patches: list[Patch]
    thorough: bool


def read_headers(job: HeadersJob) -> list[Finding]:
    """Where patches lie, or why they are quarantined."""
    findings = []
    for patch in job.patches:
        try:
            place = job.archive.locate(patch)
            if job.thorough:
                job.archive.read(patch)
            findings.append(Finding(key_of(patch), place))
        except DataError as error:
            findings.append(Finding(key_of(patch), None, str(error)))
    return findings


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What a worker needs to make a shard: its tiles by slot, and their patches by row of the plan."""

    archive: Archive
    store: Path
    shard: int
    tiles: tuple[TileJob, ...]
    patches: Mapping[int, Located]


@dataclass(frozen=True, slots=True)
class Failures:
    """What did not go to plan in a shard.

    `broken`: reason by row of the plan. `moved`: the source that fills a slot instead of the planned one,
    None where all of its sources are broken and the slot stays empty.
    """

    broken: dict[int, str] = field(default_factory=dict)
    moved: dict[int, Source | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A shard that is in the store: its number, how many tiles it holds and how many it was to hold."""

    shard: int
    tiles: int
    planned: int


def ingest_shard(job: ShardJob) -> ShardResult:
    """Read the tiles of a shard, write each as it is read, and at last their rows of the index.

    Raises:
        OutputError: the store cannot be written or the disk is full.
    """
    reader, archive = _Reader(job), job.archive
    rows: list[dict[str, Any]] = []
    grounds: list[tuple[Place | None, Window]] = []
    failures = Failures(reader.broken)
    with open_shard(job.store, archive.dataset, job.shard) as shard:
        for slot, planned, sources in job.tiles:
            found = reader.first(sources)
            if found is None or found.source != planned:
                failures.moved[slot] = found.source if found else None
            if found is None:
                continue
            shard.add(slot, found.arrays)
            rows.append({**_row(archive, found), "slot": slot})
            grounds.append((found.located.place, found.window))
        for row, outline in zip(rows, footprints(grounds), strict=True):
            row["geometry"] = outline
        write_failures(job.store / archive.dataset, job.shard, failures)
        shard.describe(index_frame(rows))
    return ShardResult(job.shard, len(rows), len(job.tiles))


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile that has been read: its arrays (band, y, x) as stored, and its class."""

    source: Source
    located: Located
    quadrant: str
    window: Window
    arrays: Mapping[str, npt.NDArray[Any]]
    label: TileClass


class _Reader:
    """Reads the patches of a shard, each once, and notes which are broken."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._last: tuple[int, PatchData | None] = (-1, None)
        self.broken: dict[int, str] = {}

    def first(self, sources: Sequence[Source]) -> _Tile | None:
        """The first of the sources that can be read; None if all are broken."""
        for source in sources:
            if source.row in self.broken:
                continue
            try:
                return self._tile(source)
            except DataError as error:
                self.broken[source.row] = str(error)
        return None

    def _tile(self, source: Source) -> _Tile:
        archive, located = self._job.archive, self._job.patches[source.row]
        if located.patch is None:
            raise DataError(located.reason)
        data = self._read(source.row, located.patch)
        name = archive.quadrants[source.quadrant]
        arrays = _tile_arrays(archive, located.patch, data, name)
        labels = None if data.labels is None else quadrant(data.labels, name)
        label = archive.tile_class(located.patch, labels)
        shape = next(iter(data.arrays.values())).shape
        window = quadrant_window(name, (shape[-2], shape[-1]))
        return _Tile(source, located, name, window, arrays, label)

    def _read(self, row: int, patch: Patch) -> PatchData:
        # The tiles of a patch have neighbouring slots: the patch read last is the only one worth keeping.
        if self._last[0] != row or self._last[1] is None:
            self._last = row, self._job.archive.read(patch)
        data = self._last[1]
        assert data is not None
        return data


def _tile_arrays(archive: Archive, patch: Patch, data: PatchData, name: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays of the tile `name` of a patch, in the shapes and types that the store expects."""
    arrays = {spec.name: quadrant(data.arrays[spec.name], name) for spec in archive.arrays}
    for spec in archive.arrays:
        tile = arrays[spec.name]
        if tile.shape != spec.shape or tile.dtype != spec.dtype:
            file = patch.files.get(spec.name, next(iter(patch.files.values())))
            msg = f"{file} gives tiles {tile.shape} {tile.dtype}, expected {spec.shape} {spec.dtype}"
            raise DataError(msg)
    return arrays


def checksum_of(archive: Archive, patch: Patch, name: str) -> str | None:
    """Checksum that the tile `name` of a patch has in the store; None where the patch cannot be read."""
    try:
        arrays = _tile_arrays(archive, patch, archive.read(patch), name)
    except DataError:
        return None
    return tile_checksum(arrays[spec.name] for spec in archive.arrays)


def _row(archive: Archive, tile: _Tile) -> dict[str, Any]:
    """The tile's row of the index, but for slot, geometry, and what the store fills in itself."""
    patch, place = tile.located.patch, tile.located.place
    assert patch is not None
    names = dict(zip(archive.legend.codes, archive.legend.names, strict=True))
    row = {
        "region": patch.region,
        "season": patch.season,
        "patch": patch.patch,
        "quadrant": tile.quadrant,
        "block": patch.block or patch.patch,
        "class_code": tile.label.code,
        "class_name": names.get(tile.label.code, ""),
        "class_fractions": tile.label.fractions,
        "valid_fraction": _valid_fraction(archive.arrays, tile.arrays),
        "side": archive.arrays[0].side,
    }
    if place is None:
        return row
    x, y = upper_left(place, tile.window)
    pixel = float(np.hypot(place.transform[0], place.transform[3]))
    return {**row, "crs": place.crs, "x": x, "y": y, "pixel": pixel}


def _valid_fraction(specs: Sequence[ArraySpec], arrays: Mapping[str, npt.NDArray[Any]]) -> float:
    """Share of pixels that have data in at least one band of every sensor."""
    valid = np.ones((specs[0].side, specs[0].side), bool)
    for spec in specs:
        if spec.nodata is not None and spec.name != _LABELS:
            valid &= (arrays[spec.name] != spec.nodata).any(axis=0)
    return float(valid.mean())


def write_failures(folder: Path, shard: int, failures: Failures) -> None:
    """Note in the dataset's `folder` what did not go to plan, before the shard counts as done."""
    path = folder / "quarantine" / f"{shard}.json"
    if not failures.broken and not failures.moved:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"broken": [*failures.broken.items()], "moved": [*failures.moved.items()]}
    write_text(path, json.dumps(content))


def read_failures(folder: Path) -> Iterator[tuple[Path, Failures]]:
    """The notes in a dataset's `folder`, each with its file."""
    for path in sorted((folder / "quarantine").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        moved = {slot: Source(*source) if source else None for slot, source in content["moved"]}
        yield path, Failures(dict(content["broken"]), moved)
