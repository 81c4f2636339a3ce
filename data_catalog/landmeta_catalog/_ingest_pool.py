"""Jobs run in this process or spread over a local Dask cluster, with no more in flight than memory allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from landmeta.errors import DataError
from landmeta.interrupts import interrupts_held_back

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE_S = 60.0
"""After which it is asked whether there are workers at all."""
_ALONE = "the same command with --workers 1 goes on from there"

Job = TypeVar("Job")
Result = TypeVar("Result")

_QUEUED = 2
"""Jobs a worker: one that it does and one that waits, so that no worker idles between two."""


class Pool(Protocol):
    """Does jobs; results come in the order in which they are ready, an exception as it was raised."""

    def __call__(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Results of `work`, a function of a module, for every job; both must be picklable."""
        ...


@contextmanager
def pool(workers: int) -> Iterator[Pool]:
    """A pool of `workers` processes, started with its first job; 1 stays in this process."""
    with ExitStack() as stack:
        clients: list[Client] = []

        def spread(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
            if workers == 1:
                yield from map(work, jobs)
                return
            if not clients:
                clients.append(stack.enter_context(_cluster(workers)))
            yield from _spread(clients[0], work, jobs, _QUEUED * workers)

        yield spread


@contextmanager
def _cluster(workers: int) -> Iterator[Client]:
    """Client of a quiet cluster of processes on this machine."""
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        # Blocks of jobs are small; the limits of Dask's memory watcher would only pause workers. One that is
        # silent for minutes, on a laptop that slept or a busy machine, is not dead; a dead one is seen.
        settings = {"distributed.worker.memory.terminate": False, "distributed.scheduler.worker-ttl": None}
        stack.enter_context(dask.config.set(settings))
        with interrupts_held_back():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # any free port: the usual one may be taken
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        yield client


def _spread(
    client: Client, work: Callable[[Job], Result], jobs: Iterable[Job], in_flight: int
) -> Iterator[Result]:
    from distributed import KilledWorker, wait

    waiting = iter(jobs)
    # Not pure: Dask must not hash the arguments, nor answer a repeated job from memory.
    running = {client.submit(work, job, pure=False) for job in islice(waiting, in_flight)}
    while running:
        try:
            done = wait(running, timeout=_PATIENCE_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            if client.scheduler_info()["workers"]:
                continue
            msg = "the worker processes are gone: were they killed, or out of memory?"
            raise DataError(msg, _ALONE) from None
        for future in done:
            try:
                result = future.result()
            except KilledWorker as error:
                msg = "a worker process died several times on the same job: was it out of memory?"
                raise DataError(msg, _ALONE) from error
            running.remove(future)
            future.release()
            running.update(client.submit(work, job, pure=False) for job in islice(waiting, 1))
            yield result
