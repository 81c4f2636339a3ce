"""From a tile archive to a tile store: plan on headers, read every patch once, go on after any interruption.

What is on disk at any moment is a store that the next call completes: the plan (`plan.parquet`), shards that
are whole, and notes on broken patches. Memory holds the plan and one shard a worker, whatever the archive.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from landmeta.errors import DataError, OutputError
from landmeta_catalog._ingest_plan import (
    SPARE,
    UNPLANNED,
    Finding,
    Key,
    Plan,
    Sources,
    amended,
    having,
    key_of,
    next_slot,
    read_plan,
    settled,
    tiles_to_place,
    write_plan,
)
from landmeta_catalog._ingest_pool import Pool, pool
from landmeta_catalog._ingest_work import (
    HeadersJob,
    Located,
    ShardJob,
    checksum_of,
    ingest_shard,
    read_failures,
    read_headers,
)
from landmeta_catalog._manifest import read_manifest
from landmeta_catalog.archives.base import Archive, Broken, Patch
from landmeta_catalog.store_writer import create_dataset, finish_dataset, grow_dataset, shards_done
from landmeta_catalog.tiles import QUARANTINED, SHARD_TILES, index_frame, tile_id

Progress = Callable[[str, int, int], None]

PLAN, LOCK = "plan.parquet", ".ingest.lock"
_GONE = "is no longer in the archive"
_HEADERS_A_JOB = 256
"""Patches; starting a job takes as long as reading about ten."""
_SAVE_S = 20.0
"""Seconds of reading headers that a killed process loses at most."""
_SAVE_FINDINGS = 20_000
"""Patches found in headers that wait to join the plan; there they take a tenth of the memory."""
_INLINE_BYTES = 500_000_000
"""Of pixels; with fewer than these, starting other processes takes longer than they save."""
_WORKERS = 2
"""Processes unless told otherwise: with this one they stay under 1 GB together."""


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What an ingest found and did.

    `patches` counts those of the archive, broken ones too. `tiles` are in the store, `written` of them by
    this call; `same_ground` were left out because another tile shows the same ground. `absent` counts
    patches that the store has and the archive no longer. `quarantined` holds the name and the reason of every
    broken patch.
    """

    dataset: str
    store: Path
    patches: int
    tiles: int
    written: int
    same_ground: int
    absent: int
    quarantined: tuple[tuple[str, str], ...]
    workers: int
    seconds: float


def ingest(
    archive: Archive,
    store: Path,
    *,
    workers: int | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Bring an archive into the store, or go on with that; broken patches are quarantined.

    A call that is interrupted, killed or runs out of disk space loses nothing that is stored: the same call
    completes it and reads only what is missing. Patches new in the archive are added, quarantined ones are
    tried again.

    Args:
        archive: Reader of the archive.
        store: Folder of the store, made where it is absent.
        workers: Processes; 1 works in this one. None chooses by the size of the archive.
        settings: What the tiles depend on, in JSON types; a store refuses to mix.
        progress: Called with stage, done and total.

    Raises:
        DataError: no patch can be read, or the store has another format, other settings or another archive
            under this name.
        OutputError: the store cannot be written, the disk is full, or another ingest is at work on it.
    """
    begun = time.monotonic()
    patches, broken = archive.scan()
    workers = workers or _suitable_workers(archive, len(patches))
    with only_writer(store), pool(workers) as run:
        create_dataset(store, archive.dataset, archive.arrays, archive.legend, 0, settings=settings or {})
        job = _Job(archive, store, {key_of(p): p for p in patches}, run, progress or _silent)
        plan = _planned(job)
        written = _fill(job, plan, broken)
        plan = _noted(plan, job.folder)
        quarantined = _quarantined(job, plan, broken)
        if not (plan.slots >= 0).any():
            msg = f"none of the {len(quarantined)} patches can be read, the first: {quarantined['reason'][0]}"
            raise DataError(msg, "give the archive as published")
        finish_dataset(store, archive.dataset, quarantined)
    return IngestSummary(
        dataset=archive.dataset,
        store=store,
        patches=len(patches) + len(broken),
        tiles=int((plan.slots >= 0).sum()),
        written=written,
        same_ground=int((plan.slots[plan.healthy()] == SPARE).sum()),
        absent=len(_stored(plan) - job.patches.keys() - {Key(b.region, b.season, b.patch) for b in broken}),
        quarantined=tuple(zip(quarantined["id"], quarantined["reason"], strict=True)),
        workers=workers,
        seconds=time.monotonic() - begun,
    )


def _stored(plan: Plan) -> set[Key]:
    """Keys of the patches of which tiles are in the store."""
    return set(plan.keys(np.flatnonzero((plan.slots >= 0).any(axis=1))))


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of `ingest`: the archive and its patches by key, the store, who does the work."""

    archive: Archive
    store: Path
    patches: Mapping[Key, Patch]
    run: Pool
    progress: Progress

    @property
    def folder(self) -> Path:
        return self.store / self.archive.dataset


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _suitable_workers(archive: Archive, patches: int) -> int:
    tile = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in archive.arrays)
    small = patches * len(archive.quadrants) * tile < _INLINE_BYTES
    return 1 if small else min(_WORKERS, os.cpu_count() or 1)


