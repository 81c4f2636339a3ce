"""What a user asks for, as values: the command line and any service build them, the workflows read them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Effort(StrEnum):
    """How much of the network is adapted: heads only, the last block, every tensor, or as published."""

    quick = "quick"
    standard = "standard"
    full = "full"
    paper = "paper"


@dataclass(frozen=True, slots=True)
class AdaptRequest:
    """One run of `landmeta adapt`.

    Attributes:
        region: Catalogue region, region of a tile store, country, `west,south,east,north` in degrees or a
            vector file; None maps
            the whole imagery.
        imagery: Rasters, or one folder or VRT of tiles; empty where the region brings its own.
        bands: Comma-separated band names; None reads them from the file.
        scale: Reflectance = value * scale + offset; None infers the scale and checks it.
        offset: See `scale`.
        labels: Polygons, points, label raster or folder `class/tile.tif`; None if the region brings its own.
        label_column: Column that holds the class.
        shots: Labelled tiles a class, where the region is one of a tile store.
        effort: How much of the network is adapted.
        checkpoint: Start of the adaptation; None takes the one in the package.
        seed: Of every random draw.
        out: Run folder; None makes `runs/<name of the region or imagery>`.
        overwrite: Replace the run that is in `out`.
        resume: Go on with a run to `out` that stopped while it mapped.
        command: The command line, for provenance.
    """

    region: str | None = None
    imagery: tuple[Path, ...] = ()
    bands: str | None = None
    scale: float | None = None
    offset: float = 0.0
    labels: Path | None = None
    label_column: str | None = None
    shots: int = 5
    effort: Effort = Effort.quick
    checkpoint: Path | None = None
    seed: int = 0
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    command: tuple[str, ...] = ()
