"""Options that several commands share, as typer reads them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from landmeta.devices import DeviceName

IMAGERY: dict[str, Any] = {"rich_help_panel": "Imagery"}
OUTPUT: dict[str, Any] = {"rich_help_panel": "Output"}
"""Panels of the help text."""

RASTERS = typer.Option(
    help="Raster, folder or VRT of tiles; repeat for single-band files.", metavar="<path>", **IMAGERY
)
"""Of `--imagery`, which one command must be given and another need not."""

Bands = Annotated[
    str | None,
    typer.Option(help="Band names in file order, as in B2,B3,B4,B8. Default: from the file.", **IMAGERY),
]
Scale = Annotated[
    float | None,
    typer.Option(help="Reflectance = value * scale + offset. Default: inferred and checked.", **IMAGERY),
]
Offset = Annotated[
    float | None,
    typer.Option(help="See --scale; -0.1 for Sentinel-2 since 2022. Default: the file's, else 0.", **IMAGERY),
]
Device = Annotated[
    DeviceName,
    typer.Option(help="Where to compute; auto takes a GPU if there is one.", rich_help_panel="Model"),
]
MinArea = Annotated[
    float | None,
    typer.Option(
        help="Write polygons as well (polygons.gpkg), of patches of at least so many hectares.",
        min=0.0,
        max=1e9,
        **OUTPUT,
    ),
]
StabilityBlocks = Annotated[
    int,
    typer.Option(
        help="Blocks of 128 px on which stability is measured, for stability.tif; 0: none.", min=0, **OUTPUT
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.", **OUTPUT)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run to --out that stopped.", **OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.", **OUTPUT)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", **OUTPUT)]