@contextmanager
def only_writer(store: Path) -> Iterator[None]:
    """Keep other ingests out of the store; the system lifts the lock when the process ends, however it ends.

    Raises:
        OutputError: another ingest is at work on the store, or its folder cannot be made.
    """
    made = not store.exists()
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        msg = f"another ingest is writing to {store}"
        raise OutputError(msg, "wait until it has ended, or name another store with --out") from error
    except OSError as error:
        msg = f"cannot write to the store {store}: {error.strerror or error}"
        raise OutputError(msg, "choose a folder with write permission with --out") from error
    try:
        yield
    finally:
        lock.release()
        # Where no store came into being, nothing of the attempt is left.
        if not (store / "store.json").exists():
            (store / LOCK).unlink(missing_ok=True)
            if made and store.is_dir() and not any(store.iterdir()):
                store.rmdir()


def _planned(job: _Job) -> Plan:
    """The plan of the store with every patch of the archive in it, as it is on disk."""
    path, done = job.folder / PLAN, shards_done(job.store, job.archive.dataset)
    if done and not path.exists():
        msg = f"{path} is missing, without it nobody knows what the store holds already"
        raise DataError(msg, f"delete {job.folder} and ingest again")
    plan = _noted(read_plan(path, job.archive.quadrants), job.folder)
    _check_same_archive(job, done)
    plan = _located(job, plan)
    if (plan.slots == UNPLANNED).any():
        plan = settled(plan, list(job.patches), next_slot(plan, done))
        write_plan(plan, path)
    places = read_manifest(job.store).dataset(job.archive.dataset).tiles
    grow_dataset(job.store, job.archive.dataset, max(places, tiles_to_place(plan)))
    return plan


def _noted(plan: Plan, folder: Path) -> Plan:
    """The plan after what workers noted on broken patches; the notes are taken away once it is on disk."""
    notes = list(read_failures(folder))
    for _, failures in notes:
        plan = amended(plan, failures.broken, failures.moved)
    if notes:
        write_plan(plan, folder / PLAN)
    for path, _ in notes:
        path.unlink()
    return plan


def _check_same_archive(job: _Job, done: frozenset[int]) -> None:
    """Refuse another archive whose tiles have the same names: one stored tile must be as in the archive."""
    for shard in sorted(done)[:1]:
        columns = ["region", "season", "patch", "quadrant", "checksum"]
        row = pd.read_parquet(job.folder / "parts" / f"{shard}.parquet", columns=columns).iloc[0]
        patch = job.patches.get(Key(row["region"], row["season"], row["patch"]))
        found = patch and checksum_of(job.archive, patch, row["quadrant"])
        if patch and found and found != row["checksum"]:
            file = next(iter(patch.files.values()))
            msg = f"{file} is not what dataset {job.archive.dataset} of {job.store} holds under this name"
            raise DataError(msg, "an archive of its own needs a name of its own: --name")


