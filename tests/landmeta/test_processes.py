"""Processes that share a run: what is left of them when they part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = """
import os
import sys

from landmeta.processes import joined_processes

with joined_processes("cpu") as processes:
    import torch.func  # as training does, once the processes are joined
    import torch.optim

    torch.func.grad(lambda x: (x * x).sum())(torch.ones(3))
    torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    ranks = processes.gather(processes.rank)
names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
sys.stdout.write(f"{ranks} {[name for name in names if 'gloo' in name]}\\n")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts threads in /proc")
def test_processes_that_part_leave_no_thread_that_could_abort_them(tmp_path: Path) -> None:
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, *launcher, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert sorted(found.stdout.split("\n")) == ["", *["[0, 1] []"] * 2]
