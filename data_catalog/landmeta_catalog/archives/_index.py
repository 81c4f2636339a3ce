"""`index.csv` of a folder: what is known of every tile beside its file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from landmeta.errors import DataError

Row = Mapping[str, str]
NAME = "index.csv"


def read_index(folder: Path) -> dict[str, Row]:
    """Rows of `index.csv` by the path of their tile relative to the folder; empty where there is none.

    Raises:
        DataError: the file is no text, has no column `path`, or a path in it is not relative to the folder.
    """
    file = folder / NAME
    if not file.is_file():
        return {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            rows = list(csv.DictReader(text))
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{file} is no table of comma-separated text ({error})"
        raise DataError(msg, "rename it if it does not describe the tiles") from error
    if rows and "path" not in rows[0]:
        msg = f"{file} has the columns {', '.join(map(str, rows[0]))}, expected one named path"
        raise DataError(msg, "rename it if it does not describe the tiles")
    by_path: dict[str, Row] = {row["path"].replace("\\", "/"): row for row in rows if row["path"]}
    if outside := [path for path in by_path if Path(path).is_absolute() or ".." in Path(path).parts]:
        msg = f"{file} lists {outside[0]}, expected paths relative to {folder}"
        raise DataError(msg, "write paths such as Forest/tile_1.tif")
    return by_path
