"""How this process takes memory from the system, and how much it took."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
_KEPT = 512 * 2**20  # bytes of freed memory that a process may hold on to
_LARGEST = 2**30  # bytes of a block that is taken from memory held


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensors instead of giving it back at once.

    glibc maps every block above some size anew, and the system zeroes its pages at first touch: for maps of a
    few MB that takes longer than computing on them. At most 512 MB stay held. Returns whether the library
    took the settings; other C libraries do without.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: _KEPT}
    return all(mallopt(what, value) == 1 for what, value in settings.items())


def peak_memory() -> float | None:
    """Peak resident memory of this process since its start, MB; None where the system does not tell it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    if peaks:
        return round(peaks[0], 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Only there: on Linux this figure starts from the peak of the parent process.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)
