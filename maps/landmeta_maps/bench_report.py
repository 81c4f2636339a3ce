"""The report of a benchmark run from its stored cells alone, in Markdown and as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from landmeta.bench.compositions import COMPOSITIONS
from landmeta.bench.metrics import METRICS
from landmeta.bench.registry import Suite, suite
from landmeta.bench.summary import COLUMNS, Row, suite_rows
from landmeta.bench.trials import NATURAL
from landmeta_maps._atomic import write_text
from landmeta_maps._bench_figure import Line, curves_figure, imbalance_figure
from landmeta_maps._bench_words import budget_words, data_words, findings, shown

_PEOPLE = "People reached 0.616 over all 1,000 published tasks, of which these are a part."


_SWEEP = (
    "Protocol fair, shuffled batches. The query of each whole region is thinned by a Dirichlet draw so that "
    "one class, drawn at random, has the share below on average; bars are 95 % intervals, dashed lines are "
    "trainings that did not converge."
)
_CURVES = (
    "AUROC of one-vs-all tasks of the validation regions after the inner steps of training, mean over seeds "
    "with 95 % intervals over tasks; step 0 is the network that meta-training starts from."
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; the first column is text, the others are figures."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report."""

    title: str
    texts: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figure: str = ""
    svg: str = ""
    preformatted: tuple[str, ...] = field(default=())


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
    by_data = _by_dataset(cells)
    sections = [Section("What this run can show", tuple(data_words(own[0]) for own in by_data.values()))]
    if len(by_data) > 1:
        sections += [_side_by_side(suite(name), by_data) for name in suites]
    for dataset, own in by_data.items():
        for name in sorted({str(cell["suite"]) for cell in own}):
            sections += _suite_sections(suite(name), own, f"{dataset}: " if len(by_data) > 1 else "")
        sections.append(_how(own[0]))
    sections.append(_cells(cells))
    for section in sections:
        if section.svg:
            write_text(folder / section.figure, section.svg + "\n")
    write_text(folder / "report.md", _markdown(title, sections))
    page = folder / "report.html"
    write_text(page, _html(title, sections))
    return page


