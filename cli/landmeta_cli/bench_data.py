"""What all cells of a benchmark run share: tiles, their split, and the test tasks drawn from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from landmeta.errors import BenchError, DataError

if TYPE_CHECKING:
    from landmeta.bench.cells import Cell
    from landmeta.bench.evaluation import Trial
    from landmeta.bench.presets import Preset
    from landmeta.tasks import Task
    from landmeta.train_config import DataConfig, TrainConfig
    from landmeta_catalog.tile_inputs import TileInputs
    from landmeta_catalog.training_tasks import TrainingData
    from landmeta_cli.console import Progress
    from landmeta_cli.requests import SuiteRequest

PUBLISHED_REGIONS = "dfc2020"
"""Dataset whose regions are the main paper's imbalanced column, where the store has it."""

_SIMULATED = {"regions": 8, "patches": 16, "seed": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchData:
    """Tiles and test tasks, the same for every cell.

    Attributes:
        store: Tile store, with tiles of the preset's side.
        gap: Pixels between support and query, in those tiles.
        dataset: Dataset that is trained on.
        bands: Inputs of the network; all bands of the dataset if empty.
        split: Which regions are trained on, validated on and tested on.
        tasks: Its parts and tiles.
        balanced: Balanced tasks of the regions held out.
        regions: Whole regions, of the dataset `regions_of`.
        published: Published tasks of the regions held out, if a table of them was given.
    """

    store: Path
    gap: int
    dataset: str
    bands: tuple[str, ...]
    split: Mapping[str, Any]
    tasks: TrainingData
    balanced: Trial
    regions: Trial
    regions_of: str
    published: Trial | None

    @classmethod
    def open(cls, request: SuiteRequest, size: Preset, progress: Progress) -> BenchData:
        """Open the store of a request, or simulate it, and draw the test tasks.

        Raises:
            BenchError: No store, and a preset that does not simulate; no table of tasks where one is named.
            DataError: No dataset there, or too few tiles in the regions held out.
        """
        from landmeta.bench.evaluation import Trial
        from landmeta.bench.presets import QUERIES, REGION_BATCH
        from landmeta.bench.trials import balanced_tasks, region_tasks
        from landmeta_catalog.training_tasks import TrainingData

        if request.published is not None and not request.published.is_file():
            msg = f"{request.published} is no file, expected the CSV of published tasks"
            raise BenchError(msg, "leave out --tasks, or give the path of the table")
        store = _ensure_store(request, progress)
        dataset, split, bands = _dataset(store, request.dataset, size)
        placed = _at_side(store, dataset, size.side, request.out, progress)
        store, gap = placed[dataset]
        data = TrainingData.open(_data_config(store, dataset, bands, split))
        regions_of, table, tiles = _region_tiles(data, dataset, placed)
        with _drawn_from(dataset):
            balanced = balanced_tasks(data.parts["holdout"], size.test_tasks, gap=gap)
        with _drawn_from(regions_of):
            drawn = region_tasks(
                table,
                shots=size.region_shots,
                draws=size.region_draws,
                limit=size.region_queries,
                least=size.least_regions,
                gap=placed[regions_of][1],
            )
        return cls(
            store=store,
            gap=gap,
            dataset=dataset,
            bands=bands,
            split=split,
            tasks=data,
            balanced=Trial(data.tiles, balanced, QUERIES),
            regions=Trial(tiles, drawn.asked, REGION_BATCH, drawn.whole),
            regions_of=regions_of,
            published=_published(request, data, dataset),
        )

    @property
    def checksum(self) -> str:
        """Of the tiles of the dataset, as they are read."""
        return self.tasks.tiles.store.digest(self.dataset)[:16]

    def _regions_checksum(self) -> str | None:
        """Of the tiles of whole regions, as they are read; None where they are of the dataset itself."""
        if self.regions_of == self.dataset:
            return None
        tiles = cast("TileInputs", self.regions.tiles)
        return tiles.store.digest(self.regions_of)[:16]

    def settings(self) -> dict[str, Any]:
        """What of the data decides the figures of a cell."""
        tasks = (self.balanced.tasks, self.regions.tasks, self.regions.whole)
        return {
            "dataset": self.dataset,
            "bands": self.bands,
            "split": dict(self.split),
            "regions": self.regions_of,
            "regions_checksum": self._regions_checksum(),
            "tiles": len(self.tasks.tiles.store.index(dataset=self.dataset, columns=["id"])),
            "checksum": self.checksum,
            "tasks": _digest(tasks),
            "published": _digest([self.published.tasks]) if self.published else None,
        }

    def notes(self) -> dict[str, Any]:
        """What a report says of the data."""
        return {
            "places": {part: _places(table) for part, table in self.tasks.parts.items()},
            "simulated": self.tasks.tiles.store.simulated(self.dataset),
            "published_tasks": len(self.published.tasks) if self.published else 0,
        }

    def train_config(self, cell: Cell, size: Preset, out: Path, *, start: Path | None = None) -> TrainConfig:
        """The settings of a cell's training, which is kept under `out`; `start` is its first network."""
        from landmeta.bench.presets import training_tables
        from landmeta.train_config import parse_config

        tables = training_tables(
            cell,
            size,
            _data_tables(self.store, self.dataset, self.bands, self.split),
            str(out / "train" / cell.name),
            gap=self.gap,
            start=str(start) if start else None,
        )
        return parse_config(tables)


@contextmanager
def _drawn_from(dataset: str) -> Iterator[None]:
    """Give an error of drawing test tasks a hint that fits: their size is the preset's, not the user's."""
    try:
        yield
    except DataError as error:
        error.hint = f"ingest more tiles of {dataset}, of neighbouring patches too, or take another --dataset"
        raise


def _digest(tasks: Iterable[Sequence[Task]]) -> str:
    """A checksum of the tiles of tasks."""
    digest = hashlib.sha256()
    for task in chain.from_iterable(tasks):
        digest.update(task.support.tobytes() + task.query.tobytes())
    return digest.hexdigest()[:16]


def _ensure_store(request: SuiteRequest, progress: Progress) -> Path:
    """The store that was given, or a simulated one in the output folder."""
    from landmeta.train_config import DataConfig, SimulateConfig
    from landmeta_catalog.training_tasks import ensure_store

    if request.data is not None:
        return request.data
    if request.preset != "smoke":
        msg = f"the preset {request.preset} needs tiles"
        raise BenchError(msg, "--data STORE, made by landmeta ingest; only smoke simulates its own")
    request.out.mkdir(parents=True, exist_ok=True)
    made = DataConfig(store=request.out / "store", simulate=SimulateConfig(**_SIMULATED))
    ensure_store(made, progress)
    return made.store


def _at_side(
    store: Path, dataset: str, side: int, out: Path, progress: Progress
) -> dict[str, tuple[Path, int]]:
    """The store of each dataset that is used, and the gap in its pixels.

    Larger tiles are averaged down to `side` pixels, into a store in `out`.
    """
    from landmeta.splits import GAP
    from landmeta_catalog.reduced_store import reduce_store
    from landmeta_catalog.store import TileStore

    with TileStore.open(store) as held:
        regions = (PUBLISHED_REGIONS,) if dataset == "sen12ms" and PUBLISHED_REGIONS in held.datasets else ()
        sides = {name: held.arrays(name)[0].side for name in (dataset, *regions)}
        digests = {name: held.digest(name) for name in sides}
    placed = dict.fromkeys(sides, (store, GAP))
    for name in sides:
        if sides[name] > side > 0:
            smaller = _copy_folder(out / f"store-{side}px", name, digests[name], tested_only=name != dataset)
            reduce_store(store, name, smaller, side, progress=progress)
            placed[name] = smaller, GAP * side // sides[name]
    return placed


def _copy_folder(usual: Path, name: str, digest: str, *, tested_only: bool) -> Path:
    """Where the smaller tiles of a dataset lie: in the usual folder, unless it has those of earlier tiles.

    Raises:
        BenchError: It has, and trainings began on them.
    """
    from landmeta_catalog.reduced_store import reduced_from

    if reduced_from(usual, name) in (None, digest):
        return usual
    if tested_only:
        return usual.with_name(f"{usual.name}-{name}-{digest[:8]}")
    msg = f"{name} was ingested anew since {usual} was made of it: the trainings beside are of earlier tiles"
    raise BenchError(msg, "choose another --out")


def _dataset(store: Path, name: str | None, size: Preset) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The dataset to train on, its split, and the bands of the preset that it has, or none."""
    from landmeta.bench.presets import regions_split
    from landmeta_catalog.store import TileStore

    with TileStore.open(store) as held:
        there = held.datasets
        name = name or ("sen12ms" if "sen12ms" in there else there[0])
        bands = {band for array in held.arrays(name) for band in array.bands}
        regions = held.index(dataset=name, columns=["region"])["region"].astype(str).unique().tolist()
    return name, regions_split(name, regions), size.bands if set(size.bands) <= bands else ()


def _data_tables(
    store: Path, dataset: str, bands: tuple[str, ...], split: Mapping[str, Any]
) -> dict[str, Any]:
    return {"store": str(store), "dataset": dataset, "bands": list(bands), "workers": 0, **split}


def _data_config(store: Path, dataset: str, bands: tuple[str, ...], split: Mapping[str, Any]) -> DataConfig:
    from landmeta.train_config import parse_config

    return parse_config({"out": ".", "data": _data_tables(store, dataset, bands, split)}).data


def _region_tiles(
    data: TrainingData, dataset: str, placed: Mapping[str, tuple[Path, int]]
) -> tuple[str, Any, Any]:
    """Dataset, table and tiles of the whole regions: DFC2020's, else the regions held out."""
    from landmeta.tile_table import TileTable
    from landmeta_catalog.store import TileStore
    from landmeta_catalog.tile_inputs import TileInputs

    if dataset == PUBLISHED_REGIONS or PUBLISHED_REGIONS not in placed:
        return dataset, data.parts["holdout"], data.tiles
    held = TileStore.open(placed[PUBLISHED_REGIONS][0])
    index = held.index(dataset=PUBLISHED_REGIONS)
    tiles = TileInputs(
        held, PUBLISHED_REGIONS, index["slot"].to_numpy(), bands=data.tiles.bands, scaling=data.tiles.scaling
    )
    return PUBLISHED_REGIONS, TileTable.from_frame(index), tiles


def _published(request: SuiteRequest, data: TrainingData, dataset: str) -> Trial | None:
    """The published tasks that lie in the regions held out."""
    from landmeta.bench.evaluation import Trial
    from landmeta.bench.presets import QUERIES
    from landmeta.bench.trials import tasks_in
    from landmeta_catalog.published_tasks import published_tasks

    if request.published is None:
        return None
    index = data.tiles.store.index(dataset=dataset)
    held_out = {region for region, _ in data.parts["holdout"].region_seasons()}
    tasks = tasks_in(published_tasks(request.published, index), held_out)
    return Trial(data.tiles, tasks, QUERIES)


def _places(table: Any) -> list[str]:
    return ["/".join(filter(None, pair)) for pair in table.region_seasons()]
