"""Cells of a suite: run one by one, each kept as a JSON file of its own, so that a stopped run goes on."""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from landmeta.errors import BenchError, Interrupted, LandmetaError, OutputError

SCHEMA = 3
FOLDER = "cells"

RESCORED = frozenset({"regions_checksum", "tasks"})
"""Settings on which no training hangs: a cell of others is run again, if tiles that are only tested on did
change; `regions_checksum` is theirs, which older cells do not have."""

State: TypeAlias = Literal["done", "failed", "kept", "outdated"]
"""What became of a cell: run now, failed now, found from an earlier run, or found and to be run again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a suite: an algorithm (or rival), a norm (empty for rivals), a dataset and a seed."""

    method: str
    norm: str
    dataset: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file, such as `maml-in-sen12ms-0`."""
        return "-".join(filter(None, (self.method, self.norm, self.dataset, str(self.seed))))


Work: TypeAlias = Callable[[Cell], Mapping[str, Any]]
"""Runs a cell; its result as JSON values."""

Told: TypeAlias = Callable[[Cell, State, str, str], None]
"""Called after each cell with what became of it, and of one that failed its error and hint, if it has one;
before one that is outdated is run again, too."""


def run_cells(
    cells: Iterable[Cell],
    work: Work,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    notes: Mapping[str, Any],
    told: Told,
) -> None:
    """Run the cells that `folder` does not hold yet; one that fails is recorded, and the rest goes on.

    Failed cells are tried again by the next call, and those whose test tiles were ingested anew since.

    Args:
        cells: What to run.
        work: Runs one.
        folder: Of the results.
        settings: What decides the figures, as JSON values; stored results must have the same.
        notes: What else a cell's file says: command, commit, hardware, ...
        told: Called after each cell.

    Raises:
        BenchError: A stored cell has another preset, or one of the same dataset other settings.
        Interrupted: The run was asked to stop; cells that are done are kept.
        OutputError: The folder cannot be written.
    """
    for path in sorted((folder / FOLDER).glob("*.json")):
        _check_settings(path, _stored(path), settings)
    for cell in cells:
        path = folder / FOLDER / f"{cell.name}.json"
        stored = _stored(path)
        if stored is not None and stored["state"] == "done":
            outdated = bool(_differing(stored["settings"], settings))
            told(cell, "outdated" if outdated else "kept", "", "")
            if not outdated:
                continue
        entry = _run(cell, work, {"schema": SCHEMA, "cell": asdict(cell), "settings": settings, **notes})
        write_json(path, entry)
        told(cell, entry["state"], entry.get("error", ""), entry.get("hint", ""))


def _run(cell: Cell, work: Work, head: Mapping[str, Any]) -> dict[str, Any]:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    clock, cpu = time.perf_counter(), _cpu_seconds()
    try:
        outcome: dict[str, Any] = {"state": "done", "result": work(cell)}
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a cell dies of is its result, and other cells go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
        outcome = {"state": "failed", "error": told}
        if isinstance(error, LandmetaError) and error.hint:
            outcome["hint"] = error.hint
    spent = {
        "seconds": round(time.perf_counter() - clock, 1),
        "cpu_seconds": round(_cpu_seconds() - cpu, 1),
    }
    return {**head, "began": began, **spent, **outcome}


def _cpu_seconds() -> float:
    """CPU time of this process and of those that it has waited for: other work beside it is not in it."""
    return sum(os.times()[:4])


def stored_cells(folder: Path) -> list[dict[str, Any]]:
    """All cells of a folder, done and failed, by name.

    Raises:
        BenchError: There is none.
    """
    found = [_stored(path) for path in sorted((folder / FOLDER).glob("*.json"))]
    cells = [cell for cell in found if cell is not None]
    if not cells:
        msg = f"{folder} holds no results of landmeta bench run"
        raise BenchError(msg, "give the folder that was its --out")
    return cells


def _stored(path: Path) -> dict[str, Any] | None:
    """A stored cell; None where there is none, or only what an older format left."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise _damaged(path, "it holds no result")
    if found.get("schema") != SCHEMA:
        return None
    outcome = "result" if found.get("state") == "done" else "error"
    if lacking := [name for name in ("cell", "settings", "state", outcome) if name not in found]:
        raise _damaged(path, f"it lacks {lacking[0]}")
    return found


def _damaged(path: Path, fault: object) -> BenchError:
    msg = f"{path} cannot be read: {fault}"
    return BenchError(msg, "remove the file; the same command runs its cell again")


def _check_settings(path: Path, stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Cells of one folder make one report: one preset for all, one state of the data for each dataset."""
    if stored is None:
        return
    before = stored["settings"]
    differ = _differing(before, now)
    if differ and not ("regions_checksum" in differ and RESCORED.issuperset(differ)):
        key = differ[0]
        msg = f"{path} has {key} {before.get(key)!r}, this run has {now.get(key)!r}"
        raise BenchError(msg, "choose another --out, or take the settings of the earlier run")


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings in which two cells of one folder must not differ and do, in alphabetical order."""
    shared = {*before, *now} if before.get("dataset") == now.get("dataset") else {"preset"}
    shared -= {"regions_checksum"} - before.keys()
    return sorted(key for key in shared if before.get(key) != _as_json(now.get(key)))


def outdated_cells(cells: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cells that were scored on other tiles of whole regions than the latest of their dataset."""
    done = sorted((cell for cell in cells if cell["state"] == "done"), key=lambda cell: str(cell["began"]))
    tiles = [(cell["cell"]["dataset"], cell["settings"].get("regions_checksum")) for cell in done]
    latest = {dataset: checksum for dataset, checksum in tiles if checksum is not None}
    return [
        cell
        for cell, (dataset, checksum) in zip(done, tiles, strict=True)
        if checksum not in (None, latest.get(dataset))
    ]


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON to a temporary name and rename it; numbers that are not finite become null.

    Raises:
        OutputError: The folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(_finite(values), ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error}"
        raise OutputError(msg, "choose a folder with write permission and free space with --out") from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
