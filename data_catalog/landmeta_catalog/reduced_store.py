"""A tile store with smaller tiles of the same ground: means of whole pixels, for cheap benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from landmeta.errors import DataError
from landmeta_catalog._manifest import read_manifest
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import (
    create_dataset,
    finish_dataset,
    is_finished,
    shards_done,
    write_shard,
)
from landmeta_catalog.tiles import INDEX_COLUMNS, SHARD_TILES, ArraySpec

Progress = Callable[[str, int, int], None]


def reduce_store(store: Path, dataset: str, out: Path, side: int, *, progress: Progress) -> None:
    """Write the tiles of a dataset to `out` with `side` pixels a side; what is there already is kept.

    Each pixel is the mean of those it covers, without data where one of them is. Tiles keep their region,
    class, patch and corner, while their pixels are larger, and so are distances counted in pixels. Label
    rasters and footprints are left out.

    Raises:
        DataError: no such store or dataset, tiles whose side is no multiple of `side`, or `out` holds smaller
            tiles of others.
        OutputError: the folder cannot be written.
    """
    with TileStore.open(store) as source:
        specs = [spec for spec in source.arrays(dataset) if spec.name != "labels"]
        if uneven := [spec for spec in specs if spec.side % side]:
            msg = f"tiles of {dataset} have {uneven[0].side} px, which is no multiple of {side}"
            raise DataError(msg, "choose a side that divides it")
        with _alone(out):
            _reduce(source, dataset, specs, out, side, progress)


def reduced_from(store: Path, dataset: str) -> str | None:
    """The digest of the tiles of which `reduce_store` made those of a dataset; None where there are none.

    Raises:
        DataError: the folder is a store of another format, or damaged.
    """
    if not (store / "store.json").is_file():
        return None
    there = read_manifest(store).datasets.get(dataset)
    return None if there is None else str(there.settings.get("of"))


def _reduce(
    source: TileStore, dataset: str, specs: list[ArraySpec], out: Path, side: int, progress: Progress
) -> None:
    columns = [name for name in INDEX_COLUMNS if name != "geometry"]
    index = source.index(dataset=dataset, columns=columns).sort_values("slot").astype({"class_name": str})
    legend, tiles = source.legend(dataset), int(index["slot"].max()) + 1
    # With the digest, a copy of tiles that have been ingested anew since is refused.
    settings: dict[str, Any] = {"reduced_to": side, "of": source.digest(dataset)}
    if source.simulated(dataset):
        settings["simulated"] = True
    smaller = [replace(spec, side=side) for spec in specs]
    create_dataset(out, dataset, smaller, legend, tiles, settings=settings)
    done, shard_of = shards_done(out, dataset), index["slot"].to_numpy(np.int64) // SHARD_TILES
    shards = np.unique(shard_of).tolist()
    if done.issuperset(shards) and is_finished(out, dataset):
        return  # untouched, as another run may be reading it
    for number, shard in enumerate(shards, 1):
        if shard not in done:
            rows = index[shard_of == shard].drop(columns=["id", "dataset", "checksum"])
            rows = rows.assign(side=side, pixel=rows["pixel"] * (specs[0].side // side))
            slots = rows["slot"].to_numpy(np.int64)
            arrays = {
                spec.name: _averaged(source.read(dataset, spec.name, slots), spec, side) for spec in specs
            }
            write_shard(out, dataset, shard, arrays, rows.reset_index(drop=True))
        progress("smaller tiles", number, len(shards))
    finish_dataset(out, dataset, index.iloc[:0])


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Wait while another run makes the same tiles; it leaves them finished, or to be gone on with."""
    lock = FileLock(out / ".reducing.lock")
    with suppress(OSError):  # a folder that cannot be written needs no lock where its tiles are finished
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _averaged(stored: npt.NDArray[Any], spec: ArraySpec, side: int) -> npt.NDArray[Any]:
    """Means of (tile, band, y, x) over squares, rounded to the stored type."""
    factor = spec.side // side
    tiles, bands = stored.shape[:2]
    squares = stored.reshape(tiles, bands, side, factor, side, factor)
    means = squares.mean(axis=(3, 5), dtype=np.float64)
    reduced: npt.NDArray[Any] = np.rint(means).astype(stored.dtype)
    if spec.nodata is not None:
        reduced[(squares == spec.nodata).any(axis=(3, 5))] = spec.nodata
    return reduced
