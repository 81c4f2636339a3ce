"""`--effort paper`: blocks with moments of their own overlap and are blended, whoever maps them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from landmeta import adaptation, prediction
from landmeta.blocks import blending
from landmeta.classmap import MapBlock
from landmeta.published import PublishedEnsemble, adapt_published
from landmeta_cli.app import run

from .conftest import Said, pixels, polygons, write_raster
from .test_predict import sums


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four blocks on the scene, with overlaps to match."""
    monkeypatch.setattr(prediction, "BLOCK", 32)
    monkeypatch.setattr(PublishedEnsemble, "overlap", 8)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one step a class."""
    folder = tmp_path_factory.mktemp("paper")
    write_raster(folder / "scene.tif", pixels())
    polygons().to_file(folder / "labels.gpkg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "adapt_published", partial(adapt_published, steps=1))
        code = run(
            ["adapt", "--imagery", str(folder / "scene.tif"), "--scale", "1e-4", "--effort", "paper"]
            + ["--labels", str(folder / "labels.gpkg"), "--label-column", "class"]
            + ["--out", str(folder / "run"), "--stability-blocks", "0"]
        )
    assert code == 0
    return folder / "run"


@pytest.fixture
def command(adapted: Path) -> tuple[object, ...]:
    scene = adapted.parent / "scene.tif"
    return ("predict", adapted, "--imagery", scene, "--scale", "1e-4", "--stability-blocks", 0)


def interrupted_after(blocks: int) -> Callable[..., MapBlock | None]:
    """Ctrl-C when so many blocks are mapped."""
    whole, mapped = prediction.map_window, []

    def mapping(*given: Any) -> MapBlock | None:
        if len(mapped) == blocks:
            raise KeyboardInterrupt
        mapped.append(1)
        return whole(*given)

    return mapping


def test_workers_and_a_resumed_run_give_the_bytes_of_one_that_nothing_disturbed(
    command: tuple[object, ...],
    landmeta: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert landmeta(*command, "--out", tmp_path / "one").code == 0
    environment = dict(os.environ)
    said = landmeta(*command, "--out", tmp_path / "two", "--workers", 2)
    assert said.code == 0, said.err
    assert dict(os.environ) == environment  # Dask would leave OMP_NUM_THREADS=1 behind
    assert sums(tmp_path / "two") == sums(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "map_window", interrupted_after(2))
        assert landmeta(*command, "--out", tmp_path / "three").code == 130
    said = landmeta(*command, "--out", tmp_path / "three", "--resume")
    assert said.code == 0, said.err
    assert sums(tmp_path / "three") == sums(tmp_path / "one")


def test_blocks_that_overlapped_otherwise_are_not_gone_on_with(
    command: tuple[object, ...],
    landmeta: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "map_window", interrupted_after(2))
        assert landmeta(*command, "--out", tmp_path / "run").code == 130
    monkeypatch.setattr(PublishedEnsemble, "overlap", 16)
    said = landmeta(*command, "--out", tmp_path / "run", "--resume")
    assert said.code == 2
    assert "blocks differ" in said.err


def test_a_dry_run_counts_what_blending_holds(
    command: tuple[object, ...], landmeta: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = blending.bytes_held
    found = []
    for more in (0, 2**40):
        monkeypatch.setattr(blending, "bytes_held", lambda *given, more=more: held(*given) + more)
        found.append(json.loads(landmeta(*command, "--dry-run", "--json").out))
    assert found[1]["memory_mb"] - found[0]["memory_mb"] == pytest.approx(2**20, rel=0.01)
    pixels_held = 4 * 40 * 40 + 2 * 64 * 64  # blocks with their overlaps, and two plain rasters
    assert found[0]["disk_mb"] == pytest.approx(pixels_held * (3 + 2 * 3) / 2**20, rel=0.01)
