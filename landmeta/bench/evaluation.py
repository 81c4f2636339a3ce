"""A contender's scores on balanced tasks and on whole regions, task by task, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from landmeta.bench.compositions import COMPOSITIONS, Composition, query_batches, sweep_shares
from landmeta.bench.metrics import TaskResult, mean_result, task_result
from landmeta.bench.protocols import ClassLearner, Recipe, ask, depends_on_batch, fit_classes
from landmeta.tasks import Task, TileSource, imbalanced

Answers: TypeAlias = Callable[
    [Float32[np.ndarray, "query band y x"], Sequence[Int[np.ndarray, "_"]]],
    Float[np.ndarray, "query class"],
]
"""Logits of the class models for queries, asked in these batches."""

_DIGITS = 4
SWEEP_DRAWS = 4
"""Draws of the queries of a task at each share of a sweep: it matters much which class dominates."""

SHUFFLED: tuple[Composition, ...] = ("shuffled",)
"""The one composition that is asked where batches do not matter."""


@runtime_checkable
class Contender(Protocol):
    """What learns a task from its support: a meta-learned network, or a rival."""

    @property
    def depends_on_batch(self) -> bool:
        """Whether answers depend on the other queries of a batch."""
        ...

    def learn(
        self, images: Float32[np.ndarray, "support band y x"], positions: Int[np.ndarray, "support"]
    ) -> Answers:
        """Learn from support images and the positions of their classes."""
        ...


@dataclass(frozen=True, slots=True)
class NetworkContender:
    """A meta-learned network with one class model a class, adapted and asked as the recipe says."""

    learner: ClassLearner
    recipe: Recipe

    @property
    def depends_on_batch(self) -> bool:
        """Whether answers depend on the other queries of a batch."""
        return depends_on_batch(self.learner.network, self.recipe.mode)

    def learn(
        self, images: Float32[np.ndarray, "support band y x"], positions: Int[np.ndarray, "support"]
    ) -> Answers:
        """See `Contender`."""
        models = fit_classes(self.learner, self._tensor(images), positions, self.recipe)

        def answer(
            query: Float32[np.ndarray, "query band y x"], batches: Sequence[Int[np.ndarray, "_"]]
        ) -> Float[np.ndarray, "query class"]:
            return ask(self.learner, models, self._tensor(query), batches, self.recipe.mode)

        return answer

    def _tensor(self, images: Float32[np.ndarray, "n band y x"]) -> Tensor:
        device = next(iter(self.learner.params.values())).device
        return torch.from_numpy(images).to(device, memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class Trial:
    """Tasks, the tiles that they are drawn from, and the queries of a small batch.

    `whole` are the tasks with all the queries there are, from which a sweep of imbalance draws; empty where
    `tasks` have all.
    """

    tiles: TileSource
    tasks: Sequence[Task]
    batch: int
    whole: Sequence[Task] = ()


Told: TypeAlias = Callable[[], None]
"""Called after every task."""


def _silent() -> None: ...


def score_balanced(
    contender: Contender,
    trial: Trial,
    *,
    compositions: Collection[Composition] = tuple(COMPOSITIONS),
    told: Told = _silent,
) -> dict[str, Any]:
    """Scores of every task under each of the compositions; see `column` for what they look like."""
    found: dict[Composition, list[TaskResult]] = {name: [] for name in _asked(contender, compositions)}
    for number, read in enumerate(_read(trial)):
        answer = contender.learn(read.support, read.support_positions)
        for name, results in found.items():
            results.append(_composed(answer, read, name, trial.batch, number))
        told()
    return _columns(found, compositions)


def score_regions(
    contender: Contender, trial: Trial, *, sweep: bool = True, told: Told = _silent
) -> dict[str, Any]:
    """The same of whole regions, and if wanted a sweep over the share of the dominant class.

    Returns:
        `compositions` as of `score_balanced`; `sweep` with a column for balanced queries and one for every
        share of the dominant class (see `imbalanced`), in shuffled batches, means of `SWEEP_DRAWS` draws,
        each with the mean `share` that the largest class has in the queries drawn. `regions` names the tasks.
    """
    found: dict[Composition, list[TaskResult]] = {name: [] for name in _asked(contender, COMPOSITIONS)}
    swept: dict[str, list[_Swept]] = {}
    for number, read in enumerate(_read(trial)):
        answer = contender.learn(read.support, read.support_positions)
        for name, results in found.items():
            results.append(_composed(answer, read, name, trial.batch, number))
        for share, result in _sweep(contender, answer, trial, number) if sweep else ():
            swept.setdefault(share, []).append(result)
        told()
    return {
        "compositions": _columns(found, COMPOSITIONS),
        "sweep": {name: _swept_column(results) for name, results in swept.items()},
        "regions": [" ".join((t.region, t.season)).strip() for t in trial.tasks],
    }


def column(results: Sequence[TaskResult]) -> dict[str, Any]:
    """Results of some tasks as JSON holds them: a list over tasks for each metric; NaN becomes None."""
    scores = {
        name: [_plain(result.scores[name]) for result in results]
        for name in (results[0].scores if results else ())
    }
    return {
        "scores": scores,
        "gaps": [[round(gap, _DIGITS) for gap in result.gaps] for result in results],
        "answers": [result.answers for result in results],
    }


def column_results(stored: Mapping[str, Any]) -> list[TaskResult]:
    """What `column` stored."""
    names, lists = list(stored["scores"]), list(stored["scores"].values())
    return [
        TaskResult(
            {k: float("nan") if v is None else v for k, v in zip(names, values, strict=True)},
            tuple(gaps),
            answers,
        )
        for gaps, answers, *values in zip(stored["gaps"], stored["answers"], *lists, strict=True)
    ]


def _plain(score: float) -> float | None:
    return None if np.isnan(score) else round(score, _DIGITS)


def _asked(contender: Contender, wanted: Collection[Composition]) -> Collection[Composition]:
    """Compositions that must be asked one by one: where batches do not matter, one stands for all."""
    return wanted if contender.depends_on_batch else SHUFFLED


def _columns(
    found: Mapping[Composition, Sequence[TaskResult]], wanted: Collection[Composition]
) -> dict[str, Any]:
    columns: dict[str, Any] = {name: column(results) for name, results in found.items()}
    return {name: columns.get(name, {"same_as": "shuffled"}) for name in wanted}


@dataclass(frozen=True, slots=True)
class _Read:
    """A task with its pixels."""

    task: Task
    support: Float32[np.ndarray, "support band y x"]
    support_positions: Int[np.ndarray, "support"]
    query: Float32[np.ndarray, "query band y x"]
    query_positions: Int[np.ndarray, "query"]


def _read(trial: Trial) -> Iterator[_Read]:
    for task in trial.tasks:
        yield _Read(
            task,
            trial.tiles.read(task.support),
            class_positions(task, task.support_codes),
            trial.tiles.read(task.query),
            class_positions(task, task.query_codes),
        )


def class_positions(task: Task, codes: Int[np.ndarray, "tile"]) -> Int[np.ndarray, "tile"]:
    """Places of class codes among the classes of a task."""
    places: np.ndarray = (codes[:, None] == np.array(task.classes)).argmax(1)
    return places


def _composed(answer: Answers, read: _Read, composition: Composition, batch: int, number: int) -> TaskResult:
    rng = np.random.default_rng((1, number))
    batches = query_batches(read.query_positions, composition, batch, rng)
    return task_result(answer(read.query, batches), read.query_positions)


@dataclass(frozen=True, slots=True)
class _Swept:
    """A task's mean scores at one share of the sweep, and the share that its largest class got."""

    result: TaskResult
    share: float


