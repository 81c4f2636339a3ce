"""A run that is stopped while it maps, by whatever, goes on with --resume and ends with the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmeta.classmap import MapBlock
from landmeta.errors import ImageryError
from landmeta_cli.run_folder import staged, staging_folder

from .conftest import Said, Scene

RASTERS = ("landcover.tif", "probabilities.tif", "confidence.tif")


def sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RASTERS}


@pytest.fixture
def arguments(scene: Scene, tmp_path: Path) -> list[str]:
    return [
        *("adapt", "--imagery", str(scene.imagery), "--bands", "B2,B3,B4,B8", "--scale", "1e-4"),
        *("--labels", str(scene.labels), "--label-column", "class"),
    ]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps in blocks of 16 px, so that a small scene has several."""
    from landmeta import prediction

    monkeypatch.setattr(prediction, "BLOCK", 16)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let the map fail with an error after two blocks."""

    def arm(error: BaseException) -> None:
        from landmeta import prediction

        whole = prediction.map_window
        seen: list[int] = []

        def failing(*given: object) -> MapBlock | None:
            seen.append(1)
            if len(seen) > 2:
                raise error
            return whole(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(prediction, "map_window", failing)

    return arm


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ImageryError("scene.tif cannot be read to its end", "copy the file again"), 2, "scene.tif"),
        (OSError(28, "No space left on device"), 2, "No space left"),
    ],
)
def test_a_stopped_run_keeps_its_blocks_and_says_how_to_go_on(
    arguments: list[str],
    landmeta: Callable[..., Said],
    stopping: Callable[[BaseException], None],
    tmp_path: Path,
    error: BaseException,
    code: int,
    words: str,
) -> None:
    out = tmp_path / "run"
    stopping(error)
    stopped = landmeta(*arguments, "--out", out)
    assert stopped.code == code
    assert words in stopped.err
    assert "--resume" in stopped.err
    assert not out.exists()
    again = landmeta(*arguments, "--out", out)
    assert again.code == 2
    assert "stopped with" in again.err
    assert "--resume" in again.err


def test_a_stopped_run_resumes_to_the_same_bytes(
    arguments: list[str],
    landmeta: Callable[..., Said],
    stopping: Callable[[BaseException], None],
    small_blocks: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert landmeta(*arguments, "--out", undisturbed).code == 0
    from landmeta import prediction

    whole = prediction.map_window
    stopping(OSError(28, "No space left on device"))
    assert landmeta(*arguments, "--out", out).code == 2
    kept = sorted((staging_folder(out) / "blocks").glob("*.npz"))
    assert len(kept) == 2
    monkeypatch.setattr(prediction, "map_window", whole)
    assert landmeta(*arguments, "--out", out, "--resume").code == 0
    assert sums(out) == sums(undisturbed)
    assert not staging_folder(out).exists()
    assert not (out / "blocks").exists()


def test_blocks_of_other_arguments_are_not_gone_on_with(
    arguments: list[str],
    landmeta: Callable[..., Said],
    stopping: Callable[[BaseException], None],
    small_blocks: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    from landmeta import prediction

    whole = prediction.map_window
    stopping(KeyboardInterrupt())
    assert landmeta(*arguments, "--out", out).code == 130
    monkeypatch.setattr(prediction, "map_window", whole)
    other = landmeta(*arguments, "--seed", 7, "--out", out, "--resume")
    assert other.code == 2
    assert "model" in other.err
    assert "--overwrite" in other.err
    assert landmeta(*arguments, "--out", out, "--overwrite").code == 0


KILLED = """
import sys
from landmeta import prediction
prediction.BLOCK = 16
from landmeta_cli.app import run
sys.exit(run(sys.argv[1:]))
"""


def kill_and_resume(arguments: list[str], out: Path, moments: list[float]) -> int:
    """Start the run, kill it after each of the moments (seconds), let the last one end; how many were hit."""
    command = [sys.executable, "-c", KILLED, *arguments, "--out", str(out), "--resume"]
    hit = 0
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            hit += 1
        process.wait()
        if out.exists():
            return hit
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return hit


def killed_at(arguments: list[str], tmp_path: Path, kills: int, seed: int) -> None:
    whole = tmp_path / "undisturbed"
    begun = time.monotonic()
    kill_and_resume(arguments, whole, [])
    taken = time.monotonic() - begun
    rng = np.random.default_rng(seed)
    moments = (taken * rng.uniform(0.3, 0.95, kills)).tolist()
    hit = 0
    for i, moment in enumerate(moments):
        out = tmp_path / f"killed-{i}"
        hit += kill_and_resume(arguments, out, [moment])
        assert sums(out) == sums(whole)
    assert hit


def test_a_run_killed_at_random_moments_ends_the_same(arguments: list[str], tmp_path: Path) -> None:
    killed_at(arguments, tmp_path, 3, seed=0)


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_moments_ends_the_same(arguments: list[str], tmp_path: Path) -> None:
    killed_at(arguments, tmp_path, 20, seed=1)


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
from landmeta import prediction
prediction.BLOCK = 16
whole = prediction.map_window
prediction.map_window = lambda *given: (time.sleep(0.2), whole(*given))[1]
from landmeta_cli.app import run
sys.exit(run(sys.argv[1:]))
"""


def test_ctrl_c_in_the_middle_of_a_map_is_one_line_and_the_run_goes_on(
    arguments: list[str],
    small_blocks: None,
    landmeta: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from landmeta import prediction

    out = tmp_path / "run"
    command = [sys.executable, "-c", SLOW, *arguments, "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        blocks, until = staging_folder(out) / "blocks", time.monotonic() + 90
        while len([*blocks.glob("*.npz")]) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        finished = {path.name: path.stat().st_mtime_ns for path in blocks.glob("*.npz")}
        process.send_signal(signal.SIGINT)
        said, err = process.communicate()
    assert (process.returncode, said) == (130, "")
    assert len(finished) >= 2
    assert finished.items() <= {path.name: path.stat().st_mtime_ns for path in blocks.glob("*.npz")}.items()
    assert [line for line in err.splitlines() if line.startswith(("error", "hint", "Trace"))] == [
        "error: interrupted",
        "hint: finished blocks are kept: the same command with --resume goes on",
    ]
    computed: list[str] = []
    whole = prediction.map_window

    def again(*given: Any) -> MapBlock | None:
        computed.append("{:07d}-{:07d}.npz".format(*given[3].corner))
        return whole(*given)

    monkeypatch.setattr(prediction, "map_window", again)
    # Stability maps blocks of its own, whether they are finished or not.
    assert landmeta(*arguments, "--out", out, "--resume", "--stability-blocks", "0").code == 0
    assert computed
    assert not set(computed) & set(finished)


def test_two_runs_to_one_folder_do_not_mix(
    arguments: list[str], landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with staged(out):
        for flags in ((), ("--resume",), ("--overwrite",)):
            said = landmeta(*arguments, "--out", out, *flags)
            assert said.code == 2
            assert f"process {os.getpid()} on " in said.err
            assert "is writing to" in said.err
