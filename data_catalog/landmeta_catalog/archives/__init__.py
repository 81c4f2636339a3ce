"""Readers of tile archives in their published layouts; `open_archive` picks one by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landmeta_catalog.archives.base import Archive as Archive
from landmeta_catalog.archives.sen12ms import Sen12ms

KINDS = ("sen12ms",)


def open_archive(kind: str, path: Path, **options: Any) -> Archive:
    """Reader of the archive at `path`.

    Raises:
        ValueError: no such kind or option.
    """
    readers = {"sen12ms": Sen12ms}
    if kind not in readers:
        msg = f"{kind!r} is no kind of archive, known are {', '.join(KINDS)}"
        raise ValueError(msg)
    return readers[kind](Path(path), **options)
