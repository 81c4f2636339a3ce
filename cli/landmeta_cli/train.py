"""`landmeta train`: meta-training from a TOML file; the same command goes on where a run stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from landmeta.errors import ConfigError
from landmeta_cli.console import WRONG_USE, emit, emit_json, progress_bars, say, say_all, table


def train(
    config: Annotated[Path, typer.Argument(help="Settings as TOML, see examples/.", show_default=False)],
    *,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start anew instead of going on from the saved state.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Meta-train a network on regional tasks; the same command again goes on from the saved state.

    On several devices: torchrun --standalone --nproc-per-node N -m landmeta_cli train CONFIG.
    """
    del debug  # read by `landmeta_cli.app.run`, which sees every failure
    from landmeta.processes import is_first
    from landmeta.train_config import read_config
    from landmeta_cli.train_workflow import train_run

    try:
        with progress_bars() as progress:
            settings = read_config(config)
            done = train_run(settings, restart=restart, progress=progress)
    except ConfigError as error:
        say_all("error", (f"{error.path}: {fault}" for fault in error.faults))
        say("hint", error.hint)
        raise typer.Exit(WRONG_USE) from None
    if is_first():
        emit_json({"folder": str(done.folder), **done.result}) if as_json else emit(
            summary(done.folder, done.result)
        )


def summary(folder: Path, result: Mapping[str, Any]) -> str:
    """How a run ended, and what it is worth on the test part if that was asked for."""
    lines = [f"{folder}: {result['end']} after {result['steps']:,} steps"]
    if result["best_step"] >= 0:
        lines[0] += f", best at step {result['best_step']:,}"
    if result["tasks_per_s"]:
        lines[0] += f", {result['tasks_per_s']:.2f} tasks/s"
    if "test" in result:
        trained, initial = result["test"]["trained"], result["test"]["initial"]
        rows = [
            ("trained, adapted", _figure(trained["balanced_accuracy"]), f"{trained['ci95']:.3f}"),
            ("trained, not adapted", _figure(trained["unadapted"]), ""),
            ("first weights, adapted", _figure(initial["balanced_accuracy"]), f"{initial['ci95']:.3f}"),
        ]
        lines.append(f"Balanced accuracy on {trained['tasks']} tasks of regions held out:")
        lines.append(table(("", "value", "+-95 %"), rows))
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:.3f}"
