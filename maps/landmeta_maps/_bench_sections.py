"""Sections of the benchmark's report: what they hold, and how they read as Markdown and as one HTML page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

_INTERVAL = re.compile(r"\([-+.\d]+ to [-+.\d]+\)")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption and a note below it; the first column is text, the others are figures."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Sections as Markdown; figures are linked by their file names."""
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
    return "\n\n".join(filter(None, (f"{table.caption}:" if table.caption else "", grid, table.note)))


def html(title: str, sections: Sequence[Section]) -> str:
    """Sections as one HTML page with its figures in it."""
    environment = Environment(
        loader=PackageLoader("landmeta_maps"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["split_interval"] = _split_interval
    return environment.get_template("bench_report.html.j2").render(title=title, sections=sections)


def _split_interval(cell: str) -> tuple[str, str, str]:
    """What is before, in and after an interval, so that no line breaks within it."""
    found = _INTERVAL.search(cell)
    return (cell[: found.start()], found.group(), cell[found.end() :]) if found else (cell, "", "")
