"""`landmeta ingest` brings an archive into a store, says what it left out, and can be stopped at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from landmeta.errors import OutputError
from landmeta_catalog import ingest as ingest_module
from landmeta_catalog.simulated_archives import simulate_dfc2020, simulate_sen12ms
from landmeta_catalog.store import TileStore

from .conftest import Said

Landmeta = Callable[..., Said]


def write_tiles(folder: Path, count: int) -> Path:
    """PNG of 8 px in the classes forest and water."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("forest", "water")[number % 2] / f"t{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    return folder


def checksums(store: Path) -> dict[str, str]:
    """Checksum of every tile by its id."""
    with TileStore.open(store) as opened:
        rows = opened.index(columns=["id", "checksum"])
    return dict(zip(rows["id"], rows["checksum"], strict=True))


def test_a_folder_of_classes_becomes_a_store_in_one_command(tmp_path: Path, landmeta: Landmeta) -> None:
    tiles = write_tiles(tmp_path / "tiles", 10)
    said = landmeta("ingest", "folder", tiles, "--out", tmp_path / "store")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == f"tiles: 10 tiles of 10 patches in {tmp_path / 'store'}"
    with TileStore.open(tmp_path / "store") as store:
        assert store.legend("tiles").names == ("forest", "water")


def test_a_tile_that_moved_to_another_class_is_told_as_one_too_many(
    tmp_path: Path, landmeta: Landmeta
) -> None:
    tiles = write_tiles(tmp_path / "tiles", 10)
    landmeta("ingest", "folder", tiles, "--out", tmp_path / "store")
    (tiles / "forest" / "t0000.png").rename(tiles / "water" / "t0000.png")
    said = landmeta("ingest", "folder", tiles, "--out", tmp_path / "store")
    assert said.out.startswith("tiles: 11 tiles of 10 patches")
    assert said.err.startswith("warning: the store keeps 1 of its patches, which the archive no longer has")
    assert f"delete {tmp_path / 'store' / 'tiles'} and ingest again" in said.err


def test_the_counts_come_as_json_and_broken_files_as_warnings(tmp_path: Path, landmeta: Landmeta) -> None:
    tiles = write_tiles(tmp_path / "tiles", 30)
    for number in range(0, 24, 2):
        (tiles / "forest" / f"t{number:04}.png").write_bytes(b"")
    said = landmeta("ingest", "folder", tiles, "--out", tmp_path / "store", "--json")
    found = json.loads(said.out)
    fields = "dataset store patches tiles written same_ground absent quarantined workers seconds"
    assert set(found) == set(fields.split())
    assert (said.code, found["patches"], found["tiles"], found["written"]) == (0, 30, 18, 18)
    assert found["quarantined"][0] == {
        "id": "tiles///forest-t0000/",
        "reason": f"{tiles / 'forest' / 't0000.png'} is an empty file (0 bytes)",
    }
    warnings = said.err.splitlines()
    assert len(warnings) == 11
    assert all(line.startswith("warning: quarantined: ") for line in warnings)
    assert "2 more" in warnings[-1]


def test_the_same_command_again_writes_nothing(tmp_path: Path, landmeta: Landmeta) -> None:
    tiles = write_tiles(tmp_path / "tiles", 10)
    for written in (10, 0):
        said = landmeta("ingest", "folder", tiles, "--out", tmp_path / "store", "--json")
        assert json.loads(said.out)["written"] == written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sen12ms", "nowhere"), "nowhere"),
        (("dfc2020", "."), "ROIs0000"),
        (("folder", "."), "no"),
        (("sen12ms", ".", "--crop", "middle"), "middle"),
        (("folder", "tiles", "--workers", "0"), "workers"),
        (("folder", "tiles", "--bands", "mars"), "mars"),
    ],
)
def test_wrong_use_is_one_error_line_and_makes_no_store(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    landmeta: Landmeta,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_tiles(tmp_path / "archive" / "tiles", 2)
    (tmp_path / "archive" / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "archive" / ("." if "tiles" in arguments else "empty"))
    said = landmeta("ingest", *arguments, "--out", tmp_path / "store")
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert (said.code, said.out, len(errors)) == (2, "", 1)
    assert words in errors[0]
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_one_error_line(
    tmp_path: Path, landmeta: Landmeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = write_tiles(tmp_path / "tiles", 4)

    def full(*_: object) -> None:
        msg = "cannot write c.0: No space left on device"
        raise OutputError(msg, "make room")

    monkeypatch.setattr(ingest_module, "finish_dataset", full)
    said = landmeta("ingest", "folder", tiles, "--out", tmp_path / "store")
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines() == ["error: cannot write c.0: No space left on device", "hint: make room"]


def heed_interrupts() -> None:
    """As in a terminal: what a shell starts in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_is_one_line_and_the_same_command_completes_the_store(
    workers: int, tmp_path: Path, landmeta: Landmeta
) -> None:
    count = 4000  # enough that the signal comes before the end
    tiles = write_tiles(tmp_path / "tiles", count)
    store = tmp_path / "store"
    words = ["-m", "landmeta_cli", "ingest", "folder", tiles, "--out", store, "--workers", workers]
    # A session of its own, so that Ctrl-C reaches all of its processes, as in a terminal, and not this one.
    with subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as process:
        parts = store / "tiles" / "parts"
        until = time.monotonic() + 60
        while not any(parts.glob("*.parquet")) and time.monotonic() < until:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    done = len([*parts.glob("*.parquet")])
    assert (process.returncode, out) == (130, "")
    assert err.splitlines() == [
        f"error: interrupted; what is stored is kept in {store}",
        "hint: run the same command again: it goes on from there",
    ]
    assert 0 < done < count / 128
    said = landmeta("ingest", "folder", tiles, "--out", store, "--json")
    assert 0 < json.loads(said.out)["written"] <= count - (done - 1) * 128
    assert len(checksums(store)) == count


def test_the_simulated_sen12ms_keeps_ground_that_patches_share_once(
    tmp_path: Path, landmeta: Landmeta
) -> None:
    simulate_sen12ms(tmp_path / "sen12ms", regions=2, patches=6, stride=128, nan_patch=True, workers=1)
    said = landmeta("ingest", "sen12ms", tmp_path / "sen12ms", "--out", tmp_path / "store", "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["patches"] == 12
    assert found["tiles"] + found["same_ground"] == 48
    assert found["same_ground"] > 0
    with TileStore.open(tmp_path / "store") as store:
        rows = store.index(columns=["region", "season", "crs", "x", "y", "valid_fraction"])
        stored = {spec.name: spec.shape for spec in store.arrays("sen12ms")}
    assert not rows[["region", "season", "crs", "x", "y"]].duplicated().any()
    assert (rows["valid_fraction"] == 0).any()
    assert stored == {"s2": (13, 128, 128), "s1": (2, 128, 128), "labels": (1, 128, 128)}


@pytest.mark.parametrize("layout", ["regions", "contest"])
def test_both_layouts_of_the_simulated_dfc2020_are_read(
    layout: str, tmp_path: Path, landmeta: Landmeta
) -> None:
    simulate_dfc2020(tmp_path / "dfc", layout=layout, patches=1)  # type: ignore[arg-type]
    said = landmeta(
        "ingest", "dfc2020", tmp_path / "dfc", "--out", tmp_path / "store", "--crop", "centre", "--json"
    )
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found["tiles"] == found["patches"] > 0


# --- real archives, as a new user would type them ----------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "name", "tiles", "classes", "arrays"),
    [
        ("folder", "hls_worldcover", 199, 11, {"labels"}),
        ("eurosat", "eurosat_ms", 155, 10, {"s2"}),
        ("folder", "eurosat_ms", 155, 10, {"s2"}),
    ],
)
def test_real_chips_become_a_store_as_a_new_user_would_type_it(
    kind: str,
    name: str,
    tiles: int,
    classes: int,
    arrays: set[str],
    data: Path,
    tmp_path: Path,
    landmeta: Landmeta,
) -> None:
    said = landmeta("ingest", kind, data / name, "--out", tmp_path / "store", "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert (found["tiles"], found["quarantined"]) == (tiles, [])
    with TileStore.open(tmp_path / "store") as store:
        assert arrays <= {spec.name for spec in store.arrays(found["dataset"])}
        assert len(store.legend(found["dataset"])) == classes
        rows = store.index()
    assert rows["checksum"].is_unique
    assert rows["class_code"].nunique() > 4


@pytest.mark.real
@pytest.mark.slow  # 5,000 WebP pictures, half a minute
def test_the_published_renders_of_sen12ms_keep_regions_seasons_and_patches(
    data: Path, tmp_path: Path, landmeta: Landmeta
) -> None:
    said = landmeta("ingest", "folder", data / "sen12ms_rgb", "--out", tmp_path / "store", "--json")
    assert (said.code, said.err) == (0, "")
    listed = pd.read_csv(data / "sen12ms_rgb" / "index.csv")
    with TileStore.open(tmp_path / "store") as store:
        rows = store.index()
    assert len(rows) == len(listed) == 4976
    assert rows[["region", "season"]].astype(str).drop_duplicates().shape[0] == 14
    # The quadrants of one patch are one block: support and query never share it.
    assert rows.groupby(["region", "season", "block"], observed=True).size().max() > 1
