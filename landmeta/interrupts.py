"""Ctrl-C and the processes that this one starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Keep Ctrl-C, which goes to all processes of a terminal, from those started inside; here it waits.

    It is for this process, which ends its workers itself. A thread that is started inside hands its signal
    mask on to every process that it starts, also to a worker that takes a lost one's place later.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Started together with a worker, it would lift the mask.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
