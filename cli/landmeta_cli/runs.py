"""What every run has: its result, the time of its stages, and the records beside its map."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta_cli.console import Progress, plain
from landmeta_cli.provenance import provenance
from landmeta_cli.run_folder import BLOCKS, MARK
from landmeta_cli.run_lock import OWNER

if TYPE_CHECKING:
    from landmeta_maps.stac import Model
    from landmeta_maps.summary import MapSummary


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder and the report, the same values as `report.json`."""

    folder: Path
    report: dict[str, Any]


@dataclass(slots=True)
class Watch:
    """Seconds of each stage of a run, and the progress of it."""

    progress: Progress
    timing_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside as the stage `name`."""
        begun = time.perf_counter()
        self.progress(name, 0, 0)
        yield
        self.timing_s[name] = time.perf_counter() - begun


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def write_records(
    folder: Path,
    summary: MapSummary,
    *,
    region: str,
    model: Model,
    inputs: Iterable[Path],
    command: Iterable[str],
    seed: int,
    settings: Mapping[str, Any],
) -> None:
    """Write the STAC item and, last of all files, the provenance with the checksums of the others."""
    from landmeta_maps.stac import write_stac_item

    (folder / MARK).touch()  # the item links the files that are there
    write_stac_item(folder, summary, region=region, created=datetime.now(UTC), model=model)
    record = provenance(
        command=command,
        inputs=inputs,
        outputs=[p for p in folder.rglob("*") if p.is_file() and not _scaffold(p.relative_to(folder))],
        folder=folder,
        seed=seed,
        settings=settings,
    )
    (folder / MARK).write_text(json.dumps(plain(record), indent=2) + "\n", encoding="utf-8")


def _scaffold(path: Path) -> bool:
    """Whether a file of the staging folder, given relative to it, does not become part of the run."""
    return path.name in (MARK, OWNER) or path.parts[0] == BLOCKS
