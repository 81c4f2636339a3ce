"""The part of `landmeta bench speed` that is about large rasters: memory, time by area, workers, stages."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landmeta.devices import choose_device
from landmeta_cli.console import table

if TYPE_CHECKING:
    from landmeta.ensemble import Ensemble
    from landmeta.prediction import MappingModel
    from landmeta.published import PublishedEnsemble
    from landmeta.raster import Imagery
    from landmeta_catalog.simulate import Scene
    from landmeta_cli.console import Progress

_SIDE = 1000
_SIDES = (1000, 2000, 3000)
"""Rasters full of data, the scene repeated."""
_TILE_SIDE = 10_980
"""Of a Sentinel-2 tile. For memory the raster is sparse, with data in one corner; a GPU maps it full, on 8 GB
of temporary disk."""
_WORKERS_SIDE = 2048
_OVERLAPPED_S = 2.0
"""Goal: seconds a million pixels of reading, encoding and writing together."""


def scale_run(*, repeats: int, threads: int, progress: Progress) -> dict[str, Any]:
    """Measure mapping by size of raster, by workers, and what it does besides computing.

    Args:
        repeats: Repetitions of the timings with workers.
        threads: CPU threads of a process that maps alone.
        progress: Told what is being done.
    """
    import torch

    from landmeta.adaptation import adapt_region
    from landmeta.bench.scale import LINEAR, PEAK_MB, worker_row
    from landmeta.raster import imagery_of_array
    from landmeta_catalog.simulate import BANDS, SCALE, simulate_scene
    from landmeta_cli.simulated_labels import tile_labels

    scene = simulate_scene(0, _SIDE, per_class=0, nodata_corner=False)
    imagery = imagery_of_array(scene.image.astype(np.float32) * np.float32(SCALE), BANDS, scene.grid)
    ensemble = adapt_region(imagery, tile_labels(scene, 128)).ensemble
    with tempfile.TemporaryDirectory() as folder:
        rows = _size_rows(ensemble, scene, Path(folder), threads, progress)
        progress("stages", 0, 0)
        stages = _stages(ensemble, imagery, Path(folder))
        gpu = None
        if torch.cuda.is_available():
            progress("gpu", 0, 0)
            gpu = device_part(ensemble, scene, imagery, Path(folder), choose_device("cuda"))
        progress("workers", 0, 0)
        workers = worker_row(ensemble, _opened(scene, Path(folder), _WORKERS_SIDE), repeats=repeats)
    dense = [row for row in rows if row["data_share"] == 1]
    linear = round(dense[-1]["s_per_megapixel"] / dense[0]["s_per_megapixel"], 2)
    peaks = [row["peak_mb"] for row in rows if row["peak_mb"] is not None]
    return {
        "rows": rows,
        "linear": {"ratio": linear, "goal": LINEAR, "reached": linear <= LINEAR},
        "peak_mb": {"largest": max(peaks, default=None), "goal": PEAK_MB},
        "stages": stages,
        "workers": workers,
        "gpu": gpu,
        "hardware": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": threads,
        },
    }


def _size_rows(
    ensemble: Ensemble | PublishedEnsemble, scene: Scene, folder: Path, threads: int, progress: Progress
) -> list[dict[str, Any]]:
    from landmeta.bench.scale import RasterFile, mapped_alone
    from landmeta_catalog.simulate import BANDS, SCALE

    rows = []
    for number, (side, filled) in enumerate([*((s, s) for s in _SIDES), (_TILE_SIDE, _SIDE)]):
        progress("sizes", number, len(_SIDES) + 1)
        path = _written(scene, folder / "scene.tif", side, filled)
        found = mapped_alone(ensemble, RasterFile(path, BANDS, SCALE), threads=threads)
        path.unlink()
        megapixels = filled**2 / 1e6
        seconds = found["seconds"] or 0.0
        rows.append(
            {
                "side": side,
                "data_share": round(filled**2 / side**2, 4),
                **found,
                "s_per_megapixel": round(seconds / megapixels, 2),
            }
        )
    return rows


def _stages(ensemble: MappingModel, imagery: Imagery, folder: Path) -> dict[str, Any]:
    """Seconds a million pixels of what is not computing, each stage alone."""
    from landmeta.bench.scale import stage_seconds
    from landmeta.prediction import map_blocks
    from landmeta_maps.writer import write_map

    megapixels = float(np.prod(imagery.shape)) / 1e6
    stages = dict(stage_seconds(ensemble, imagery))
    blocks = list(map_blocks(ensemble, imagery))
    out = folder / "map"
    out.mkdir()
    begun = time.perf_counter()
    write_map(blocks, imagery.grid, ensemble.legend, out)
    stages["write"] = time.perf_counter() - begun
    shares = {name: round(seconds / megapixels, 2) for name, seconds in stages.items()}
    total = round(sum(shares.values()), 2)
    return {**shares, "total": total, "goal": _OVERLAPPED_S, "reached": total <= _OVERLAPPED_S}


def device_part(
    ensemble: Ensemble | PublishedEnsemble, scene: Scene, imagery: Imagery, folder: Path, device: str
) -> dict[str, Any]:
    """The share of a device's rate that mapping reaches, and seconds for a full tile, files written."""
    import torch

    from landmeta.bench.scale import device_row
    from landmeta.prediction import map_blocks
    from landmeta_maps.writer import write_map

    found: dict[str, Any] = dict(device_row(ensemble, imagery, device))
    tile, model = _opened(scene, folder, _TILE_SIDE), ensemble.to(device)
    out = folder / "tile"
    out.mkdir()
    begun = time.perf_counter()
    write_map(map_blocks(model, tile), tile.grid, model.legend, out)
    found["tile"] = {"side": _TILE_SIDE, "seconds": round(time.perf_counter() - begun, 1)}
    found["device"] = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    return found


