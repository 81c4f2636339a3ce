"""`landmeta ingest`: a tile archive, as published, to a tile store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landmeta.errors import Interrupted
from landmeta_cli.console import emit, emit_json, progress_bars, say, say_all

if TYPE_CHECKING:
    from landmeta_catalog.ingest import IngestSummary

app = typer.Typer(name="ingest", help="Bring a tile archive into a store.")

_SHOWN = 10
"""Broken patches that are named one by one; the index of the store names all."""


class Crop(StrEnum):
    """What becomes of a patch of 256 px: its four quadrants, the 128 px in its centre, or one tile."""

    quadrants = "quadrants"
    centre = "centre"
    whole = "whole"


class Majority(StrEnum):
    """Whether pixels are counted in the 17 published classes or in the 10 simplified ones."""

    published = "published"
    simplified = "simplified"


_ArchivePath = Annotated[Path, typer.Argument(help="Folder of the archive.", show_default=False)]
_Out = Annotated[Path, typer.Option(help="Folder of the store, made where it is absent.")]
_Name = Annotated[str | None, typer.Option(help="Name of the dataset in the store. Default: the archive's.")]
_Workers = Annotated[
    int | None, typer.Option(help="Processes. Default: by the size of the archive, at most 2.", min=1)
]
_Crop = Annotated[
    Crop, typer.Option(help="Four tiles a patch, the 128 px in its centre, or the patch as one tile.")
]
_Majority = Annotated[
    Majority,
    typer.Option(help="A tile's class is its most frequent of the 17 published or of the 10 simplified."),
]
_Sensors = Annotated[str, typer.Option(help="Sensors to store, of s2 and s1.")]
_Bands = Annotated[
    str | None,
    typer.Option(help="Band names in file order, as in B2,B3,B4. Default: from the files."),
]
_Scale = Annotated[
    float | None, typer.Option(help="Reflectance = value * scale + offset. Default: by the type of number.")
]
_Offset = Annotated[float | None, typer.Option(help="See --scale. Default: 0.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback(invoke_without_command=True)
def ingest(context: typer.Context) -> None:
    """Bring a tile archive into a store; the same command again goes on after an interruption."""
    if context.invoked_subcommand is None:
        emit(context.get_help())


@app.command(epilog="Example: landmeta ingest sen12ms SEN12MS --out store")
def sen12ms(
    path: _ArchivePath,
    *,
    out: _Out = Path("store"),
    crop: _Crop = Crop.quadrants,
    majority: _Majority = Majority.published,
    sensors: _Sensors = "s2,s1",
    name: _Name = None,
    workers: _Workers = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Read SEN12MS: ROIs1158_spring/s2_1/..._p30.tif with its s1 and lc siblings, or a part of it."""
    del debug  # read by `landmeta_cli.app.run`, which sees every failure
    options = {"crop": crop.value, "majority": majority.value, "sensors": _words(sensors)}
    _ingest("sen12ms", path, out, options, name=name, workers=workers, as_json=as_json)


@app.command(epilog="Example: landmeta ingest dfc2020 DFC2020 --out store")
def dfc2020(
    path: _ArchivePath,
    *,
    out: _Out = Path("store"),
    crop: _Crop = Crop.quadrants,
    sensors: _Sensors = "s2,s1",
    name: _Name = None,
    workers: _Workers = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Read DFC2020, by contest subset (ROIs0000_test) or by season and place (dfc_CapeTown)."""
    del debug
    options = {"crop": crop.value, "sensors": _words(sensors)}
    _ingest("dfc2020", path, out, options, name=name, workers=workers, as_json=as_json)


@app.command(epilog="Example: landmeta ingest eurosat EuroSAT_MS --out store")
def eurosat(
    path: _ArchivePath,
    *,
    out: _Out = Path("store"),
    name: _Name = None,
    workers: _Workers = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Read EuroSAT, 13 bands or RGB: a folder for each of its ten classes."""
    del debug
    _ingest("eurosat", path, out, {}, name=name, workers=workers, as_json=as_json)


@app.command(epilog="Example: landmeta ingest folder tiles --bands B2,B3,B4 --out store")
def folder(
    path: _ArchivePath,
    *,
    out: _Out = Path("store"),
    bands: _Bands = None,
    scale: _Scale = None,
    offset: _Offset = None,
    crop: Annotated[
        Crop | None, typer.Option(help="Chips with a band of labels: what each is cut into. Default: whole.")
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(help="Chips: JSON whose lists of clusters for this dataset become its regions."),
    ] = None,
    name: _Name = None,
    workers: _Workers = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Read any class/tile folder of TIFF, PNG, JPEG or WebP, or TIFF chips with a band of labels."""
    del debug
    cut = None if crop is None else crop.value
    given = {"bands": bands, "scale": scale, "offset": offset, "crop": cut, "splits": splits and str(splits)}
    options = {key: value for key, value in given.items() if value is not None}
    _ingest("folder", path, out, options, name=name, workers=workers, as_json=as_json)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in text.split(",") if word.strip())


def _ingest(
    kind: str,
    path: Path,
    out: Path,
    options: Mapping[str, Any],
    *,
    name: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Ingest an archive and print what came of it."""
    from landmeta_catalog.archives import open_archive
    from landmeta_catalog.ingest import ingest
    from landmeta_catalog.simulated_archives import is_simulated

    settings = {**options, **({"simulated": True} if is_simulated(path) else {})}
    named = {"dataset": name} if name else {}
    try:
        with progress_bars() as progress:
            archive = open_archive(kind, path, **options, **named)
            found = ingest(archive, out, workers=workers, settings=settings, progress=progress)
    except KeyboardInterrupt:
        # Not left to the guard of all commands: here something was written, and it is worth knowing.
        msg = f"interrupted; what is stored is kept in {out}"
        raise Interrupted(msg, "run the same command again: it goes on from there") from None
    reasons = [reason for _, reason in found.quarantined]
    say_all("warning", (f"quarantined: {reason}" for reason in reasons[:_SHOWN]))
    if len(reasons) > _SHOWN:
        say("warning", f"quarantined: {len(reasons) - _SHOWN} more, see 'reason' in {out / 'index.parquet'}")
    if found.absent:
        told = f"the store keeps {found.absent:,} of its patches, which the archive no longer has"
        remedy = f"delete {out / found.dataset} and ingest again if files were moved or --splits changed"
        say("warning", f"{told}; {remedy}")
    if as_json:
        emit_json({**asdict(found), "quarantined": [{"id": i, "reason": r} for i, r in found.quarantined]})
    else:
        emit(summary(found))


def summary(found: IngestSummary) -> str:
    """What an ingest stored and left out, in two or three lines."""
    read = found.patches - len(found.quarantined)
    lines = [f"{found.dataset}: {found.tiles:,} tiles of {read:,} patches in {found.store}"]
    left_out = []
    if found.same_ground:
        left_out.append(f"{found.same_ground:,} tiles that show the same ground as others")
    if found.quarantined:
        left_out.append(f"{len(found.quarantined):,} broken patches")
    if left_out:
        lines.append(f"Left out: {' and '.join(left_out)}")
    processes = "1 process" if found.workers == 1 else f"{found.workers} processes"
    lines.append(f"{found.written:,} tiles written in {found.seconds:.1f} s by {processes}")
    return "\n".join(lines)
