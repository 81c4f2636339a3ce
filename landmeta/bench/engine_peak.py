"""Take one outer step and print the memory it took at its peak, MB: run by `bench.engine_speed`.

`python -m landmeta.bench.engine_peak REQUEST`, where the request is JSON: engine, threads, setting.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import torch

from landmeta.bench.engine_speed import OuterStep, Setting
from landmeta.memory import keep_freed_memory, peak_memory


def main(request: str) -> None:
    """Warm up on a small step, whose peak is no more than what imports took, then measure the real one."""
    asked = json.loads(request)
    keep_freed_memory()
    torch.set_num_threads(asked["threads"])
    setting = Setting(**asked["setting"])
    OuterStep(replace(setting, tasks=1, images=2, side=16))(asked["engine"])
    step = OuterStep(setting)
    before = peak_memory()
    step(asked["engine"])
    after = peak_memory()
    sys.stdout.write("null" if before is None or after is None else str(round(after - before, 1)))


if __name__ == "__main__":
    main(*sys.argv[1:])
