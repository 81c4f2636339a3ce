"""An archive without files: patches of 16 px on a ground whose pixels follow from their coordinates."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from landmeta.errors import DataError
from landmeta.legend import DFC2020, Legend
from landmeta_catalog.archives.base import (
    CROPS,
    Broken,
    Patch,
    PatchData,
    Place,
    TileClass,
    majority_class,
    quadrant_window,
)
from landmeta_catalog.ingest import ingest
from landmeta_catalog.tiles import ArraySpec

SIDE, PIXEL, CRS = 16, 10.0, "EPSG:32633"
WEST, NORTH = 500_000.0, 5_400_000.0


@dataclass
class FakeArchive:
    """Patches by name, at steps of half a patch: `{"a/spring/p1": (row, column)}`, None = nowhere.

    `headless` patches break in their headers, `broken` ones when read, `absent` are listed as broken.
    `looked` and `read_` count, in order. `delay` is in seconds a patch.
    """

    patches: dict[str, tuple[float, float] | None]
    headless: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    delay: float = 0.0
    seed: int = 0
    dataset: str = "fake"
    quadrants: tuple[str, ...] = CROPS["quadrants"]
    looked: list[str] = field(default_factory=list)
    read_: list[str] = field(default_factory=list)

    @property
    def legend(self) -> Legend:
        return DFC2020

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        side = SIDE if self.quadrants == ("",) else SIDE // 2
        return (
            ArraySpec("s2", ("B04", "B03"), "uint16", 1e-4, 0.0, 0, side),
            ArraySpec("labels", ("labels",), "uint8", 1.0, 0.0, 0, side),
        )

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        names = sorted(self.patches)
        broken = [
            Broken(*_reordered(n), Path(f"{n}.tif"), "has no s1 file beside it") for n in sorted(self.absent)
        ]
        return [
            Patch(*n.split("/"), files={"s2": Path(f"{n}.tif")}) for n in names if n not in self.absent
        ], broken

    def locate(self, patch: Patch) -> Place | None:
        name = _name(patch)
        self.looked.append(name)
        if name in self.headless:
            msg = f"{name}.tif is an empty file (0 bytes)"
            raise DataError(msg)
        at = self.patches[name]
        if at is None:
            return None
        row, col = at
        half = PIXEL * SIDE / 2
        return Place(CRS, (PIXEL, 0.0, WEST + col * half, 0.0, -PIXEL, NORTH - row * half), (SIDE, SIDE))

    def read(self, patch: Patch) -> PatchData:
        name = _name(patch)
        self.read_.append(name)
        time.sleep(self.delay)
        if name in self.broken:
            msg = f"{name}.tif cannot be read: it is truncated"
            raise DataError(msg)
        image, codes = ground(self.patches[name] or (0.0, 0.0), f"{self.seed}{patch.region}{patch.season}")
        return PatchData({"s2": image, "labels": codes[None]}, codes)

    def tile_class(self, patch: Patch, labels: np.ndarray | None) -> TileClass:
        assert labels is not None
        return majority_class(labels, DFC2020, None, "published")


def ground(at: tuple[float, float], place: str) -> tuple[np.ndarray, np.ndarray]:
    """uint16 (2, 16, 16) and class codes uint8 (16, 16), from the coordinates and the place alone."""
    row, col = (round(v * SIDE / 2) for v in at)
    y, x = np.mgrid[row : row + SIDE, col : col + SIDE].astype(np.int64)
    mixed = (y * 7919 + x * 104_729 + sum(place.encode()) * 31) % 9973
    codes = (1 + (y // 8 + x // 8 + sum(place.encode())) % 10).astype(np.uint8)
    return np.stack([mixed + 1, mixed // 3 + 1]).astype(np.uint16), codes


def tile_pixels(archive: FakeArchive, name: str, quadrant: str) -> np.ndarray:
    """What the store should hold of a tile, uint16 (2, y, x)."""
    region, season, _ = name.split("/")
    image, _ = ground(archive.patches[name] or (0.0, 0.0), f"{archive.seed}{region}{season}")
    row, col, rows, cols = quadrant_window(quadrant, (SIDE, SIDE))
    return image[:, row : row + rows, col : col + cols]


def many(count: int, *, overlap: bool = True, **changes: object) -> FakeArchive:
    """`count` patches of three region-seasons, in rows of eight, overlapping their neighbours by half."""
    step = 1 if overlap else 2
    cells = ("a/spring", "a/winter", "b/spring")
    patches: dict[str, tuple[float, float] | None] = {
        f"{cells[i % 3]}/p{i}": (i // 3 // 8 * step, i // 3 % 8 * step) for i in range(count)
    }
    return FakeArchive(patches, **changes)  # type: ignore[arg-type]


def _name(patch: Patch) -> str:
    return f"{patch.region}/{patch.season}/{patch.patch}"


def _reordered(name: str) -> tuple[str, str, str]:
    region, season, patch = name.split("/")
    return patch, region, season


def troubled(count: int) -> FakeArchive:
    """`many` patches of which some are broken in each manner."""
    names = [*many(count).patches]
    return many(
        count,
        headless=frozenset(names[5::40]),
        broken=frozenset(names[11::17]),
        absent=frozenset(names[23::60]),
    )


class DieAtEvent:
    """Kills the process with SIGKILL when it opens, renames or removes a file of the store the nth time."""

    def __init__(self, folder: Path, event: int) -> None:
        self._folder, self._left = str(folder), event

    def __call__(self, name: str, arguments: Sequence[object]) -> None:
        if name in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(
            self._folder
        ):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), 9)


if __name__ == "__main__":
    # python fake_archive.py STORE PATCHES WORKERS EVENT DELAY: dies at that event, 0 = never
    folder, (patches, processes, event) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    sys.addaudithook(DieAtEvent(folder, event))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ingest(replace(troubled(patches), delay=float(sys.argv[5])), folder, workers=processes)
