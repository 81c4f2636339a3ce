"""`landmeta train`: a small store, a few steps; what is written, resumed, refused and shared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from landmeta.bands import SENTINEL2
from landmeta.checkpoints import load_network, read_tensors
from landmeta.errors import DataError
from landmeta.legend import DFC2020
from landmeta.networks import build_network
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tiles import ArraySpec, index_frame
from landmeta_catalog.training_tasks import TrainingData
from landmeta_cli.run_lock import OWNER, lock_folder
from landmeta_cli.train_folder import RunFolder

from .conftest import Said

SIDE, CLASSES, TILES = 16, 5, 30
S2 = ArraySpec("s2", SENTINEL2[:4], "uint16", 1e-4, nodata=0, side=SIDE)
REGIONS = (("1", "fall"), ("3", "fall"), ("4", "fall"), ("8", "fall"))
SETTINGS = """
out = "{out}"
seed = 3
save_every = {save_every}
[data]
store = "{store}"
dataset = "sim"
workers = 0
[network]
widths = [4, 4, 4, 4]
[inner]
rate = {rate}
[outer]
steps = {steps}
tasks = {tasks}
rate = {outer_rate}
{outer}
[validation]
every = 2
tasks = 2
test_tasks = 2
[device]
threads = 1
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of five classes that differ in brightness: regions 3 and 4 train, 1 validates, 8 tests."""
    return make_store(tmp_path_factory.mktemp("tiles") / "store", step=1000)


def make_store(path: Path, step: int) -> Path:
    """A store whose classes are `step` apart in brightness."""
    rng, count = np.random.default_rng(0), TILES * len(REGIONS)
    codes = np.tile(np.arange(TILES) % CLASSES + 1, len(REGIONS))
    rows = [
        {"region": region, "season": season, "patch": f"p{i}", "side": SIDE,
         "class_code": i % CLASSES + 1, "class_name": DFC2020.names[i % CLASSES]}
        for region, season in REGIONS for i in range(TILES)
    ]  # fmt: skip
    pixels = step * codes[:, None, None, None] + rng.normal(0, 300, (count, *S2.shape))
    create_dataset(path, "sim", (S2,), DFC2020, count, settings={})
    write_shard(
        path, "sim", 0, {"s2": pixels.clip(1).astype(np.uint16)}, index_frame(rows).drop(columns="slot")
    )
    finish_dataset(path, "sim", index_frame([]))
    return path


@pytest.fixture
def config(store: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write settings of a run in a folder of its own."""

    def write(name: str = "run", *, more: str = "", **values: object) -> Path:
        given = {"save_every": 100, "rate": 0.1, "steps": 4, "tasks": 2, "outer_rate": 0.01, "outer": ""}
        given |= values
        path = tmp_path / f"{name}.toml"
        path.write_text(SETTINGS.format(out=tmp_path / name, store=store, **given) + more)
        return path

    return write


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(path, as_stored=True)[0]


