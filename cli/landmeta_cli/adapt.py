"""`landmeta adapt`: imagery and labels to a run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landmeta_cli.console import emit, emit_json, progress_bars, say_all, table
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
from landmeta_cli.requests import SHOTS, AdaptRequest, Effort

if TYPE_CHECKING:
    from landmeta_cli.runs import RunResult

_LABELS: dict[str, Any] = {"rich_help_panel": "Labels"}
_MODEL: dict[str, Any] = {"rich_help_panel": "Model"}

_Region = Annotated[
    str | None,
    typer.Option(
        help="What to map: demo, west,south,east,north in degrees, a vector file, a country, or STORE/REGION "
        "of ingested tiles. Default: all of the imagery.",
        **IMAGERY,
    ),
]
_Imagery = Annotated[list[Path] | None, RASTERS]
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
    int | None,
    typer.Option(
        help=f"Labelled tiles a class, for a region of a tile store. Default: {SHOTS}.", min=1, **_LABELS
    ),
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
_Out = Annotated[
    Path | None, typer.Option(help="Run folder. Default: runs/ and the region's name.", **OUTPUT)
]


def adapt(
    *,
    region: _Region = None,
    imagery: _Imagery = None,
    bands: Bands = None,
    scale: Scale = None,
    offset: Offset = None,
    labels: _LabelPath = None,
    label_column: _Column = None,
    shots: _Shots = None,
    effort: _Effort = Effort.quick,
    checkpoint: _Checkpoint = None,
    device: Device = "auto",
    seed: _Seed = 0,
    min_area: MinArea = None,
    stability_blocks: StabilityBlocks = 4,
    out: _Out = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: Json = False,
    debug: Debug = False,
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
        device=device,
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
    from landmeta_maps.tile_scores import tile_rows, tile_words

    rows = [
        (name[0].lower() + name[1:], f"{n:,}", *("-" if v is None else f"{v:.3f}" for v in shares))
        for name, n, *shares in tile_rows(found)
    ]
    title = f"Unlabelled tiles after {found['shots']} labelled ones a class, by most of their pixels"
    said = f"\n{tile_words(found)}" if found["left_out"] else ""
    return title + "\n" + table(("", "tiles", "accuracy", "balanced"), rows) + said


def areas_table(report: dict[str, Any], total: float) -> str:
    """Area and share of every class, recall and labelled samples where there are any."""
    names = ("class", "area ha", "share", "recall", "samples")
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
    shown = 5 if any(c["support"] is not None for c in report["classes"]) else 3
    return table(names[:shown], [row[:shown] for row in rows], indent=0)
