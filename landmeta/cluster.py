"""Mapping on a Dask cluster: the model goes to every worker once, finished blocks come back one by one."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from landmeta.blocks.folder import BlockFolder
from landmeta.blocks.plan import BlockWindow
from landmeta.classmap import MapBlock
from landmeta.errors import ClusterError
from landmeta.interrupts import interrupts_held_back
from landmeta.memory import keep_freed_memory
from landmeta.prediction import MappingModel, map_window, read_window, windows_of
from landmeta.raster import Imagery

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 10
"""Seconds that a scheduler may take to answer."""

_LOSSES = 5
"""Times that a scheduler may lose blocks in flight together with the model, as when a worker dies."""

_QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""Settings of local workers. Without a dashboard nobody sees what they sample of themselves 100 times a
second; where every core has a worker, that and the ticks of the scheduler take time from mapping."""

_KEPT = "finished blocks are kept for --resume"

_AHEAD = 2
"""Blocks in flight for each thread of the cluster: bounds the memory here and there."""


@contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at an address such as tcp://host:8786, or of a local cluster while it lasts.

    Args:
        scheduler: Address; None starts `workers` processes on this machine.
        workers: Number of local processes.

    Raises:
        ClusterError: No scheduler answers, or it has no workers.
    """
    with _local_client(workers) if scheduler is None else _remote_client(scheduler) as client:
        yield client


@contextmanager
def _local_client(workers: int) -> Iterator[Client]:
    """A client of so many new processes on this machine, ended with it."""
    import dask
    from distributed import Client, LocalCluster

    free = {"dashboard_address": ":0"}  # else the port of any other Dask on this machine, with a warning
    one_core = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
    quiet = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with dask.config.set(_QUIET), _environment_kept():
        with interrupts_held_back():
            cluster = LocalCluster(scheduler_kwargs=free, **quiet, **one_core)
        with cluster, Client(cluster) as client:
            yield client


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo that Dask leaves OMP_NUM_THREADS=1, meant for its workers, to whatever is started afterwards."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Let Dask's own log not stand beside the one line that says what is wrong."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    handlers = {handler: handler.level for name in names for handler in logging.getLogger(name).handlers}
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)


@contextmanager
def _remote_client(scheduler: str) -> Iterator[Client]:
    """A client of the scheduler at an address, closed at the end."""
    import distributed  # noqa: F401 - sets up the log that is then kept quiet

    with _quiet_logs(), _client_of(scheduler) as client:
        yield client


def _client_of(scheduler: str) -> Client:
    """A client of a scheduler that answers and has workers."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        msg = f"no Dask scheduler answers at {scheduler}: {str(error) or type(error).__name__}"
        hint = "start one with: dask scheduler, and workers with: dask worker ADDRESS"
        raise ClusterError(msg, hint) from error
    if not client.scheduler_info()["workers"]:
        client.close()
        msg = f"the Dask scheduler at {scheduler} has no workers"
        raise ClusterError(msg, f"start some: dask worker {scheduler} --nthreads 1")
    return client


def map_on_cluster(
    model: MappingModel,
    imagery: Imagery,
    client: Client,
    folder: BlockFolder,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    block: int | None = None,
    wanted: Callable[[BlockWindow], bool] | None = None,
) -> None:
    """Map the blocks that `folder` lacks on the workers of a cluster, those that are not `wanted` left out.

    Workers read the imagery themselves, by the same paths as here. Blocks of a worker that is lost are mapped
    by others. The blocks are those of `map_blocks`, which makes the map from the folder.

    Raises:
        ClusterError: Workers die again and again, or none is left.
        ImageryError: A worker cannot read a file.
        OutputError: `folder` cannot be written.
    """
    windows = windows_of(model, imagery, block)
    windows = [w for w in windows if wanted is None or wanted(w)]
    missing = [w for w in windows if w.corner not in folder]
    if not missing:
        return
    content = (model, model.prepare(), imagery)
    for done, (window, found) in enumerate(_as_mapped(client, content, missing)):
        folder.put(window.corner, found)
        if progress is not None:
            progress("map", len(windows) - len(missing) + done + 1, len(windows))


@contextmanager
def _losses_told(client: Client) -> Iterator[None]:
    """Turn what Dask raises when it loses scheduler or workers into a ClusterError."""
    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except KilledWorker as error:
        msg = (
            f"the workers that mapped a block died {error.allowed_failures + 1} times, perhaps out of memory"
        )
        raise ClusterError(msg, f"give them 2 GB each; {_KEPT}") from error
    except (OSError, CancelledError, asyncio.CancelledError, ClosedClientError) as error:
        # A lost connection is an OSError too, which elsewhere means a file that cannot be written.
        if isinstance(error, TimeoutError) and client.status == "running":
            msg, lost = "the Dask cluster has no worker left", "workers"
        else:
            msg, lost = f"the Dask scheduler is lost: {str(error) or type(error).__name__}", "scheduler"
        raise ClusterError(msg, f"look at the log of the {lost}; {_KEPT}") from error


def _as_mapped(
    client: Client, content: tuple[MappingModel, Any, Imagery], windows: Sequence[BlockWindow]
) -> Iterator[tuple[BlockWindow, MapBlock | None]]:
    """Windows with their blocks in the order in which the workers finish them."""
    from distributed import as_completed
    from distributed.client import FutureCancelledError

    waiting, losses = iter(windows), 0
    futures: dict[Future[Any], BlockWindow] = {}

    def submit(window: BlockWindow) -> Future[Any]:
        future = client.submit(_map_there, shared, window, pure=False)
        futures[future] = window
        return future

    # Around nothing but the work of Dask: what the caller does with a block is outside of a generator.
    with _losses_told(client):
        shared = client.scatter(content, broadcast=True)
        threads = max(sum(client.nthreads().values()), 1)
        running = as_completed([submit(window) for window in islice(waiting, _AHEAD * threads)])
        for future in running:
            try:
                found = future.result()
            except FutureCancelledError as error:
                # With a worker the scheduler may lose the only copy of the model it knows, and all that
                # needs it.
                if (losses := losses + 1) > _LOSSES * threads:
                    msg = "the Dask scheduler lost the model again and again"
                    raise ClusterError(msg, f"look at its log; {_KEPT}") from error
                shared = client.scatter(content, broadcast=True)
                running.add(submit(futures.pop(future)))
                continue
            yield futures.pop(future), found
            if (window := next(waiting, None)) is not None:
                running.add(submit(window))


def _map_there(shared: tuple[MappingModel, Any, Imagery], window: BlockWindow) -> MapBlock | None:
    """The block of a window, on a worker."""
    import torch

    keep_freed_memory()
    model, state, imagery = shared
    # A worker's thread is a core of its own; torch would start as many threads as the machine has cores.
    torch.set_num_threads(1)
    return map_window(model, state, read_window(imagery, window), window)
