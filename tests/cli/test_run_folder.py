"""A run folder is written whole or not at all, and nothing of the user's is lost."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

from landmeta.errors import OutputError
from landmeta_cli import run_folder
from landmeta_cli.run_folder import MARK, check_target, staged


def write_run(out: Path, files: dict[str, str]) -> None:
    """Make a run of text files in `out`."""
    with staged(out) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        (folder / MARK).write_text(json.dumps({"outputs": dict.fromkeys(files, "")}))


def fail_halfway(out: Path, failure: BaseException) -> None:
    """Write one file of a run, then fail."""
    with staged(out) as folder:
        (folder / "map.html").write_text("half")
        raise failure


def content(out: Path) -> dict[str, str]:
    """Text of every file under `out`, without its provenance."""
    return {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file() and p.name != MARK}


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


def test_a_run_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".run.partial"
    other.mkdir()
    (other / ".owner").write_text(f"{os.uname().nodename} {os.getppid()}")
    with pytest.raises(OutputError, match="another landmeta run"):
        write_run(tmp_path / "run", {"map.html": "map"})
    assert [p.name for p in tmp_path.iterdir()] == [".run.partial"]


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


def test_of_two_runs_that_take_over_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = run_folder.staging_folder(tmp_path / "run")
    staging.mkdir()
    (staging / ".owner").write_text("elsewhere 1")
    faster = f"{platform.node()} 1"

    def meanwhile(owner: str) -> bool:
        (staging / ".owner").write_text(faster)
        return False

    monkeypatch.setattr(run_folder, "_alive", meanwhile)
    with (
        pytest.raises(OutputError, match="another landmeta run"),
        run_folder.staged(tmp_path / "run", resume=True),
    ):
        pytest.fail("both write")
    assert (staging / ".owner").read_text() == faster
