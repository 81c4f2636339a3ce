"""Ctrl-C is not lost where Python cannot raise it."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from landmeta.interrupts import interrupts_kept


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InterruptedAtItsEnd:
    """Ctrl-C comes while it is finalized."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def kept(loses: Callable[[], object]) -> None:
    """Do what loses a Ctrl-C, then work on for as long as it is lost."""
    with interrupts_kept():
        loses()
        time.sleep(30)


def test_ctrl_c_in_a_finalizer_is_raised_a_moment_later(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        kept(InterruptedAtItsEnd)
    assert time.monotonic() - began < 10
    assert capsys.readouterr().err == ""


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_raised_a_moment_later() -> None:
    def interrupted(phase: str, _info: dict[str, int]) -> None:
        if phase == "stop":
            gc.callbacks.remove(interrupted)
            signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept(gc.collect)


def test_other_failures_of_finalizers_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def __del__(self) -> None:
            msg = "no end"
            raise ValueError(msg)

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with interrupts_kept():
        Fails()
    assert told == [ValueError]


def test_work_that_is_done_is_not_interrupted_afterwards() -> None:
    with interrupts_kept():
        InterruptedAtItsEnd()
    time.sleep(0.1)