def _by_dataset(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        found.setdefault(str(cell["cell"]["dataset"]), []).append(cell)
    return found


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
        caption = f"Accuracy on {told}, protocol fair, shuffled batches"
        tables.append(Table(caption, ("", *rows), tuple(lines)))
    return Section(f"{entry.name} on all data", tables=tuple(tables))


def _unless_lost(row: Row, column: str) -> str:
    found = shown(row.value("fair", column, "accuracy"))
    return f"{found}, not converged" if row.not_converged else found


def _suite_sections(entry: Suite, cells: Sequence[Mapping[str, Any]], of: str) -> list[Section]:
    rows = suite_rows(entry, cells)
    protocols = sorted({name for row in rows for name in row.protocols})
    stem = f"{entry.name}-{cells[0]['cell']['dataset']}".replace("/", "-")
    found = [
        Section(f"{of}{entry.name}: {entry.title}", tables=(_against_printed(rows),)),
        Section(f"{of}What agrees with the paper, what does not, and why", points=tuple(findings(rows))),
        *_figures(rows, stem, of),
    ]
    tables = [_metrics(rows, protocol, column) for protocol in protocols for column in COLUMNS]
    found.append(Section(f"{of}All metrics, shuffled batches", tables=tuple(tables)))
    orders = [_compositions(rows, protocol, column) for protocol in protocols for column in COLUMNS]
    told = "; ".join(f"{name.replace('_', ' ')}: {words}" for name, words in COMPOSITIONS.items())
    found.append(Section(f"{of}Query compositions", (told + ".",), tables=tuple(orders)))
    published = _published(rows, of)
    return [*found, published] if published else found


def _figures(rows: Sequence[Row], stem: str, of: str) -> list[Section]:
    found = []
    swept = [(row, row.sweep("fair", "accuracy")) for row in rows]
    if lines := [Line(row.label, points, not row.sound) for row, points in swept if points]:
        found.append(
            Section(
                f"{of}Accuracy against imbalance",
                (_SWEEP,),
                figure=f"imbalance-{stem}.svg",
                svg=imbalance_figure(lines),
            )
        )
    curves = [(row, row.curve()) for row in rows]
    if lines := [Line(row.label, points, not row.sound) for row, points in curves if len(points) > 1]:
        found.append(
            Section(f"{of}Training curves", (_CURVES,), figure=f"curves-{stem}.svg", svg=curves_figure(lines))
        )
    return found


def _against_printed(rows: Sequence[Row]) -> Table:
    header = (
        "",
        "printed, balanced",
        "ours, fair",
        "ours, compat",
        "printed, regions",
        "ours, fair",
        "ours, compat",
    )
    lines = []
    for row in rows:
        line = [_label(row)]
        for column, (_, metric) in COLUMNS.items():
            printed = row.printed[column]
            order = "class_sorted" if column == "regions" else "whole"
            line += [
                "-" if printed is None else f"{printed:.2f}",
                shown(row.value("fair", column, metric)),
                shown(row.value("meteor_compat", column, metric, order)),
            ]
        lines.append(tuple(line))
    caption = (
        "Accuracy beside the printed one: binary on balanced tasks, of the classes on whole regions; 95 % "
        "intervals "
        "over tasks and seeds. Fair: shuffled batches. Compat, as released: all queries of a task in one "
        "batch, regions in class-sorted batches"
    )
    return Table(caption, header, tuple(lines))


def _metrics(rows: Sequence[Row], protocol: str, column: str) -> Table:
    names = tuple(METRICS)
    lines = [
        (_label(row), *(shown(row.value(protocol, column, name)) for name in names))
        for row in rows
        if protocol in row.protocols
    ]
    return Table(f"{protocol}, {column}", ("", *(n.replace("_", " ") for n in names)), tuple(lines))


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
    caption = f"4-way 2-shot accuracy on the {count} published tasks of the test regions"
    return Section(f"{of}Published tasks", (_PEOPLE,), tables=(Table(caption, ("", "accuracy"), lines),))


def _label(row: Row) -> str:
    if not row.cells:
        return f"{row.label} (failed)" if row.failed else f"{row.label} (not run)"
    lost = len(row.not_converged)
    return f"{row.label} ({lost} of {len(row.cells)} did not converge)" if lost else row.label


def _how(cell: Mapping[str, Any]) -> Section:
    size, places = cell["settings"]["preset"], cell["places"]
    words = (
        f"Dataset {cell['settings']['dataset']}, {cell['settings']['tiles']:,} tiles; trained on "
        f"{', '.join(places['train'])}; curve from {', '.join(places['val']) or 'no region'}; tested on "
        f"{', '.join(places['holdout'])}, regions of {cell['settings']['regions']}."
    )
    metrics = tuple(f"{name.replace('_', ' ')}: {told}" for name, told in METRICS.items())
    title = f"How it was measured on {cell['settings']['dataset']}"
    return Section(title, (words, budget_words(size), NATURAL), points=metrics)


def _cells(cells: Sequence[Mapping[str, Any]]) -> Section:
    lines = []
    for cell in cells:
        hardware = cell["hardware"]
        machine = hardware["gpu"] or f"{hardware['cpus']} CPUs, {hardware['threads']} threads"
        training = cell.get("result", {}).get("training")
        curve = " ".join(_point(point) for point in training["curve"]) if training else ""
        what = cell["cell"]
        name = " ".join(filter(None, (what["method"], what["norm"])))
        commit = str(cell["commit"] or "-")[:12]
        lines.append(
            (
                name,
                str(what["seed"]),
                cell["state"],
                f"{cell['seconds']:.0f} s",
                machine,
                commit,
                cell["began"],
                curve,
            )
        )
    header = (
        "cell",
        "seed",
        "state",
        "time",
        "hardware",
        "commit",
        "began",
        "validation (step: AUROC)",
    )
    commands = tuple(sorted({str(cell["command"]) for cell in cells}))
    words = "Time is that of the call that finished the cell: what earlier calls had trained is not in it."
    return Section("Cells", (words,), tables=(Table("", header, tuple(lines)),), preformatted=commands)


def _point(point: Mapping[str, Any]) -> str:
    score = point["auroc"]
    return f"{point['step']}: {'-' if score is None else format(score, '.2f')}"


# --- rendering -------------------------------------------------------------------------------------


def _markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += section.texts
        if section.svg:
            parts.append(f"![{section.title}]({section.figure})")
        if section.points:
            parts.append("\n".join(f"- {point}" for point in section.points))
        parts += [_markdown_table(table) for table in section.tables]
        if section.preformatted:
            parts.append("\n".join(f"    {line}" for line in section.preformatted))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [table.header, ("---", *("---:" for _ in table.header[1:])), *table.rows]
    grid = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table.caption}:\n\n{grid}" if table.caption else grid


def _html(title: str, sections: Sequence[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("landmeta_maps"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("bench_report.html.j2").render(title=title, sections=sections)