def _located(job: _Job, plan: Plan) -> Plan:
    """The plan with the patches that are new in the archive, and quarantined ones that can be read now."""
    known = dict(zip(plan.keys(), plan.healthy().tolist(), strict=True))
    new = [patch for key, patch in job.patches.items() if key not in known]
    again = [patch for key, patch in job.patches.items() if not known.get(key, True)]
    jobs = [HeadersJob(job.archive, some, thorough=False) for some in _chunks(new)]
    jobs += [HeadersJob(job.archive, some, thorough=True) for some in _chunks(again)]
    done, saved, waiting = 0, time.monotonic(), list[Finding]()
    try:
        for findings in job.run(read_headers, jobs):
            done += len(findings)
            waiting += [f for f in findings if not (f.reason and f.key in known)]
            job.progress("headers", done, len(new) + len(again))
            if time.monotonic() - saved > _SAVE_S or len(waiting) > _SAVE_FINDINGS:
                plan, waiting = _saved(job, plan, waiting), []
                saved = time.monotonic()
    finally:
        plan = _saved(job, plan, waiting)
    return plan


def _chunks(patches: Sequence[Patch]) -> list[list[Patch]]:
    return [list(patches[at : at + _HEADERS_A_JOB]) for at in range(0, len(patches), _HEADERS_A_JOB)]


def _saved(job: _Job, plan: Plan, findings: Sequence[Finding]) -> Plan:
    if findings:
        plan = having(plan, findings)
        write_plan(plan, job.folder / PLAN)
    return plan


def _fill(job: _Job, plan: Plan, broken: Sequence[Broken]) -> int:
    """Write the shards that are missing; the number of tiles written."""
    shards = plan.slots[plan.slots >= 0] // SHARD_TILES
    done = shards_done(job.store, job.archive.dataset)
    missing = [int(shard) for shard in np.unique(shards) if shard not in done]
    total = int((plan.slots >= 0).sum())
    ready = total - int(np.isin(shards, missing).sum())
    written = 0
    for result in job.run(ingest_shard, _shard_jobs(job, plan, missing, broken)):
        written += result.tiles
        ready += result.planned
        job.progress("tiles", ready, total)
    return written


def _shard_jobs(job: _Job, plan: Plan, shards: Iterable[int], broken: Sequence[Broken]) -> Iterator[ShardJob]:
    """What workers need for each of the shards, made when they are ready for it."""
    sources = Sources(plan)
    reasons = {Key(b.region, b.season, b.patch): f"{b.file}: {b.reason}" for b in broken}
    for shard in shards:
        tiles = sources.tiles(shard)
        rows = sorted({source.row for tile in tiles for source in tile.sources})
        patches = {
            row: Located(job.patches.get(key), place, reasons.get(key, f"{key.patch} {_GONE}"))
            for row, key, place in zip(rows, plan.keys(rows), plan.places(rows), strict=True)
        }
        yield ShardJob(job.archive, job.store, shard, tiles, patches)


def _quarantined(job: _Job, plan: Plan, broken: Sequence[Broken]) -> pd.DataFrame:
    """Rows of the index for broken patches: as listed, by their headers, by their pixels."""
    rows = np.flatnonzero(~plan.healthy())
    bad = dict(zip(plan.keys(rows), plan.patches["reason"].iloc[rows], strict=True))
    listed = [(Key(b.region, b.season, b.patch), f"{b.file}: {b.reason}") for b in broken]
    # What lost a file after it was stored is in the store all the same.
    lost = {key for key, _ in listed if key not in job.patches}
    stored = (lost - bad.keys()).intersection(plan.keys()) if lost else set[Key]()
    listed = [(key, reason) for key, reason in listed if key not in stored]
    found = [
        (key, reason if key in job.patches else f"{key.patch} {_GONE}")
        for key, reason in bad.items()
        if key not in lost
    ]
    dataset, table = job.archive.dataset, list[dict[str, Any]]()
    # A second patch of one name is told from the first by a number.
    seen = Counter(key for key in {key for key, _ in listed} if key in job.patches and key not in bad)
    for key, reason in [*found, *listed]:
        seen[key] += 1
        name = f"{key.patch}#{seen[key]}" if seen[key] > 1 else key.patch
        table.append({**key._asdict(), "patch": name, "reason": reason})
        table[-1]["id"] = tile_id(dataset, key.region, key.season, name, "")
    return index_frame(table).assign(dataset=dataset, status=QUARANTINED)
