"""Engine `threads`: tasks side by side on a CPU, each on a thread of its own.

Several threads that share one operation on small maps wait for each other at every one of thousands of
operations; threads that have a task each never do.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from landmeta.errors import NetworkError
from landmeta.learning.engines.one_by_one import loop
from landmeta.learning.engines.run import Result, Run, added
from landmeta.learning.learner import Learner, TaskTensors
from landmeta.norms import norm_layers


def side_by_side(run: Run, tasks: Sequence[TaskTensors]) -> Result:
    """As many tasks at a time as torch has CPU threads; the result does not depend on how many those are."""
    network, threads = run.learner.network, torch.get_num_threads()
    if tasks[0].support.images.is_cuda:
        msg = "engine 'threads' parts the threads of a CPU among tasks, found tasks on a GPU"
        raise NetworkError(msg, "choose engine = 'vmap' there")
    if any(layer.shares_state for layer in norm_layers(network)):
        msg = "engine 'threads' takes tasks at once, but each starts from the state the one before left"
        raise NetworkError(msg, "choose engine = 'loop', or norm_options = {state = 'per_task'}")
    workers = min(threads, len(tasks))
    learners: SimpleQueue[Learner] = SimpleQueue()
    for _ in range(workers):
        learners.put(replace(run.learner, network=_twin(network)))
    task_gradient = partial(_task_gradient, run, learners, _autocast_type())
    losses, states = [], []
    total: list[Tensor] = []
    try:
        for loss, gradients, state in _pool(workers).map(task_gradient, tasks):
            total = added(total, gradients)
            losses.append(loss)
            states.append(state)
    finally:
        torch.set_num_threads(threads)  # the workers' setting is also that of threads to come
    return torch.cat(losses), [value / len(tasks) for value in total], run.kept(states)


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that compute alone; kept, as the first operations of a new thread are slow."""
    return ThreadPoolExecutor(workers, "landmeta-task", initializer=partial(torch.set_num_threads, 1))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not follow into the child


def _twin(network: nn.Module) -> nn.Module:
    """The same tensors in modules of their own: a call with other parameters puts them into its modules."""
    twin = copy.copy(network)
    twin._parameters, twin._buffers = dict(network._parameters), dict(network._buffers)
    twin._modules = {name: child and _twin(child) for name, child in network._modules.items()}
    return twin


def _autocast_type() -> torch.dtype | None:
    """Low precision of this thread, which others do not take over."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


def _task_gradient(
    run: Run, learners: SimpleQueue[Learner], low: torch.dtype | None, task: TaskTensors
) -> Result:
    learner = learners.get()
    try:
        with torch.autocast("cpu", low or torch.bfloat16, enabled=low is not None):
            return loop(replace(run, learner=learner), [task])
    finally:
        learners.put(learner)