def same(one: Path, other: Path) -> bool:
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the run be asked to stop while it takes this step."""
    monkeypatch.setattr(RunFolder, "stop", lambda folder: folder._taken + 1 >= step)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_checkpoints_log_and_scores(
    landmeta: Callable[..., Said], config, tmp_path: Path
) -> None:
    said = landmeta("train", config())
    assert said.code == 0, said.err
    assert "finished after 4 steps" in said.out
    assert "first weights, adapted" in said.out
    assert [line.split(":")[1] for line in said.err.splitlines()] == [
        " step 0 of 4",
        " step 2 of 4",
        " step 4 of 4",
    ]
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("best.safetensors", "last.safetensors", "state.safetensors"),
        *("log.jsonl", "result.json", "tensorboard"),
    }
    assert [e["step"] for e in log(folder)] == [0, 1, 2, 2, 3, 4, 4]
    result = json.loads((folder / "result.json").read_text())
    assert result["test"]["trained"]["tasks"] == 2
    network, header = load_network(folder / "best.safetensors")
    assert header["training"]["step"] == result["best_step"]
    assert header["training"]["config"]["seed"] == 3
    assert header["network"]["bands"] == list(S2.bands)
    assert network(torch.zeros(1, 4, SIDE, SIDE)).shape == (1, 1)


def test_training_lifts_the_adapted_network_above_the_unadapted_and_the_first_weights(
    landmeta: Callable[..., Said], store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lift.toml"
    path.write_text(f"""
        out = "{tmp_path / "lift"}"
        data = {{store = "{store}", dataset = "sim", workers = 0}}
        network = {{name = "conv4", widths = [8, 8, 16, 16], norm = "none"}}
        inner = {{algorithm = "meta_sgd", rate = 0.4}}
        outer = {{steps = 120, rate = 5e-3, learned_rate = 1e-2, clip_norm = 10.0}}
        validation = {{every = 0, test_tasks = 60}}
        device = {{threads = 1}}
    """)
    assert landmeta("train", path).code == 0
    held_out = json.loads((tmp_path / "lift/result.json").read_text())["test"]
    reached = held_out["trained"]["balanced_accuracy"]
    assert reached > held_out["trained"]["unadapted"] + 0.15
    assert reached > held_out["initial"]["balanced_accuracy"] + 0.15


def test_a_run_stopped_and_started_again_equals_the_undisturbed_one(
    landmeta: Callable[..., Said], config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert landmeta("train", config("whole", steps=5)).code == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        said = landmeta("train", config("parted", steps=5))
    assert said.code == 130
    assert "stopped after step 3 of 5" in said.err
    assert not (tmp_path / "parted" / "result.json").exists()
    assert landmeta("train", config("parted", steps=5)).code == 0
    for name in ("last.safetensors", "best.safetensors", "state.safetensors"):
        assert same(tmp_path / "whole" / name, tmp_path / "parted" / name), name
    assert log(tmp_path / "whole") == log(tmp_path / "parted")


def test_a_run_that_is_over_says_so_again_and_changes_nothing(
    landmeta: Callable[..., Said], config, tmp_path: Path
) -> None:
    landmeta("train", config())
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    said = landmeta("train", config(), "--json")
    assert json.loads(said.out)["steps"] == 4
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_other_settings_are_refused_with_every_difference_until_restart(
    landmeta: Callable[..., Said], config, tmp_path: Path
) -> None:
    landmeta("train", config(steps=2))
    changed = config(steps=2, rate=0.2, outer="clip_norm = 1.0")
    said = landmeta("train", changed)
    assert said.code == 2
    assert "inner.rate is 0.2, it was 0.1" in said.err
    assert "outer.clip_norm is 1.0, it was null" in said.err
    assert "--restart" in said.err
    assert landmeta("train", changed, "--restart").code == 0
    assert landmeta("train", config(steps=3, rate=0.2, outer="clip_norm = 1.0")).code == 0
    assert [e["step"] for e in log(tmp_path / "run") if "loss" in e] == [1, 2, 3]


def test_a_run_does_not_go_on_with_tiles_that_were_ingested_anew(
    landmeta: Callable[..., Said], config, store: Path, tmp_path: Path
) -> None:
    path = config(steps=1)
    assert landmeta("train", path).code == 0
    moved, other = shutil.copytree(store, tmp_path / "moved"), make_store(tmp_path / "other", step=900)
    path.write_text(path.read_text().replace(str(store), str(moved)))
    assert landmeta("train", path).code == 0
    path.write_text(path.read_text().replace(str(moved), str(other)))
    said = landmeta("train", path)
    assert said.code == 2
    assert "holds other tiles of sim than when the run began" in said.err
    assert "--restart" in said.err


def test_a_run_is_not_written_over_by_another_one(
    landmeta: Callable[..., Said], config, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with lock_folder(out):
        said = landmeta("train", config(), "--restart")
        assert said.code == 2
        assert f"is writing to {out}" in said.err
    assert landmeta("train", config()).code == 0
    assert not (out / OWNER).exists()


def test_test_tasks_that_cannot_be_drawn_are_told_before_the_first_step(
    landmeta: Callable[..., Said], config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TrainingData.sampler

    def sampler(data: TrainingData, part: str, settings: object) -> object:
        if part == "holdout":
            msg = "no region has classes enough"
            raise DataError(msg, "fewer ways")
        return whole(data, part, settings)

    monkeypatch.setattr(TrainingData, "sampler", sampler)
    said = landmeta("train", config())
    assert said.code == 2
    assert "no region has classes enough" in said.err
    assert not (tmp_path / "run").exists()


def test_all_faults_of_the_settings_are_told_at_once(landmeta: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('out = "r"\n[data]\nstore = "s"\nsplt = "list"\n[outer]\nrate = -1\n')
    said = landmeta("train", tmp_path / "bad.toml")
    assert said.code == 2
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "error", "hint"]
    assert "nearest is data.split" in said.err
    assert not (tmp_path / "r").exists()


def test_a_loss_that_is_no_number_stops_with_the_task_named_and_the_last_good_state_kept(
    landmeta: Callable[..., Said], config, tmp_path: Path
) -> None:
    said = landmeta("train", config(rate=1e30))
    assert said.code == 2
    assert "no number at outer step 1: task 0 (region " in said.err
    assert [line.split(":")[0] for line in said.err.splitlines()][-2:] == ["error", "hint"]
    network, header = load_network(tmp_path / "run" / "last.safetensors")
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert header["training"]["step"] == 0


def test_a_run_can_begin_from_a_checkpoint(landmeta: Callable[..., Said], config, tmp_path: Path) -> None:
    landmeta("train", config("first", steps=2))
    start = f'[network]\nstart = "{tmp_path / "first" / "last.safetensors"}"'
    path = config("second", steps=1)
    path.write_text(path.read_text().replace("[network]", start))
    assert landmeta("train", path).code == 0
    other = path.with_name("third.toml")
    other.write_text(path.read_text().replace("second", "third").replace("[4, 4, 4, 4]", "[4, 4, 4, 8]"))
    said = landmeta("train", other)
    assert said.code == 2
    assert "network.start has widths" in said.err


def test_a_run_goes_on_from_a_start_that_was_moved_and_not_from_another(
    landmeta: Callable[..., Said], config, tmp_path: Path
) -> None:
    for seed in (1, 2):
        given = config(f"first{seed}", steps=1)
        given.write_text(given.read_text().replace("seed = 3", f"seed = {seed}"))
        assert landmeta("train", given).code == 0
    one, other = (tmp_path / f"first{seed}" / "last.safetensors" for seed in (1, 2))

    def begun_from(start: Path, steps: int) -> Said:
        path = config(steps=steps)
        path.write_text(path.read_text().replace("[network]", f'[network]\nstart = "{start}"'))
        return landmeta("train", path)

    assert begun_from(one, 1).code == 0
    moved = one.rename(tmp_path / "moved.safetensors")
    assert begun_from(moved, 2).code == 0
    assert [e["step"] for e in log(tmp_path / "run") if "loss" in e] == [1, 2]
    other.replace(moved)
    said = begun_from(moved, 3)
    assert said.code == 2
    assert "moved.safetensors holds other weights than when the run began" in said.err


# --- several processes ------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def started(config: Path, processes: int) -> subprocess.Popen[str]:
    module = [sys.executable, "-m"]
    if processes > 1:
        module += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [*module, "landmeta_cli", "train", str(config)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(config: Path, processes: int = 1) -> None:
    process = started(config, processes)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(config, tmp_path: Path) -> None:
    step = 'optimizer = "sgd"\nweight_decay = 0.0'
    for processes in (1, 2):
        finished(config(f"n{processes}", steps=1, tasks=4, outer_rate=1.0, outer=step), processes)
    one, two = (tensors(tmp_path / name / "last.safetensors") for name in ("n1", "n2"))
    settings = load_network(tmp_path / "n1" / "last.safetensors")[1]["network"]
    first = build_network(settings, generator=seeded()).state_dict()
    # The rate is 1, so that the weights moved by the gradient itself.
    gradient = torch.cat([(first[name] - one[name]).flatten() for name in one])
    difference = torch.cat([(two[name] - one[name]).flatten() for name in one])
    assert gradient.norm() > 0.1
    assert difference.norm() < 1e-6 * gradient.norm()
    scores = [json.loads((tmp_path / n / "result.json").read_text())["test"] for n in ("n1", "n2")]
    assert scores[0]["trained"]["loss"] == pytest.approx(scores[1]["trained"]["loss"], abs=1e-4)


def seeded() -> torch.Generator:
    """The generator of a run's first weights."""
    return torch.Generator().manual_seed(3)


