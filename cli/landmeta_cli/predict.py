"""`landmeta predict`: the model of a run on other imagery."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landmeta_cli.adapt import areas_table
from landmeta_cli.console import emit, emit_json, progress_bars, say_all
from landmeta_cli.options import (
    IMAGERY,
    OUTPUT,
    RASTERS,
    Bands,
    Debug,
    Device,
    Json,
    MinArea,
    Offset,
    Overwrite,
    Resume,
    Scale,
    StabilityBlocks,
)
from landmeta_cli.requests import PredictRequest

if TYPE_CHECKING:
    from landmeta_cli.predict_workflow import Estimate
    from landmeta_cli.runs import RunResult

_CLUSTER: dict[str, Any] = {"rich_help_panel": "Cluster"}

_Run = Annotated[Path, typer.Argument(help="Folder of a finished landmeta adapt.", metavar="<run>")]
_Imagery = Annotated[list[Path], RASTERS]
_Region = Annotated[
    str | None,
    typer.Option(
        help="Part to map: west,south,east,north in degrees, a vector file or a country.", **IMAGERY
    ),
]
_Scheduler = Annotated[
    str | None, typer.Option(help="Map on a Dask cluster, as in tcp://host:8786.", **_CLUSTER)
]
_Workers = Annotated[
    int, typer.Option(help="Map with this many processes of this machine.", min=0, **_CLUSTER)
]
_Out = Annotated[
    Path | None, typer.Option(help="Run folder. Default: runs/ and the imagery's name.", **OUTPUT)
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Map one block and say what all would take.", **OUTPUT)
]


def predict(
    run: _Run,
    *,
    imagery: _Imagery,
    bands: Bands = None,
    scale: Scale = None,
    offset: Offset = None,
    region: _Region = None,
    device: Device = "auto",
    scheduler: _Scheduler = None,
    workers: _Workers = 0,
    min_area: MinArea = None,
    stability_blocks: StabilityBlocks = 4,
    out: _Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: _DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Map other imagery of the same bands with the model of a run: other dates, places, UTM zones."""
    del debug  # read by `landmeta_cli.app.run`, which sees every failure
    request = PredictRequest(
        run=run,
        imagery=tuple(imagery),
        bands=bands,
        scale=scale,
        offset=offset,
        region=region,
        device=device,
        min_area=min_area,
        stability_blocks=stability_blocks,
        out=out,
        overwrite=overwrite,
        resume=resume,
        scheduler=scheduler,
        workers=workers,
        command=("landmeta", *sys.argv[1:]),
    )
    from landmeta_cli.predict_workflow import estimate, predict_run

    if dry_run:
        found = estimate(request)
        say_all("warning", found.warnings)
        emit_json(asdict(found)) if as_json else emit(estimate_text(found))
        return
    with progress_bars() as progress:
        result = predict_run(request, progress=progress)
    say_all("warning", result.report["warnings"])
    if as_json:
        emit_json(result.report)
    else:
        emit(summary(result))


def summary(result: RunResult) -> str:
    """What was mapped, in a few lines."""
    report = result.report
    total = sum(c["area_ha"] for c in report["classes"])
    seconds = sum(report["timing_s"].values())
    return "\n\n".join(
        (
            f"Land cover of {report['region']}: {len(report['classes'])} classes on {total:,.0f} ha",
            areas_table(report, total),
            f"{seconds:.0f} s. Look at {result.folder / 'map.html'}; no accuracy was measured here",
        )
    )


def estimate_text(found: Estimate) -> str:
    """The estimate in one paragraph."""
    minutes = found.seconds / 60
    time = f"{found.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
    blank = "Blocks without data take less."
    if not found.found_data:
        blank = (
            f"The {found.looked_at} blocks looked at have no data: the time is that of a map full of data."
        )
    return (
        f"{found.blocks:,} blocks, {found.pixels / 1e6:,.1f} million pixels: about {time} in this process, "
        f"{found.memory_mb:,.0f} MB of memory and at most {found.disk_mb:,.0f} MB of disk while it runs. "
        f"{blank} Nothing was written."
    )
