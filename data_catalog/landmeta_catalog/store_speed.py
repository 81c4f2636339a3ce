"""How fast the tile store is, beside rasterio reading GeoTIFFs, in one run of interleaved repetitions.

The tiles are windows of a simulated 13-band scene; LZ4 makes them 1.6 times smaller, real ones 1.7 times. All
files are in the cache of the operating system. Figures are medians over the repetitions.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import rasterio
import shapely
from rasterio.windows import Window

from landmeta.legend import DFC2020
from landmeta.tasks import TaskSampler
from landmeta.tile_table import TileTable
from landmeta_catalog import _tile_index as tile_index
from landmeta_catalog.loading import TaskLoader
from landmeta_catalog.simulate import BANDS, simulate_scene
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tile_inputs import METEOR, TileInputs
from landmeta_catalog.tiles import SHARD_TILES, ArraySpec, index_frame

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`."""

SEN12MS_TILES = 722_648
"""Tiles of 128 px in SEN12MS: four a patch of 180,662."""

_SIDE, _PATCH = 128, 256
_DATASET = "simulated"
_SPECS = (
    ArraySpec("s2", BANDS, "uint16", 1e-4, nodata=0, side=_SIDE),
    ArraySpec("s1", ("VV", "VH"), "int16", 1e-2, nodata=-32768, side=_SIDE),
)
_CLASSES = 4


@dataclass(frozen=True, slots=True)
class TileSpeed:
    """Random 128 px tiles of 13 bands a second, by all processes together.

    `reference_default` is rasterio opening a 256 px deflate GeoTIFF and reading a window of it, as GDAL
    writes such files by default, `reference_tiled` the same with blocks of just that window; `ratio` is
    against the faster of them.
    """

    processes: int
    tiles: int
    store: float
    reference_default: float
    reference_tiled: float
    ratio: float


@dataclass(frozen=True, slots=True)
class TaskSpeed:
    """Tasks of 8 tiles of 15 bands a second through the loader."""

    workers: int
    augment: bool
    tasks: int
    tasks_per_s: float


@dataclass(frozen=True, slots=True)
class IndexSpeed:
    """Seconds to open a store of `rows` tiles and have the `found` rows of one region.

    `reference_s` reads the whole index and then picks the region, `merge_s` is how long the index took to
    write.
    """

    rows: int
    found: int
    filter_s: float
    reference_s: float
    ratio: float
    merge_s: float


@dataclass(frozen=True, slots=True)
class SpeedFiles:
    """A store and the same pixels as GeoTIFFs, from `write_speed_files`."""

    store: Path
    default: tuple[Path, ...]
    tiled: tuple[Path, ...]


