"""Every table and figure of the five papers as a suite: what was printed, and whether landmeta can run it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from landmeta.errors import BenchError

RUNNABLE = ("000/table1a", "000/table1b")
"""Suites that `landmeta bench run` runs in full."""

NEEDS: Mapping[str, str] = {
    "001": "the inner updates of that paper, Conv4 on miniImageNet",
    "002": "segmentation by EfficientLab on FSS-1000",
    "003": "feature clustering and convex heads on miniImageNet and CIFAR-FS",
    "004": "batch group norm on ImageNet, CIFAR-10, miniImageNet and Office-31",
}
"""What is not built yet, by paper."""

_PICTURE = "a picture without numbers: there is nothing to measure"
_SETTINGS = "printed settings: there is nothing to measure"


@dataclass(frozen=True, slots=True)
class Paper:
    """One of the five papers; `name` is its number in the suite names."""

    name: str
    title: str
    venue: str


@dataclass(frozen=True, slots=True)
class Printed:
    """One printed number: `value` in the paper's unit, None where none is printed; `pm` the printed +-."""

    row: str
    column: str
    value: float | None
    pm: float | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """A row of a suite that runs: its printed name, the algorithm and the norm."""

    row: str
    method: str
    norm: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A table or figure.

    Attributes:
        name: Paper and table, such as `000/table1a`.
        title: What it shows.
        kind: `table`, `figure` (measured curves whose numbers are not printed), `settings`, `dataset` or
            `picture`.
        metric: What is measured, as printed; empty if nothing is.
        uncertainty: What the printed +- is.
        dataset: What it was measured on, where that is one.
        cells: Printed numbers.
        methods: Rows to run, where the suite is runnable.
    """

    name: str
    title: str
    kind: str
    metric: str = ""
    uncertainty: str = ""
    dataset: str = ""
    cells: tuple[Printed, ...] = ()
    methods: tuple[Method, ...] = field(default=())

    @property
    def runnable(self) -> bool:
        """Whether `landmeta bench run` runs it in full."""
        return self.name in RUNNABLE

    @property
    def state(self) -> str:
        """`runnable`, or what it lacks."""
        if self.runnable:
            return "runnable"
        if self.kind == "picture":
            return _PICTURE
        if self.kind == "settings":
            return _SETTINGS
        return f"not built: needs {NEEDS[self.name[:3]]}"

    def printed(self, row: str, column: str) -> float | None:
        """The printed number of a row and column, None where there is none."""
        return next((c.value for c in self.cells if (c.row, c.column) == (row, column)), None)


@cache
def _registry() -> Mapping[str, Any]:
    text = files("landmeta.bench").joinpath("paper.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text, parse_int=float)
    return found


def papers() -> tuple[Paper, ...]:
    """The five papers, in the order of their numbers."""
    return tuple(Paper(p["id"], p["title"], p["venue"]) for p in _registry()["papers"])


@cache
def suites() -> tuple[Suite, ...]:
    """All suites, paper by paper."""
    return tuple(
        Suite(
            **{key: value for key, value in entry.items() if key not in ("cells", "methods")},
            cells=tuple(Printed(**cell) for cell in entry.get("cells", ())),
            methods=tuple(Method(**method) for method in entry.get("methods", ())),
        )
        for entry in _registry()["suites"]
    )


def suite(name: str) -> Suite:
    """The suite of a name.

    Raises:
        BenchError: No suite has this name; the hint names those that can be run.
    """
    known = {entry.name: entry for entry in suites()}
    if name not in known:
        msg = f"no suite is named {name!r}"
        raise BenchError(msg, _runnable_words(name))
    return known[name]


def runnable_suite(name: str) -> Suite:
    """The suite of a name, if it can be run.

    Raises:
        BenchError: No suite has this name, or it cannot be run; with what it lacks.
    """
    found = suite(name)
    if not found.runnable:
        msg = f"{name} cannot be run: {found.state}"
        raise BenchError(msg, _runnable_words(name))
    return found


def _runnable_words(name: str) -> str:
    """What to type instead of a name: the suite most like it of those that run, and how all are seen."""
    near = difflib.get_close_matches(name.casefold(), RUNNABLE, 1)
    first = f"did you mean {near[0]}? " if near else ""
    return f"{first}landmeta bench run takes {' or '.join(RUNNABLE)}; landmeta bench list shows all suites"