def _sweep(contender: Contender, answer: Answers, trial: Trial, number: int) -> Iterator[tuple[str, _Swept]]:
    """The scores of a task at every share of the dominant class, by name of the share."""
    task = (trial.whole or trial.tasks)[number]
    images, order = trial.tiles.read(task.query), np.argsort(task.query)
    # Where batches do not matter, all are asked once and their logits looked up.
    every = None if contender.depends_on_batch else answer(images, [np.arange(len(images))])
    for k, (name, share) in enumerate(sweep_shares(len(task.classes)).items()):
        results, shares = [], []
        for draw in range(SWEEP_DRAWS):
            rng = np.random.default_rng((2, number, k, draw))
            drawn = imbalanced(task, share, rng)
            truth = class_positions(drawn, drawn.query_codes)
            batches = query_batches(truth, "shuffled", trial.batch, rng)
            places = order[np.searchsorted(task.query, drawn.query, sorter=order)]
            logits = answer(images[places], batches) if every is None else every[places]
            results.append(task_result(logits, truth))
            shares.append(float(np.bincount(truth).max() / len(truth)))
        yield name, _Swept(mean_result(results), float(np.mean(shares)))


def _swept_column(swept: Sequence[_Swept]) -> dict[str, Any]:
    share = float(np.mean([one.share for one in swept]))
    return {**column([one.result for one in swept]), "share": round(share, _DIGITS)}
