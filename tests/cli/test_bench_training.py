"""The warm start of cells of one norm and seed is taken from its file only if that is whole and theirs."""

from __future__ import annotations

from pathlib import Path

import torch

from landmeta.checkpoints import save_network
from landmeta.networks import build_network
from landmeta_cli.bench_training import _is_stored

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
