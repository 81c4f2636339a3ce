"""Finished blocks of a map on disk: a run that dies goes on where it stopped, with the same bytes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from landmeta.classmap import MapBlock
from landmeta.errors import OutputError

PLAN = "plan.json"
_NO_DATA = b"no data\n"
_ARRAYS = ("codes", "probabilities", "confidence")


class BlockFolder:
    """Blocks of one map, a file each, named after the block's first row and column.

    A file appears whole or not at all, so its existence says that the block is done. A block without data
    has a file that says so.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        """Open the blocks of `plan` in `folder`, or begin there.

        Args:
            folder: Made where it does not exist.
            plan: Plain values that decide every byte of the map: model, imagery, grid, blocks.

        Raises:
            OutputError: The folder holds blocks of another plan, or cannot be written.
        """
        self.folder = folder
        wanted = json.loads(json.dumps(plan))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / PLAN).is_file():
                self._check(self._plan(), wanted)
            else:
                self._write(PLAN, (json.dumps(wanted, indent=2) + "\n").encode())
        except OutputError:
            raise
        except OSError as error:
            raise _unwritable(folder, error) from error

    def _plan(self) -> dict[str, Any]:
        try:
            plan = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
            if isinstance(plan, dict):
                return plan
            reason = "it holds no table"
        except ValueError as error:
            reason = str(error)
        msg = f"{self.folder / PLAN} is damaged, what the finished blocks belong to is not known: {reason}"
        raise OutputError(msg, "--overwrite starts anew; --resume cannot go on with these blocks")

    def _check(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        if differing := sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k)):
            msg = f"the stopped run in {self.folder.parent} was another one: {', '.join(differing)} differ"
            same = "the same arguments"
            if differing == ["model"]:  # adapted anew to the same labels it differs in its last bits
                same += ", on as many CPU threads and the same kind of machine,"
            raise OutputError(msg, f"give {same} to go on with it, or --overwrite to start anew")

    def __contains__(self, corner: tuple[int, int]) -> bool:
        return self._path(corner).is_file()

    def put(self, corner: tuple[int, int], block: MapBlock | None) -> None:
        """Keep the block whose first pixel is `corner` (row, column); None is one without data.

        Raises:
            OutputError: The disk is full or the folder is gone.
        """
        path = self._path(corner)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                if block is None:
                    file.write(_NO_DATA)
                else:
                    np.savez(file, **{name: getattr(block, name) for name in _ARRAYS})
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise _unwritable(self.folder, error) from error

    def get(self, corner: tuple[int, int]) -> MapBlock | None:
        """The block that was put at `corner`; raises KeyError where there is none that can be read."""
        path = self._path(corner)
        try:
            if path.stat().st_size == len(_NO_DATA) and path.read_bytes() == _NO_DATA:
                return None
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return MapBlock(*corner, *(stored[name] for name in _ARRAYS))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise KeyError(corner) from error

    def _path(self, corner: tuple[int, int]) -> Path:
        return self.folder / f"{corner[0]:07d}-{corner[1]:07d}.npz"

    def _write(self, name: str, content: bytes) -> None:
        part = self.folder / f"{name}.part"
        part.write_bytes(content)
        part.replace(self.folder / name)


def _unwritable(folder: Path, error: Exception) -> OutputError:
    msg = f"cannot keep finished blocks in {folder}: {error}"
    return OutputError(msg, "make room, then run the same command with --resume")
