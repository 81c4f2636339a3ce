"""A run that stops while its files become the run folder: it goes on, and ends like an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from landmeta.errors import Interrupted, OutputError
from landmeta_cli.run_folder import MARK, check_target, staged

from .written_runs import again, content, write_run

OLD = {"map.html": "old", "stale.tif": "old", "model/old.json": "old"}
NEW = {"map.html": "new", "landcover.tif": "new", "model/model.json": "new", "zones/a.json": "new"}
KILLING = f"""
import json, os, sys
from pathlib import Path
from landmeta_cli import run_folder
import landmeta_maps.sidecars

def write(out, stop, resume):
    seen = []
    def kill(event, arguments):
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"):
            seen.append(event)
            if len(seen) > stop:
                os._exit(9)
    with run_folder.staged(out, resume=resume) as folder:
        (folder / "blocks").mkdir(exist_ok=True)
        (folder / "blocks" / "1.npz").touch()
        for name, text in {NEW!r}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        (folder / run_folder.MARK).write_text(json.dumps({{"outputs": dict.fromkeys({NEW!r}, "")}}))
        sys.addaudithook(kill)  # from here on every change of a folder counts

for line in sys.stdin:
    out, stop, resume = json.loads(line)
    if not (child := os.fork()):
        write(Path(out), stop, resume)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Killing = Callable[[Path, int, bool], bool]


