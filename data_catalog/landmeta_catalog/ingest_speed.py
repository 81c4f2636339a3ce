"""How long an ingest takes, and how much memory all of its processes hold, by the size of the archive.

The archive is invented, in the layout of SEN12MS: patches have names, places and pixels, but no files. It is
ingested by processes of its own, `python -m landmeta_catalog.ingest_speed FOLDER PATCHES WORKERS SHARDS`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landmeta.bands import RADAR, SENTINEL2
from landmeta.legend import DFC2020, Legend
from landmeta_catalog.archives import _sentinel
from landmeta_catalog.archives.base import (
    CROPS,
    Broken,
    Codes,
    Patch,
    PatchData,
    Place,
    TileClass,
    majority_class,
)
from landmeta_catalog.ingest import ingest
from landmeta_catalog.tiles import SHARD_TILES, ArraySpec

SEN12MS_PATCHES = 180_662
"""Patches of SEN12MS."""

_SCENES, _SEASONS = 252, ("fall", "spring", "summer", "winter")
_PER_ROW = 32
_WATCH_S = 0.1


@dataclass(frozen=True, slots=True)
class IngestSpeed:
    """An ingest of `patches`, up to `tiles` that were written.

    `seconds` are those of all, `tiles_per_s` is the rate from the first shard that was ready to the last,
    None where there was only one. `peak_mb` is the largest sum of the resident memory of all processes,
    1e6 bytes; what they share counts in each. None where the system does not tell it.
    """

    patches: int
    tiles: int
    workers: int
    seconds: float
    tiles_per_s: float | None
    peak_mb: float | None


def ingest_speed(patches: int, *, workers: int = 2, shards: int = 0) -> IngestSpeed:
    """Ingest an invented archive into a temporary folder and watch its processes.

    Args:
        patches: Patches of the archive, four tiles each.
        workers: Processes that read and write.
        shards: Stop after as many shards; 0 goes on to the end. Listing, headers and plan are those of the
            whole archive.
    """
    with tempfile.TemporaryDirectory() as folder:
        numbers = [str(number) for number in (patches, workers, shards)]
        command = [sys.executable, "-m", "landmeta_catalog.ingest_speed", folder, *numbers]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, _resident(process.pid))
                time.sleep(_WATCH_S)
            told = process.communicate()[0]
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    found = json.loads(told)
    return IngestSpeed(patches, workers=workers, peak_mb=peak / 1e6 if peak else None, **found)


def _resident(process: int) -> int:
    """Bytes of memory of a process and all those it started; 0 where /proc does not tell them."""
    folder = Path("/proc") / str(process)
    try:
        status = (folder / "status").read_text(encoding="ascii").splitlines()
        started = [path.read_text(encoding="ascii") for path in folder.glob("task/*/children")]
    except OSError:  # it has just ended, or this is no Linux
        return 0
    own = sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
    return own + sum(_resident(int(child)) for child in " ".join(started).split())


@dataclass(frozen=True)
class InventedArchive:
    """Patches on the grids of 252 scenes; those of a scene lie side by side."""

    patches: int
    dataset: str = "invented"
    quadrants: tuple[str, ...] = CROPS["quadrants"]

    @property
    def legend(self) -> Legend:
        """See `Archive.legend`."""
        return DFC2020

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """Those of SEN12MS."""
        return _sentinel.specs(_sentinel.SENSORS, "quadrants")

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        """Patches with the names that SEN12MS gives them."""
        found: list[Patch] = []
        for scene in range(_SCENES):
            region, season = str(scene // 4 + 1), _SEASONS[scene % 4]
            kinds = tuple(_names(region, season, kind) for kind in ("s2", "s1", "lc"))
            first, last = (at * self.patches // _SCENES for at in (scene, scene + 1))
            numbers = [str(number) for number in range(last - first)]
            found += [Patch(region, season, f"p{n}", _sentinel.Siblings(kinds, n)) for n in numbers]
        return found, []

    def locate(self, patch: Patch) -> Place:
        """A place of its own on the grid of the region."""
        row, col = divmod(int(patch.patch[1:]), _PER_ROW)
        west, north = 500_000.0 + 2560 * col, 5_400_000.0 - 2560 * row
        return Place("EPSG:32633", (10.0, 0.0, west, 0.0, -10.0, north), (_sentinel.PATCH_SIDE,) * 2)

    def read(self, patch: Patch) -> PatchData:
        """Noise, as hard to compress as imagery."""
        shape = (_sentinel.PATCH_SIDE,) * 2
        rng = np.random.default_rng(int(patch.patch[1:]))
        bands = rng.integers(0, 1 << 10, (len(SENTINEL2), *shape), dtype=np.uint16)
        codes = np.full(shape, 1 + int(patch.patch[1:]) % len(DFC2020), np.uint8)
        radar = bands[: len(RADAR)].astype(np.int16)
        return PatchData({"s2": bands, "s1": radar, "labels": codes[None]}, codes)

    def tile_class(self, patch: Patch, labels: Codes | None) -> TileClass:
        """See `Archive.tile_class`."""
        return majority_class(labels, DFC2020)


def _names(region: str, season: str, kind: str) -> _sentinel.FileNames:
    roi = f"ROIs0000_{season}"
    return _sentinel.FileNames(
        kind, Path("SEN12MS", roi, f"{kind}_{region}"), f"{roi}_{kind}_{region}_p", ".tif"
    )


class _EnoughError(Exception):
    """As many shards have been written as were asked for."""


def main(folder: str, patches: str, workers: str, shards: str) -> None:
    """Ingest and print what was written in which time."""
    begun, ready = time.perf_counter(), list[tuple[float, int]]()
    enough = int(shards) * SHARD_TILES or 4 * int(patches)

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "tiles":
            ready.append((time.perf_counter(), done))
            if enough <= done < total:
                raise _EnoughError

    with contextlib.suppress(_EnoughError):
        ingest(InventedArchive(int(patches)), Path(folder) / "store", workers=int(workers), progress=progress)
    (first, before), (last, written) = ready[0], ready[-1]
    rate = (written - before) / (last - first) if last > first else None
    found = {"tiles": written, "seconds": time.perf_counter() - begun, "tiles_per_s": rate}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
