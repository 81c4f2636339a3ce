"""Writing a run folder whole or not at all.

Files are made in a hidden folder beside or inside the target and moved in one go; `provenance.json` moves
last, so that a folder that has one is a complete run. Nothing is deleted that no run has written. A run
that stops while it maps leaves the hidden folder with its finished blocks, and can go on there.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from landmeta.errors import Interrupted, LandmetaError, OutputError

MARK = "provenance.json"
"""File that makes a folder a finished run."""
_STAGING = ".landmeta-partial"
OWNER = ".owner"
"""File in a staging folder that says which process writes it."""
BLOCKS = "blocks"
"""Folder in a staging folder with the finished blocks of the map."""
_GO_ON = "finished blocks are kept: the same command with --resume goes on"


def check_target(out: Path, *, overwrite: bool, resume: bool = False, inputs: tuple[Path, ...] = ()) -> None:
    """Find out, leaving no trace, whether a run can be written to `out`.

    Args:
        out: Run folder, existing or not.
        overwrite: An earlier run in `out` may be replaced, a stopped one thrown away.
        resume: A stopped run may be gone on with.
        inputs: Files that the run reads; none may be one that it replaces.

    Raises:
        OutputError: `out` cannot be written, another process writes to it, it holds something other than a
            run, a run and `overwrite` is False, or a stopped run and neither `resume` nor `overwrite`.
    """
    _check_writable(out)
    _check_stopped(out, allowed=overwrite or resume)
    entries = [p.name for p in out.iterdir() if p.name != _STAGING] if out.is_dir() else []
    if not entries:
        return
    if not overwrite:
        msg = f"the output folder {out} is not empty: {len(entries)} entries, such as {sorted(entries)[0]}"
        raise OutputError(msg, "give another --out, or --overwrite to replace the run in it")
    if MARK not in entries:
        msg = f"the output folder {out} is not empty and holds no earlier run (it has no {MARK})"
        raise OutputError(msg, "give another --out: --overwrite replaces runs of landmeta only")
    replaced = {(out / name).resolve() for name in written_files(out)}
    if clash := [p for p in inputs if p.resolve() in replaced]:
        msg = f"{clash[0]} is an input and would be replaced by this run"
        raise OutputError(msg, "give another --out")


def written_files(out: Path) -> tuple[str, ...]:
    """Paths, relative to `out`, of what the run in it wrote; empty where there is none."""
    try:
        outputs = json.loads((out / MARK).read_text(encoding="utf-8"))["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    inside = [name for name in outputs if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return (*inside, MARK)


@contextmanager
def staged(out: Path, *, resume: bool = False) -> Iterator[Path]:
    """Give a folder to write into; what is in it becomes the run folder when the block ends well.

    Where it ends badly and there are finished blocks, the folder stays, for a run with `resume`.

    Raises:
        OutputError: The folder cannot be made, or another run is writing to it.
    """
    parents = _missing_parents(out)
    staging = staging_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _claim(staging, resume=resume)
        try:
            with _resumable(staging):
                yield staging
            shutil.rmtree(staging / BLOCKS, ignore_errors=True)
            _publish(staging, out)
        except BaseException:
            if not has_blocks(staging):
                shutil.rmtree(staging, ignore_errors=True)
            raise
    except BaseException as error:
        for parent in parents:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            msg = f"the run folder {out} could not be written: {error}"
            raise OutputError(msg, "free some space or give another --out") from error
        raise


@contextmanager
def _resumable(staging: Path) -> Iterator[None]:
    """Tell whoever is stopped here, by a fault or by Ctrl-C, that the blocks finished so far are not lost."""
    try:
        yield
    except LandmetaError as error:
        if has_blocks(staging) and "--resume" not in error.hint:
            error.hint = f"{error.hint}; {_GO_ON}" if error.hint else _GO_ON
        raise
    except KeyboardInterrupt as stop:
        if not has_blocks(staging):
            raise
        msg = "interrupted"
        raise Interrupted(msg, _GO_ON) from stop


def staging_folder(out: Path) -> Path:
    """Where the files of a run to `out` are made."""
    # Inside an existing folder: a mount point or the working directory cannot be replaced by a rename.
    return out / _STAGING if out.is_dir() else out.parent / f".{out.name}.partial"


def has_blocks(staging: Path) -> bool:
    """Whether a staging folder holds blocks to go on with."""
    return any((staging / BLOCKS).glob("*.npz"))


def _check_stopped(out: Path, *, allowed: bool) -> None:
    staging = staging_folder(out)
    if has_blocks(staging) and not allowed:
        _refuse_if_alive(staging)
        count = len(list((staging / BLOCKS).glob("*.npz")))
        msg = f"a run to {out} stopped with {count} blocks of its map finished"
        raise OutputError(msg, "--resume goes on with it, --overwrite starts anew")


def _check_writable(out: Path) -> None:
    ancestor = out
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        msg = f"{ancestor} is a file, expected a folder for the run"
        raise OutputError(msg, "give another --out")
    try:
        # Permission bits alone lie for root, on read-only mounts and where a quota is used up.
        Path(tempfile.mkdtemp(prefix=".landmeta-", dir=ancestor)).rmdir()
    except OSError as error:
        msg = f"the output folder {out} cannot be written: {error.strerror} in {ancestor}"
        raise OutputError(msg, "give an --out where you may write") from error


def _missing_parents(out: Path) -> list[Path]:
    return [p for p in out.parents if not p.exists()]


def _claim(staging: Path, *, resume: bool) -> None:
    """Make the staging folder; one left by a dead process is taken over or cleared, one in use an error."""
    owner = staging / OWNER
    if staging.exists():
        if owner.is_file():
            _take_over(staging)
        elif not _ours(staging):
            msg = f"{staging} exists and is not a partial run of landmeta"
            raise OutputError(msg, "move it away or give another --out")
        if not resume:
            shutil.rmtree(staging)
    try:
        staging.mkdir(exist_ok=resume)
        with owner.open("x", encoding="utf-8") as file:
            file.write(_owner())
        for left in staging.glob(f"{OWNER}.*"):
            left.unlink(missing_ok=True)
    except FileExistsError as error:  # another run was faster by a moment
        raise _in_use(staging) from error


def _ours(staging: Path) -> bool:
    """Whether a staging folder without owner is what a run left that was killed while it took it over."""
    return has_blocks(staging) or any(staging.glob(f"{OWNER}.*")) or not any(staging.iterdir())


def _take_over(staging: Path) -> None:
    """Take the mark of a dead process away; of two runs that try at once, one is refused."""
    owner, aside = staging / OWNER, staging / f"{OWNER}.{os.getpid()}"
    try:
        dead = owner.read_text(encoding="utf-8")
        if _alive(dead):
            raise _in_use(staging)
        owner.rename(aside)
        if aside.read_text(encoding="utf-8") != dead:  # the other one's, made in between
            aside.rename(owner)
            raise _in_use(staging)
        aside.unlink()
    except FileNotFoundError as error:
        raise _in_use(staging) from error


def _refuse_if_alive(staging: Path) -> None:
    owner = staging / OWNER
    if owner.is_file() and _alive(owner.read_text(encoding="utf-8")):
        raise _in_use(staging)


def _in_use(staging: Path) -> OutputError:
    msg = f"another landmeta run is writing to {staging}"
    return OutputError(msg, "wait for it or give another --out")


def _owner() -> str:
    return f"{platform.node()} {os.getpid()}"


def _alive(owner: str) -> bool:
    host, _, process = owner.partition(" ")
    if host != platform.node() or not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _publish(staging: Path, out: Path) -> None:
    (staging / OWNER).unlink()
    if not out.exists():
        staging.rename(out)
        return
    new = sorted(p.relative_to(staging) for p in staging.rglob("*") if p.is_file())
    stale = set(written_files(out)) - {str(p) for p in new}
    for name in sorted(new, key=lambda p: str(p) == MARK):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(out / name)
    for old in sorted(stale):
        (out / old).unlink(missing_ok=True)
        with suppress(OSError):  # a folder that still holds something stays
            if (out / old).parent != out:
                (out / old).parent.rmdir()
    shutil.rmtree(staging)
