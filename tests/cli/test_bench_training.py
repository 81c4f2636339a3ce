"""Trainings of cells: a warm start is taken from its file only if that is whole and theirs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from landmeta.bench.cells import Cell
from landmeta.bench.presets import PRESETS
from landmeta.checkpoints import save_network
from landmeta.errors import ConfigError
from landmeta.networks import build_network
from landmeta.train_config import TrainConfig, parse_config
from landmeta_cli.bench_training import _is_stored, train_cell

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


def test_a_training_of_other_settings_is_mended_by_removing_it_as_bench_run_has_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(config: TrainConfig, **how: Any) -> NoReturn:
        raise ConfigError(config.out, ["inner.rate is 0.2, it was 0.1"], "--restart to start anew")

    monkeypatch.setattr("landmeta_cli.train_workflow.train_run", refuses)
    config = parse_config({"out": str(tmp_path / "train" / "cell"), "data": {"store": "s"}})
    data: Any = SimpleNamespace(train_config=lambda *_, **__: config)
    with pytest.raises(ConfigError) as caught:
        train_cell(Cell("maml", "in", "here", 0), PRESETS["paper"], data, tmp_path, lambda *_: None)
    assert "--restart" not in caught.value.hint
    assert f"remove {config.out}" in caught.value.hint
