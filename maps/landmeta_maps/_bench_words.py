"""What a benchmark report says of its data, its budget and its intervals in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from landmeta.bench.cells import Cell, outdated_cells
from landmeta.bench.metrics import Estimate
from landmeta.bench.presets import QUERIES, REGION_BATCH, SHOTS, WAYS
from landmeta.bench.trials import NATURAL

_RAW = ("sen12ms", "dfc2020", "hls_worldcover")
"""Datasets whose tiles hold reflectance as it was measured."""

_WITH_REGIONS = ("sen12ms", "dfc2020")
"""Those of them whose regions are places, as the paper's are."""

_EQUALISED = ("sen12ms_rgb",)
"""Datasets whose tiles were histogram-equalised one by one before they were published."""

_POOLS = ("hls_worldcover",)
"""Datasets without places, whose regions are the parts of a table of splits."""

_DIGITS = 3


def shown(found: Estimate | None) -> str:
    """A value with its interval, such as `0.612 (0.580 to 0.641)`."""
    if found is None:
        return "-"
    low, high = found.ci95
    return f"{found.value:.{_DIGITS}f} ({low:.{_DIGITS}f} to {high:.{_DIGITS}f})"


def data_label(cell: Mapping[str, Any]) -> str:
    """Name of the dataset, which says so if its tiles are simulated."""
    name = str(cell["cell"]["dataset"])
    return f"{name} (simulated)" if cell.get("simulated") else name


# --- what was measured, on what --------------------------------------------------------------------


def data_words(cell: Mapping[str, Any]) -> str:
    """What a run on this data can and cannot show: the first paragraph of a report."""
    return " ".join([f"{data_label(cell)}:", *_tile_words(cell), *_departures(cell)])


def outdated_words(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """That some cells were scored on other tiles than the rest, and so do not compare."""
    if outdated := outdated_cells(cells):
        names = ", ".join(str(Cell(**cell["cell"]).name) for cell in outdated)
        yield (
            f"{names}: scored on earlier tiles of whole regions than the other cells, with which their "
            "figures on whole regions do not compare. landmeta bench run of their suite scores them again."
        )


def _tile_words(cell: Mapping[str, Any]) -> Iterator[str]:
    dataset = cell["settings"]["dataset"]
    if cell["settings"]["preset"]["name"] == "smoke":
        yield (
            "This is a smoke run: a few steps of a tiny network. It shows that every part works; no figure "
            "in it says anything about a method."
        )
    if cell.get("simulated"):
        yield (
            "The tiles are simulated, with raw radiometry and a shift between regions and seasons. They can "
            "show what a method does by construction, such as the effect of the order of queries; they "
            "cannot show how well it maps land cover, and bear on no claim about that."
        )
        return
    if dataset in _EQUALISED:
        yield (
            "Each of these tiles was histogram-equalised by itself before it was published. That removes the "
            "very moments of a tile that instance norm discards and the other norms keep: this run can show "
            "the effects of query composition and of imbalance, but not what a norm does with the radiometry "
            "of a region. A run on raw radiometry belongs beside it. The tiles have no coordinates: support "
            "and query never share a patch, but neighbouring patches may overlap, which is weaker than the "
            "256 px kept elsewhere."
        )
    elif dataset in _RAW:
        yield (
            "The tiles hold raw radiometry, so norms that keep a tile's moments and norms that discard them "
            f"see different things{', as in the paper' if dataset in _WITH_REGIONS else ''}."
        )
    else:
        yield (
            "It is not known here whether these tiles were stretched or equalised one by one. If they were, "
            "the moments that instance norm discards were gone before, and this run says nothing of them."
        )
    if dataset in _POOLS:
        yield (
            "The chips have no place: what is called a region here is a part of the table of splits (train, "
            "val, test), so a task mixes chips of several clusters from different places. No task lies in "
            "one region as the paper's do, and there is no shift from region to region to adapt to."
        )


def _departures(cell: Mapping[str, Any]) -> Iterator[str]:
    settings = cell["settings"]
    published = settings["dataset"] == "sen12ms" and not cell.get("simulated")
    faults = [
        ("network and budget", settings["preset"]["name"] != "paper"),
        ("tiles", not published),
        ("whole regions", not published or settings["regions"] != "dfc2020"),
    ]
    if differ := [what for what, is_so in faults if is_so]:
        yield (
            f"Not the paper's: {', '.join(differ)}. Where a row differs from the printed one, that may be "
            "the reason."
        )


def budget_words(size: Mapping[str, Any]) -> str:
    """The budget that every norm and algorithm had, from the stored preset."""
    rates = ", ".join(f"{rate:g}" for rate in size["inner_rates"])
    start = (
        f"{size['warm_up']:,} steps of joint training on the classes of the training regions, then "
        if size["warm_up"]
        else "from random weights, "
    )
    chosen = (
        f"at the rate of {rates} with the least loss on training tasks before the first outer step (the rate "
        "of each cell is under Cells)"
        if len(size["inner_rates"]) > 1
        else f"at rate {rates}"
    )
    return (
        f"Every norm and algorithm: {start}{size['steps']:,} outer steps of {size['tasks']} tasks, with "
        f"inner steps ({size['inner_steps']}) {chosen}; positives weigh {size['pos_weight'] or WAYS:g}; the "
        f"last network is judged. Fair: inner steps ({size['test_steps']}) at the same rate with the same "
        f"loss. Compat in regions: steps ({size['compat_steps']}) at the same rate on minibatches of 8 with "
        "positives weighed by one; the released evaluator takes 60 such steps at rate 0.4."
    )


def trial_words(cells: Sequence[Mapping[str, Any]]) -> str:
    """How many test tasks there are, of what, and in which batches they are asked."""
    size = cells[0]["settings"]["preset"]
    done = next((cell["result"]["protocols"]["fair"] for cell in cells if cell["state"] == "done"), None)
    if done is None:
        return "No cell is done, so nothing was tested."
    draws = Counter(done["regions"]["regions"])
    counts = sorted(set(draws.values()))
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    whole = sum(draws.values())
    return (
        f"Tests, the same for every cell: {_task_count(done['balanced']):,} balanced tasks of {WAYS} classes "
        f"with {SHOTS} support and {QUERIES} query tiles a class, small batches of {QUERIES}; and {whole} "
        f"whole regions: {each} draws of support in each of {len(draws)} region-seasons, "
        f"{size['region_shots']} support tiles a class, {size['region_queries']:,} queries at most, small "
        f"batches of {REGION_BATCH}. {NATURAL}"
    )


def _task_count(compositions: Mapping[str, Any]) -> int:
    return len(compositions["shuffled"]["answers"])


def interval_words(found: Sequence[Estimate | None]) -> str:
    """What the intervals of some estimates are over, with numbers of tasks, region-seasons and seeds."""
    there = [one for one in found if one is not None]
    if not there:
        return "no figures yet"
    groups, tasks = max(one.groups for one in there), _span([one.tasks for one in there])
    over = f"{tasks} tasks"
    if groups > 1:
        over = f"{groups} region-seasons, drawn with all their tasks ({tasks})"
    elif groups == 1:
        over = f"{tasks} draws of support within one pool of tiles (not over regions)"
    seeds = sorted({one.seeds for one in there})
    if seeds == [1]:
        return f"95 % intervals over {over}; one training a row, whose variation they do not hold"
    few = ", which rows with one do not hold" if seeds[0] == 1 else ""
    return f"95 % intervals over {over} and {_span(seeds)} trainings{few}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