def worker_pids(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(int(pid) for pid in children)


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_run_with_a_state_to_go_on_from(config, tmp_path: Path, victim: int) -> None:
    path = config(steps=100_000, tasks=2, save_every=1)
    process = started(path, 2)
    state = tmp_path / "run" / "state.safetensors"
    wait_for(lambda: state.is_file() and read_tensors(state)[1]["counters"]["step"] >= 3, process)
    os.kill(worker_pids(process.pid)[victim], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    if victim == 1:  # the first process is left to tell
        assert "another process of the run is gone" in err
    reached = read_tensors(state)[1]["counters"]["step"]
    path.write_text(path.read_text().replace("steps = 100000", f"steps = {reached + 1}"))
    finished(path, 2)
    assert read_tensors(state)[1]["counters"]["step"] == reached + 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_killed_goes_on_to_the_same_end(config, tmp_path: Path, number: int) -> None:
    finished(config("whole", steps=40, save_every=3))
    path = config("parted", steps=40, save_every=3)
    process = started(path, 1)
    state = tmp_path / "parted" / "state.safetensors"
    wait_for(lambda: state.is_file() and read_tensors(state)[1]["counters"]["step"] >= 6, process)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode in (130, -9)
    finished(path)
    for name in ("last.safetensors", "state.safetensors"):
        assert same(tmp_path / "whole" / name, tmp_path / "parted" / name), name
    assert log(tmp_path / "whole") == log(tmp_path / "parted")
