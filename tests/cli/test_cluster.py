"""A real Dask scheduler and its workers on loopback; each of them is killed while they map."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

RASTERS = ("landcover.tif", "probabilities.tif", "confidence.tif")
SMALL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
from landmeta import prediction
prediction.BLOCK = 8
from landmeta_cli.app import main
if __name__ == "__main__":
    main()
"""


def sums(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RASTERS]


@dataclass
class DaskCluster:
    """A scheduler's address, its process and those of its workers."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DaskCluster]:
    """A cluster of two workers, or as many as the test says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, count = f"tcp://127.0.0.1:{port}", getattr(request, "param", 2)
    found = DaskCluster(address, dask("scheduler", "--host", "127.0.0.1", "--port", str(port)), [])
    for i in range(count):
        own = ("--nthreads", "1", "--no-nanny", "--local-directory", str(tmp_path / f"worker{i}"))
        found.workers.append(dask("worker", address, *own))
    try:
        wait_for_workers(address, count)
        yield found
    finally:
        for process in (*found.workers, found.scheduler):
            process.kill()
            process.wait()


def dask(kind: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A scheduler or worker, as the `dask` command starts it."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments, "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(count, timeout=60)


def predict_command(adapted: Path, tmp_path: Path, *more: str) -> list[str]:
    """A prediction in blocks of 8 px, to the folder `many`."""
    scene = str(adapted.parent / "scene.tif")
    return [
        *(sys.executable, "-c", SMALL, "predict", str(adapted), "--imagery", scene, "--scale", "1e-4"),
        *("--out", str(tmp_path / "many"), *more),
    ]


def mapping(command: list[str], blocks: Path) -> subprocess.Popen[str]:
    """The running command, once it has finished a few blocks."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(blocks.glob("*.npz"))) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.slow
def test_a_killed_worker_costs_no_block(adapted: Path, cluster: DaskCluster, tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    subprocess.run([*predict_command(adapted, tmp_path), "--out", str(one)], check=True, capture_output=True)
    command = predict_command(adapted, tmp_path, "--scheduler", cluster.address)
    process = mapping(command, tmp_path / ".many.partial" / "blocks")
    os.kill(cluster.workers[0].pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert sums(many) == sums(one)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [1], indirect=True)
@pytest.mark.parametrize(
    ("killed", "line"), [("scheduler", "the Dask scheduler is lost"), ("worker", "has no worker left")]
)
def test_a_cluster_that_is_gone_is_two_lines_and_the_run_can_go_on(
    adapted: Path, cluster: DaskCluster, tmp_path: Path, killed: str, line: str
) -> None:
    command = predict_command(adapted, tmp_path, "--scheduler", cluster.address)
    process = mapping(command, tmp_path / ".many.partial" / "blocks")
    (cluster.scheduler if killed == "scheduler" else cluster.workers[0]).kill()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    error, hint = errors.splitlines()
    assert line in error
    assert "--resume" in hint
    assert "space" not in errors
    subprocess.run(predict_command(adapted, tmp_path, "--resume"), check=True, capture_output=True)


@pytest.mark.slow
def test_ctrl_c_with_local_workers_is_two_lines(adapted: Path, tmp_path: Path) -> None:
    command = predict_command(adapted, tmp_path, "--workers", "2")
    process = mapping(command, tmp_path / ".many.partial" / "blocks")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "error: interrupted",
        "hint: finished blocks are kept: the same command with --resume goes on",
    ]