@pytest.fixture(scope="module")
def killing() -> Iterator[Killing]:
    """Write a run to a folder and be killed after some steps of publishing; whether there were as many."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", KILLING], stdin=pipe, stdout=pipe, text=True) as process:
        say, hear = process.stdin, process.stdout
        assert say is not None
        assert hear is not None

        def call(out: Path, stop: int, resume: bool) -> bool:
            say.write(json.dumps([str(out), stop, resume]) + "\n")
            say.flush()
            code = int(hear.readline())
            assert code in (0, 9)
            return code == 9

        yield call


def begin(out: Path, found: str) -> dict[str, str]:
    """Prepare the run folder; returns what must still be in it in the end."""
    if found != "missing":
        out.mkdir()
    if found == "run":
        write_run(out, OLD)
        (out / "notes.txt").write_text("mine")
        return {"notes.txt": "mine"}
    return {}


def finished(out: Path, kept: dict[str, str]) -> bool:
    """Whether `out` holds the whole new run and what was to be kept."""
    return {n: t for n, t in content(out).items() if not n.startswith(".")} == NEW | kept


def go_on(out: Path, found: str, how: str, kept: dict[str, str]) -> None:
    """Run the command again after a kill: it ends like an undisturbed one, or nothing was left to do."""
    record = out / MARK
    if record.exists() and "stale.tif" in json.loads(record.read_text())["outputs"]:
        assert content(out).items() >= OLD.items()  # an old record never stands beside new files
    try:
        again(out, NEW, overwrite=how == "overwrite" or found == "run", resume=how != "overwrite")
    except OutputError:
        assert how != "overwrite"
        assert finished(out, kept)
    else:
        assert content(out.parent) == {f"run/{n}": t for n, t in (NEW | kept).items()}
        assert {p.name for p in out.parent.rglob(".*")} == set()


@pytest.mark.parametrize("found", ["missing", "empty", "run"])
@pytest.mark.parametrize("how", ["resume", "overwrite", "twice"])
def test_a_run_killed_anywhere_while_it_is_published_ends_like_an_undisturbed_one(
    tmp_path: Path, killing: Killing, found: str, how: str
) -> None:
    for stop in range(100):
        out = tmp_path / f"{stop}" / "run"
        out.parent.mkdir()
        kept = begin(out, found)
        if not killing(out, stop, False):
            break
        if how == "twice":
            killing(out, stop // 2, True)
        go_on(out, found, how, kept)
    assert stop > 6
    assert finished(out, kept)


def failing_after(patch: pytest.MonkeyPatch, stop: int, failure: BaseException) -> None:
    """Let every rename after the first `stop` ones fail."""
    moves: list[Path] = []

    def failing(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(path: Path, to: Path) -> Path:
            moves.append(to)
            if len(moves) > stop:
                raise failure
            return move(path, to)

        return moved

    patch.setattr(Path, "replace", failing(Path.replace))
    patch.setattr(Path, "rename", failing(Path.rename))


@pytest.mark.parametrize(("found", "moves"), [("missing", 3), ("empty", 6), ("run", 6)])
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_a_run_stopped_between_two_files_tells_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str, moves: int, failure: BaseException
) -> None:
    for stop in range(1, moves):
        out = tmp_path / f"{stop}" / "run"
        out.parent.mkdir()
        kept = begin(out, found)
        with monkeypatch.context() as patch:
            failing_after(patch, stop, failure)
            with pytest.raises((OutputError, Interrupted)) as caught:
                again(out, NEW, overwrite=found == "run")
        assert "--resume goes on" in caught.value.hint
        with pytest.raises(OutputError, match="stopped while its files were moved"):
            check_target(out, overwrite=False)
        again(out, NEW, resume=True)
        assert content(out.parent) == {f"run/{n}": t for n, t in (NEW | kept).items()}


def appearing(out: Path) -> None:
    """Write a run while somebody else makes the folder and puts a file in it."""
    with staged(out) as folder:
        (folder / "map.html").write_text("map")
        out.mkdir()
        (out / "mine").write_text("mine")


def test_a_folder_that_appears_meanwhile_is_left_alone_and_the_run_goes_on_without_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(OutputError, match="has appeared") as caught:
        appearing(out)
    assert "--resume" in caught.value.hint
    assert content(out) == {"mine": "mine"}
    out.rename(tmp_path / "aside")
    again(out, {"map.html": "map"}, resume=True)
    assert content(tmp_path) == {"run/map.html": "map", "aside/mine": "mine"}


def test_an_empty_folder_that_appears_meanwhile_is_filled(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with staged(out) as folder:
        (folder / "map.html").write_text("map")
        out.mkdir()
    assert content(tmp_path) == {"run/map.html": "map"}


def test_what_others_left_beside_an_older_raster_goes_with_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    files = {"landcover.tif": "", "landcover.tif.aux.xml": "", "landcover.qml": "", "probabilities.tif": ""}
    write_run(out, dict.fromkeys(files, "old"))
    for name in ("probabilities.tif.aux.xml", "landcover.tif.ovr", "landcover.tif.msk", "mine.tif.aux.xml"):
        (out / name).write_text("statistics")
    (out / "probabilities.qml").write_text("my colours")
    write_run(out, dict.fromkeys(files, "new"))
    mine = {"mine.tif.aux.xml": "statistics", "probabilities.qml": "my colours"}
    assert content(out) == dict.fromkeys(files, "new") | mine


def stopped(out: Path, hint: str) -> None:
    """Finish a block, then stop by a fault with this hint."""
    with staged(out, resume=True) as folder:
        (folder / "blocks").mkdir(exist_ok=True)
        (folder / "blocks" / "1.npz").touch()
        msg = "stopped"
        raise OutputError(msg, hint)


@pytest.mark.parametrize(
    ("hint", "more"),
    [
        ("free some space", "; finished blocks are kept: the same command with --resume goes on"),
        ("give the same arguments, or --overwrite to start anew", ""),
    ],
)
def test_a_fault_says_once_how_to_go_on(tmp_path: Path, hint: str, more: str) -> None:
    with pytest.raises(OutputError) as fault:
        stopped(tmp_path / "run", hint)
    assert fault.value.hint == hint + more


def interrupted(out: Path, names: Iterable[str]) -> None:
    """Write some empty files of a run, then stop by Ctrl-C."""
    with staged(out) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        raise KeyboardInterrupt


def test_a_resumed_run_is_given_the_blocks_and_nothing_else_of_the_stopped_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        interrupted(out, ["blocks/1.npz", "polygons.gpkg", "model/tmp1.part", MARK])
    check_target(out, overwrite=False, resume=True)
    with staged(out, resume=True) as folder:
        assert {p.name for p in folder.rglob("*")} == {"blocks", "1.npz", ".owner"}
        (folder / "map.html").write_text("map")
    assert content(tmp_path) == {"run/map.html": "map"}
