"""Tasks as tensors: tiles read from the store in worker processes while the network trains.

    store = TileStore.open(path)
    index = store.index(dataset="sen12ms")
    sampler = TaskSampler(TileTable.from_frame(index).part("train", region_part))
    tiles = TileInputs(store, "sen12ms", index["slot"].to_numpy(), scaling=METEOR)
    for batch in TaskLoader(tiles, sampler, workers=4):
        ...

Worker processes are started anew ("spawn") on every system, so a script that loads with workers keeps its
work under `if __name__ == "__main__":`.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from landmeta.augmentation import draw_symmetries
from landmeta.errors import DataError, LandmetaError
from landmeta.tasks import Task, TaskSource
from landmeta_catalog.tile_inputs import TileInputs

_AUGMENTATION = 4303
"""Keeps the draws of symmetries apart from a sampler's draws of tiles under the same seed."""

_RING_PLACE = 2**26
"""Bytes of images up to which a task travels through the ring: 68 tiles of 15 bands at 128 px."""


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """One task as tensors: `images` (tile, band, y, x) and class `codes` of the support, then of the query.

    `number` is the task's in its source. The properties are views.
    """

    number: int
    task: Task
    images: Float[Tensor, "tile band y x"]
    codes: Int[Tensor, "tile"]

    @property
    def shots(self) -> int:
        """Number of support tiles."""
        return len(self.task.support)

    @property
    def support(self) -> Float[Tensor, "support band y x"]:
        """Support images."""
        return self.images[: self.shots]

    @property
    def query(self) -> Float[Tensor, "query band y x"]:
        """Query images."""
        return self.images[self.shots :]

    @property
    def support_codes(self) -> Int[Tensor, "support"]:
        """Class codes of the support tiles."""
        return self.codes[: self.shots]

    @property
    def query_codes(self) -> Int[Tensor, "query"]:
        """Class codes of the query tiles."""
        return self.codes[self.shots :]

    @property
    def support_targets(self) -> Int[Tensor, "support"]:
        """1 where the support tile is of the task's target class, else 0; ValueError without a target."""
        return torch.from_numpy(self.task.support_targets).to(self.codes.device)

    @property
    def query_targets(self) -> Int[Tensor, "query"]:
        """1 where the query tile is of the task's target class, else 0; ValueError without a target."""
        return torch.from_numpy(self.task.query_targets).to(self.codes.device)

    def to(self, device: torch.device | str) -> TaskBatch:
        """The same on a device; from pinned memory the copy runs beside other work."""
        images, codes = (t.to(device, non_blocking=True) for t in (self.images, self.codes))
        return replace(self, images=images, codes=codes)

    def pin_memory(self) -> TaskBatch:
        """The same in pinned memory, from which copies to a GPU need not wait."""
        return replace(self, images=self.images.pin_memory(), codes=self.codes.pin_memory())


@dataclass(frozen=True, slots=True)
class _Filled:
    """A task whose images a worker has written to the ring."""

    number: int
    task: Task


_Item = TaskBatch | _Filled | LandmetaError | None


class _Tasks(Dataset[_Item]):
    """Tasks by number, as a worker reads them: None after the last, an error as a value.

    An error that is raised in a worker would reach the user as the worker's traceback, without its hint.
    Images go to the place `number` modulo its length of `ring`, memory that all processes share, if the
    task fits: sharing new memory for every task takes longer than reading it.
    """

    def __init__(
        self,
        tiles: TileInputs,
        source: TaskSource,
        symmetries_seed: int | None,
        ring: Float[Tensor, "place tile band y x"] | None,
    ) -> None:
        self._tiles, self._source, self._seed, self._ring = tiles, source, symmetries_seed, ring

    def __getitem__(self, number: int) -> _Item:
        try:
            return self._read(number, self._source.task(number))
        except IndexError:
            return None
        except LandmetaError as error:
            return error

    def _read(self, number: int, task: Task) -> _Item:
        rows = np.concatenate([task.support, task.query])
        symmetries = None
        if self._seed is not None:
            rng = np.random.default_rng((_AUGMENTATION, self._seed, number))
            symmetries = draw_symmetries(len(rows), rng)
        if self._ring is None or len(rows) > self._ring.shape[1]:
            return _batch(number, task, torch.from_numpy(self._tiles.read(rows, symmetries)))
        place = self._ring[number % len(self._ring), : len(rows)]
        self._tiles.read(rows, symmetries, place.numpy())
        return _Filled(number, task)


