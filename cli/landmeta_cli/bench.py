"""`landmeta bench`: accuracy and speed, each figure with the command that makes it again."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from landmeta_cli.console import emit, plain, progress_bars, say, table

app = typer.Typer(name="bench", help="Measure accuracy and speed.")

_Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure accuracy and speed."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@app.command(epilog="Example: landmeta bench acceptance --data ../shared/data --task aberystwyth")
def acceptance(
    *,
    data: Annotated[Path, typer.Option(help="Folder of benchmark data.")],
    part: Annotated[str, typer.Option(help="Units to score: test, val, train or all.")] = "test",
    task: Annotated[
        list[str] | None, typer.Option(help="One task; repeat for several. Default: all.", metavar="<str>")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Support draws a unit.", min=1)] = 10,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Start of the adaptation. Default: the starter in the package.")
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Score landmeta and a random forest on the same few labels of real data."""
    del debug
    from landmeta.bench.acceptance import run_acceptance
    from landmeta.bench.ours import our_classifiers

    with progress_bars() as progress:
        rows = run_acceptance(
            data,
            part,
            classify=our_classifiers(checkpoint),
            seeds=seeds,
            tasks=task,
            progress=progress,
            skipped=lambda name, reason: say("note", f"{name} left out: {reason}"),
        )
    found = [row.as_row() for row in rows]
    emit(_json_rows(found) if as_json else acceptance_table(found))


@app.command(epilog="Example: landmeta bench speed --data ../shared/data --json > speed.json")
def speed(
    *,
    repeats: Annotated[int, typer.Option(help="Interleaved repetitions; medians count.", min=1)] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads of both sides.", min=1)] = 2,
    data: Annotated[
        Path | None, typer.Option(help="Folder of benchmark data, to compare accuracy on its chips too.")
    ] = None,
    tasks: Annotated[
        int, typer.Option(help="Tasks of each source on which accuracy is compared, 0 for none.", min=0)
    ] = 6,
    part: Annotated[
        list[str] | None,
        typer.Option(help="map (adapting too), scale, engines or store; repeat for several. Default: all."),
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Time what landmeta does against plain references, and say at what accuracy and memory."""
    del debug
    from landmeta_cli.provenance import commit
    from landmeta_cli.speed import speed_run
    from landmeta_cli.speed_tables import speed_table

    with progress_bars() as progress:
        found = speed_run(part, repeats=repeats, threads=threads, data=data, tasks=tasks, progress=progress)
    found = {"command": shlex.join(("landmeta", *sys.argv[1:])), "commit": commit(), **found}
    emit(json.dumps(plain(found), indent=2) if as_json else speed_table(found))


@app.command("list", epilog="Example: landmeta bench list")
def list_suites(
    *,
    runnable: Annotated[bool, typer.Option("--runnable", help="Only what can be run.")] = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """List every table and figure of the five papers, and whether it can be run."""
    del debug
    from landmeta.bench.registry import papers, suites

    shown = [entry for entry in suites() if entry.runnable or not runnable]
    if as_json:
        emit(
            _json_rows([{"suite": s.name, "title": s.title, "kind": s.kind, "state": s.state} for s in shown])
        )
        return
    titles = {paper.name: f"{paper.title} ({paper.venue})" for paper in papers()}
    blocks = []
    for name, title in titles.items():
        rows = [f"  {s.name:<15} {s.title}: {s.state}" for s in shown if s.name.startswith(name)]
        blocks += ["\n".join([title, *rows])] if rows else []
    emit("\n".join(blocks))


@app.command("run", epilog="Example: landmeta bench run 000/table1a --preset smoke")
def run_bench(
    suite: Annotated[str, typer.Argument(help="Suite, see landmeta bench list.", show_default=False)],
    *,
    data: Annotated[
        Path | None, typer.Option(help="Tile store. Default: a simulated one, for smoke only.")
    ] = None,
    preset: Annotated[str, typer.Option(help="smoke, small or paper.")] = "smoke",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results. Default: bench/SUITE-PRESET.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Dataset of the store. Default: sen12ms, or the first.", metavar="<str>"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of each method. Default: the preset's.", min=1)
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(help="Only rows of this algorithm, norm or rival; repeat for several.", metavar="<str>"),
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="CSV of published tasks to be scored on too.", show_default=False)
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Run a table of a paper, cell by cell; the same command goes on where a run stopped."""
    del debug
    from landmeta_cli.bench_suite import run_suite, write_report
    from landmeta_cli.requests import SuiteRequest

    folder = out or Path("bench") / f"{suite.replace('/', '-')}-{preset}"
    request = SuiteRequest(
        suite=suite,
        preset=preset,
        data=data,
        out=folder,
        dataset=dataset,
        seeds=seeds,
        methods=tuple(row or ()),
        published=tasks,
        command=shlex.join(("landmeta", *sys.argv[1:])),
    )
    with progress_bars() as progress:
        cells = run_suite(request, told=_tell_cell, progress=progress)
    page = write_report(folder)
    failed = [cell for cell in cells if cell["state"] == "failed"]
    if failed:
        say("warning", f"{len(failed)} of {len(cells)} cells failed; the same command tries them again")
    _tell_outdated(cells)
    found = {"report": str(page), "cells": len(cells), "failed": len(failed)}
    emit(json.dumps(found) if as_json else f"{len(cells) - len(failed)} cells done. Report: {page}")


@app.command(epilog="Example: landmeta bench report bench/000-table1a-smoke")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of landmeta bench run.", show_default=False)],
    *,
    debug: _Debug = False,
) -> None:
    """Render the results of a finished or half-finished run: report.md and report.html."""
    del debug
    from landmeta_cli.bench_suite import write_report

    emit(f"Report: {write_report(folder)}")


def _tell_cell(cell: Any, state: str, error: str, hint: str) -> None:
    """One line a cell that was run, on stderr, and one with what mends its error."""
    if state == "failed":
        say("warning", f"{cell.name} failed: {error}")
        if hint:
            say("hint", hint)
    elif state == "outdated":
        say("note", f"{cell.name} is scored again: tiles of whole regions were ingested anew since")
    elif state == "done":
        say("note", f"{cell.name} done")


def _tell_outdated(cells: Sequence[Mapping[str, Any]]) -> None:
    """Warn of results beside those of this run that were scored on other tiles."""
    from landmeta.bench.cells import outdated_cells

    if outdated := outdated_cells(cells):
        suites = " and ".join(sorted({str(cell["suite"]) for cell in outdated}))
        say("warning", f"{len(outdated)} of {len(cells)} cells were scored on earlier tiles of whole regions")
        say("hint", f"landmeta bench run {suites} with this --data and --out, without --row, does it again")


def acceptance_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a task: ours, the forest's, and the paired difference with its interval."""
    cells = [
        (
            row["task"],
            str(row["units"]),
            f"{row['ours']:.3f}",
            f"{row['random_forest']:.3f}",
            f"{row['diff']:+.3f}",
            f"{row['diff_ci95'][0]:+.3f}..{row['diff_ci95'][1]:+.3f}",
        )
        for row in rows
    ]
    figures = table(("task", "units", "landmeta", "forest", "difference", "95 %"), cells, indent=0)
    seen = "\n".join(f"{row['task']}: {row['seen']}" for row in rows)
    return f"{figures}\n\nBalanced accuracy. Seen by the checkpoint:\n{seen}"


def _json_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """A JSON list with one row a line."""
    lines = ",\n".join(json.dumps(plain(row), ensure_ascii=False) for row in rows)
    return f"[\n{lines}\n]"
