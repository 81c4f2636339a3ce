"""Files of a tile store that appear whole or not at all, also when the machine stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landmeta.errors import LandmetaError, OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there becomes `path` when the block ends well.

    The bytes reach the disk before the name changes: a file that is there is complete. The temporary name
    is the same every time, so that the remains of a killed run are overwritten by the next.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        _flush(part)
        part.replace(path)
    except LandmetaError:
        raise
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        hint = "make room or choose another folder with --out; what is stored already is kept"
        raise OutputError(msg, hint) from error
    finally:
        _discard(part)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` whole or not at all.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _flush(part: Path) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())


def _discard(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # the folder itself is out of reach: the error under way says so
        return
