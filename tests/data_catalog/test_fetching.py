"""Downloads from a server on this machine: resumed, verified, unpacked; each failure is one line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmeta.errors import DataError, OutputError
from landmeta_catalog.fetching import Simulation, fetch, fetch_file, is_there
from landmeta_catalog.records import Download, Record, read_record


def zipped() -> bytes:
    """A zip file of two classes with noise that does not compress: about 800 kB."""
    noise = np.random.default_rng(0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("Forest/Forest_1.tif", "Forest/Forest_2.tif", "River/River_1.tif"):
            archive.writestr(f"Toy_MS/{name}", noise.bytes(270_000))
    return buffer.getvalue()


CONTENT = zipped()


@dataclass
class Server:
    """What the server does, and what it was asked: the Range header of each request ("" where none)."""

    address: str = ""
    cut: int | None = None
    ranges: bool = True
    content: bytes = CONTENT
    slow: bool = False
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """Serves `toy.zip` on a free port; `cut` ends the connection after so many bytes."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/toy.zip":
                self.send_error(404)
                return
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            begin = int(wanted.removeprefix("bytes=").removesuffix("-") or 0) if state.ranges else 0
            if begin >= len(state.content):
                self.send_error(416)
                return
            body = state.content[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(body)))
            if begin:
                total = len(state.content)
                self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
            self.end_headers()
            for at in range(0, len(body[: state.cut]), 8192):
                self.wfile.write(body[: state.cut][at : at + 8192])
                time.sleep(0.02 if state.slow else 0)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{httpd.server_address[1]}/toy.zip"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def file_of(server: Server) -> Download:
    digest = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    return Download(server.address, "toy.zip", len(CONTENT), f"md5:{digest}")


