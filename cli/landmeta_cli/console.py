"""The one place that talks to the terminal: errors and progress on stderr, results on stdout, exit codes."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from landmeta.errors import Interrupted, LandmetaError
from landmeta.interrupts import interrupts_kept

if TYPE_CHECKING:
    from rich.progress import TaskID

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`; `total` 0 where it is not known."""

DONE, WRONG_USE, INTERNAL, INTERRUPTED = 0, 2, 70, 130
"""Exit codes; 1 is kept for findings (`doctor`, `assess --fail-under`), 70 is a defect of landmeta itself."""

_QUIET_S = 2.0  # shorter work shows no bar


def run_guarded(work: Callable[[], object], *, debug: bool = False) -> int:
    """Run `work` and return the process exit code; every failure becomes `error:` and `hint:` lines.

    Args:
        work: Returns an exit code, or anything else for success.
        debug: Print the traceback of a failure too.
    """
    try:
        with interrupts_kept():
            code = work()
    except (KeyboardInterrupt, typer.Abort):
        say("error", "interrupted, nothing was written")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost border: no user sees a traceback unasked
        if debug:
            traceback.print_exc()
        code, message, hint = describe(error)
        say("error", message)
        if hint:
            say("hint", hint)
        return code
    if code == INTERRUPTED:
        say("error", "interrupted, nothing was written")
    return code if isinstance(code, int) else DONE


def describe(error: Exception) -> tuple[int, str, str]:
    """Exit code, message and hint of an exception."""
    if isinstance(error, Interrupted):
        return INTERRUPTED, str(error), error.hint
    if isinstance(error, LandmetaError):
        return WRONG_USE, str(error), error.hint
    if hasattr(error, "format_message"):  # wrong use, as the command-line parser found it
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "landmeta"
        message = error.format_message().replace(": Value error, ", ": ")  # pydantic's words, by way of typer
        return WRONG_USE, message, f"{command} --help lists the options"
    if isinstance(error, MemoryError):
        return WRONG_USE, "not enough memory for this run", "map a part with --region west,south,east,north"
    if isinstance(error, OSError):
        return WRONG_USE, f"{error.filename}: {error.strerror}" if error.filename else str(error), ""
    what = f"internal, {type(error).__name__}: {error}"
    return INTERNAL, what, "a defect of landmeta; run again with --debug and report the traceback"


def say(kind: str, message: str) -> None:
    """Write `kind: message` as one line on stderr; `kind` is error, hint, warning or note."""
    line = " ".join(message.split())
    label = typer.style(f"{kind}:", fg={"error": "red", "warning": "yellow"}.get(kind, "cyan"))
    # Colour only where it is seen: None leaves the choice to whether stderr is a terminal.
    typer.echo(f"{label} {line}", err=True, color=False if os.environ.get("NO_COLOR") else None)


def say_all(kind: str, messages: Iterable[str]) -> None:
    """Write several lines of one kind on stderr."""
    for message in messages:
        say(kind, message)


def emit(text: str) -> None:
    """Write a result on stdout; a reader that has left (`| head`) is no failure."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit_json(value: object) -> None:
    """Write a value as JSON on stdout; not-a-number becomes null, as strict readers demand."""
    emit(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """The same value with only JSON types: numpy scalars and arrays, tuples, paths and NaN replaced."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 2) -> str:
    """Plain columns: the first is aligned left, the others (numbers) right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(" " * indent + "  ".join([first, *others]).rstrip())
    return "\n".join(lines)


@contextmanager
def progress_bars(*, shown: bool = True) -> Iterator[Progress]:
    """One bar a stage on stderr once the work takes longer than two seconds; silent in a log file."""
    if not shown or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    stages: dict[str, TaskID] = {}
    begun = time.monotonic()

    def update(stage: str, done: int, total: int) -> None:
        if stage not in stages:
            stages[stage] = bars.add_task(stage, total=total or None)
        bars.update(stages[stage], completed=done, total=total or None)
        if not bars.live.is_started and time.monotonic() - begun > _QUIET_S:
            bars.start()

    try:
        yield update
    finally:
        bars.stop()
