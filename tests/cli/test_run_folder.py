"""A run folder is written whole or not at all, and nothing of the user's is lost."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from landmeta.errors import OutputError
from landmeta_cli import run_folder
from landmeta_cli.run_folder import MARK, check_target, staged

from .written_runs import again, content, write_run


def fail_halfway(out: Path, failure: BaseException) -> None:
    """Write one file of a run, then fail."""
    with staged(out) as folder:
        (folder / "map.html").write_text("half")
        raise failure


def test_a_run_appears_whole_with_its_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "run", {"map.html": "map", "model/model.json": "{}"})
    assert content(tmp_path / "a" / "run") == {"map.html": "map", "model/model.json": "{}"}
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["run"]


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt()])
def test_a_run_that_fails_leaves_no_file_and_no_folder(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        fail_halfway(tmp_path / "a" / "run", failure)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_overwrite_leaves_the_earlier_run_as_it_was(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"map.html": "old"})
    with pytest.raises(ValueError, match="bad"):
        fail_halfway(tmp_path / "run", ValueError("bad"))
    assert content(tmp_path / "run") == {"map.html": "old"}


def test_an_overwrite_replaces_what_a_run_wrote_and_keeps_what_the_user_added(tmp_path: Path) -> None:
    out = tmp_path / "run"
    write_run(out, {"map.html": "old", "stale.tif": "old", "model/old.json": "old"})
    (out / "notes.txt").write_text("mine")
    check_target(out, overwrite=True)
    write_run(out, {"map.html": "new"})
    assert content(out) == {"map.html": "new", "notes.txt": "mine"}
    assert not (out / "model").exists()


def test_an_empty_folder_is_filled_in_place_even_as_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inode = tmp_path.stat().st_ino
    check_target(Path(), overwrite=False)
    write_run(Path(), {"map.html": "map"})
    assert tmp_path.stat().st_ino == inode
    assert content(tmp_path) == {"map.html": "map"}


def test_a_disk_error_is_told_with_the_folder_and_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"run could not be written: .*No space left") as caught:
        fail_halfway(tmp_path / "run", OSError(28, "No space left on device"))
    assert "--out" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_something_else_in_it_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        check_target(tmp_path, overwrite=overwrite)
    assert content(tmp_path) == {"thesis.txt": "years of work"}


def test_a_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"map.html": "old"})
    with pytest.raises(OutputError, match="not empty") as caught:
        check_target(tmp_path / "run", overwrite=False)
    assert "--overwrite" in caught.value.hint
    check_target(tmp_path / "run", overwrite=True)


def test_an_input_that_the_run_would_replace_stops_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    write_run(out, {"landcover.tif": "labels of this run"})
    with pytest.raises(OutputError, match="is an input"):
        check_target(out, overwrite=True, inputs=(out / "landcover.tif",))


@pytest.mark.parametrize("out", ["file", "file/run", "file/a/run"])
def test_a_file_in_the_way_is_named(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError, match="file is a file"):
        check_target(tmp_path / out, overwrite=True)


def test_a_folder_where_nothing_can_be_made_is_unwritable_for_root_too() -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        check_target(Path("/proc/run"), overwrite=False)


def test_a_partial_run_of_a_dead_process_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".run.partial"
    left.mkdir()
    (left / ".owner").write_text(f"{os.uname().nodename} 999999999")
    (left / "half").write_text("half")
    write_run(tmp_path / "run", {"map.html": "map"})
    assert content(tmp_path) == {"run/map.html": "map"}


def test_a_hidden_folder_that_is_not_ours_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / ".run.partial").mkdir()
    (tmp_path / ".run.partial" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="not a partial run"):
        write_run(tmp_path / "run", {"map.html": "map"})
    assert content(tmp_path) == {".run.partial/mine": "mine"}


def test_a_forged_record_makes_no_file_outside_the_folder_disappear(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    out = tmp_path / "run"
    write_run(out, {"map.html": "old"})
    forged = {"../mine": "", str(tmp_path / "mine"): ""}
    (out / MARK).write_text(json.dumps({"outputs": forged}))
    write_run(out, {"map.html": "new"})
    assert (tmp_path / "mine").read_text() == "mine"


# --- one run at a time ---


def refused(out: Path, **flags: bool) -> str:
    """What a second run to `out` is told, by the check and by the writing alike."""
    with pytest.raises(OutputError) as by_writing, staged(out, resume=flags.get("resume", False)):
        pytest.fail("both write")
    with pytest.raises(OutputError) as by_check:
        check_target(out, overwrite=flags.get("overwrite", False), resume=flags.get("resume", False))
    assert str(by_check.value) == str(by_writing.value)
    return str(by_check.value)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
def test_of_two_threads_one_is_refused_at_once(tmp_path: Path, exists: bool, flags: dict[str, bool]) -> None:
    out = tmp_path / "run"
    if exists:
        out.mkdir()
    with ThreadPoolExecutor(1) as other, staged(out) as folder:
        (folder / "blocks").mkdir()
        (folder / "blocks" / "1.npz").touch()
        (folder / "map.html").write_text("map")
        said = other.submit(refused, out, **flags).result(timeout=30)
        assert said == f"process {os.getpid()} on {platform.node()} is writing to {folder}"
    assert content(tmp_path) == {"run/map.html": "map"}


WRITING = """
import sys, time
from pathlib import Path
from landmeta_cli.run_folder import staged
with staged(Path(sys.argv[1])) as folder:
    (folder / "blocks").mkdir()
    (folder / "blocks" / "1.npz").touch()
    (folder / "half").touch()
    print("writing", flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}])
