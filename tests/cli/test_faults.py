"""What goes wrong while a map is made: one line names it, finished blocks are kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio

from landmeta.classmap import MapBlock
from landmeta_cli.run_folder import staging_folder

from .conftest import Said, Scene

BLOCK = 16
FULL = f"""
import resource, signal, sys
from landmeta import prediction
prediction.BLOCK = {BLOCK}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
whole, seen = prediction.map_window, []
def filling(*given):
    seen.append(1)
    if len(seen) == 3:  # no file may grow any more, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return whole(*given)
prediction.map_window = filling
from landmeta_cli.app import run
sys.exit(run(sys.argv[1:]))
"""

FULL_LATE = f"""
import resource, signal, sys
from landmeta import prediction
from landmeta_maps import writer
prediction.BLOCK = {BLOCK}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
finish = writer.finish
def filling(raw, path, **options):
    if path.name == "confidence.tif":  # all blocks are there, and two of the three rasters
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
    finish(raw, path, **options)
writer.finish = filling
from landmeta_cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def arguments(scene: Scene) -> list[str]:
    return [
        "adapt",
        "--imagery",
        str(scene.imagery),
        "--labels",
        str(scene.labels),
        "--stability-blocks",
        "0",
    ]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from landmeta import prediction

    monkeypatch.setattr(prediction, "BLOCK", BLOCK)


def kept(out: Path) -> int:
    return len(list((staging_folder(out) / "blocks").glob("*.npz")))


@pytest.mark.usefixtures("small_blocks")
def test_an_input_that_vanishes_is_named_and_the_run_goes_on_when_it_is_back(
    arguments: list[str],
    scene: Scene,
    landmeta: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from landmeta import prediction

    out, aside, real, seen = tmp_path / "run", tmp_path / "aside.tif", prediction.map_window, []

    def vanishing(*given: object) -> MapBlock | None:
        seen.append(1)
        if len(seen) == 3:
            scene.imagery.rename(aside)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(prediction, "map_window", vanishing)
    stopped = landmeta(*arguments, "--out", out)
    assert stopped.code == 2
    assert "scene.tif" in stopped.err
    assert "--resume" in stopped.err
    assert kept(out) >= 3
    monkeypatch.setattr(prediction, "map_window", real)
    aside.rename(scene.imagery)
    assert landmeta(*arguments, "--out", out, "--resume").code == 0
    assert (out / "landcover.tif").is_file()


def told_on_a_full_disk(program: str, arguments: list[str], out: Path) -> tuple[str, str]:
    """Error and hint of a run that `program` lets fill the disk."""
    command = [sys.executable, "-c", program, *arguments, "--out", str(out)]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 2, stopped.stderr
    error, hint = (line for line in stopped.stderr.splitlines() if line.startswith(("error:", "hint:")))
    return error, hint


@pytest.mark.usefixtures("small_blocks")
def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_when_there_is_room(
    arguments: list[str], landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    error, hint = told_on_a_full_disk(FULL, arguments, out)
    assert "finished blocks" in error
    assert "--resume" in hint
    assert kept(out) == 2
    assert landmeta(*arguments, "--out", out, "--resume").code == 0
    assert (out / "landcover.tif").is_file()


@pytest.mark.usefixtures("small_blocks")
def test_a_disk_that_fills_up_while_a_raster_is_finished_is_one_line_and_the_run_goes_on(
    arguments: list[str], landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    error, hint = told_on_a_full_disk(FULL_LATE, arguments, out)
    assert "confidence.tif, the disk may be full" in error
    assert "--resume" in hint
    assert kept(out)
    assert not out.exists()
    assert landmeta(*arguments, "--out", out, "--resume").code == 0
    with rasterio.open(out / "confidence.tif") as image:
        assert image.read(1).any()
