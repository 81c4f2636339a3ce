"""`landmeta adapt`: imagery and labels to a run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landmeta_cli.console import emit, emit_json, progress_bars, say_all, table
from landmeta_cli.requests import AdaptRequest, Effort

if TYPE_CHECKING:
    from landmeta_cli.runs import RunResult

_IMAGERY: dict[str, Any] = {"rich_help_panel": "Imagery"}
_LABELS: dict[str, Any] = {"rich_help_panel": "Labels"}
_MODEL: dict[str, Any] = {"rich_help_panel": "Model"}
_OUTPUT: dict[str, Any] = {"rich_help_panel": "Output"}

_Region = Annotated[
    str | None,
    typer.Option(
        help="What to map: demo, west,south,east,north in degrees, a vector file, a country, or STORE/REGION "
        "of ingested tiles. Default: all of the imagery.",
        **_IMAGERY,
    ),
]
_Imagery = Annotated[
    list[Path] | None,
    typer.Option(
        help="Raster, folder or VRT of tiles; repeat for single-band files.", metavar="<path>", **_IMAGERY
    ),
]
_Bands = Annotated[
    str | None,
    typer.Option(help="Band names in file order, as in B2,B3,B4,B8. Default: from the file.", **_IMAGERY),
]
_Scale = Annotated[
    float | None,
    typer.Option(help="Reflectance = value * scale + offset. Default: inferred and checked.", **_IMAGERY),
]
_Offset = Annotated[float, typer.Option(help="See --scale; -0.1 for Sentinel-2 since 2022.", **_IMAGERY)]
_LabelPath = Annotated[
    Path | None,
    typer.Option(
        help="Polygons or points in any OGR format, a label raster, or a folder class/tile.tif.", **_LABELS
    ),
]
_Column = Annotated[
    str | None,
    typer.Option(
        help="Column that holds the class. Default: the obvious one, or one layer per class.", **_LABELS
    ),
]
_Shots = Annotated[
    int, typer.Option(help="Labelled tiles a class, for a region of a tile store.", min=1, **_LABELS)
]
_Effort = Annotated[
    Effort,
    typer.Option(
        help="quick: heads only; standard: last block too; full: every tensor; paper: as published.", **_MODEL
    ),
]
_Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Start of the adaptation. Default: the starter in the package.", **_MODEL),
]
_Seed = Annotated[int, typer.Option(help="Of every random draw.", min=0, **_MODEL)]
MinArea = Annotated[
    float | None,
    typer.Option(
        help="Write polygons as well (polygons.gpkg), none smaller than so many hectares.", min=0.0, **_OUTPUT
    ),
]
StabilityBlocks = Annotated[
    int,
    typer.Option(
        help="Blocks of 128 px on which stability is measured, for stability.tif; 0: none.", min=0, **_OUTPUT
    ),
]
_Out = Annotated[
    Path | None, typer.Option(help="Run folder. Default: runs/ and the region's name.", **_OUTPUT)
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.", **_OUTPUT)]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run to --out that stopped.", **_OUTPUT)]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.", **_OUTPUT)]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", **_OUTPUT)]


def adapt(
    *,
    region: _Region = None,
    imagery: _Imagery = None,
    bands: _Bands = None,
    scale: _Scale = None,
    offset: _Offset = 0.0,
    labels: _LabelPath = None,
    label_column: _Column = None,
    shots: _Shots = 5,
    effort: _Effort = Effort.quick,
    checkpoint: _Checkpoint = None,
    seed: _Seed = 0,
    min_area: MinArea = None,
    stability_blocks: StabilityBlocks = 4,
    out: _Out = None,
    overwrite: _Overwrite = False,
    resume: _Resume = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Adapt to a region and write its land-cover map, with its accuracy, to a run folder."""
    del debug  # read by `landmeta_cli.app.run`, which sees every failure
    request = AdaptRequest(
        region=region,
        imagery=tuple(imagery or ()),
        bands=bands,
        scale=scale,
        offset=offset,
        labels=labels,
        label_column=label_column,
        shots=shots,
        effort=effort,
        checkpoint=checkpoint,
        seed=seed,
        min_area=min_area,
        stability_blocks=stability_blocks,
        out=out,
        overwrite=overwrite,
        resume=resume,
        command=("landmeta", *sys.argv[1:]),
    )
    from landmeta_cli.workflows import adapt_run

    with progress_bars() as progress:
        result = adapt_run(request, progress=progress)
    say_all("warning", result.report["warnings"])
    if as_json:
        emit_json(result.report)
    else:
        emit(summary(result))


def summary(result: RunResult) -> str:
    """What a run found, in a dozen lines: accuracy beside the forest's, areas, where to look."""
    report = result.report
    total = sum(c["area_ha"] for c in report["classes"])
    parts = [f"Land cover of {report['region']}: {len(report['classes'])} classes on {total:,.0f} ha"]
    if report["holdout"]:
        parts.append(_accuracy(report))
    if report.get("unlabelled_tiles"):
        parts.append(_unlabelled(report["unlabelled_tiles"]))
    parts.append(areas_table(report, total))
    seconds = sum(report["timing_s"].values())
    parts.append(f"{seconds:.0f} s. Look at {result.folder / 'map.html'} and {result.folder / 'report.html'}")
    return "\n\n".join(parts)


def _accuracy(report: dict[str, Any]) -> str:
    holdout = report["holdout"]
    metric = str(holdout["metric"]).replace("_", " ")
    split = "one split" if holdout["folds"] == 1 else f"{holdout['folds']} folds"
    title = f"Hold-out, {metric}, {split} by {holdout['block']}, {holdout['n']:,} samples"
    rows = [
        (name, f"{part['value']:.3f}", f"{part['ci95'][0]:.3f}..{part['ci95'][1]:.3f}")
        for name, part in (("landmeta", holdout), ("random forest", report["random_forest"]))
        if part
    ]
    return title + "\n" + table(("", "value", "95 %"), rows)


def _unlabelled(found: dict[str, Any]) -> str:
    rows = [
        (name, f"{part['n']:,}", f"{part['accuracy']:.3f}", f"{part['balanced_accuracy']:.3f}")
        for name, part in (("at least 256 px from the labelled", found["apart"]), ("all", found["all"]))
        if part
    ]
    title = f"Unlabelled tiles after {found['shots']} labelled ones a class, by most of their pixels"
    return title + "\n" + table(("", "tiles", "accuracy", "balanced"), rows)


def areas_table(report: dict[str, Any], total: float) -> str:
    """Area, share, recall and labelled samples of every class."""
    rows = [
        (
            c["name"],
            f"{c['area_ha']:,.1f}",
            f"{100 * c['area_ha'] / total:.1f} %" if total else "-",
            "-" if c["recall"] is None else f"{c['recall']:.3f}",
            "-" if c["support"] is None else f"{c['support']:,}",
        )
        for c in report["classes"]
    ]
    return table(("class", "area ha", "share", "recall", "samples"), rows, indent=0)
