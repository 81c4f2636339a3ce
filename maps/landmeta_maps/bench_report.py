"""The report of a benchmark run from its stored cells alone, in Markdown and as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landmeta.bench.compositions import COMPOSITIONS
from landmeta.bench.metrics import METRICS, Estimate
from landmeta.bench.presets import QUERIES
from landmeta.bench.registry import Suite, suite
from landmeta.bench.summary import BALANCED, COLUMNS, Row, Swept, suite_rows
from landmeta_maps._atomic import write_text
from landmeta_maps._bench_figure import Line, curves_figure, imbalance_figure
from landmeta_maps._bench_findings import AS_RELEASED, comparisons, findings
from landmeta_maps._bench_sections import Section, Table, html, markdown
from landmeta_maps._bench_words import (
    budget_words,
    data_label,
    data_words,
    interval_words,
    outdated_words,
    shown,
    trial_words,
)

_PEOPLE = "People reached 0.616 over all 1,000 published tasks, of which these are a part."

_SWEEP = (
    "Protocol fair, shuffled batches. Queries of each whole region are drawn so that one class, drawn at "
    "random, has about the share that heads a column. Along x is the share that the largest class {really}. "
    "Bars are intervals; dashed lines are trainings that bear no conclusion, squares are rivals."
)
_CURVES = (
    "AUROC of one-vs-all tasks of the validation regions after the inner steps of training, mean over seeds "
    "with 95 % intervals over tasks; step 0 is the network that meta-training starts from. Dashed lines did "
    "not converge or became worse than their start."
)
_VERDICTS = (
    "Differences between rows. The verdict is on what the paper measured, protocol meteor_compat: in whole "
    "regions with class-sorted batches, on balanced tasks with all queries of a task in one batch. Beside "
    "it, without a verdict, what we hold to be right: protocol fair, shuffled batches."
)
_GROUPED = (
    "Intervals come from drawing test tasks, the same for all seeds, and seeds with replacement. Whole "
    "regions are drawn by region-season with all their tasks, as tasks of one are alike; balanced tasks are "
    "drawn one by one, so theirs hold for these region-seasons. With few region-seasons or seeds they come "
    "out too narrow."
)
_FEW = 12
"""Places that are named one by one."""


def write_bench_report(cells: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write `report.md`, its figures, and `report.html` to `folder`; returns the path of the page.

    Args:
        cells: Stored cells (`landmeta.bench.cells.stored_cells`), of one suite or several that share them, on
            one dataset or several.
        folder: Of the run; a half-finished one gives a report that says what is missing.

    Raises:
        OutputError: The folder cannot be written.
    """
    suites = sorted({str(cell["suite"]) for cell in cells})
    title = f"Benchmark {', '.join(suites)}, preset {cells[0]['settings']['preset']['name']}"
    by_data: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        by_data.setdefault(data_label(cell), []).append(cell)
    words = (*outdated_words(cells), *(data_words(own[0]) for own in by_data.values()))
    sections = [Section("What this run can show", words)]
    if len(by_data) > 1:
        sections += [_side_by_side(suite(name), by_data) for name in suites]
    for dataset, own in by_data.items():
        for name in sorted({str(cell["suite"]) for cell in own}):
            sections += _suite_sections(suite(name), own, f"{dataset}: " if len(by_data) > 1 else "")
        sections.append(_how(own))
    sections.append(_cells(cells))
    for section in sections:
        if section.svg:
            write_text(folder / section.figure, section.svg + "\n")
    write_text(folder / "report.md", markdown(title, sections))
    page = folder / "report.html"
    write_text(page, html(title, sections))
    return page


