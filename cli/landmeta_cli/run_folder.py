"""Writing a run folder whole or not at all.

Files are made in a hidden folder beside or inside the target, one run at a time, and then published. A folder
that was not there appears by one rename. In one that was, the files move one by one and `provenance.json`
last, so that a folder that has one is a complete run. Nothing is deleted that no run has written.

A run that stops while it maps leaves the hidden folder with its finished blocks, and can go on there. So can
one that stops while it publishes: a note of its files lies with the blocks until all is done.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from landmeta.errors import Interrupted, LandmetaError, OutputError
from landmeta_cli.run_lock import OWNER, in_use, lock_folder, refuse_if_locked

MARK = "provenance.json"
"""File that makes a folder a finished run."""
_STAGING = ".landmeta-partial"
BLOCKS = "blocks"
"""Folder in a staging folder with the finished blocks of the map."""
_NOTE = "published.json"
"""File among the blocks while a run is published: the files that the run folder gets or loses."""
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
    staging = staging_folder(out)
    check_writable(out)
    with _named(out):
        refuse_if_locked(staging)
    _check_stopped(out, staging, allowed=overwrite or resume)
    if not _note(staging).is_file():  # otherwise what is in `out` is that of a run half published
        _check_entries(out, overwrite=overwrite)
    replaced = {(out / name).resolve() for name in (*written_files(out), *_noted(staging))}
    if clash := [p for p in inputs if p.resolve() in replaced]:
        msg = f"{clash[0]} is an input and would be replaced by this run"
        raise OutputError(msg, "give another --out")


def _check_entries(out: Path, *, overwrite: bool) -> None:
    entries = [p.name for p in out.iterdir() if p.name != _STAGING] if out.is_dir() else []
    if not entries:
        return
    if not overwrite:
        msg = f"the output folder {out} is not empty: {len(entries)} entries, such as {sorted(entries)[0]}"
        raise OutputError(msg, "give another --out, or --overwrite to replace the run in it")
    if MARK not in entries:
        msg = f"the output folder {out} is not empty and holds no earlier run (it has no {MARK})"
        raise OutputError(msg, "give another --out: --overwrite replaces runs of landmeta only")


def written_files(out: Path) -> tuple[str, ...]:
    """Paths, relative to `out`, of what the run in it wrote; empty where there is none."""
    try:
        outputs = json.loads((out / MARK).read_text(encoding="utf-8"))["outputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return (*_inside(outputs), MARK)


def _inside(names: Iterable[object]) -> list[str]:
    """The names that lie inside the folder they belong to: a record may be forged."""
    paths = [Path(name) for name in names if isinstance(name, str)]
    return [
        path.as_posix() for path in paths if path.name and not path.is_absolute() and ".." not in path.parts
    ]


@contextmanager
def staged(out: Path, *, resume: bool = False) -> Iterator[Path]:
    """Give a folder to write into; what is in it becomes the run folder when the block ends well.

    Where it ends badly and there are finished blocks, they stay, for a run with `resume`. That one is given
    the blocks and nothing else.

    Raises:
        OutputError: The folder cannot be made or locked, or another run is writing to it.
    """
    parents = [p for p in out.parents if not p.exists()]
    try:
        with _named(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with _claimed(out) as (staging, lock):
                _empty(staging, blocks=resume)
                with _resumable(out), _named(out):
                    yield staging
                    _publish(staging, out, lock)
    except BaseException:
        for parent in parents:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def _named(out: Path) -> Iterator[None]:
    """Turn what the system refuses into an error that names the run folder."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        msg = f"the run folder {out} could not be written: {error}"
        raise OutputError(msg, "free some space or give another --out") from error


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Tell whoever is stopped here, by a fault or by Ctrl-C, that the blocks finished so far are not lost."""
    try:
        yield
    except LandmetaError as error:
        way_on = any(word in error.hint for word in ("--resume", "--overwrite"))
        if _stopped(staging_folder(out)) and not way_on:
            error.hint = f"{error.hint}; {_GO_ON}" if error.hint else _GO_ON
        raise
    except KeyboardInterrupt as stop:
        if not _stopped(staging_folder(out)):
            raise
        msg = "interrupted"
        raise Interrupted(msg, _GO_ON) from stop


def staging_folder(out: Path) -> Path:
    """Where the files of a run to `out` are made."""
    # Inside an existing folder: a mount point or the working directory cannot be replaced by a rename.
    if out.is_dir():
        return out / _STAGING
    beside = _beside(out)
    packed = beside / _STAGING  # as `_appear` leaves it
    return packed if (packed / BLOCKS).is_dir() else beside


def _beside(out: Path) -> Path:
    return out.parent / f".{out.name}.partial"


def has_blocks(staging: Path) -> bool:
    """Whether a staging folder holds blocks to go on with."""
    return any((staging / BLOCKS).glob("*.npz"))


def _stopped(staging: Path) -> bool:
    """Whether a staging folder holds what must not be lost: blocks, or the note of a run half published."""
    return has_blocks(staging) or _note(staging).is_file()


def _check_stopped(out: Path, staging: Path, *, allowed: bool) -> None:
    if allowed or not _stopped(staging):
        return
    count = len(list((staging / BLOCKS).glob("*.npz")))
    publishing = _note(staging).is_file()
    where = "while its files were moved there" if publishing else f"with {count} blocks of its map finished"
    msg = f"a run to {out} stopped {where}"
    raise OutputError(msg, "--resume goes on with it, --overwrite starts anew")


def check_writable(out: Path) -> None:
    """Find out, leaving no trace, whether files can be written to a folder that may not be there yet.

    Raises:
        OutputError: `out` or a folder above it is a file, or nothing may be written there.
    """
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


# --- one run at a time ---


@contextmanager
def _claimed(out: Path) -> Iterator[tuple[Path, FileLock]]:
    """Make the staging folder and keep other runs out; it goes again unless a run can go on in it."""
    staging = staging_folder(out)
    try:
        _refuse_foreign(staging, out)
        staging.mkdir(exist_ok=True)
        lock = lock_folder(staging)
    except (FileNotFoundError, FileExistsError) as error:  # whoever had it is just clearing it away
        raise in_use(staging) from error
    try:
        if staging_folder(out) != staging:
            _withdraw(staging, out, lock)
            raise in_use(staging)
        yield staging, lock
    finally:
        # It is not cleared once its blocks lie elsewhere: then it is being published.
        if lock.is_locked and staging_folder(out) == staging and not _stopped(staging):
            _clear(staging, lock)
        lock.release()


def _withdraw(staging: Path, out: Path, lock: FileLock) -> None:
    """Take back a claim that came too late: another run has made its folder the run folder in between."""
    _discard(staging, lock)
    with suppress(OSError):
        if staging.parent == _beside(out):
            staging.parent.rmdir()
        # The path may have led into that folder while ours was made, after that run had taken away its own.
        if staging == _beside(out) and not (out / OWNER).stat().st_size:
            (out / OWNER).unlink()


def _refuse_foreign(staging: Path, out: Path) -> None:
    try:
        names = {path.name for path in staging.iterdir()}  # in one look: other runs come and go meanwhile
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = {staging.name}
    moved = staging_folder(out) != staging  # it became the run folder while it was looked at
    if names - {_STAGING} and OWNER not in names and not moved and not _stopped(staging):
        msg = f"{staging} exists and is not a partial run of landmeta"
        raise OutputError(msg, "move it away or give another --out")


def _empty(staging: Path, *, blocks: bool) -> None:
    """Take away what an earlier attempt left, but for its blocks where they are wanted.

    The note of a run half published stays in any case: without it the run folder would be nobody's.
    """
    for path in staging.iterdir():
        if path.name == BLOCKS and (blocks or _note(staging).is_file()):
            for block in () if blocks else path.iterdir():
                if block.name != _NOTE:
                    _remove(block)
        elif path.name != OWNER:
            _remove(path)


def _clear(staging: Path, lock: FileLock) -> None:
    """Take a staging folder away and let go of it; the note goes when nothing else is left to do."""
    with suppress(OSError):  # a complete run is no failure because its scaffold stays
        _empty(staging, blocks=False)
        shutil.rmtree(staging / BLOCKS, ignore_errors=True)
    _discard(staging, lock)


def _discard(staging: Path, lock: FileLock) -> None:
    """Take away a staging folder that holds nothing but its lock, and let go of it."""
    with suppress(OSError):
        # While it is held: whoever waits for this file finds it gone and does not take it for the next one.
        if {path.name for path in staging.iterdir()} <= {OWNER, _STAGING}:
            (staging / OWNER).unlink()
    lock.release()
    with suppress(OSError):  # the next run may be in it already
        staging.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- publishing ---


def _publish(staging: Path, out: Path, lock: FileLock) -> None:
    """Make the files of the staging folder the run folder; stopped anywhere, it can be repeated."""
    new = {path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()}
    new = {name for name in new if name != OWNER and not name.startswith(f"{BLOCKS}/")}
    if staging.name != _STAGING:
        _write_note(staging, {*new, OWNER})
        _appear(staging, out)
        return
    home = staging.parent
    old = {*_noted(staging), *written_files(home)}
    _write_note(staging, old | new)
    _replace(staging, home, old, new)
    if home != out:
        _rename(home, out)
    _clear(out / _STAGING, lock)


def _replace(staging: Path, home: Path, old: set[str], new: set[str]) -> None:
    """Put the new files of a run in the place of the old ones, one by one."""
    from landmeta_maps.sidecars import remove_sidecars

    (home / MARK).unlink(missing_ok=True)  # a folder with old and new files is no complete run
    for name in sorted(old - new):
        (home / name).unlink(missing_ok=True)
        with suppress(OSError):  # a folder that still holds something stays
            if (home / name).parent != home:
                (home / name).parent.rmdir()
    for name in sorted(new):
        if name.endswith(".tif"):  # other programs have left statistics and overviews of the old one
            remove_sidecars(home / name)
    for name in [*sorted(new - {MARK}), *(new & {MARK})]:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(home / name)


def _appear(staging: Path, out: Path) -> None:
    """Rename a whole staging folder to `out`, its blocks packed away so that they are found there too."""
    packed = staging / _STAGING
    packed.mkdir(exist_ok=True)
    lock = lock_folder(packed)  # it guards what the other lock guards, under the name that comes next
    try:
        (staging / BLOCKS).rename(packed / BLOCKS)
        _rename(staging, out)
        (out / OWNER).unlink(missing_ok=True)
        _clear(out / _STAGING, lock)
    finally:
        lock.release()


def _rename(home: Path, out: Path) -> None:
    try:
        home.rename(out)
    except OSError as error:
        if not out.exists():
            raise
        msg = f"{out} has appeared while the run was made"
        raise OutputError(msg, "move it away, then the same command with --resume goes on") from error


def _note(staging: Path) -> Path:
    return staging / BLOCKS / _NOTE


def _noted(staging: Path) -> list[str]:
    """What the note of a run half published lists; nothing where there is none."""
    try:
        return _inside(json.loads(_note(staging).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return []


def _write_note(staging: Path, names: set[str]) -> None:
    note = _note(staging)
    note.parent.mkdir(exist_ok=True)
    part = note.with_suffix(".part")
    part.write_text(json.dumps(sorted(names)), encoding="utf-8")
    part.replace(note)