def test_another_process_is_refused_until_the_first_one_is_killed(
    tmp_path: Path, flags: dict[str, bool]
) -> None:
    out = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", WRITING, out], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == b"writing\n"
            assert refused(out, **flags).startswith(f"process {process.pid} on {platform.node()} is writing")
        finally:
            process.kill()
    with pytest.raises(OutputError, match="stopped with 1 blocks"):
        check_target(out, overwrite=False)
    again(out, {"map.html": "map"}, **flags)
    assert content(tmp_path) == {"run/map.html": "map"}


def test_a_mark_of_another_host_or_of_a_process_that_lives_keeps_nobody_out(tmp_path: Path) -> None:
    for owner in ("elsewhere 1", f"{platform.node()} 1", f"{platform.node()} {os.getpid()}", ""):
        staging = run_folder.staging_folder(tmp_path / "run")
        staging.mkdir()
        (staging / ".owner").write_text(owner)
        check_target(tmp_path / "run", overwrite=False)
        write_run(tmp_path / "run", {"map.html": "map"})
        assert content(tmp_path) == {"run/map.html": "map"}
        shutil.rmtree(tmp_path / "run")


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_lock(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_lock)
    with pytest.raises(OutputError, match=r"file system of .* cannot lock it") as caught:
        write_run(tmp_path / "run", {"map.html": "map"})
    assert "--out" in caught.value.hint


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns so often that they meet between any two steps."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("there", [True, False])
def test_many_runs_at_once_leave_the_files_of_one_of_them(tmp_path: Path, there: bool) -> None:
    def attempt(out: Path, number: int) -> bool:
        try:
            write_run(out, {"a": f"{number}", "b/b": f"{number}", f"only-{number}": ""})
        except OutputError as error:
            assert "is writing to" in str(error)  # noqa: PT017 - most of them are refused
            return False
        return True

    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        if there:
            (folder / "run").mkdir()
        with ThreadPoolExecutor(8) as pool:
            assert any(pool.map(attempt, [folder / "run"] * 40, range(40)))
        found = content(folder / "run")
        assert sorted(found) == ["a", "b/b", f"only-{found['a']}"]
        assert found["a"] == found["b/b"]
        assert [p.name for p in folder.iterdir()] == ["run"]
        assert not (folder / "run" / ".landmeta-partial").exists()
