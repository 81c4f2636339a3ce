"""`landmeta bench run` as a function: a tile store to cells of a suite, each kept in the output folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta.errors import BenchError, Interrupted
from landmeta_cli.bench_data import BenchData
from landmeta_cli.console import Progress, plain
from landmeta_cli.provenance import commit, versions
from landmeta_cli.run_folder import check_writable

if TYPE_CHECKING:
    from landmeta.bench.cells import Cell, Told
    from landmeta.bench.evaluation import Contender
    from landmeta.bench.presets import Preset
    from landmeta_cli.requests import SuiteRequest

_FREE = ("seeds", "threads")
"""Fields of a preset that do not change the figures of a cell."""


def run_suite(request: SuiteRequest, *, told: Told, progress: Progress) -> list[dict[str, Any]]:
    """Run the cells of a suite that `request.out` does not hold yet; returns all stored cells.

    Raises:
        BenchError: Suite, preset, rows or stored results that do not fit.
        DataError: No store or dataset there, or too few tiles in the regions held out.
        Interrupted: The run was asked to stop; the same command goes on.
        OutputError: `request.out` is no folder that can be written.
    """
    from landmeta.bench.cells import run_cells, stored_cells
    from landmeta.bench.presets import preset
    from landmeta.bench.registry import runnable_suite

    suite, size = runnable_suite(request.suite), preset(request.preset)
    cells = _cells(request, size, [(m.method, m.norm) for m in suite.methods])
    check_writable(request.out)
    data = BenchData.open(request, size, progress)
    cells = [replace(cell, dataset=data.dataset) for cell in cells]
    about = {"suite": request.suite, "command": request.command}
    with _threads(size.threads), _cells_kept(request.out):
        run_cells(
            cells,
            _Bench(data, size, request.out, progress).work,
            request.out,
            settings={"preset": _deciding(size), **plain(data.settings())},
            notes={**about, **_machine(), **data.notes()},
            told=told,
        )
    return stored_cells(request.out)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute on so many CPU threads; as many as before if 0."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _cells_kept(out: Path) -> Iterator[None]:
    """Tell whoever stops the run with Ctrl-C that what is done is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        msg = f"interrupted; cells that are done are kept in {out}"
        raise Interrupted(msg, "the same command goes on") from None


def _deciding(size: Preset) -> dict[str, Any]:
    """Fields of a preset that decide the figures of a cell."""
    tables: dict[str, Any] = plain({k: v for k, v in asdict(size).items() if k not in _FREE})
    return tables


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
    """Runs single cells."""

    data: BenchData
    size: Preset
    out: Path
    progress: Progress

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
        from landmeta.bench import joint
        from landmeta.bench.evaluation import Trial
        from landmeta.bench.presets import CHOICE, QUERIES
        from landmeta.bench.trials import balanced_tasks
        from landmeta.devices import choose_device

        tiles, table = self.data.tasks.tiles, self.data.tasks.parts["train"]
        network = joint.classifier_of(table, len(tiles.bands), self.size.widths, seed=cell.seed)
        network.to(choose_device("auto"))
        steps = joint.rival_steps(self.size)
        losses = joint.train_jointly(
            tiles, table, network, steps, cell.seed, partial(self.progress, cell.name)
        )
        network.requires_grad_(False)
        tasks = balanced_tasks(table, CHOICE, gap=self.data.gap)
        by_rate = joint.losses_by_rate(network, Trial(tiles, tasks, QUERIES))
        rate = min(by_rate, key=lambda rate: by_rate[rate])
        contender = joint.JointlyTrained(network, rate)
        return {
            "joint": {
                "steps": len(losses),
                "loss": losses[:: max(1, len(losses) // 20)],
                "tuning_rate": rate,
                "loss_by_tuning_rate": {f"{rate:g}": loss for rate, loss in by_rate.items()},
            },
            "protocols": {"fair": self._scores(cell, "fair", contender, contender)},
        }

    def _trained(self, cell: Cell) -> dict[str, Any]:
        from landmeta.bench.evaluation import NetworkContender
        from landmeta.bench.presets import WAYS
        from landmeta.bench.protocols import compat_regions, compat_tasks, fair
        from landmeta_cli.bench_training import train_cell

        size = self.size
        learner, training = train_cell(cell, size, self.data, self.out, self.progress)
        as_trained = {"rate": training["inner_rate"], "pos_weight": size.pos_weight or float(WAYS)}
        alike = fair(steps=size.test_steps, **as_trained)
        recipes = {
            "fair": (alike, alike),
            "meteor_compat": (
                compat_tasks(steps=size.inner_steps, **as_trained),
                compat_regions(steps=size.compat_steps, rate=as_trained["rate"]),
            ),
        }
        found: dict[str, Any] = {}
        for name, (on_tasks, on_regions) in recipes.items():
            same = alike.in_effect(learner.network) == on_tasks.in_effect(learner.network)
            found[name] = self._scores(
                cell,
                name,
                NetworkContender(learner, on_tasks),
                NetworkContender(learner, on_regions),
                balanced=found["fair"]["balanced"] if found and same else None,
            )
        return {"training": training, "protocols": found}

    def _scores(
        self,
        cell: Cell,
        protocol: str,
        on_tasks: Contender,
        on_regions: Contender,
        *,
        balanced: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Scores on balanced tasks, unless they are known, on whole regions and on published tasks."""
        from landmeta.bench.evaluation import SHUFFLED, score_balanced, score_regions

        def counted(what: str, count: int) -> Callable[[], None]:
            done = [0]

            def told() -> None:
                done[0] += 1
                self.progress(f"{cell.name}: {what}, {protocol}", done[0], count)

            return told

        data, published = self.data, self.data.published
        tasks, regions = len(data.balanced.tasks), len(data.regions.tasks)
        found = {
            "balanced": balanced or score_balanced(on_tasks, data.balanced, told=counted("tasks", tasks)),
            "regions": score_regions(
                on_regions, data.regions, sweep=protocol == "fair", told=counted("regions", regions)
            ),
        }
        if published is not None and protocol == "fair":
            told = counted("published", len(published.tasks))
            found["published"] = score_balanced(on_tasks, published, compositions=SHUFFLED, told=told)
        return found


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
