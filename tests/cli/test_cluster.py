"""A real Dask scheduler and two workers on loopback; one of them is killed while it maps."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from landmeta_cli.app import run

from .conftest import pixels, polygons, write_raster

RASTERS = ("landcover.tif", "probabilities.tif", "confidence.tif")
SMALL = "from landmeta import prediction; prediction.BLOCK = 8; from landmeta_cli.app import main; main()"


def sums(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RASTERS]


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    write_raster(tmp_path / "scene.tif", pixels())
    polygons().to_file(tmp_path / "labels.gpkg")
    code = run(
        ["adapt", "--imagery", str(tmp_path / "scene.tif"), "--scale", "1e-4", "--out", str(tmp_path / "run")]
        + ["--labels", str(tmp_path / "labels.gpkg"), "--label-column", "class"]
    )
    assert code == 0
    return tmp_path / "run"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a scheduler and the processes of its two workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    python = [sys.executable, "-m", "distributed.cli"]
    scheduler = subprocess.Popen(
        [
            *python[:2],
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-dashboard",
        ],
        **quiet,
    )
    workers = [
        subprocess.Popen(
            [
                *python[:2],
                "distributed.cli.dask_worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
            ]
            + ["--local-directory", str(tmp_path / f"worker{i}")],
            **quiet,
        )
        for i in range(2)
    ]
    try:
        wait_for_workers(address)
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def wait_for_workers(address: str) -> None:
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)


@pytest.mark.slow
def test_a_killed_worker_costs_no_block(
    adapted: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = cluster
    scene = str(tmp_path / "scene.tif")
    command = [sys.executable, "-c", SMALL, "predict", str(adapted), "--imagery", scene, "--scale", "1e-4"]
    one, many = tmp_path / "one", tmp_path / "many"
    subprocess.run([*command, "--out", str(one)], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, "--scheduler", address, "--out", str(many)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    blocks = tmp_path / ".many.partial" / "blocks"
    deadline = time.monotonic() + 120
    while len(list(blocks.glob("*.npz"))) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert sums(many) == sums(one)
