"""Errors become one line and a hint, results become text or JSON, and every failure has its exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from landmeta.errors import LabelError, OutputError
from landmeta_cli.console import emit_json, plain, progress_bars, run_guarded, table


def failing(error: BaseException) -> object:
    """Work that raises `error`."""
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (LabelError("one class only", "label another"), 2, "error: one class only"),
        (OutputError("not empty", "--overwrite"), 2, "error: not empty"),
        (
            FileNotFoundError(2, "No such file or directory", "x.tif"),
            2,
            "error: x.tif: No such file or directory",
        ),
        (MemoryError(), 2, "error: not enough memory for this run"),
        (KeyboardInterrupt(), 130, "error: interrupted, nothing was written"),
        (ZeroDivisionError("division by zero"), 70, "error: internal, ZeroDivisionError: division by zero"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_failure_is_one_error_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(lambda: failing(error)) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines()[0] == line
    assert written.err.count("error:") == 1
    assert "Traceback" not in written.err


def test_a_message_of_several_lines_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    run_guarded(lambda: failing(LabelError("a\n  b", "c\nd")))
    assert capsys.readouterr().err == "error: a b\nhint: c d\n"


def test_debug_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(lambda: failing(LabelError("one class only")), debug=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_json_holds_plain_values_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json(
        {"a": np.float32(0.5), "b": (np.int64(1), float("nan")), "c": np.arange(2), "d": np.bool_(True)}
    )
    assert json.loads(capsys.readouterr().out) == {"a": 0.5, "b": [1, None], "c": [0, 1], "d": True}


def test_other_objects_in_json_become_their_text() -> None:
    assert plain({1: ValueError("x")}) == {"1": "x"}


def test_columns_line_up() -> None:
    assert table(("class", "ha"), [("a", "10.0"), ("long name", "1.5")], indent=0).splitlines() == [
        "class        ha",
        "a          10.0",
        "long name   1.5",
    ]


def test_progress_writes_nothing_into_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        progress("map", 1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["--help"], ["adapt", "--help"], ["--version"]])
def test_a_reader_that_leaves_early_sees_no_traceback(arguments: list[str]) -> None:
    code = f"import sys; from landmeta_cli.app import run; sys.exit(run({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert err == b""