def record_of(server: Server) -> Record:
    digest = hashlib.sha256(CONTENT).hexdigest()
    asset = {
        "href": server.address,
        "title": "toy.zip",
        "file:size": len(CONTENT),
        "file:checksum": f"1220{digest}",
    }
    obtain = {
        "how": "download",
        "archive": "folder",
        "needs": "*/*.tif",
        "folder": "Toy_MS",
        "asset": "a",
        "steps": [],
    }
    stac = {"title": "Toy", "landmeta:obtain": obtain, "assets": {"a": asset}, "links": []}
    return Record("toy", stac)


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_a_file_is_downloaded_verified_and_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    path = fetch_file(file_of(server), tmp_path, progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == {"toy.zip"}
    assert {step[0] for step in steps} == {"download, MB"}
    assert all(done <= total for _, done, total in steps)
    assert fetch_file(file_of(server), tmp_path) == path
    assert server.asked == [""]


def test_a_broken_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    server.cut = 500_000
    with pytest.raises(
        DataError, match=r"toy\.zip from 127\.0\.0\.1:\d+ broke off after 0\.5 of 0\.8 MB"
    ) as e:
        fetch_file(file_of(server), tmp_path)
    assert "run the same command again" in e.value.hint
    (part,) = names(tmp_path)
    assert part == ".download/toy.zip.part"
    arrived = (tmp_path / part).stat().st_size
    assert CONTENT.startswith((tmp_path / part).read_bytes())
    server.cut = None
    assert fetch_file(file_of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={arrived}-"]
    assert names(tmp_path) == {"toy.zip"}


def test_it_breaks_off_again_and_again_and_still_ends(server: Server, tmp_path: Path) -> None:
    server.cut = 300_000
    for _ in range(2):
        with pytest.raises(DataError, match="broke off"):
            fetch_file(file_of(server), tmp_path)
    assert fetch_file(file_of(server), tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_server_without_ranges_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.cut, server.ranges = 500_000, False
    with pytest.raises(DataError, match="broke off"):
        fetch_file(file_of(server), tmp_path)
    server.cut = None
    assert fetch_file(file_of(server), tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_bytes_with_a_wrong_checksum_are_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=r"published checksum md5:\w{32}, found \w{32}; it was deleted"):
        fetch_file(file_of(server), tmp_path)
    assert names(tmp_path) == set()


def test_a_part_of_another_file_ends_as_a_wrong_checksum_and_then_mends(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / ".download").mkdir()
    (tmp_path / ".download" / "toy.zip.part").write_bytes(b"0" * 1000)
    with pytest.raises(DataError, match="checksum"):
        fetch_file(file_of(server), tmp_path)
    assert fetch_file(file_of(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [-1000, 1000])
def test_a_file_of_another_size_is_refused(server: Server, tmp_path: Path, length: int) -> None:
    server.content = CONTENT[:length] if length < 0 else CONTENT + bytes(length)
    for _ in range(2):
        with pytest.raises(DataError, match="not of the published size|broke off"):
            fetch_file(file_of(server), tmp_path)
    with pytest.raises(DataError):
        fetch_file(file_of(server), tmp_path)
    assert not (tmp_path / "toy.zip").exists()


def test_a_missing_file_is_named_with_the_answer(server: Server, tmp_path: Path) -> None:
    absent = replace(file_of(server), url=server.address.replace("toy", "gone"))
    with pytest.raises(DataError, match=r"gone\.zip answers 404 Not Found") as caught:
        fetch_file(absent, tmp_path)
    assert str(tmp_path) in caught.value.hint
    assert names(tmp_path) == set()


def test_without_a_network_the_host_is_named(tmp_path: Path) -> None:
    nobody = Download("http://127.0.0.1:9/toy.zip", "toy.zip", 10, "md5:" + "0" * 32)
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9 cannot be reached") as caught:
        fetch_file(nobody, tmp_path)
    assert "http://127.0.0.1:9/toy.zip" in caught.value.hint
    assert names(tmp_path) == set()


def test_a_disk_too_small_is_told_before_the_download(server: Server, tmp_path: Path) -> None:
    huge = replace(file_of(server), size=10**18)
    with pytest.raises(OutputError, match=r"needs 1000000000\.0 GB"):
        fetch_file(huge, tmp_path)
    assert server.asked == []


def test_an_archive_is_unpacked_whole_into_its_folder(server: Server, tmp_path: Path) -> None:
    folder = fetch(record_of(server), tmp_path / "new")
    assert folder == tmp_path / "new" / "Toy_MS"
    assert names(folder) == {"Forest/Forest_1.tif", "Forest/Forest_2.tif", "River/River_1.tif"}
    assert names(folder.parent) - {"toy.zip"} == {f"Toy_MS/{name}" for name in names(folder)}
    (folder.parent / "toy.zip").unlink()
    assert fetch(record_of(server), tmp_path / "new") == folder, "what is unpacked is not fetched again"
    assert server.asked == [""]


def test_an_archive_brought_by_hand_is_verified_and_unpacked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy.zip").write_bytes(CONTENT)
    assert is_there(record_of(server), tmp_path) is False
    assert (fetch(record_of(server), tmp_path) / "River" / "River_1.tif").is_file()
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write .*file"):
        fetch(record_of(server), tmp_path / "file" / "below")


def test_a_killed_download_leaves_nothing_that_looks_complete(server: Server, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path\n"
        "from landmeta_catalog.fetching import fetch\n"
        "from landmeta_catalog.records import Record\n"
        "fetch(Record('toy', json.loads(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    server.slow = True
    record = json.dumps(dict(record_of(server).stac))
    process = subprocess.Popen([sys.executable, "-c", code, record, str(tmp_path)])
    part = tmp_path / ".download" / "toy.zip.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "toy.zip").exists()
    assert not (tmp_path / "Toy_MS").exists()
    server.slow = False
    folder = fetch(record_of(server), tmp_path)
    assert len(names(folder)) == 3
    assert server.asked[-1].startswith("bytes=")
    assert names(tmp_path) - {"toy.zip"} == {f"Toy_MS/{name}" for name in names(folder)}


@pytest.mark.parametrize(
    ("name", "page"), [("sen12ms", "mediatum.ub.tum.de"), ("dfc2020", "ieee-dataport.org")]
)
def test_a_dataset_for_the_hand_says_where_from_and_where_to(name: str, page: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"by hand from https://{page}.* into {tmp_path}") as caught:
        fetch(read_record(name), tmp_path)
    assert f"landmeta catalog show {name}" in caught.value.hint


def test_a_dataset_that_was_put_there_by_hand_is_found(tmp_path: Path) -> None:
    file = tmp_path / "ROIs1158_spring" / "s2_1" / "ROIs1158_spring_s2_1_p30.tif"
    file.parent.mkdir(parents=True)
    file.touch()
    assert fetch(read_record("sen12ms"), tmp_path) == tmp_path


def test_a_folder_of_ones_own_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to fetch"):
        fetch(read_record("folder"), tmp_path)


@pytest.mark.parametrize(
    ("name", "numbers", "count"),
    [("simulated-sen12ms", {"regions": 2, "patches": 1}, 2), ("simulated-dfc2020", {"patches": 1}, 7)],
)
def test_a_simulated_archive_is_made_in_its_layout(
    name: str, numbers: dict[str, Any], count: int, tmp_path: Path
) -> None:
    record = read_record(name)
    folder = fetch(record, tmp_path / "made", simulation=Simulation(seed=1, **numbers))
    assert folder == tmp_path / "made"
    assert is_there(record, folder)
    assert len(list(folder.glob(record.needs))) == count


def test_the_simulated_dfc2020_has_its_seven_regions_always(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="seven regions"):
        fetch(read_record("simulated-dfc2020"), tmp_path, simulation=Simulation(regions=3))


def test_a_simulated_archive_is_not_taken_for_the_real_one(tmp_path: Path) -> None:
    fetch(read_record("simulated-sen12ms"), tmp_path, simulation=Simulation(regions=2, patches=1))
    with pytest.raises(DataError, match="SEN12MS"):
        fetch(read_record("sen12ms"), tmp_path)
