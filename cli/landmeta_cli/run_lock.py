"""Keeping other runs out of a folder that a run writes to, by a lock of the system.

The system frees it when a process ends, however it ends, and on whatever host.
"""

from __future__ import annotations

import errno
import os
import platform
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from landmeta.errors import OutputError

OWNER = ".owner"
"""File in a folder that the run writing there keeps locked; it says which process that is."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def lock_folder(folder: Path) -> FileLock:
    """Lock a folder and say there who has it.

    Raises:
        OutputError: Another run has it, or its file system has no locks.
        OSError: What the system refuses; FileNotFoundError where the folder has gone.
    """
    lock = _acquire(folder)
    with suppress(OSError):  # it only makes a message better
        (folder / OWNER).write_text(f"{platform.node()} {os.getpid()}", encoding="utf-8")
    return lock


def _acquire(folder: Path) -> FileLock:
    # Threads of one process must exclude each other too, so nothing here belongs to a thread.
    lock = FileLock(folder / OWNER, timeout=0, thread_local=False)
    refused: object = "no locks here"
    try:
        lock.acquire()
        native: object = lock
        if isinstance(native, FileLock):
            return native
        lock.release()  # a makeshift for systems without locks, it outlives a process that is killed
    except Timeout as error:
        raise in_use(folder) from error
    except NotImplementedError as error:
        refused = error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        refused = error.strerror
    msg = f"the file system of {folder} cannot lock it against other runs: {refused}"
    raise OutputError(msg, "give an --out on another one, such as a local disk")


def refuse_if_locked(folder: Path) -> None:
    """Find out whether a run has the folder; there need be none.

    Raises:
        OutputError: One has it.
    """
    if (folder / OWNER).is_file():
        with suppress(FileNotFoundError):
            _acquire(folder).release()


def in_use(folder: Path) -> OutputError:
    """The error that tells whose the folder is, as far as that is known."""
    try:
        host, process = (folder / OWNER).read_text(encoding="utf-8").split()
        who = f"process {process} on {host}"
    except (OSError, ValueError):
        who = "another landmeta run"
    return OutputError(f"{who} is writing to {folder}", "wait for it or give another --out")
