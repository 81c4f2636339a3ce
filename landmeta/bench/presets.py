"""Sizes of a benchmark run, and which regions of a dataset are trained on: the same for every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landmeta.bench.cells import Cell
from landmeta.errors import BenchError
from landmeta.splits import GAP

JOINT = "joint_training"
"""The rival that is trained on the training regions too, without episodes (`landmeta.bench.joint`)."""

SUPPORT_RIVALS = ("random_forest", "logistic_regression", "random_features")
"""Rivals that learn from a task's support alone (`landmeta.bench.tile_rivals`)."""

RIVALS = (*SUPPORT_RIVALS, JOINT)
"""Methods that are not meta-learned and stand in the same table."""

WAYS, SHOTS, QUERIES = 4, 2, 2
"""Of a balanced task, as in the main paper; its small batches hold the queries of one class."""

CHOICE = 24
"""Tasks of the training regions on which a rate is chosen."""

REGION_BATCH = 16
"""Queries of a small batch in whole regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A size of run; every norm and algorithm has the same.

    Attributes:
        name: `smoke`, `small` or `paper`.
        widths: Channels of the four blocks; the published ones if empty.
        side: Pixels of a tile's side; larger tiles are averaged down. As they are if 0.
        bands: Inputs of the network; all bands of the dataset if empty or if it lacks one.
        warm_up: Steps of joint training from which meta-training starts (`landmeta.bench.joint`); from random
            weights if 0, as published.
        steps: Outer steps of meta-training, with `tasks` tasks each; the last network is judged.
        rate: Rate of Adam.
        inner_steps: Inner steps in training.
        inner_rates: Their rate; of several, each training takes the one with the least loss on tasks of its
            own regions before the first outer step.
        pos_weight: Weight of positives in meta-training, and in tests with its loss; the number of ways if 0,
            as published, which tilts every class model towards yes. Three negatives a positive are balanced
            by 3.
        validations: Points of the training curve, on `validation_tasks` tasks.
        test_steps: Inner steps under the protocol `fair`, at the rate and with the loss of training.
        compat_steps: Inner steps in regions under `meteor_compat`.
        test_tasks: Balanced tasks.
        region_shots: Support tiles a class in whole regions.
        region_draws: Supports drawn in each region-season; more where that would make fewer than
            `least_regions` whole regions in all.
        least_regions: See `region_draws`.
        region_queries: Most queries of a region; more are thinned at random, in the classes' own shares.
        seeds: Trainings of each method.
        threads: CPU threads of all that a cell does; torch's choice if 0. A narrow network is 1.4 times as
            fast with two as with one, at 1.4 times the CPU time.
    """

    name: str
    widths: tuple[int, ...] = ()
    side: int = 0
    bands: tuple[str, ...] = ()
    warm_up: int = 0
    steps: int
    tasks: int = 4
    rate: float
    inner_steps: int = 1
    inner_rates: tuple[float, ...] = (0.1,)
    pos_weight: float = 0.0
    validations: int = 10
    validation_tasks: int = 50
    test_steps: int
    compat_steps: int = 60
    test_tasks: int
    region_shots: int = 5
    region_draws: int = 1
    least_regions: int = 0
    region_queries: int
    seeds: int
    threads: int = 0


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(
        name="smoke",
        widths=(4, 8, 8, 16),
        side=64,
        bands=("B02", "B03", "B04", "B08"),
        warm_up=2,
        steps=4,
        rate=2e-3,
        inner_rates=(0.1, 1.0),
        validations=1,
        validation_tasks=2,
        test_steps=2,
        compat_steps=2,
        test_tasks=3,
        region_shots=2,
        region_queries=20,
        seeds=1,
        threads=1,
    ),
    "small": Preset(
        name="small",
        widths=(8, 16, 32, 64),
        side=64,
        warm_up=300,
        steps=150,
        rate=1e-4,
        inner_rates=(0.03, 0.1, 0.3, 1.0),
        pos_weight=3.0,
        validations=5,
        test_steps=1,
        compat_steps=10,
        test_tasks=200,
        region_draws=2,
        least_regions=8,
        region_queries=120,
        seeds=3,
        threads=1,
    ),
    "paper": Preset(
        name="paper",
        steps=20_000,
        rate=1e-4,
        validations=20,
        validation_tasks=100,
        test_steps=60,
        test_tasks=1000,
        region_draws=3,
        region_queries=2000,
        seeds=3,
    ),
}
"""`smoke` shows that all parts work and nothing else."""

_SPLITS: Mapping[str, Mapping[str, Any]] = {
    "sen12ms": {"split": "region"},
    "sen12ms_rgb": {
        "split": "list",
        "train": ["122", "123", "134", "135"],
        "validation": ["141"],
        "test": ["91", "103", "110", "130"],
    },
    "hls_worldcover": {"split": "list", "train": ["train"], "validation": ["val"], "test": ["test"]},
}
"""Regions of the datasets whose split is published or fixed; 141 of the training regions gives the curve.

The chips of hls_worldcover have no place; its regions are the parts of a table of splits (by cluster).
"""


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        BenchError: No preset has this name.
    """
    if name not in PRESETS:
        msg = f"no preset is named {name!r}"
        raise BenchError(msg, f"--preset is one of {', '.join(PRESETS)}")
    return PRESETS[name]


def regions_split(dataset: str, regions: Sequence[str]) -> dict[str, Any]:
    """Which regions are trained on, validated on and tested on, as `[data]` of a training run has it.

    The published or fixed split where there is one; else a fifth of the regions for validation and a
    quarter for test, at least one each, drawn once for all runs.

    Raises:
        BenchError: Fewer than three regions, and no split is fixed.
    """
    if dataset in _SPLITS:
        return dict(_SPLITS[dataset])
    names = sorted(set(regions))
    if len(names) < 3:
        msg = f"dataset {dataset} has {len(names)} regions, expected three to train, validate and test on"
        raise BenchError(msg, "ingest more regions")
    order = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    test, validation = max(1, len(names) // 4), max(1, len(names) // 5)
    return {
        "split": "list",
        "test": sorted(order[:test]),
        "validation": sorted(order[test : test + validation]),
        "train": sorted(order[test + validation :]),
    }


def training_tables(
    cell: Cell,
    size: Preset,
    data: Mapping[str, Any],
    out: str,
    *,
    gap: int = GAP,
    start: str | None = None,
) -> dict[str, dict[str, Any] | Any]:
    """The settings of the meta-training of a cell, as `landmeta train` reads them from TOML.

    Args:
        cell: Method, norm and seed.
        size: Size of the run.
        data: `[data]`: store, dataset, bands and split.
        out: Folder of the training run.
        gap: Pixels between support and query, fewer where pixels were averaged.
        start: File of the network to start from; random weights by default.
    """
    return {
        "out": out,
        "seed": cell.seed,
        "save_every": max(1, size.steps // 20),
        "data": dict(data),
        "tasks": {"ways": WAYS, "shots": SHOTS, "queries": QUERIES, "gap": gap},
        "network": {
            "name": "resnet12",
            "widths": list(size.widths),
            "norm": cell.norm,
            **({"start": start} if start else {}),
        },
        "inner": {
            "algorithm": cell.method,
            "steps": size.inner_steps,
            "rate": size.inner_rates[0],
            **({"pos_weight": size.pos_weight} if size.pos_weight else {}),
        },
        "outer": {"steps": size.steps, "tasks": size.tasks, "rate": size.rate},
        "validation": {"every": size.steps // size.validations, "tasks": size.validation_tasks},
        "device": {"threads": size.threads},
    }
