"""Whatever stops an ingest, what is stored stays, and the same call completes the store."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import rasterio
from affine import Affine

from landmeta.errors import DataError, OutputError
from landmeta_catalog import _atomic, _ingest_pool
from landmeta_catalog.archives import open_archive
from landmeta_catalog.ingest import ingest
from landmeta_catalog.store import TileStore

from .fake_archive import many, troubled

SCRIPT = Path(__file__).with_name("fake_archive.py")
PATCHES = 300


def state_of(store: Path) -> pd.DataFrame:
    """Place, checksum, status and reason of every row of the index, by id."""
    with TileStore.open(store) as opened:
        rows = opened.index(columns=["id", "slot", "checksum", "status", "reason"], quarantined=True)
    return rows.astype(dict.fromkeys(["status"], "str")).set_index("id").sort_index()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """State of the store that nothing disturbed."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    ingest(troubled(PATCHES), store)
    return state_of(store)


def start(store: Path, *, workers: int = 1, event: int = 0, delay: float = 0.0) -> subprocess.Popen[str]:
    """The same ingest in a process of its own, on the way; see `fake_archive.py`."""
    words = [sys.executable, SCRIPT, store, PATCHES, workers, event, delay]
    process = subprocess.Popen(
        [str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def assert_completes(store: Path, undisturbed: pd.DataFrame) -> None:
    ingest(troubled(PATCHES), store)
    pd.testing.assert_frame_equal(state_of(store), undisturbed)


def kill_at_events(store: Path, seed: int, kills: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(kills):
        with start(store, event=int(rng.integers(1, 60))) as process:
            process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)


def test_killed_at_three_random_moments_it_ends_as_if_undisturbed(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    kill_at_events(tmp_path, seed=3, kills=3)
    assert_completes(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_many_moments_it_ends_as_if_undisturbed(
    seed: int, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    kill_at_events(tmp_path, seed=100 + seed, kills=5)
    assert_completes(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_times_with_worker_processes_it_ends_as_if_undisturbed(
    seed: int, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(4):
        with start(tmp_path, workers=2, delay=0.03) as process:
            helpers = psutil.Process(process.pid)
            time.sleep(float(rng.uniform(0.2, 6)))
            left = helpers.children(recursive=True) if process.poll() is None else []
            process.kill()
        # Workers whose parent is gone end by themselves.
        assert psutil.wait_procs(left, timeout=20)[1] == []
    assert_completes(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_worker_process_that_dies_is_replaced_and_its_shard_made_again(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    with start(tmp_path, workers=2, delay=0.05) as process:
        _busy_worker(process, tmp_path).kill()
        _, said = process.communicate()
    # Python itself may add that the killed process has left a semaphore behind.
    assert process.returncode == 0
    assert "Traceback" not in said
    pd.testing.assert_frame_equal(state_of(tmp_path), undisturbed)


def _busy_worker(process: subprocess.Popen[str], store: Path) -> psutil.Process:
    """A worker of the ingest once the first shard is made and others are being made."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if any((store / "fake" / "parts").glob("*.parquet")):
            children = psutil.Process(process.pid).children()
            return next(p for p in children if "spawn_main" in " ".join(p.cmdline()))
        time.sleep(0.02)
    pytest.fail("no shard was made in a minute")


@pytest.mark.parametrize("call", [1, 4, 9, 14])
def test_a_full_disk_is_one_line_and_loses_nothing(
    call: int, tmp_path: Path, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full(part: Path) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_atomic, "_flush", full)
        with pytest.raises(OutputError, match=r"^cannot write .*: No space left on device$") as caught:
            ingest(troubled(PATCHES), tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert "kept" in caught.value.hint
    assert list(tmp_path.rglob("*.part")) == []
    assert_completes(tmp_path / "store", undisturbed)


def test_a_file_that_the_system_cuts_off_is_one_line_and_loses_nothing(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, hard))
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*: File too large$"):
            ingest(troubled(PATCHES), tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_completes(tmp_path / "store", undisturbed)


@pytest.mark.slow
def test_on_a_really_full_disk_the_ingest_goes_on_once_there_is_room(
    tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            ingest(troubled(PATCHES), disk / "store")
        subprocess.run([mount, "-o", "remount,size=10m", disk], check=True)
        assert_completes(disk / "store", undisturbed)
    finally:
        subprocess.run(["umount", disk], check=True)


# --- broken files in the published layout -----------------------------------------------------------

SENSORS = {"s2": (13, np.uint16), "s1": (2, np.float32), "lc": (4, np.uint8)}
Damage = Callable[[dict[str, Path]], None]


def write_patch(folder: Path, number: int, *, crs: str = "EPSG:32633", code: int = 10) -> dict[str, Path]:
    """The three files of a SEN12MS patch, each patch 2.56 km east of the one before."""
    files = {}
    for kind, (bands, dtype) in SENSORS.items():
        path = folder / "ROIs1158_spring" / f"{kind}_7" / f"ROIs1158_spring_{kind}_7_p{number}.tif"
        write_image(path, np.full((bands, 256, 256), code, dtype), number, crs=crs)
        files[kind] = path
    return files


def write_image(path: Path, values: np.ndarray, number: int, *, crs: str = "EPSG:32633") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(values),
        "height": 256,
        "width": 256,
        "dtype": values.dtype,
        "crs": crs,
        "transform": Affine(10, 0, 500_000 + 2560 * number, 0, -10, 5_400_000),
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)


def truncate(files: dict[str, Path]) -> None:
    content = files["s2"].read_bytes()
    files["s2"].write_bytes(content[: len(content) // 2])


def drop_bands(files: dict[str, Path]) -> None:
    write_image(files["s2"], np.ones((12, 256, 256), np.uint16), 0)


def move_sibling(files: dict[str, Path]) -> None:
    write_image(files["s1"], np.ones((2, 256, 256), np.float32), 0, crs="EPSG:32634")


def invent_class(files: dict[str, Path]) -> None:
    write_image(files["lc"], np.full((4, 256, 256), 77, np.uint8), 0)


def double(files: dict[str, Path]) -> None:
    shutil.copy(files["s2"], files["s2"].with_suffix(".tiff"))


DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "missing sibling": (lambda f: f["s1"].unlink(), "lc", "has no s1 file"),
    "empty file": (lambda f: f["s1"].write_bytes(b""), "s1", "empty file"),
    "truncated file": (truncate, "s2", "truncated"),
    "wrong band count": (drop_bands, "s2", "12 band"),
    "mixed CRS": (move_sibling, "s1", "EPSG:32634"),
    "unknown class code": (invent_class, "lc", "class code 77"),
    "duplicate patch": (double, "s2", "occurs twice"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_broken_file_is_named_in_one_line_and_the_rest_is_stored(what: str, tmp_path: Path) -> None:
    damage, kind, words = DAMAGES[what]
    write_patch(tmp_path / "archive", 1)
    files = write_patch(tmp_path / "archive", 0)
    damage(files)
    found = ingest(open_archive("sen12ms", tmp_path / "archive"), tmp_path / "store")
    ((name, reason),) = found.quarantined
    assert name.startswith("sen12ms/7/spring/p0")
    assert words in reason
    assert files[kind].stem in reason
    assert "\n" not in reason
    assert found.tiles == (8 if what == "duplicate patch" else 4)
    state = state_of(tmp_path / "store")
    assert state.loc[state["status"] == "quarantined", "reason"].tolist() == [reason]


def test_a_mended_file_joins_the_store(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_patch(archive, 1)
    truncate(write_patch(archive, 0))
    assert ingest(open_archive("sen12ms", archive), tmp_path / "store").tiles == 4
    write_patch(archive, 0)
    found = ingest(open_archive("sen12ms", archive), tmp_path / "store")
    assert (found.tiles, found.written, found.quarantined) == (8, 4, ())


def test_backscatter_that_is_no_number_is_stored_as_no_data(tmp_path: Path) -> None:
    files = write_patch(tmp_path / "archive", 0)
    values = np.full((2, 256, 256), -12.34, np.float32)
    values[:, :128, :64] = np.nan
    write_image(files["s1"], values, 0)
    ingest(open_archive("sen12ms", tmp_path / "archive"), tmp_path / "store")
    with TileStore.open(tmp_path / "store") as store:
        rows = store.index().set_index("quadrant")
        stored = store.read("sen12ms", "s1", rows["slot"].to_numpy())
    assert rows.loc["tl", "valid_fraction"] == 0.5
    assert rows.loc["br", "valid_fraction"] == 1
    assert np.unique(stored).tolist() == [-32768, -1234]


def test_two_patches_of_one_region_in_different_zones_are_both_kept(tmp_path: Path) -> None:
    write_patch(tmp_path / "archive", 0)
    write_patch(tmp_path / "archive", 0 + 1, crs="EPSG:32634")
    found = ingest(open_archive("sen12ms", tmp_path / "archive"), tmp_path / "store")
    with TileStore.open(tmp_path / "store") as store:
        assert set(store.index()["crs"]) == {"EPSG:32633", "EPSG:32634"}
    assert found.tiles == 8


def test_a_folder_without_the_layout_is_an_error_and_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with pytest.raises(DataError, match="ROIs"):
        ingest(open_archive("sen12ms", tmp_path / "archive"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_many_broken_patches_do_not_stop_the_rest(tmp_path: Path) -> None:
    names = [*many(60, overlap=False).patches]
    archive = many(60, overlap=False, broken=frozenset(names[1:]))
    found = ingest(archive, tmp_path / "store")
    assert (found.tiles, len(found.quarantined)) == (4, 59)


def test_an_ingest_whose_workers_are_all_gone_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deserted:
        def submit(self, work: object, job: object, *, pure: bool) -> object:
            return object()

        def scheduler_info(self) -> dict[str, object]:
            return {"workers": {}}

    def wait(futures: object, timeout: float, return_when: str) -> None:
        raise TimeoutError

    monkeypatch.setattr("distributed.wait", wait)
    with pytest.raises(DataError, match="worker processes are gone") as error:
        list(_ingest_pool._spread(Deserted(), str, [1, 2], 2))  # type: ignore[arg-type]
    assert "--workers 1" in error.value.hint
