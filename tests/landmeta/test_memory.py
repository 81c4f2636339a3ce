"""Freed memory is kept for the next tensors, where the C library lets us say so; the peak is told."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from landmeta.memory import peak_memory

FAULTS = """
import resource, sys
import torch
from landmeta.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()


def take_and_free():
    torch.ones(2**24)  # 64 MB: 16,384 pages


for _ in range(5):
    take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_tensors_of_the_same_size_take_few_new_pages() -> None:
    assert faults("as it is") > 4 * faults("kept")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_peak_of_a_process_holds_what_it_has_held_and_nothing_of_its_parent() -> None:
    held = np.ones(400 * 2**17)  # 400 MB
    peak = peak_memory()
    assert peak is not None
    assert peak >= held.nbytes / 2**20
    child = "from landmeta.memory import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 200
