"""Files that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landmeta.errors import LandmetaError, OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there becomes `path` when the block ends well.

    The name is the same every time, so that the remains of a killed run are overwritten by the next.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except LandmetaError:
        raise
    except OSError as error:
        msg = f"cannot write {path}: {error}"
        raise OutputError(msg, "choose a folder with write permission and free space with --out") from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` whole or not at all.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
