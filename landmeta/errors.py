"""What can go wrong on the user's side, each with what was found and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class LandmetaError(Exception):
    """Base of every error a user can cause; `hint` names the argument or command that mends it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ImageryError(LandmetaError, ValueError):
    """Imagery that cannot be read or understood: file, CRS, bands or scale."""


class LabelError(LandmetaError, ValueError):
    """Labels that cannot train a model: none inside the imagery, one class only, too few."""


class RegionError(LandmetaError, ValueError):
    """A region that is unknown, has no imagery or misses the imagery given."""


class OutputError(LandmetaError, OSError):
    """A run folder that cannot be written or must not be overwritten."""


class CheckpointError(LandmetaError, ValueError):
    """A checkpoint that is damaged, of another format or does not fit the imagery."""


class DataError(LandmetaError, ValueError):
    """A benchmark data folder that lacks what the suite needs."""


class BenchError(LandmetaError, ValueError):
    """A suite that is unknown or cannot be run, or stored results that do not fit the run."""


class NetworkError(LandmetaError, ValueError):
    """Settings of a network or norm that cannot be built, or images that do not fit the network."""


class ConfigError(LandmetaError, ValueError):
    """Settings of a training run that are wrong: `faults` holds all that is, one line each."""

    def __init__(self, path: Path, faults: Sequence[str], hint: str = "") -> None:
        super().__init__(f"{path}: {'; '.join(faults)}", hint or "docs/guide/training.md explains every key")
        self.path = path
        self.faults = tuple(faults)


class TrainingError(LandmetaError, ArithmeticError):
    """Training that cannot go on: a loss that is no number, a process that is gone."""


class DeviceError(LandmetaError, RuntimeError):
    """A device that was asked for and is not there."""


class ClusterError(LandmetaError, RuntimeError):
    """A Dask cluster that does not answer, has no workers, or loses them."""


class Interrupted(LandmetaError):
    """Ctrl-C in work that can go on later; `hint` tells how."""