def _side_by_side(entry: Suite, by_data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Section:
    """The suite on every dataset: accuracy on whole regions, and of four classes on balanced tasks."""
    rows = {dataset: suite_rows(entry, cells) for dataset, cells in by_data.items()}
    labels = [row.label for row in next(iter(rows.values()))]
    tables = []
    for column, told in (("regions", "whole regions"), ("balanced", "balanced tasks, four classes")):
        lines = [
            (label, *(_unless_lost(own[place], column) for own in rows.values()))
            for place, label in enumerate(labels)
        ]
        over = ". ".join(
            f"{name}: {interval_words([row.value('fair', column, 'accuracy') for row in own])}"
            for name, own in rows.items()
        )
        caption = f"Accuracy on {told}, protocol fair, shuffled batches"
        tables.append(Table(caption, ("", *rows), tuple(lines), f"{over}."))
    return Section(f"{entry.name} on all data", tables=tuple(tables))


def _unless_lost(row: Row, column: str) -> str:
    found = shown(row.value("fair", column, "accuracy"))
    if row.not_converged:
        return f"{found}, not converged"
    return f"{found}, worse than its start" if row.worse else found


def _suite_sections(entry: Suite, cells: Sequence[Mapping[str, Any]], of: str) -> list[Section]:
    rows = suite_rows(entry, cells)
    protocols = sorted({name for row in rows for name in row.protocols})
    stem = f"{entry.name}-{cells[0]['cell']['dataset']}".replace("/", "-")
    found = [
        Section(f"{of}{entry.name}: {entry.title}", tables=(_against_printed(rows),)),
        _findings(rows, of),
        *_figures(rows, stem, of),
    ]
    tables = [_metrics(rows, protocol, column) for protocol in protocols for column in COLUMNS]
    found.append(Section(f"{of}All metrics, shuffled batches", tables=tuple(tables)))
    orders = [_compositions(rows, protocol, column) for protocol in protocols for column in COLUMNS]
    told = "; ".join(f"{name.replace('_', ' ')}: {words}" for name, words in COMPOSITIONS.items())
    found.append(Section(f"{of}Query compositions", (f"{told}.",), tables=tuple(orders)))
    published = _published(rows, of)
    return [*found, published] if published else found


def _findings(rows: Sequence[Row], of: str) -> Section:
    title = f"{of}What agrees with the paper, what does not, and why"
    compared = comparisons(rows)
    lines = tuple(
        (one.what, f"{one.printed:+.2f}", _signed(one.measured), one.verdict, _signed(one.fair))
        for one in compared
    )
    header = ("difference in accuracy", "printed", "ours, as the paper measured", "verdict", "ours, fair")
    table = Table("Differences beside the printed ones", header, lines, _over([c.measured for c in compared]))
    return Section(
        title, (_VERDICTS,) if lines else (), tuple(findings(rows)), tables=(table,) if lines else ()
    )


def _signed(found: Estimate | None) -> str:
    if found is None:
        return "-"
    low, high = found.ci95
    return f"{found.value:+.3f} ({low:+.3f} to {high:+.3f})"


def _over(found: Sequence[Estimate | None]) -> str:
    """A note on the intervals of a table's estimates, by whether their tasks are grouped."""
    grouped = [one for one in found if one is not None and one.groups]
    single = [one for one in found if one is not None and not one.groups]
    parts = []
    if single:
        parts.append(f"{'Balanced tasks: ' if grouped else ''}{interval_words(single)}.")
    if grouped:
        parts.append(f"{'Whole regions: ' if single else ''}{interval_words(grouped)}.")
    return " ".join(parts)


def _figures(rows: Sequence[Row], stem: str, of: str) -> list[Section]:
    found = []
    swept = [(place, row, row.sweep("fair", "accuracy")) for place, row in enumerate(rows)]
    lines = [
        Line(row.label, place, [(p.share, p.score) for p in points], not row.sound)
        for place, row, points in swept
        if points
    ]
    if lines:
        title, figure = f"{of}Accuracy against imbalance", f"imbalance-{stem}.svg"
        table = _swept([(row, points) for _, row, points in swept if points])
        realised = all(point.realised for _, _, points in swept for point in points)
        told = _SWEEP.format(really="really had" if realised else "was to have")
        found.append(Section(title, (told,), tables=(table,), figure=figure, svg=imbalance_figure(lines)))
    curves = [(place, row, row.curve()) for place, row in enumerate(rows)]
    lines = [
        Line(row.label, place, points, not row.sound) for place, row, points in curves if len(points) > 1
    ]
    if lines:
        title, figure = f"{of}Training curves", f"curves-{stem}.svg"
        found.append(Section(title, (_CURVES,), figure=figure, svg=curves_figure(lines)))
    return found


def _swept(rows: Sequence[tuple[Row, Sequence[Swept]]]) -> Table:
    """The sweep in figures; the columns' heads hold the share asked for and the realised one."""
    first = rows[0][1]
    header = tuple(_asked(point) for point in first)
    lines = []
    for row, points in rows:
        scores = {point.name: point.score for point in points}
        lines.append((_label(row), *(shown(scores.get(point.name)) for point in first)))
    note = _over([point.score for _, points in rows for point in points])
    return Table("Accuracy by share of the largest class", ("", *header), tuple(lines), note)


def _asked(point: Swept) -> str:
    asked = point.name if point.name == BALANCED else f"{100 * float(point.name):.0f} %"
    return f"{asked} (really {100 * point.share:.0f} %)" if point.realised else asked


def _against_printed(rows: Sequence[Row]) -> Table:
    kinds = ("printed", "ours, fair", "ours, compat")
    header = ("", *(f"{kind}, {column}" for column in COLUMNS for kind in kinds))
    lines, estimates = [], []
    for row in rows:
        line = [_label(row)]
        for column, (_, metric) in COLUMNS.items():
            printed = row.printed[column]
            fair = row.value("fair", column, metric)
            compat = row.value("meteor_compat", column, metric, AS_RELEASED[column])
            estimates += [fair, compat]
            line += ["-" if printed is None else f"{printed:.2f}", shown(fair), shown(compat)]
        lines.append(tuple(line))
    caption = (
        "Accuracy beside the printed one: binary on balanced tasks, of the classes on whole regions. Fair: "
        "shuffled batches. Compat, as released: all queries of a task in one batch, regions in class-sorted "
        "batches"
    )
    return Table(caption, header, tuple(lines), _over(estimates))


def _metrics(rows: Sequence[Row], protocol: str, column: str) -> Table:
    scored = [
        (row, [row.value(protocol, column, name) for name in METRICS])
        for row in rows
        if protocol in row.protocols
    ]
    lines = tuple((_label(row), *map(shown, values)) for row, values in scored)
    header = ("", *(name.replace("_", " ") for name in METRICS))
    note = _over([value for _, values in scored for value in values])
    return Table(f"{protocol}, {column}", header, lines, note)


def _compositions(rows: Sequence[Row], protocol: str, column: str) -> Table:
    metric = COLUMNS[column][1]
    lines = [
        (_label(row), *(shown(row.value(protocol, column, metric, name)) for name in COMPOSITIONS))
        for row in rows
        if protocol in row.protocols
    ]
    caption = f"{protocol}, {column}: {metric.replace('_', ' ')}"
    return Table(caption, ("", *(n.replace("_", " ") for n in COMPOSITIONS)), tuple(lines))


def _published(rows: Sequence[Row], of: str) -> Section | None:
    found = [(row, row.value("fair", "published", "accuracy")) for row in rows]
    lines = tuple((_label(row), shown(value)) for row, value in found if value is not None)
    if not lines:
        return None
    count = max(value.tasks for _, value in found if value is not None)
    caption = (
        f"4-way 2-shot accuracy on the {count} published tasks of the test regions, protocol fair, shuffled "
        f"batches of {QUERIES}"
    )
    table = Table(caption, ("", "accuracy"), lines, _over([value for _, value in found]))
    return Section(f"{of}Published tasks", (_PEOPLE,), tables=(table,))


def _label(row: Row) -> str:
    if not row.cells:
        return f"{row.label} (failed)" if row.failed else f"{row.label} (not run)"
    marks = [
        f"{len(lost)} of {len(row.cells)} {what}"
        for lost, what in ((row.not_converged, "did not converge"), (row.worse, "worse than start"))
        if lost
    ]
    return f"{row.label} ({', '.join(marks)})" if marks else row.label


def _how(cells: Sequence[Mapping[str, Any]]) -> Section:
    cell = cells[0]
    settings, places = cell["settings"], cell["places"]
    words = (
        f"Dataset {data_label(cell)}, {settings['tiles']:,} tiles. Trained on {_listed(places['train'])}; "
        f"curve from {_listed(places['val'])}; tested on {_listed(places['holdout'])}; whole regions of "
        f"{settings['regions']}."
    )
    metrics = tuple(f"{name.replace('_', ' ')}: {told}" for name, told in METRICS.items())
    title = f"How it was measured on {data_label(cell)}"
    texts = (words, budget_words(settings["preset"]), trial_words(cells), _GROUPED)
    return Section(title, texts, points=metrics)


def _listed(names: Sequence[str]) -> str:
    """Names, or how many where that would be a long list."""
    if not names:
        return "no region"
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"{len(names)} region-seasons ({', '.join(names[:_FEW])}{more})" if len(names) > 1 else names[0]


def _cells(cells: Sequence[Mapping[str, Any]]) -> Section:
    commands = sorted({str(cell["command"]) for cell in cells})
    ordered = sorted(cells, key=data_label)
    header = (
        "cell", "data", "seed", "state", "inner rate", "validation AUROC, start to end", "time", "hardware",
        "commit", "began", "command",
    )  # fmt: skip
    lines = tuple(_cell_line(cell, commands.index(str(cell["command"])) + 1) for cell in ordered)
    words = "Time is that of the call that finished the cell: what earlier calls had trained is not in it."
    listed = tuple(f"{number}: {command}" for number, command in enumerate(commands, 1))
    return Section("Cells", (words,), tables=(Table("", header, lines),), preformatted=listed)


def _cell_line(cell: Mapping[str, Any], command: int) -> tuple[str, ...]:
    hardware, what = cell["hardware"], cell["cell"]
    training = cell.get("result", {}).get("training", {})
    rate, curve = training.get("inner_rate"), training.get("curve")
    return (
        " ".join(filter(None, (what["method"], what["norm"]))),
        data_label(cell),
        str(what["seed"]),
        cell["state"],
        "-" if rate is None else f"{rate:g}",
        f"{_auroc(curve[0])} to {_auroc(curve[-1])}" if curve else "-",
        _time(cell),
        hardware["gpu"] or f"{hardware['cpus']} CPUs, threads: {hardware['threads']}",
        str(cell["commit"] or "-")[:12],
        cell["began"][:16].replace("T", " "),
        str(command),
    )


def _time(cell: Mapping[str, Any]) -> str:
    cpu = cell.get("cpu_seconds")  # cells made before it was kept have none
    return f"{cell['seconds']:.0f} s" + ("" if cpu is None else f" (CPU {cpu:.0f} s)")


def _auroc(point: Mapping[str, Any]) -> str:
    return "-" if point["auroc"] is None else f"{point['auroc']:.3f}"