def _batch(number: int, task: Task, images: Tensor) -> TaskBatch:
    codes = np.concatenate([task.support_codes, task.query_codes]).astype(np.int64)
    return TaskBatch(number, task, images, torch.from_numpy(codes))


class TaskLoader:
    """Hands out the tasks of a source in order, read ahead by worker processes.

    What task `number` looks like depends on the source, the tiles, `seed` and the number alone: neither on
    the number of workers nor on where a run started. To resume a run, keep `position` and start there.

    Args:
        tiles: Where the pixels come from.
        source: Tasks by number, such as a `TaskSampler`.
        start: Number of the first task.
        stop: Number after the last; by default the source's end, if it has one.
        augment: Draw one of the eight symmetries of the square for every tile, support and query alike.
        seed: Of those draws.
        workers: Processes; 0 reads in this one, when asked.
        ahead: Tasks that each worker keeps ready; shared memory holds `workers * ahead + 1` tasks.
        pinned: Whether tensors lie in pinned memory; by default if there is a CUDA device.

    Raises:
        DataError: while iterating, what a worker met (a damaged shard, tiles that give no task) or that one
            was killed.
    """

    def __init__(
        self,
        tiles: TileInputs,
        source: TaskSource,
        *,
        start: int = 0,
        stop: int | None = None,
        augment: bool = False,
        seed: int = 0,
        workers: int = 2,
        ahead: int = 3,
        pinned: bool | None = None,
    ) -> None:
        self.position = start
        """Number of the next task to be handed out."""
        self._tiles, self._source, self._stop = tiles, source, sys.maxsize if stop is None else stop
        self._symmetries_seed = seed if augment else None
        self._workers, self._ahead = workers, ahead
        self._pinned = torch.cuda.is_available() if pinned is None else pinned

    def __iter__(self) -> Iterator[TaskBatch]:
        """Tasks from `position` on."""
        ring = self._ring()
        items = self._items(_Tasks(self._tiles, self._source, self._symmetries_seed, ring))
        while (item := _next(items)) is not None:
            if isinstance(item, LandmetaError):
                raise item
            batch = self._own(item, ring)
            self.position = item.number + 1
            yield batch

    def _ring(self) -> Float[Tensor, "place tile band y x"] | None:
        """Room for the tasks read ahead and the one handed out; None where it is of no use."""
        if not self._workers or self.position >= self._stop:
            return None
        try:
            first = self._source.task(self.position)
        except IndexError:
            return None
        shape = (len(first.support) + len(first.query), *self._tiles.shape)
        if 4 * math.prod(shape) > _RING_PLACE:
            return None
        ring: Tensor = torch.empty(self._workers * self._ahead + 1, *shape).share_memory_()
        return ring

    def _items(self, tasks: _Tasks) -> Iterator[_Item]:
        numbers = range(self.position, self._stop)
        if not self._workers:
            return map(tasks.__getitem__, numbers)
        return iter(
            DataLoader(
                tasks,
                batch_size=None,
                sampler=numbers,
                num_workers=self._workers,
                prefetch_factor=self._ahead,
                multiprocessing_context="spawn",
                worker_init_fn=_end_at_once,
            )
        )

    def _own(self, item: TaskBatch | _Filled, ring: Tensor | None) -> TaskBatch:
        """The batch in memory of its own, pinned if asked for."""
        if isinstance(item, TaskBatch):
            return item.pin_memory() if self._pinned else item
        if ring is None:
            msg = "a task was written to a ring that is not there"
            raise AssertionError(msg)
        place = ring[item.number % len(ring), : len(item.task.support) + len(item.task.query)]
        images = torch.empty(place.shape, pin_memory=self._pinned)
        np.copyto(images.numpy(), place.numpy())  # torch would wake all threads for a copy of 1 ms
        return _batch(item.number, item.task, images)


def _next(items: Iterator[_Item]) -> _Item:
    try:
        return next(items, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        msg = "a process that loads tasks was killed, which is mostly for lack of memory"
        raise DataError(msg, "load with fewer workers; workers=0 reads in the process itself") from error


def _end_at_once(worker: int) -> None:
    """Let a worker end without taking Python down piece by piece.

    A loader that is left before its end leaves workers that are still sending a tensor; ending that thread
    within C++ code aborts the process. A worker has nothing open that would be lost.
    """
    del worker
    atexit.register(os._exit, 0)
