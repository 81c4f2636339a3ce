"""The processes that share the tasks of a training run: one, or as many as `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from landmeta.errors import TrainingError

_Key = TypeVar("_Key")

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: the first may be simulating an archive."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process is number `rank` of `world`; what it sums with the others is the same in all of them."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of `count` things are this process's: every `world`-th."""
        return range(self.rank, count, self.world)

    def sum(self, tensors: Mapping[_Key, Tensor]) -> dict[_Key, Tensor]:
        """The tensors summed over all processes, in one message.

        Raises:
            TrainingError: Another process is gone.
        """
        if self.world == 1 or not tensors:
            return dict(tensors)
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])
        with _told():
            dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors.values()])
        return {
            name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)
        }

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank; they travel by pickle, between our own processes only.

        Raises:
            TrainingError: Another process is gone.
        """
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with _told():
            dist.all_gather_object(values, value)
        return values


ALONE = Processes()
"""A run of one process."""


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line what a backend reports when a peer has died."""
    try:
        yield
    except (RuntimeError, dist.DistBackendError) as fault:
        msg = f"another process of the run is gone ({str(fault).splitlines()[0]})"
        raise TrainingError(
            msg, "start the same command again: it goes on from the last saved state"
        ) from fault


def is_first() -> bool:
    """Whether this process talks to the user: the only one, or the first that `torchrun` started."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined_processes(device: str) -> Iterator[Processes]:
    """The processes that `torchrun` started, joined for the time of the block; else this one alone.

    Args:
        device: `cuda` or `cpu`, which decides the backend: NCCL or Gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_available():
        yield ALONE
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Its functions take the group as a default when it is first imported, as `torch.func` does. Later than
    # this they would keep the group past its end, and its threads abort the process now and then on leaving.
    from torch.distributed.nn import functional  # noqa: F401

    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    yield Processes(dist.get_rank(), dist.get_world_size())
    with _told():
        dist.barrier()  # one that leaves while another still talks to it makes that one abort
    dist.destroy_process_group()  # after a failure it would wait for peers that may be gone
