"""From the settings of a training run to its tasks: store, split by regions, sampler, and tensors a step."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from landmeta.augmentation import draw_symmetries, turned
from landmeta.bands import canonical
from landmeta.errors import DataError
from landmeta.learning.learner import Batch, TaskTensors
from landmeta.metatraining import NumberedTask
from landmeta.processes import ALONE, Processes
from landmeta.splits import Part, check_disjoint, region_part, scene_part
from landmeta.tasks import Task, TaskSampler, TaskSource
from landmeta.tile_table import TileTable
from landmeta.train_config import DataConfig, TasksConfig, TrainConfig
from landmeta_catalog.loading import TaskBatch, TaskLoader
from landmeta_catalog.reduced_store import reduce_store
from landmeta_catalog.store import TileStore
from landmeta_catalog.tile_inputs import BASELINE, METEOR, Line, Scaling, TileInputs

Progress = Callable[[str, int, int], None]

_SCALINGS = {
    "meteor": METEOR,
    "baseline": BASELINE,
    "physical": Scaling(Line(missing=0.0), Line(missing=0.0)),
}
_SEEDS: dict[Part, int] = {"train": 0, "val": 1_000_003, "holdout": 2_000_003}
"""Added to the seed of a run, so that no two parts draw alike."""

_AUGMENTATION = 4307
"""Keeps the draws of symmetries apart from those of tiles."""


def ensure_store(data: DataConfig, progress: Progress) -> None:
    """Make the store that the settings ask for where it is not there: simulated, or of smaller tiles."""
    _ensure_simulated(data, progress)
    if data.side is not None:
        reduce_store(data.store, data.dataset, read_store(data), data.side, progress=progress)


def read_store(data: DataConfig) -> Path:
    """The store whose tiles are read: that of the settings, or beside it that of its smaller tiles."""
    return data.store if data.side is None else _beside(data.store, f"{data.side}px")


def _beside(store: Path, what: str) -> Path:
    """A folder next to the store, named after it; a store may be given as `.`, which has no name."""
    named = store if store.name else store.resolve()
    return named.with_name(f"{named.name}-{what}")


def _ensure_simulated(data: DataConfig, progress: Progress) -> None:
    from landmeta_catalog.archives import open_archive
    from landmeta_catalog.ingest import ingest
    from landmeta_catalog.simulated_archives import simulate_sen12ms

    made = data.simulate
    if made is None or (data.store / "index.parquet").is_file():
        return
    archive = _beside(data.store, "archive")
    simulate_sen12ms(archive, made.seed, regions=made.regions, patches=made.patches, progress=progress)
    reader = open_archive("sen12ms", archive, dataset=data.dataset)
    ingest(reader, data.store, settings={"simulated": True}, progress=progress)
    shutil.rmtree(archive)  # the store holds its tiles, and the seed makes it again


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The tiles of a run: inputs of all, and the table of each part of the split.

    `coarser` is how many pixels of the archive a pixel of the tiles is wide.
    """

    tiles: TileInputs
    parts: dict[Part, TileTable]
    coarser: int = 1

    @classmethod
    def open(cls, data: DataConfig) -> TrainingData:
        """Open the store and split its regions.

        Raises:
            DataError: No finished store or dataset there, a band or region that it lacks, or an empty part.
        """
        store = TileStore.open(read_store(data))
        index = store.index(dataset=data.dataset)
        bands = [str(canonical(name)) for name in data.bands] or None
        slots = index["slot"].to_numpy()
        tiles = TileInputs(store, data.dataset, slots, bands=bands, scaling=_SCALINGS[data.scaling])
        return cls(tiles, split_regions(TileTable.from_frame(index), data), _coarser(data))

    def sampler(self, part: Part, config: TrainConfig) -> TaskSampler:
        """Tasks of a part of the split.

        Raises:
            DataError: The part has no region-season with enough classes and tiles.
        """
        tasks = config.tasks
        return TaskSampler(
            self.parts[part],
            ways=tasks.ways,
            shots=tasks.shots,
            queries=tasks.queries,
            seed=config.seed + _SEEDS[part],
            blocked=tasks.blocked,
            gap=tasks.gap // self.coarser,
            mirror=tasks.mirror,
            meta_batch=config.outer.tasks,
        )


def _coarser(data: DataConfig) -> int:
    if data.side is None:
        return 1
    with TileStore.open(data.store) as whole:
        return whole.arrays(data.dataset)[0].side // data.side


