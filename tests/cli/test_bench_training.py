"""Trainings of cells: a warm start is taken from its file only if that is whole and theirs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from landmeta.bench.cells import Cell
from landmeta.bench.presets import PRESETS
from landmeta.checkpoints import save_network
from landmeta.errors import CheckpointError, ConfigError, LandmetaError
from landmeta.networks import build_network
from landmeta.run_state import read_notes
from landmeta.train_config import TrainConfig, parse_config
from landmeta_cli.bench_training import _is_stored, train_cell
from landmeta_cli.train_workflow import TrainResult

SETTINGS = {"name": "resnet12", "bands": ["B02"], "widths": [4, 4, 4, 4], "norm": "cbn"}
TRAINING = {"joint_steps": 2, "seed": 0, "tiles": "abc"}


def test_a_warm_start_of_other_settings_or_tiles_is_trained_anew(tmp_path: Path) -> None:
    path = tmp_path / "warm.safetensors"
    assert not _is_stored(path, SETTINGS, TRAINING)
    network = build_network(SETTINGS, generator=torch.Generator().manual_seed(0))
    save_network(network, path, SETTINGS, {"training": {**TRAINING, "last_loss": 1.0}})
    assert _is_stored(path, SETTINGS, TRAINING)
    assert not _is_stored(path, {**SETTINGS, "norm": "in"}, TRAINING)
    assert not _is_stored(path, SETTINGS, {**TRAINING, "tiles": "other"})


def test_a_damaged_warm_start_is_trained_anew(tmp_path: Path) -> None:
    path = tmp_path / "warm.safetensors"
    save_network(build_network(SETTINGS), path, SETTINGS, {"training": TRAINING})
    whole = path.read_bytes()
    for damaged in (whole[:50], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        assert not _is_stored(path, SETTINGS, TRAINING)


def _config(tmp_path: Path) -> TrainConfig:
    return parse_config({"out": str(tmp_path / "train" / "cell"), "data": {"store": "s"}})


@pytest.mark.parametrize("kind", ["settings", "damaged", "log"])
def test_a_training_that_cannot_go_on_is_mended_by_removing_it_as_bench_run_has_no_restart(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trains(config: TrainConfig, **how: Any) -> TrainResult:
        if kind == "settings":
            raise ConfigError(config.out, ["inner.rate is 0.2, it was 0.1"], "--restart to start anew")
        if kind == "damaged":
            read_notes(config.out / "state.safetensors")
        return TrainResult(config.out, {})

    monkeypatch.setattr("landmeta_cli.train_workflow.train_run", trains)
    config = _config(tmp_path)
    config.out.mkdir(parents=True)
    (config.out / "state.safetensors").write_bytes(b"cut")
    data: Any = SimpleNamespace(train_config=lambda *_, **__: config)
    with pytest.raises(LandmetaError) as caught:
        train_cell(Cell("maml", "in", "here", 0), PRESETS["paper"], data, tmp_path, lambda *_: None)
    assert "--restart" not in caught.value.hint
    assert f"remove {config.out}" in caught.value.hint


def test_a_damaged_state_names_the_way_to_start_anew(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        read_notes(tmp_path / "state.safetensors")
    assert "--restart" in caught.value.hint