def write_speed_files(
    folder: Path, *, patches: int = 96, scene_side: int = 1200, seed: int = 0
) -> SpeedFiles:
    """Write random 256 px windows of a simulated scene as quadrants of a store and as GeoTIFFs.

    96 patches are 384 tiles: 160 MB raw, more than the caches of a processor.

    Raises:
        OutputError: the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    scene = simulate_scene(seed, scene_side, per_class=0, nodata_corner=False).image
    corners = rng.integers(0, scene_side - _PATCH, (patches, 2)).tolist()
    images = [scene[:, row : row + _PATCH, col : col + _PATCH] for row, col in corners]
    (folder / "tiff").mkdir(parents=True, exist_ok=True)
    default, tiled = [], []
    for number, image in enumerate(images):
        default.append(_write_tiff(folder / "tiff" / f"default_{number}.tif", image, {}))
        blocks = {"tiled": True, "blockxsize": _SIDE, "blockysize": _SIDE}
        tiled.append(_write_tiff(folder / "tiff" / f"tiled_{number}.tif", image, blocks))
    _write_store(folder / "store", [q for image in images for q in _quadrants(image)], rng)
    return SpeedFiles(folder / "store", tuple(default), tuple(tiled))


def _write_tiff(path: Path, image: npt.NDArray[np.uint16], layout: dict[str, Any]) -> Path:
    grid = rasterio.transform.from_origin(500_000, 5_000_000, 10, 10)
    profile = {"driver": "GTiff", "count": len(image), "height": _PATCH, "width": _PATCH, "dtype": "uint16",
               "compress": "deflate", "crs": "EPSG:32632", "transform": grid, **layout}  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(image)
    return path


def _quadrants(image: npt.NDArray[np.uint16]) -> list[npt.NDArray[np.uint16]]:
    return [image[:, r : r + _SIDE, c : c + _SIDE] for r in (0, _SIDE) for c in (0, _SIDE)]


def _write_store(store: Path, tiles: Sequence[npt.NDArray[np.uint16]], rng: np.random.Generator) -> None:
    create_dataset(store, _DATASET, _SPECS, DFC2020, len(tiles), settings={})
    for shard in range(-(-len(tiles) // SHARD_TILES)):
        part = np.stack(tiles[shard * SHARD_TILES : (shard + 1) * SHARD_TILES])
        radar = np.rint(rng.normal(-1200, 300, (len(part), *_SPECS[1].shape))).astype(np.int16)
        rows = [
            {"region": "1", "season": "spring", "patch": f"p{shard}_{i}", "class_code": i % _CLASSES + 1,
             "class_name": DFC2020.names[i % _CLASSES], "side": _SIDE}
            for i in range(len(part))
        ]  # fmt: skip
        write_shard(store, _DATASET, shard, {"s2": part, "s1": radar}, index_frame(rows).drop(columns="slot"))
    finish_dataset(store, _DATASET, index_frame([]))


# --- tiles -----------------------------------------------------------------------------------------


def tile_speed(
    files: SpeedFiles,
    *,
    processes: int = 2,
    tiles: int = 3000,
    reference_tiles: int = 200,
    repeats: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> TileSpeed:
    """Rates of random tiles from the store and from GeoTIFFs, each read by as many processes.

    Args:
        files: From `write_speed_files`.
        processes: Reading at the same time.
        tiles: Tiles that each process reads from the store in one repetition.
        reference_tiles: The same for either kind of GeoTIFF.
        repeats: Interleaved repetitions.
        seed: Of the order of tiles.
        progress: Called after each repetition.
    """
    rates: dict[str, list[float]] = {"store": [], "default": [], "tiled": []}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        _warm(pool, processes, files)
        for repeat in range(repeats):
            seeds = [(seed, repeat, process) for process in range(processes)]
            rates["store"].append(_rate(pool, _read_store, files.store, tiles, seeds))
            rates["default"].append(_rate(pool, _read_tiffs, files.default, reference_tiles, seeds))
            rates["tiled"].append(_rate(pool, _read_tiffs, files.tiled, reference_tiles, seeds))
            if progress is not None:
                progress("tiles", repeat + 1, repeats)
    store, default, tiled = (statistics.median(rates[name]) for name in ("store", "default", "tiled"))
    return TileSpeed(processes, tiles * processes, store, default, tiled, store / max(default, tiled))


_Seed = tuple[int, int, int]


def _warm(pool: Executor, processes: int, files: SpeedFiles) -> None:
    """Start all processes and bring all files into the cache of the operating system."""
    everything = [*files.store.rglob("c.*"), *files.default, *files.tiled]
    for path in everything:
        path.read_bytes()
    seeds = [(0, 0, process) for process in range(processes)]
    _rate(pool, _read_store, files.store, 20, seeds)
    _rate(pool, _read_tiffs, files.default, 5, seeds)


def _rate(
    pool: Executor,
    read: Callable[[Any, int, _Seed], None],
    source: object,
    tiles: int,
    seeds: Sequence[_Seed],
) -> float:
    begun = time.perf_counter()
    for job in [pool.submit(read, source, tiles, seed) for seed in seeds]:
        job.result()
    return tiles * len(seeds) / (time.perf_counter() - begun)


def _read_store(path: Path, tiles: int, seed: _Seed) -> None:
    with TileStore.open(path) as store:
        slots = store.index(dataset=_DATASET, columns=["slot"])["slot"].to_numpy()
        for slot in np.random.default_rng(seed).choice(slots, tiles):
            store.read(_DATASET, "s2", [slot])


def _read_tiffs(paths: Sequence[Path], tiles: int, seed: _Seed) -> None:
    rng = np.random.default_rng(seed)
    for number in rng.integers(0, len(paths), tiles):
        row, col = rng.integers(0, 2, 2) * _SIDE
        with rasterio.open(paths[number]) as dataset:
            dataset.read(window=Window(col, row, _SIDE, _SIDE))


# --- tasks -----------------------------------------------------------------------------------------


def task_speed(
    files: SpeedFiles,
    *,
    workers: int = 2,
    augment: bool = True,
    tasks: int = 300,
    repeats: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> TaskSpeed:
    """Rate of 4-way tasks of 8 tiles and 15 bands, scaled as METEOR does.

    The clock starts when as many tasks have come as the workers keep ready: their start is left out.

    Args:
        files: From `write_speed_files`.
        workers: Processes of the loader.
        augment: Whether tiles are flipped and turned.
        tasks: Tasks in one repetition.
        repeats: Repetitions, one after the other by the same workers.
        seed: Of the tasks.
        progress: Called after each repetition.
    """
    rates, ahead = [], 3
    with TileStore.open(files.store) as store:
        index = store.index(dataset=_DATASET)
        sampler = TaskSampler(TileTable.from_frame(index), ways=_CLASSES, shots=1, queries=1, seed=seed)
        tiles = TileInputs(store, _DATASET, index["slot"].to_numpy(), scaling=METEOR)
        batches = iter(TaskLoader(tiles, sampler, augment=augment, workers=workers, ahead=ahead))
        for _ in range(max(workers, 1) * ahead):
            next(batches)
        for repeat in range(repeats):
            begun = time.perf_counter()
            for _ in range(tasks):
                next(batches)
            rates.append(tasks / (time.perf_counter() - begun))
            if progress is not None:
                progress("tasks", repeat + 1, repeats)
    return TaskSpeed(workers, augment, tasks, statistics.median(rates))


# --- index -----------------------------------------------------------------------------------------


def index_speed(
    folder: Path,
    *,
    rows: int = SEN12MS_TILES,
    repeats: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> IndexSpeed:
    """Time to open a store and filter its index by region; the store holds an index and no pixels.

    Args:
        folder: Empty folder to write to.
        rows: Tiles in the index, in 250 region-seasons as in SEN12MS.
        repeats: Interleaved repetitions.
        seed: Of the rows.
        progress: Called after each repetition.
    """
    create_dataset(folder, _DATASET, _SPECS, DFC2020, rows, settings={})
    _write_parts(folder, rows, np.random.default_rng(seed))
    begun = time.perf_counter()
    finish_dataset(folder, _DATASET, index_frame([]))
    merge_s = time.perf_counter() - begun
    seconds: dict[str, list[float]] = {"filter": [], "reference": []}
    found = 0
    for repeat in range(repeats):
        begun = time.perf_counter()
        with TileStore.open(folder) as store:
            found = len(store.index(dataset=_DATASET, region=_REGION))
        seconds["filter"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        everything = pq.read_table(folder / "index.parquet").to_pandas()
        picked = everything[(everything["dataset"] == _DATASET) & (everything["region"] == _REGION)]
        seconds["reference"].append(time.perf_counter() - begun)
        if len(picked) != found:
            msg = f"the store finds {found} tiles of region {_REGION}, the reference {len(picked)}"
            raise RuntimeError(msg)
        if progress is not None:
            progress("index", repeat + 1, repeats)
    ours, reference = (statistics.median(seconds[name]) for name in ("filter", "reference"))
    return IndexSpeed(rows, found, ours, reference, reference / ours, merge_s)


_REGIONS, _REGION, _SEASONS = 125, "r60", ("fall", "summer")


def _write_parts(folder: Path, rows: int, rng: np.random.Generator) -> None:
    """Parts of 64 shards each, in the order in which an ingest fills them."""
    step = 64 * SHARD_TILES
    for first in range(0, rows, step):
        slots = np.arange(first, min(first + step, rows))
        tile_index.write_part(folder / _DATASET / "parts" / f"{first}.parquet", _rows(slots, rows, rng))


def _rows(slots: npt.NDArray[np.int64], total: int, rng: np.random.Generator) -> pd.DataFrame:
    cell = slots * _REGIONS * len(_SEASONS) // total
    region = [f"r{c // len(_SEASONS)}" for c in cell]
    season = [_SEASONS[c % len(_SEASONS)] for c in cell]
    patch = [f"p{slot // 4}" for slot in slots]
    quadrant = [("tl", "tr", "bl", "br")[slot % 4] for slot in slots]
    code = rng.integers(1, 11, len(slots))
    at = rng.uniform(-60, 60, (2, len(slots)))
    names = zip(region, season, patch, quadrant, strict=True)
    class_names, digits = DFC2020.names, rng.bytes(16 * len(slots)).hex()
    return pd.DataFrame(
        {
            "id": [f"{_DATASET}/{r}/{s}/{p}/{q}" for r, s, p, q in names],
            "dataset": _DATASET, "region": region, "season": season, "patch": patch, "quadrant": quadrant,
            "block": patch, "class_code": code, "class_name": [class_names[c - 1] for c in code],
            "class_fractions": list(rng.dirichlet(np.ones(10), len(slots)).astype(np.float32)),
            "valid_fraction": 1.0, "crs": "EPSG:32632", "x": at[0] * 1e5, "y": at[1] * 1e5, "pixel": 10.0,
            "side": _SIDE, "geometry": shapely.box(at[0], at[1], at[0] + 0.01, at[1] + 0.01),
            "checksum": [digits[i : i + 32] for i in range(0, len(digits), 32)],
            "slot": slots,
        }
    )  # fmt: skip
