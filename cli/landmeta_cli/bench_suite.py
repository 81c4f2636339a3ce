"""`landmeta bench run` as a function: a tile store to cells of a suite, each kept in the output folder."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta.errors import BenchError
from landmeta_cli.console import Progress, plain
from landmeta_cli.provenance import commit, versions

if TYPE_CHECKING:
    from landmeta.bench.cells import Cell
    from landmeta.bench.evaluation import Contender, Trial
    from landmeta.bench.presets import Preset
    from landmeta.train_config import TrainConfig
    from landmeta_catalog.training_tasks import TrainingData

PUBLISHED_REGIONS = "dfc2020"
"""Dataset whose regions are the main paper's imbalanced column, where the store has it."""

_SIMULATED = {"regions": 8, "patches": 16, "seed": 0}
_FREE = ("seeds", "threads")
"""Fields of a preset that do not change the figures of a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRequest:
    """One run of `landmeta bench run`.

    Attributes:
        suite: Name of the suite.
        preset: Its size.
        data: Tile store; None simulates a small archive in `out`, for the preset `smoke` only.
        out: Folder of the results.
        dataset: Dataset of the store; by default sen12ms, or its only one.
        seeds: Trainings of each method; by default the preset's.
        methods: Rows to run, as method or norm names; all if empty.
        published: Table of published tasks on which to score too; see `landmeta_catalog.published_tasks`.
        command: The command line.
    """

    suite: str
    preset: str
    data: Path | None
    out: Path
    dataset: str | None = None
    seeds: int | None = None
    methods: tuple[str, ...] = ()
    published: Path | None = None
    command: str = ""


Told = Callable[["Cell", str, str], None]
"""Called after every cell with what became of it, and its error."""


def run_suite(request: SuiteRequest, *, told: Told, progress: Progress) -> list[dict[str, Any]]:
    """Run the cells of a suite that `request.out` does not hold yet; returns all stored cells.

    Raises:
        BenchError: Suite, preset, rows or stored results that do not fit.
        DataError: No store or dataset there, or too few tiles in the regions held out.
        Interrupted: The run was asked to stop; the same command goes on.
    """
    from landmeta.bench.cells import run_cells, stored_cells
    from landmeta.bench.presets import preset
    from landmeta.bench.registry import runnable_suite

    suite, size = runnable_suite(request.suite), preset(request.preset)
    cells = _cells(request, size, [(m.method, m.norm) for m in suite.methods])
    bench = _Bench.open(request, size, progress)
    cells = [replace(cell, dataset=bench.dataset) for cell in cells]
    run_cells(
        cells,
        bench.work,
        request.out,
        settings=bench.settings(),
        notes={"suite": request.suite, "command": request.command, **_machine(), **bench.notes()},
        told=told,
    )
    return stored_cells(request.out)


def _cells(request: SuiteRequest, size: Preset, rows: list[tuple[str, str]]) -> list[Cell]:
    """All cells, seed by seed, so that a stopped run has whole tables first."""
    from landmeta.bench.cells import Cell
    from landmeta.bench.presets import RIVALS

    rows = [*rows, *((rival, "") for rival in RIVALS)]
    known = sorted({name for row in rows for name in row if name})
    if unknown := [name for name in request.methods if name not in known]:
        msg = f"{request.suite} has no row {unknown[0]!r}"
        raise BenchError(msg, f"rows are {', '.join(known)}")
    chosen = [row for row in rows if not request.methods or set(row) & set(request.methods)]
    return [
        Cell(method, norm, "", seed) for seed in range(request.seeds or size.seeds) for method, norm in chosen
    ]


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all cells share: data, test tasks and sizes."""

    request: SuiteRequest
    size: Preset
    store: Path
    gap: int
    dataset: str
    split: Mapping[str, Any]
    data: TrainingData
    balanced: Trial
    regions: Trial
    regions_of: str
    published: Trial | None
    progress: Progress

    @classmethod
    def open(cls, request: SuiteRequest, size: Preset, progress: Progress) -> _Bench:
        from landmeta.bench.evaluation import Trial
        from landmeta.bench.presets import QUERIES
        from landmeta.bench.trials import balanced_tasks, region_tasks
        from landmeta_catalog.training_tasks import TrainingData

        store = _ensure_store(request, progress)
        dataset, split, bands = _dataset(store, request.dataset, size)
        size = replace(size, bands=bands)
        store, gap = _at_side(store, dataset, size.side, request.out, progress)
        data = TrainingData.open(_config(store, gap, dataset, split, size).data)
        held = data.parts["holdout"]
        balanced = Trial(data.tiles, balanced_tasks(held, size.test_tasks, gap=gap), QUERIES)
        regions_of, table, tiles = _region_tiles(data, dataset, store)
        drawn = region_tasks(
            table,
            shots=size.region_shots,
            draws=size.region_draws,
            limit=size.region_queries,
            gap=gap,
        )
        published = _published(request, data, dataset)
        regions = Trial(tiles, drawn, 16)
        return cls(
            request,
            size,
            store,
            gap,
            dataset,
            split,
            data,
            balanced,
            regions,
            regions_of,
            published,
            progress,
        )

    def settings(self) -> dict[str, Any]:
        """What decides the figures of a cell."""
        size = {k: v for k, v in asdict(self.size).items() if k not in _FREE}
        index = self.data.tiles.store.index(dataset=self.dataset, columns=["id", "checksum"])
        digest = hashlib.sha256("\n".join(index["id"].astype(str) + index["checksum"].astype(str)).encode())
        tables: dict[str, Any] = plain(
            {"preset": size, "dataset": self.dataset, "split": dict(self.split), "regions": self.regions_of}
        )
        return {**tables, "tiles": len(index), "checksum": digest.hexdigest()[:16]}

    def notes(self) -> dict[str, Any]:
        """What a report says of the data."""
        places = {part: _places(table) for part, table in self.data.parts.items()}
        return {
            "places": places,
            "simulated": self.request.data is None,
            "published_tasks": len(self.published.tasks) if self.published else 0,
        }

    def work(self, cell: Cell) -> dict[str, Any]:
        """Train the cell if it is trained, and score it."""
        from landmeta.bench.presets import JOINT, RIVALS
        from landmeta.bench.tile_rivals import tile_rival

        if cell.method == JOINT:
            return self._jointly_trained(cell)
        if cell.method in RIVALS:
            rival = tile_rival(cell.method, cell.seed)
            return {"protocols": {"fair": self._scores(cell, "fair", rival, rival)}}
        return self._trained(cell)

    def _jointly_trained(self, cell: Cell) -> dict[str, Any]:
        """Train on all classes of the training regions at once; a task is then learned by fine-tuning."""
        from landmeta.bench.joint import JointlyTrained, train_jointly

        def told(done: int, steps: int) -> None:
            self.progress(f"{cell.name}: steps", done, steps)

        tiles = self.data.tiles
        network, losses = train_jointly(
            tiles, self.data.parts["train"], len(tiles.bands), self.size, cell.seed, told
        )
        contender = JointlyTrained(network)
        return {
            "joint": {"steps": len(losses), "loss": losses[:: max(1, len(losses) // 20)]},
            "protocols": {"fair": self._scores(cell, "fair", contender, contender)},
        }

    def _trained(self, cell: Cell) -> dict[str, Any]:
        from landmeta.bench.curves import convergence, training_curve
        from landmeta.bench.evaluation import NetworkContender
        from landmeta.bench.presets import QUERIES
        from landmeta.bench.protocols import compat_regions, compat_tasks, fair
        from landmeta_cli.train_folder import LOG
        from landmeta_cli.train_workflow import train_run

        config = _config(self.store, self.gap, self.dataset, self.split, self.size, cell, self.request.out)
        done = train_run(config, progress=self.progress)
        learner = _learner(done.folder, config)
        size = self.size
        recipes = {
            "fair": (
                fair(steps=size.test_steps, rate=size.test_rate, batch=QUERIES),
                fair(steps=size.test_steps, rate=size.test_rate, batch=16),
            ),
            "meteor_compat": (
                compat_tasks(steps=size.inner_steps, rate=size.inner_rate, batch=QUERIES),
                compat_regions(steps=size.compat_steps),
            ),
        }
        curve = training_curve(done.folder / LOG)
        converged, why = convergence(curve)
        return {
            "training": {
                "steps": done.result["steps"],
                "parameters": done.result["parameters"],
                "curve": curve,
                "converged": converged,
                "why": why,
            },
            "protocols": {
                name: self._scores(
                    cell, name, NetworkContender(learner, pair[0]), NetworkContender(learner, pair[1])
                )
                for name, pair in recipes.items()
            },
        }

    def _scores(
        self, cell: Cell, protocol: str, on_tasks: Contender, on_regions: Contender
    ) -> dict[str, Any]:
        from landmeta.bench.evaluation import score_balanced, score_regions

        def counted(what: str, trial: Trial) -> Callable[[], None]:
            done = [0]

            def told() -> None:
                done[0] += 1
                self.progress(f"{cell.name}: {what}, {protocol}", done[0], len(trial.tasks))

            return told

        found = {
            "balanced": score_balanced(on_tasks, self.balanced, told=counted("tasks", self.balanced)),
            "regions": score_regions(on_regions, self.regions, told=counted("regions", self.regions)),
        }
        if self.published is not None and protocol == "fair":
            found["published"] = score_balanced(
                on_tasks, self.published, told=counted("published", self.published)
            )
        return found


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


def _at_side(store: Path, dataset: str, side: int, out: Path, progress: Progress) -> tuple[Path, int]:
    """The store, or one in `out` with tiles averaged down to `side` pixels; and the gap in its pixels."""
    from landmeta.splits import GAP
    from landmeta_catalog.reduced_store import reduce_store
    from landmeta_catalog.store import TileStore

    with TileStore.open(store) as held:
        regions = (PUBLISHED_REGIONS,) if dataset == "sen12ms" and PUBLISHED_REGIONS in held.datasets else ()
        sides = {name: held.arrays(name)[0].side for name in (dataset, *regions)}
    larger = [name for name in sides if sides[name] > side > 0]
    smaller = out / f"store-{side}px"
    for name in larger:
        reduce_store(store, name, smaller, side, progress=progress)
    return (smaller, GAP * side // sides[dataset]) if larger else (store, GAP)


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


def _config(
    store: Path,
    gap: int,
    dataset: str,
    split: Mapping[str, Any],
    size: Preset,
    cell: Cell | None = None,
    out: Path = Path(),
) -> TrainConfig:
    """The settings of a cell's training; of any cell where none is given."""
    from landmeta.bench.cells import Cell
    from landmeta.bench.presets import training_tables
    from landmeta.train_config import parse_config

    cell = cell or Cell("maml", "in", dataset, 0)
    data = {
        "store": str(store), "dataset": dataset, "bands": list(size.bands), "workers": 0, **split,
    }  # fmt: skip
    return parse_config(training_tables(cell, size, data, str(out / "train" / cell.name), gap=gap))


def _region_tiles(data: TrainingData, dataset: str, store: Path) -> tuple[str, Any, Any]:
    """Dataset, table and tiles of the whole regions: DFC2020's, else the regions held out."""
    from landmeta.tile_table import TileTable
    from landmeta_catalog.tile_inputs import TileInputs

    held = data.tiles.store
    if dataset != "sen12ms" or PUBLISHED_REGIONS not in held.datasets:
        return dataset, data.parts["holdout"], data.tiles
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


def _learner(folder: Path, config: TrainConfig) -> Any:
    """The last network of a training run, with its inner loop."""
    from landmeta.algorithms import inner_settings
    from landmeta.bench.learners import MetaLearned
    from landmeta.checkpoints import load_learned, load_network
    from landmeta.training_method import set_up_device
    from landmeta_cli.train_folder import LAST

    network = load_network(folder / LAST)[0].to(set_up_device(config.device))
    inner = inner_settings(
        config.inner.algorithm, network, rate=config.inner.rate, affine=config.inner.adapt_affine
    )
    return MetaLearned(network, inner, load_learned(folder / LAST))


def write_report(folder: Path) -> Path:
    """Render what `folder` holds: `report.md` and `report.html`, whose path is returned.

    Raises:
        BenchError: No results there.
        OutputError: The folder cannot be written.
    """
    from landmeta.bench.cells import stored_cells
    from landmeta_maps.bench_report import write_bench_report

    return write_bench_report(stored_cells(folder), folder)


def _machine() -> dict[str, Any]:
    """Commit, versions and hardware."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "commit": commit(),
        "versions": versions(),
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name(0) if cuda else None,
        },
    }
