"""The state of a training run on disk, from which it goes on as if it had never stopped.

Every random draw of a run is numbered (first weights by the seed; tasks, flips and turns by the seed and the
number of the task), so that the number of steps taken stands for the state of all generators.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from landmeta.checkpoints import read_tensors, write_tensors
from landmeta.errors import CheckpointError
from landmeta.metatraining import Training

STATE_FORMAT = "landmeta-run-1"

_COUNTERS = tuple(f.name for f in fields(Training) if f.name not in ("network", "learned", "optimizer"))


def save_training(training: Training, path: Path, notes: dict[str, Any]) -> None:
    """Write all that `training` holds, and `notes` as JSON; the file is replaced at once."""
    tensors = {f"network.{name}": tensor for name, tensor in training.network.state_dict().items()}
    tensors |= {f"learned.{name}": tensor for name, tensor in training.learned.items()}
    for place, kept in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{place}.{name}": torch.as_tensor(value) for name, value in kept.items()}
    counters = {name: getattr(training, name) for name in _COUNTERS}
    write_tensors(path, tensors, {"format": STATE_FORMAT, "counters": counters, **notes})


def read_notes(path: Path) -> dict[str, Any]:
    """The notes of a saved state; raises CheckpointError where it is damaged or foreign."""
    return _read(path)[1]


def load_training(training: Training, path: Path) -> None:
    """Bring `training`, made with the same settings, to the saved state.

    Raises:
        CheckpointError: The file is damaged, foreign, or of other settings.
    """
    tensors, header = _read(path)
    parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "learned": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    try:
        training.network.load_state_dict(parts["network"])
        with torch.no_grad():
            for name, held in training.learned.items():
                held.copy_(parts["learned"][name])
    except (RuntimeError, KeyError) as fault:
        msg = f"{path} is of another network or algorithm ({str(fault).splitlines()[-1].strip()})"
        raise CheckpointError(
            msg, "go on with the settings it was made with, or choose another out"
        ) from fault
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        place, _, key = name.partition(".")
        state.setdefault(int(place), {})[key] = tensor
    groups = training.optimizer.state_dict()["param_groups"]
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})
    for name, value in header["counters"].items():
        setattr(training, name, value)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        tensors, header = read_tensors(path, as_stored=True)
    except CheckpointError as error:
        error.hint = "--restart starts anew; or choose another out"
        raise
    if header["format"] != STATE_FORMAT:
        msg = f"{path} has format {header['format']!r}, expected {STATE_FORMAT!r}"
        raise CheckpointError(msg, "choose another out, or remove the file to start anew")
    return tensors, header
