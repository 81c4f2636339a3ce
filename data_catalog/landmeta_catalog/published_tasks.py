"""Tasks that were published tile by tile, found again in the index of an ingested archive."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from landmeta.errors import DataError
from landmeta.tasks import FixedTasks, Task
from landmeta_catalog.tiles import OK

_NUMBERS = ("class_index", "shot")
_PLACE = ("season", "region", "class_name", "tile")
_COLUMNS = ("task", "split", *_NUMBERS, *_PLACE)
_SPLITS = ("support", "query")


def published_tasks(path: Path, index: pd.DataFrame) -> FixedTasks:
    """The tasks of a table such as `tasks.csv` of `sen12ms_rgb`, in its order, tile for tile.

    Nothing is drawn: classes stand in the order of `class_index`, tiles in that of `shot`. All classes are
    asked (no target). `blocked` is `patch` for tasks whose support and query share no patch, else `none`.

    Args:
        path: CSV with the columns task, split (support or query), class_index, shot, season, region,
            class_name and tile (such as `p510tr`, patch and quadrant).
        index: rows of one dataset of a store's index, with the columns season, region, class_name,
            class_code, patch, quadrant, block and status. Tasks name tiles by row number in it, from 0.

    Raises:
        DataError: no such file, not such a table, or tiles that the index lacks; the first few are named.
    """
    table = _read(path)
    rows = _rows(table, index, path)
    number = pd.factorize(table["task"])[0]
    order = np.lexsort((table["shot"], table["class_index"], number))
    lines = _Lines(
        table["task"].to_numpy()[order],
        (table["season"] + "/" + table["region"]).to_numpy()[order],
        table["split"].to_numpy()[order] == "support",
        rows[order],
        index["class_code"].to_numpy(np.int64)[rows[order]],
        pd.factorize(index["block"])[0][rows[order]],
    )
    bounds = np.flatnonzero(np.diff(number[order], prepend=-1, append=-1))
    return FixedTasks(tuple(_task(lines, slice(a, b), path) for a, b in pairwise(bounds.tolist())))


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines by task, class and shot: task, season/region, whether support, row, class code, block."""

    task: np.ndarray
    place: np.ndarray
    support: np.ndarray
    row: np.ndarray
    code: np.ndarray
    block: np.ndarray


def _read(path: Path) -> pd.DataFrame:
    """The table as text, but for its numbers."""
    hint = f"expected a CSV with the columns {', '.join(_COLUMNS)}"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        lacking = [name for name in _COLUMNS if name not in table]
        if lacking:
            msg = f"{path} has no column {lacking[0]}"
            raise DataError(msg, hint)
        table = table.astype(dict.fromkeys(_NUMBERS, int))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise DataError(msg, hint) from error
    except ValueError as error:  # not text, not a table, or a number that is none
        if isinstance(error, DataError):
            raise
        msg = f"{path} is no table of tasks: {error}"
        raise DataError(msg, hint) from error
    if not table["split"].isin(_SPLITS).all():
        found = ", ".join(sorted(set(table["split"]) - set(_SPLITS)))
        msg = f"{path} has the split {found}: expected support and query"
        raise DataError(msg, hint)
    return table


def _rows(table: pd.DataFrame, index: pd.DataFrame, path: Path) -> np.ndarray:
    """Row number in the index of each line of the table."""
    usable = np.flatnonzero(index["status"].to_numpy() == OK)
    known = index.iloc[usable]
    known = known.assign(tile=known["patch"].astype(str) + known["quadrant"].astype(str), row=usable)
    columns = list(_PLACE)
    known = known[[*columns, "row"]].astype(dict.fromkeys(columns, str)).drop_duplicates(columns)
    row = table[columns].merge(known, how="left", on=columns)["row"].to_numpy(np.float64)
    if (absent := np.isnan(row)).any():
        lines = table.loc[absent, columns].drop_duplicates()
        names = ", ".join("/".join(line) for line in lines.head(5).itertuples(index=False))
        more = ", ..." if len(lines) > 5 else ""
        msg = f"{len(lines)} tiles of {path} are not in the index or are quarantined: {names}{more}"
        raise DataError(msg, "ingest the whole folder that the tasks were published with")
    return row.astype(np.int64)


def _task(lines: _Lines, at: slice, path: Path) -> Task:
    """One task from its lines."""
    support, query = (np.flatnonzero(lines.support[at] == is_it) + at.start for is_it in (True, False))
    classes = tuple(dict.fromkeys(lines.code[at].tolist()))
    complete = all(set(lines.code[side].tolist()) == set(classes) for side in (support, query))
    if not complete or len(classes) < 2 or len(set(lines.place[at])) > 1:
        name = lines.task[at.start]
        msg = f"task {name} of {path} is not one region and season with support and query of each class"
        raise DataError(msg, "compare the table with the one that was published")
    season, region = lines.place[at.start].split("/", 1)
    shared = np.isin(lines.block[support], lines.block[query]).any()
    return Task(
        region=region,
        season=season,
        classes=classes,
        target=None,
        support=lines.row[support],
        query=lines.row[query],
        support_codes=lines.code[support],
        query_codes=lines.code[query],
        blocked="none" if shared else "patch",
    )