def split_regions(table: TileTable, data: DataConfig) -> dict[Part, TileTable]:
    """The tiles of each part; regions are named as `region` or `region/season`.

    Raises:
        DataError: A region that is not there, one that lies in two parts, or nothing to train on.
    """
    listed: dict[Part, frozenset[tuple[str, str]]] = {
        "train": _named(table, data.train),
        "val": _named(table, data.validation),
        "holdout": _named(table, data.test),
    }
    check_disjoint({str(part): names for part, names in listed.items()})
    elsewhere = listed["val"] | listed["holdout"]

    def part_of(season: str, region: str) -> Part | None:
        if data.split == "region":
            return region_part(season, region)
        if data.split == "scene" and scene_part(season, region) == "holdout":
            return "holdout"
        held = next((part for part, names in listed.items() if (region, season) in names), None)
        return held or ("train" if not listed["train"] and (region, season) not in elsewhere else None)

    parts: dict[Part, TileTable] = {part: table.part(part, part_of) for part in listed}
    if not len(parts["train"]):
        msg = f"no region of the store is in the training part of the split {data.split!r}"
        raise DataError(msg, 'set data.split = "list" and name the regions to validate on')
    return parts


def _named(table: TileTable, names: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Region and season of all that the names mean."""
    known = table.region_seasons()
    found: set[tuple[str, str]] = set()
    for name in names:
        region, _, season = name.partition("/")
        meant = {pair for pair in known if pair[0] == region and season in ("", pair[1])}
        if not meant:
            all_names = ["/".join(pair) for pair in known]
            near = difflib.get_close_matches(name, all_names, 1, 0.0)
            msg = f"the store has no region {name!r} among its {len(known)} regions and seasons"
            raise DataError(msg, f"name one as region or region/season; nearest is {near[0]}")
        found |= meant
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Share:
    """A process's share of the tasks of every step, numbered from 0 on without gaps."""

    source: TaskSource
    tasks: int
    processes: Processes

    def task(self, place: int) -> Task:
        return self.source.task(self.number(place))

    def number(self, place: int) -> int:
        """Number in the source of the task at this place of the share."""
        mine = self.processes.share(self.tasks)
        step, turn = divmod(place, len(mine))
        return step * self.tasks + mine[turn]


def step_batches(
    tiles: TileInputs,
    source: TaskSource,
    config: TrainConfig,
    *,
    first_step: int,
    processes: Processes = ALONE,
    device: torch.device | str = "cpu",
) -> Iterator[list[NumberedTask]]:
    """This process's tasks of every step from `first_step` on, read ahead; without end.

    The tasks of step s are numbers s * tasks to (s + 1) * tasks - 1 of the source, whatever the processes.
    """
    share = _Share(source, config.outer.tasks, processes)
    mine = len(processes.share(config.outer.tasks))
    loader = TaskLoader(tiles, share, start=first_step * mine, workers=config.data.workers)
    seed = config.seed if config.tasks.augment else None
    batches = iter(loader)
    while True:
        yield [
            numbered(batch, share.number(batch.number), config.tasks, device, augment_seed=seed)
            for batch in islice(batches, mine)
        ]


def first_tasks(
    tiles: TileInputs,
    source: TaskSource,
    config: TrainConfig,
    count: int,
    *,
    processes: Processes = ALONE,
    device: torch.device | str = "cpu",
) -> Iterator[NumberedTask]:
    """This process's share of the first tasks of a source, as they are: for validation and test."""
    mine = processes.share(count)
    share = _Share(source, count, processes)
    for batch in TaskLoader(tiles, share, stop=len(mine), workers=0):
        yield numbered(batch, share.number(batch.number), config.tasks, device)


def numbered(
    batch: TaskBatch,
    number: int,
    tasks: TasksConfig,
    device: torch.device | str,
    *,
    augment_seed: int | None = None,
) -> NumberedTask:
    """A task as tensors; each tile is flipped and turned at random where there is a seed for that."""
    held = batch.to(device)
    images = held.images
    if augment_seed is not None:
        rng = np.random.default_rng((_AUGMENTATION, augment_seed, number))
        images = turned(images, draw_symmetries(len(images), rng))
    task = batch.task
    if tasks.target == "one-vs-all":
        targets = torch.from_numpy(np.concatenate([task.support_targets, task.query_targets])).float()
    else:
        place = {code: k for k, code in enumerate(task.classes)}
        codes = np.concatenate([task.support_codes, task.query_codes]).tolist()
        targets = torch.tensor([place[code] for code in codes])
    targets = targets.to(device)
    support, query = (
        Batch(images[part], targets[part]) for part in (slice(batch.shots), slice(batch.shots, None))
    )
    return NumberedTask(number, task, TaskTensors(support, query))
