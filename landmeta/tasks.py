"""Few-shot tasks of one region and season: which tiles are support, which are query, which class is asked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from landmeta.errors import DataError
from landmeta.splits import GAP, Blocked, support_apart
from landmeta.tile_table import RegionTiles
from landmeta.tile_table import TileTable as TileTable

_ATTEMPTS = 100  # draws that may find no room for the gap before the tiles are said to have none


@runtime_checkable
class TileSource(Protocol):
    """Where the pixels of tiles come from: a store, or arrays in a test."""

    def read(self, rows: Int[np.ndarray, "tile"]) -> Float32[np.ndarray, "tile band y x"]:
        """Reflectance (dB for radar) of the tiles with these row numbers; NaN is no data."""
        ...


class TaskSource(Protocol):
    """Tasks by number, from 0 on: the same number gives the same task in every process and run."""

    def task(self, number: int) -> Task:
        """The task of a number.

        Raises:
            IndexError: the source is finite and has no such task.
        """
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """Support and query tiles of one region and season, each given by row number and class code.

    `classes` are the codes taking part, `target` the one that counts as positive in a one-vs-all task (None:
    all classes are asked). Tiles stand class by class in the order of `classes`. `blocked` says how far
    support and query are apart.
    """

    region: str
    season: str
    classes: tuple[int, ...]
    target: int | None
    support: Int[np.ndarray, "support"]
    query: Int[np.ndarray, "query"]
    support_codes: Int[np.ndarray, "support"]
    query_codes: Int[np.ndarray, "query"]
    blocked: Blocked

    @property
    def support_targets(self) -> Int[np.ndarray, "support"]:
        """1 where the support tile is of the target class, else 0."""
        return _binary(self.support_codes, self._positive())

    @property
    def query_targets(self) -> Int[np.ndarray, "query"]:
        """1 where the query tile is of the target class, else 0."""
        return _binary(self.query_codes, self._positive())

    def one_vs_all(self, target: int) -> Task:
        """The same tiles with `target` as the positive class."""
        if target not in self.classes:
            msg = f"class {target} is not among the task's classes {self.classes}"
            raise ValueError(msg)
        return replace(self, target=target)

    def _positive(self) -> int:
        if self.target is None:
            msg = "a task without target has no binary labels: choose one with one_vs_all"
            raise ValueError(msg)
        return self.target


def _binary(codes: Int[np.ndarray, "tile"], positive: int) -> Int[np.ndarray, "tile"]:
    targets: Int[np.ndarray, "tile"] = (codes == positive).astype(np.int64)
    return targets


@dataclass(frozen=True, slots=True)
class FixedTasks:
    """A finite source: tasks that are given."""

    tasks: tuple[Task, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    def task(self, number: int) -> Task:
        """Task `number`; IndexError past the last."""
        if number < 0:
            msg = f"tasks are counted from 0, found {number}"
            raise IndexError(msg)
        return self.tasks[number]


def _task(
    region: RegionTiles,
    codes: Sequence[int],
    target: int | None,
    support: Sequence[Int[np.ndarray, "_"]],
    query: Sequence[Int[np.ndarray, "_"]],
    blocked: Blocked,
) -> Task:
    """The task of chosen classes, with the support and query tiles of each."""
    classes = np.array(codes, np.int64)
    return Task(
        region.region,
        region.season,
        tuple(codes),
        target,
        region.rows[np.concatenate(support)],
        region.rows[np.concatenate(query)],
        np.repeat(classes, [len(tiles) for tiles in support]),
        np.repeat(classes, [len(tiles) for tiles in query]),
        blocked,
    )


class TaskSampler:
    """Draws n-way k-shot tasks from the region-seasons of a table: a source of tasks without end.

    A class of a region-season takes part with at least `shots + queries` tiles, and a region-season with at
    least `ways` such classes. A task is one region-season, drawn uniformly, `ways` of its classes, `shots`
    support and `queries` query tiles of each, and one class as target.

    Task i depends on the table, the settings, `seed` and i alone. To resume a run, keep `state(i)` of the
    first task that is not used yet.

    Args:
        table: tiles to draw from; leave out what is held out with `TileTable.part`.
        ways: classes a task.
        shots: support tiles a class.
        queries: query tiles a class.
        seed: of all draws.
        blocked: keep support and query apart: by `gap` pixels where tiles have a place on the ground, and
            never with tiles of one patch on both sides. Classes that cannot be parted so are left out.
        gap: pixels between support and query.
        mirror: draw as METEOR's published code does: classes need more than `shots + queries` tiles and
            region-seasons more than `ways` classes; support and query are a fixed function of the ordered
            classes; the target has the same place among the ascending class codes in all tasks of a
            meta-batch; neighbours are not kept apart. The very tiles it drew cannot be had again: they hang
            on the order of its tile list.
        meta_batch: tasks of a meta-batch, for `mirror`.

    Raises:
        DataError: no region-season has enough classes with enough tiles; those that come nearest are named.
    """

    def __init__(
        self,
        table: TileTable,
        *,
        ways: int = 4,
        shots: int = 2,
        queries: int = 2,
        seed: int = 0,
        blocked: bool = True,
        gap: int = GAP,
        mirror: bool = False,
        meta_batch: int = 4,
    ) -> None:
        if ways < 2 or min(shots, queries, meta_batch) < 1:
            msg = f"a task needs 2 ways, 1 shot and 1 query at least, found {ways}, {shots} and {queries}"
            raise ValueError(msg)
        self.ways, self.shots, self.queries, self.seed = ways, shots, queries, seed
        self.blocked, self.gap = blocked and not mirror, gap
        self.mirror, self.meta_batch = mirror, meta_batch
        self._regions, self._choices = self._eligible(table)

    def task(self, number: int) -> Task:
        """Task `number`, counted from 0.

        Raises:
            DataError: a hundred draws in a row found no support and query that are far enough apart.
        """
        rng = np.random.default_rng((self.seed, number))
        for _ in range(_ATTEMPTS):
            i = int(rng.integers(len(self._regions)))
            region, codes = self._regions[i], rng.permutation(self._choices[i])[: self.ways].tolist()
            target = self._target(codes, number, rng)
            if not self.blocked:
                return _task(region, codes, target, *self._draw(i, codes, rng), "none")
            members = [region.classes[code] for code in codes]
            if drawn := support_apart(region.places, members, self.shots, self.queries, rng, self.gap):
                query = [rng.choice(tiles, self.queries, replace=False) for tiles in drawn[1]]
                return _task(region, codes, target, drawn[0], query, region.places.blocked())
        msg = (
            f"{_ATTEMPTS} draws found no {self.ways} classes with support and query {self.gap} px apart, "
            f"the last in {' '.join((region.region, region.season)).strip()}"
        )
        raise DataError(msg, "ask for fewer ways, shots or queries, a smaller gap, or blocked=False")

    def __iter__(self) -> Iterator[Task]:
        """Tasks 0, 1, 2, ... without end."""
        return map(self.task, count())

    def state(self, position: int) -> dict[str, int | str]:
        """What a run keeps, as JSON, to go on with task `position`."""
        return {"position": position, "tasks": self._fingerprint()}

    def restore(self, state: Mapping[str, int | str]) -> int:
        """Number of the task to go on with.

        Raises:
            DataError: the state is of other tiles or settings, so that other tasks would follow.
        """
        if state.get("tasks") != self._fingerprint():
            msg = "the run to resume drew its tasks from other tiles or with other settings"
            raise DataError(msg, "resume with the same store, split, seed and task settings, or start anew")
        return int(state["position"])

    def _fingerprint(self) -> str:
        names = ("ways", "shots", "queries", "seed", "blocked", "gap", "mirror", "meta_batch")
        digest = hashlib.sha256(json.dumps([getattr(self, name) for name in names]).encode())
        for region, codes in zip(self._regions, self._choices, strict=True):
            sizes = [len(tiles) for tiles in region.classes.values()]
            digest.update(json.dumps([region.region, region.season, codes, sizes]).encode())
            where = region.places
            for values in (region.rows, where.block, where.x, where.y):
                digest.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).data)
        return digest.hexdigest()[:16]

    def _eligible(self, table: TileTable) -> tuple[list[RegionTiles], list[list[int]]]:
        """The region-seasons to draw from, and the classes of each."""
        regions, strict = table.by_region(), int(self.mirror)
        choices = [region.fitting(self.shots + self.queries + strict) for region in regions]
        if self.blocked:
            parts = self.shots, self.queries, self.gap
            choices = [
                [code for code in codes if region.separable(code, *parts)]
                for region, codes in zip(regions, choices, strict=True)
            ]
        kept = [i for i, codes in enumerate(choices) if len(codes) >= self.ways + strict]
        if not kept:
            nearest = sorted(range(len(regions)), key=lambda i: -len(choices[i]))[:3]
            raise self._too_few("; ".join(regions[i].describe(table.class_name) for i in nearest))
        return [regions[i] for i in kept], [choices[i] for i in kept]

    def _too_few(self, nearest: str) -> DataError:
        than = "more than" if self.mirror else "at least"
        room = f", apart by {self.gap} px or by patch" if self.blocked else ""
        msg = (
            f"no region-season has {than} {self.ways} classes with {than} {self.shots + self.queries} tiles "
            f"({self.shots} support and {self.queries} query{room}); nearest: {nearest or 'no tile at all'}"
        )
        return DataError(msg, "ask for fewer ways, shots or queries, or ingest more regions")

    def _draw(
        self, region: int, codes: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[Int[np.ndarray, "_"]], list[Int[np.ndarray, "_"]]]:
        """Support and query of each class wherever they lie."""
        support, query = [], []
        for code in codes:
            # The published split has one seed for each ordered choice of classes, whatever the run's seed is.
            source = np.random.default_rng((region, *codes, code)) if self.mirror else rng
            tiles = self._regions[region].classes[code]
            picks = source.choice(tiles, self.shots + self.queries, replace=False)
            support.append(picks[: self.shots])
            query.append(picks[self.shots :])
        return support, query

    def _target(self, codes: Sequence[int], number: int, rng: np.random.Generator) -> int:
        if not self.mirror:
            return codes[int(rng.integers(self.ways))]
        shared = np.random.default_rng((self.seed, number // self.meta_batch, 1))
        return sorted(codes)[int(shared.integers(self.ways))]


def region_task(
    table: TileTable,
    region: str,
    season: str,
    *,
    shots: int,
    rng: np.random.Generator,
    blocked: bool = True,
    gap: int = GAP,
) -> Task:
    """The task of a whole region-season: `shots` support tiles a class, all others query, every class asked.

    Classes with more than `shots` tiles take part. With `blocked` tiles nearer than `gap` pixels to a support
    tile, or of its patch, are left out of the query; without, as METEOR does on DFC2020, they stay in it.

    Raises:
        DataError: no such region-season, fewer than two classes with enough tiles, or no support that leaves
            each class a query tile far enough away.
    """
    part = table.of_region(region, season)
    ground = part.by_region()[0]
    codes = ground.fitting(shots + 1)
    if blocked:
        codes = [code for code in codes if ground.separable(code, shots, 1, gap)]
    if len(codes) < 2:
        room = f" of which one lies {gap} px or a patch apart" if blocked else ""
        msg = f"fewer than two classes have more than {shots} tiles{room}: {ground.describe(part.class_name)}"
        raise DataError(msg, "ask for fewer shots, or blocked=False to let neighbours be query tiles")
    members = [ground.classes[code] for code in codes]
    if not blocked:
        order = [rng.permutation(tiles) for tiles in members]
        query = [np.sort(tiles[shots:]) for tiles in order]
        return _task(ground, codes, None, [tiles[:shots] for tiles in order], query, "none")
    for _ in range(_ATTEMPTS):
        if drawn := support_apart(ground.places, members, shots, 1, rng, gap):
            return _task(ground, codes, None, *drawn, ground.places.blocked())
    msg = f"no {shots} support tiles a class leave queries {gap} px apart: {ground.describe(part.class_name)}"
    raise DataError(msg, "ask for fewer shots, a smaller gap, or blocked=False")


def imbalanced(
    task: Task, share: float, rng: np.random.Generator, *, size: int = 48, concentration: float = 100.0
) -> Task:
    """The task with `size` queries of which one class, drawn at random, has about `share`.

    Class shares are a draw of a Dirichlet distribution whose mean gives `share` to that class and the same
    to all others, of which some may drop out. A class with fewer tiles than its share asks for gives some of
    them more than once, so that size and shares are the same whatever the region holds; for that, only
    classes with `size / 6` tiles or more dominate (or those with the most, where none has).

    Args:
        task: with as large a query as there is, such as from `region_task`.
        share: mean share of the dominant class, from 1 / classes (balanced) to 0.95.
        rng: source of the draw.
        size: queries of the task that is made.
        concentration: of the Dirichlet distribution; `math.inf` for the mean itself.

    Raises:
        ValueError: `share` is outside its range.
    """
    classes = len(task.classes)
    if not 1 / classes - 1e-9 <= share <= 0.95:
        msg = f"share {share} of the dominant class is outside 1/{classes} (balanced) to 0.95"
        raise ValueError(msg)
    pools = [np.flatnonzero(task.query_codes == code) for code in task.classes]
    there = np.array([len(pool) for pool in pools])
    mean = np.full(classes, (1 - share) / (classes - 1))
    mean[rng.choice(np.flatnonzero(there >= min(size / 6, there.max())))] = share
    mean[there == 0] = 0  # a class without queries cannot be asked for
    drawn = mean if math.isinf(concentration) else _dirichlet(concentration * mean, rng)
    wanted = _apportion(drawn / drawn.sum(), size)
    keep = np.concatenate([_drawn(pool, n, rng) for pool, n in zip(pools, wanted.tolist(), strict=True)])
    return replace(task, query=task.query[keep], query_codes=task.query_codes[keep])


def _dirichlet(weights: Float[np.ndarray, "_"], rng: np.random.Generator) -> Float[np.ndarray, "_"]:
    """A draw in which classes of no weight have no share."""
    shares = np.zeros(len(weights))
    shares[weights > 0] = rng.dirichlet(weights[weights > 0])
    return shares


def _drawn(pool: Int[np.ndarray, "_"], count: int, rng: np.random.Generator) -> Int[np.ndarray, "_"]:
    """`count` of a pool in ascending order, each as often as any other but for one."""
    rounds = [rng.permutation(pool) for _ in range(-(-count // max(1, len(pool))))]
    picked: Int[np.ndarray, "_"] = np.sort(np.concatenate([pool[:0], *rounds])[:count])
    return picked


def _apportion(shares: Float[np.ndarray, "_"], total: int) -> Int[np.ndarray, "_"]:
    """Whole numbers of sum `total` close to `shares * total`, by the largest remainders."""
    exact = shares * total
    counts: Int[np.ndarray, "_"] = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]] += 1
    return counts
