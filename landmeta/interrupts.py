"""Ctrl-C, the processes that this one starts, and the moments in which Python would lose it."""

from __future__ import annotations

import signal
import sys
import threading
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


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise a KeyboardInterrupt again where it was lost.

    Python raises it wherever the main thread happens to be. In a finalizer or a callback of the garbage
    collector, as Dask has one, it is printed and forgotten, and the work goes on.
    """
    before, waiting = sys.unraisablehook, list[threading.Timer]()

    def again(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            before(lost)
            return
        waiting.append(threading.Timer(0.01, _interrupt))  # when the main thread is out of there
        waiting[-1].daemon = True
        waiting[-1].start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in waiting:
            timer.cancel()


def _interrupt() -> None:
    if hasattr(signal, "pthread_kill"):
        # A real signal: it wakes a main thread that waits for a lock.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # Windows
        signal.raise_signal(signal.SIGINT)
