"""The `landmeta` command and its verbs; everything heavy is imported inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from landmeta.memory import keep_freed_memory
from landmeta_cli.adapt import adapt
from landmeta_cli.bench import app as bench_app
from landmeta_cli.catalog import app as catalog_app
from landmeta_cli.console import emit, run_guarded
from landmeta_cli.ingest import app as ingest_app
from landmeta_cli.models import app as models_app
from landmeta_cli.predict import predict
from landmeta_cli.provenance import version
from landmeta_cli.train import train

app = typer.Typer(
    name="landmeta",
    help="Land-cover maps from imagery and a handful of labels.",
    epilog="Example: landmeta adapt --region demo --out runs/demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        emit(f"landmeta {version()}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def landmeta(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Land-cover maps from imagery and a handful of labels."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


app.command(epilog="Example: landmeta adapt --region demo --out runs/demo")(adapt)
app.command(epilog="Example: landmeta predict runs/demo --imagery next_year.tif --out runs/next-year")(
    predict
)
app.command(epilog="Example: landmeta train examples/train-narrow.toml")(train)
app.add_typer(bench_app)
app.add_typer(catalog_app)
app.add_typer(ingest_app)
app.add_typer(models_app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line, without the program's name, and return its exit code."""
    return run_guarded(
        lambda: app(list(arguments), prog_name="landmeta", standalone_mode=False),
        debug="--debug" in arguments,
    )


def main() -> None:
    """Entry point of the console script."""
    keep_freed_memory()
    sys.exit(run(sys.argv[1:]))
