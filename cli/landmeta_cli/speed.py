"""The scenes on which `landmeta bench speed` measures: simulated, and chips of the benchmark's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landmeta_cli.scale_bench import scale_run
from landmeta_cli.simulated_labels import CLASSES, PER_CLASS, tile_labels
from landmeta_cli.store_bench import store_run

if TYPE_CHECKING:
    from landmeta.bench.speed_accuracy import AccuracyTask
    from landmeta_cli.console import Progress

_SIDE, _TILE = 1000, 128
_TASK_SIDE = 384  # of the scenes on which accuracy is compared, labelled in the west, scored in the east
_TASK_SEED = 100

PARTS = ("map", "scale", "engines", "store")
"""What `landmeta bench speed` measures."""


def speed_run(
    parts: Sequence[str] | None,
    *,
    repeats: int,
    threads: int,
    data: Path | None,
    tasks: int,
    progress: Progress,
) -> dict[str, Any]:
    """Time ours against plain references.

    Args:
        parts: Some of `PARTS`; all by default.
        repeats: Interleaved repetitions of the timings.
        threads: CPU threads of both sides.
        data: Folder of benchmark data; without it the accuracy on its chips is left out.
        tasks: Accuracy tasks of each source; 0 leaves accuracy out.
        progress: Told what is being done.

    Raises:
        BenchError: A part is unknown, or the folder holds no chip to compare accuracy on.
        DataError: The folder lacks the chips' files.
    """
    from landmeta.errors import BenchError

    for part in parts or ():
        if part not in PARTS:
            msg = f"unknown part {part!r} of the speed benchmark"
            raise BenchError(msg, hint=f"--part takes {', '.join(PARTS)}")
    found: dict[str, Any] = {}
    if not parts or "map" in parts:
        found |= _map_part(repeats, threads, data, tasks, progress)
    if not parts or "scale" in parts:
        found["scale"] = scale_run(repeats=repeats, threads=threads, progress=progress)
    if not parts or "engines" in parts:
        found |= _engine_part(repeats, threads, progress)
    if not parts or "store" in parts:
        found["store"] = store_run(repeats=repeats, seed=0, progress=progress)
    return found


def _map_part(
    repeats: int, threads: int, data: Path | None, tasks: int, progress: Progress
) -> dict[str, Any]:
    """Adapting and mapping, the memory of mapping, and the accuracy at which they are fast."""
    chips = _chips(data, tasks)  # before the timings, which take minutes
    from landmeta.bench.speed import run_speed
    from landmeta.raster import imagery_of_array
    from landmeta_catalog.simulate import BANDS, SCALE, simulate_scene

    scene = simulate_scene(0, _SIDE, per_class=0, nodata_corner=False)
    labels = tile_labels(scene, _TILE)
    imagery = imagery_of_array(scene.image.astype(np.float32) * np.float32(SCALE), BANDS, scene.grid)
    found = run_speed(imagery, labels, repeats=repeats, threads=threads, progress=progress)
    return {**found, **_accuracy(chips, tasks, progress)}


def _chips(data: Path | None, tasks: int) -> list[AccuracyTask]:
    """The tasks on real chips; none without a folder."""
    from landmeta.bench.speed_accuracy import hls_tasks
    from landmeta.errors import BenchError

    if data is None or not tasks:
        return []
    found = list(hls_tasks(data, tasks))
    if not found:
        msg = f"{data} holds no test cluster of hls-5px to compare accuracy on"
        raise BenchError(msg, hint="leave out --data, or complete the folder")
    return found


def _engine_part(repeats: int, threads: int, progress: Progress) -> dict[str, Any]:
    """Engines of the outer gradient, on the GPU too where there is one."""
    import torch

    from landmeta.bench.engine_speed import CPU_SETTINGS, CUDA_SETTINGS, FULL_WIDTH, engine_rows, ensemble_row

    cuda = torch.cuda.is_available()
    settings = [*CPU_SETTINGS, *(CUDA_SETTINGS if cuda else ())]
    rows = engine_rows(settings, repeats=repeats, threads=threads, progress=progress)
    progress("full width", 0, 0)
    rows += engine_rows([FULL_WIDTH], repeats=1, threads=threads, engines=("loop",))
    return {
        "engines": rows,
        "engine_gpu": torch.cuda.get_device_name() if cuda else "no GPU here: the CPU part alone",
        "ensembles": [ensemble_row(device=device) for device in ("cpu", *(("cuda",) if cuda else ()))],
    }


def _accuracy(chips: Sequence[AccuracyTask], tasks: int, progress: Progress) -> dict[str, Any]:
    from landmeta.bench.speed_accuracy import TILE, compare

    if not tasks:
        return {"accuracy": [], "accuracy_sample": "left out (--tasks 0)"}
    rows = compare("simulated", simulated_tasks(tasks), progress)
    sample = (
        f"{tasks} simulated scenes of {_TASK_SIDE} px with {CLASSES} classes x {PER_CLASS} tiles of "
        f"{TILE} px in the west, scored in the east; "
    )
    if not chips:
        return {"accuracy": rows, "accuracy_sample": sample + "hls_worldcover left out: no --data"}
    rows += compare("hls_worldcover", chips, progress)
    sample += (
        f"the first {len(chips)} test clusters of hls-5px, first draw; the reference takes the {TILE} px "
        "around a label for a tile of its class; 150 pixels a class are scored"
    )
    return {"accuracy": rows, "accuracy_sample": sample}


def simulated_tasks(count: int) -> Iterator[AccuracyTask]:
    """Scenes labelled in the west and scored on pixels in the east, a tile's width between."""
    from landmeta.bench.speed_accuracy import TILE, make_task
    from landmeta.raster import imagery_of_array
    from landmeta_catalog.simulate import BANDS, SCALE, simulate_scene

    for i in range(count):
        scene = simulate_scene(_TASK_SEED + i, _TASK_SIDE, shift=1.0, per_class=0, nodata_corner=False)
        labels = tile_labels(scene, TILE, width=_TASK_SIDE // 2)
        imagery = imagery_of_array(scene.image.astype(np.float32) * np.float32(SCALE), BANDS, scene.grid)
        east = np.flatnonzero(np.arange(scene.truth.size) % _TASK_SIDE >= _TASK_SIDE // 2 + TILE)
        yield make_task(f"scene {i}", imagery, labels, east, scene.truth.ravel()[east].astype(np.int64))