def _opened(scene: Scene, folder: Path, side: int) -> Imagery:
    from landmeta.raster import open_imagery
    from landmeta_catalog.simulate import BANDS, SCALE

    path = _written(scene, folder / f"scene-{side}.tif", side, side)
    return open_imagery([path], bands=",".join(BANDS), scale=SCALE)


def _written(scene: Scene, path: Path, side: int, filled: int) -> Path:
    """A GeoTIFF of `side` pixels: the scene repeated over `filled` rows and columns, else no data."""
    import rasterio
    from rasterio.windows import Window

    bands = len(scene.image)
    profile = {"driver": "GTiff", "count": bands, "height": side, "width": side, "dtype": "uint16"}
    place = {"crs": str(scene.grid.crs), "transform": scene.grid.transform, "nodata": 0}
    layout = {"tiled": True, "sparse_ok": True, "bigtiff": "if_safer"}
    with rasterio.open(path, "w", **profile, **place, **layout) as file:
        for row in range(0, filled, _SIDE):
            for col in range(0, filled, _SIDE):
                height, width = min(_SIDE, filled - row), min(_SIDE, filled - col)
                part = scene.image[:, :height, :width]
                file.write(part, window=Window(col, row, width, height))
    return path


def scale_table(found: Mapping[str, Any]) -> str:
    """The figures of `scale_run` as text."""
    cells = [
        (
            f"{row['side']:,}",
            f"{row['data_share']:.0%}",
            f"{row['seconds']:.1f}",
            f"{row['s_per_megapixel']:.2f}",
            "" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
        )
        for row in found["rows"]
    ]
    head = ("raster, px a side", "with data", "s", "s a million px", "peak MB")
    stages, workers, linear = found["stages"], found["workers"], found["linear"]
    times = ", ".join(f"{count}: {seconds:.1f} s" for count, seconds in workers["seconds"].items())
    lines = (
        table(head, cells, indent=0),
        (
            f"\nA pixel of the largest full raster takes {linear['ratio']:.2f} times that of the smallest "
            f"(goal at most {linear['goal']}); goal for memory {found['peak_mb']['goal']:.0f} MB."
        ),
        (
            f"A million pixels: reading {stages['read']:.2f} s, encoding {stages['encode']:.2f} s, writing "
            f"{stages['write']:.2f} s (goal {stages['goal']:.0f} s together)."
        ),
        (
            f"Dask workers of one core, {workers['pixels'] / 1e6:.1f} million pixels: {times}; ratio "
            f"{workers['ratio']:.2f} (goal {workers['goal']})."
        ),
        device_line(found["gpu"]),
    )
    return "\n".join(lines)


def device_line(found: Mapping[str, Any] | None) -> str:
    """The figures of `device_part` as a line; of None that there is no GPU."""
    if found is None:
        return "No GPU here: its share and the time of a full tile were not measured."
    tile = found["tile"]
    return (
        f"{found['device']}: {found['share']:.0%} of {found['gflops']:,.0f} GFLOP/s of float32 matrix "
        f"products, halos not counted; a tile of {tile['side']:,} px a side in {tile['seconds']:.0f} s, "
        "files written."
    )
