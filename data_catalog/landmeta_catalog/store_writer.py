"""Making a tile store: a dataset is created, its shards are written in any order, then it is finished.

A shard's arrays are written first and its part of the index last, each whole or not at all: what has a part
is done. One process writes a shard; different shards may be written at the same time. Killing any of it
leaves a store that the same calls complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from landmeta.errors import DataError, OutputError
from landmeta.legend import Legend
from landmeta_catalog import _tile_index as tile_index
from landmeta_catalog._manifest import Dataset, Manifest, check_name, enter, new_manifest, read_manifest
from landmeta_catalog._shards import ShardFile, open_shard_file, read_index, shard_path
from landmeta_catalog.tiles import OK, SHARD_TILES, ArraySpec, tile_checksum, tile_id

_EXTRA = "extra"


def create_dataset(
    store: Path,
    dataset: str,
    arrays: Sequence[ArraySpec],
    legend: Legend,
    tiles: int,
    *,
    settings: Mapping[str, Any],
) -> None:
    """Enter a dataset in the store, which is made where it is absent; entering it again changes nothing.

    Args:
        store: Folder of the store.
        dataset: Name of the dataset.
        arrays: Its arrays.
        legend: Its classes.
        tiles: Places in each array; of a dataset that is there `grow_dataset` alone changes them.
        settings: What the tiles depend on (crop, majority rule, ...), in JSON types.

    Raises:
        DataError: the store has another format, the folder holds something else, or the dataset is there
            with other arrays, legend or settings.
        OutputError: the folder cannot be written.
    """
    check_name("dataset", dataset)
    for spec in arrays:
        check_name("array", spec.name)
    manifest = _open_or_new(store)
    wanted = Dataset(dataset, tuple(arrays), legend, tiles, json.loads(json.dumps(dict(settings))))
    if dataset in manifest.datasets:
        _check_same(store, manifest.datasets[dataset], wanted)
    else:
        _make_folder(store / dataset / "parts")
        enter(store, manifest, wanted)


def _open_or_new(store: Path) -> Manifest:
    if (store / "store.json").exists():
        return read_manifest(store)
    # A killed first call leaves nothing but its own folders; anything else is not ours to mix with.
    shown = sorted(path for path in store.iterdir() if path.name[0] != ".") if store.is_dir() else []
    foreign = next((path for path in shown if not _is_left_over(path)), None)
    if foreign is not None:
        msg = f"{store} holds {foreign.name} but no store.json: it is no tile store"
        raise DataError(msg, "name a new folder with --out")
    return new_manifest()


def _is_left_over(path: Path) -> bool:
    """Whether a folder is what a first call that was stopped leaves of a dataset: it makes `parts` first."""
    return path.is_dir() and ((path / "parts").is_dir() or not any(path.iterdir()))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror or error}"
        raise OutputError(msg, "choose a folder with write permission with --out") from error


def _check_same(store: Path, there: Dataset, wanted: Dataset) -> None:
    for what in ("arrays", "legend", "settings"):
        found, given = getattr(there, what), getattr(wanted, what)
        if found != given:
            msg = f"dataset {there.name} of {store} was made with other {what}: {_difference(found, given)}"
            raise DataError(msg, "ingest with the options of the first time, or into a new folder with --out")


def _difference(found: Any, given: Any) -> str:
    if isinstance(found, Mapping):
        keys = [k for k in sorted({*found, *given}) if found.get(k) != given.get(k)]
        return ", ".join(f"{k} {found.get(k)!r}, now {given.get(k)!r}" for k in keys)
    if isinstance(found, Legend):
        return f"{', '.join(found.names)}; now {', '.join(given.names)}"
    return f"{', '.join(map(_spec_text, found))}; now {', '.join(map(_spec_text, given))}"


def _spec_text(spec: ArraySpec) -> str:
    return f"{spec.name} ({len(spec.bands)} bands, {spec.side} px, {spec.dtype})"


def grow_dataset(store: Path, dataset: str, tiles: int) -> None:
    """Give every array of the dataset `tiles` places; what is stored stays as it is.

    Raises:
        DataError: no such store or dataset, or it has more places already.
        OutputError: the folder cannot be written.
    """
    manifest = read_manifest(store)
    there = manifest.dataset(dataset)
    if tiles < there.tiles:
        msg = f"dataset {dataset} of {store} has {there.tiles} places and cannot shrink to {tiles}"
        raise DataError(msg, "ingest into a new folder with --out")
    if tiles > there.tiles:
        enter(store, manifest, replace(there, tiles=tiles))


def write_shard(
    store: Path, dataset: str, shard: int, arrays: Mapping[str, npt.NDArray[Any]], rows: pd.DataFrame
) -> None:
    """Write the tiles of one shard and then its part of the index.

    Args:
        store: Folder of the store.
        dataset: A dataset that `create_dataset` entered.
        shard: Its slots are `shard * SHARD_TILES` and the `SHARD_TILES - 1` that follow.
        arrays: For every array of the dataset the stored numbers (tile, band, y, x) of the rows whose
            `status` is ok, in their order.
        rows: Rows of the index, see `ShardWriter.describe`. Without a column `slot` the tiles take the first
            places of the shard.

    Raises:
        DataError: no such store or dataset.
        OutputError: the folder cannot be written or the disk is full.
        ValueError: arrays or slots that do not fit the dataset or the rows.
    """
    good = (rows["status"] == OK).to_numpy() if "status" in rows else np.ones(len(rows), bool)
    if "slot" not in rows:
        rows = rows.assign(slot=np.where(good, shard * SHARD_TILES + np.cumsum(good) - 1, -1))
    slots = rows.loc[good, "slot"].to_numpy(np.int64)
    if uneven := {name: len(tiles) for name, tiles in arrays.items() if len(tiles) != len(slots)}:
        msg = f"{len(slots)} rows take as many tiles, {uneven} were given"
        raise ValueError(msg)
    with open_shard(store, dataset, shard) as writer:
        for at, slot in enumerate(slots.tolist()):
            writer.add(slot, {name: tiles[at] for name, tiles in arrays.items()})
        writer.describe(rows)


class ShardWriter:
    """Takes the tiles of one shard one by one, so that memory holds one of them; see `open_shard`."""

    def __init__(self, store: Path, dataset: Dataset, shard: int, files: ExitStack) -> None:
        self.rows: pd.DataFrame | None = None
        self._folder, self._dataset, self._shard = store / dataset.name, dataset, shard
        self._opened, self._files = files, dict[str, ShardFile]()
        self._checksums: dict[int, str] = {}

    def add(self, slot: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write a tile to its slot: for every array of the dataset the stored numbers (band, y, x).

        Raises:
            OutputError: the folder cannot be written.
            ValueError: arrays or a slot that do not fit the dataset.
        """
        self._check_fit(slot, arrays)
        if not self._files:
            paths = {s.name: shard_path(self._folder / s.name, self._shard) for s in self._dataset.arrays}
            self._files = {
                name: self._opened.enter_context(open_shard_file(path)) for name, path in paths.items()
            }
        for name, file in self._files.items():
            file.add(slot - self._shard * SHARD_TILES, arrays[name])
        self._checksums[slot] = tile_checksum(arrays[name] for name in self._files)

    def _check_fit(self, slot: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        first = self._shard * SHARD_TILES
        end = min(first + SHARD_TILES, self._dataset.tiles)
        if not first <= slot < end or slot in self._checksums:
            msg = f"shard {self._shard} takes distinct slots {first}..{end - 1}, {slot} was given"
            raise ValueError(msg)
        specs = {spec.name: spec for spec in self._dataset.arrays}
        if set(arrays) != set(specs):
            msg = f"arrays {sorted(arrays)} were given, the dataset has {sorted(specs)}"
            raise ValueError(msg)
        for name, spec in specs.items():
            found = arrays[name]
            if found.shape != spec.shape or found.dtype != np.dtype(spec.dtype):
                msg = f"array {name} takes {spec.shape} {spec.dtype}, {found.shape} {found.dtype} was given"
                raise ValueError(msg)

    def describe(self, rows: pd.DataFrame) -> None:
        """Give the rows of the index, one for every tile that was added; quarantined ones may be among them.

        `id`, `dataset` and `checksum` are filled in here.

        Raises:
            ValueError: rows of other tiles than those added.
        """
        rows = rows.assign(dataset=self._dataset.name)
        if "status" not in rows:
            rows["status"] = OK
        good = (rows["status"] == OK).to_numpy()
        slots = rows["slot"].to_numpy(np.int64)
        if sorted(slots[good].tolist()) != sorted(self._checksums):
            msg = f"rows of slots {slots[good]} for tiles at {sorted(self._checksums)}"
            raise ValueError(msg)
        checksums = [self._checksums[slot] if ok else "" for slot, ok in zip(slots, good, strict=True)]
        self.rows = rows.assign(checksum=checksums, id=_ids(rows))


@contextmanager
def open_shard(store: Path, dataset: str, shard: int) -> Iterator[ShardWriter]:
    """A shard to add tiles to; files and rows enter the store when the block ends well, else nothing does.

    Raises:
        DataError: no such store or dataset.
        OutputError: the folder cannot be written or the disk is full.
        ValueError: tiles were added and not described.
    """
    there = read_manifest(store).dataset(dataset)
    with ExitStack() as files:
        writer = ShardWriter(store, there, shard, files)
        yield writer
        if writer.rows is None:
            msg = f"the tiles of shard {shard} have no rows"
            raise ValueError(msg)
    if len(writer.rows):
        tile_index.write_part(_part(store, dataset, str(shard)), writer.rows)


def _ids(rows: pd.DataFrame) -> list[str]:
    parts = (rows[name] for name in ("dataset", "region", "season", "patch", "quadrant"))
    return [tile_id(*values) for values in zip(*parts, strict=True)]


def shards_done(store: Path, dataset: str) -> frozenset[int]:
    """Numbers of the shards that are stored whole: part of the index written, files of the promised size.

    A shard whose file is gone, truncated or damaged in its index is not among them and can be written again.

    Raises:
        DataError: no such store or dataset.
    """
    there = read_manifest(store).dataset(dataset)
    stems = (path.stem for path in (store / dataset / "parts").glob("*.parquet"))
    return frozenset(n for n in (int(s) for s in stems if s.isdigit()) if _is_whole(store, there, n))


def _is_whole(store: Path, dataset: Dataset, shard: int) -> bool:
    try:
        for spec in dataset.arrays:
            read_index(shard_path(store / dataset.name / spec.name, shard))
    except DataError:
        return False
    return True


def finish_dataset(store: Path, dataset: str, extra_rows: pd.DataFrame) -> None:
    """Merge the parts of all finished datasets and this one into `index.parquet`; then it can be read.

    Args:
        store: Folder of the store.
        dataset: The dataset whose shards are all written.
        extra_rows: Rows that belong to no shard: the quarantined tiles. They replace those of the last call.

    Raises:
        DataError: no such store or dataset, or a damaged part.
        OutputError: the folder cannot be written or the disk is full.
    """
    manifest = read_manifest(store)
    there = replace(manifest.dataset(dataset), finished=True)
    rows = extra_rows.assign(dataset=dataset)
    tile_index.write_part(_part(store, dataset, _EXTRA), rows.assign(id=_ids(rows)))
    finished = {name for name, other in manifest.datasets.items() if other.finished} | {dataset}
    parts = [path for name in sorted(finished) for path in sorted((store / name / "parts").glob("*.parquet"))]
    tile_index.merge_parts(store / "index.parquet", parts)
    enter(store, manifest, there)


def is_finished(store: Path, dataset: str) -> bool:
    """Whether the dataset is in the index of the store, so that it can be read.

    Raises:
        DataError: no such store or dataset.
    """
    return read_manifest(store).dataset(dataset).finished and (store / "index.parquet").is_file()


def _part(store: Path, dataset: str, stem: str) -> Path:
    return store / dataset / "parts" / f"{stem}.parquet"
