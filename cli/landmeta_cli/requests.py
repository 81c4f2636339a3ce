"""What a user asks for, as values: the command line and any service build them, the workflows read them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from landmeta.devices import DeviceName

SHOTS = 5
"""Labelled tiles a class that are drawn of a tile store's region where no number is asked for."""


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
        offset: See `scale`; None takes the file's with its scale, else 0.
        labels: Polygons, points, label raster or folder `class/tile.tif`; None if the region brings its own.
        label_column: Column that holds the class.
        shots: Labelled tiles a class, where the region is one of a tile store; None draws `SHOTS`.
        effort: How much of the network is adapted.
        checkpoint: Start of the adaptation; None takes the one in the package.
        device: Where to adapt and map.
        seed: Of every random draw.
        min_area: Write polygons of at least so many hectares as well; None writes none.
        stability_blocks: Blocks of 128 px on which stability is measured; 0 leaves it out.
        out: Run folder; None makes `runs/<name of the region or imagery>`.
        overwrite: Replace the run that is in `out`.
        resume: Go on with a run to `out` that stopped while it mapped.
        command: The command line, for provenance.
    """

    region: str | None = None
    imagery: tuple[Path, ...] = ()
    bands: str | None = None
    scale: float | None = None
    offset: float | None = None
    labels: Path | None = None
    label_column: str | None = None
    shots: int | None = None
    effort: Effort = Effort.quick
    checkpoint: Path | None = None
    device: DeviceName = "auto"
    seed: int = 0
    min_area: float | None = None
    stability_blocks: int = 4
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    command: tuple[str, ...] = ()

    @property
    def drawn_shots(self) -> int:
        """Labelled tiles a class, where they are drawn."""
        return SHOTS if self.shots is None else self.shots


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """One run of `landmeta predict`.

    Attributes:
        run: Folder of a finished `landmeta adapt`, or its `model` folder.
        imagery: Rasters, or one folder or VRT of tiles.
        bands: See `AdaptRequest`.
        scale: See `AdaptRequest`.
        offset: See `AdaptRequest`.
        region: What part of the imagery to map, see `AdaptRequest`; None maps all of it.
        device: Where to map; workers of a cluster compute on their CPUs.
        min_area: See `AdaptRequest`.
        stability_blocks: See `AdaptRequest`.
        out: Run folder; None makes `runs/<name of the imagery>`.
        overwrite: Replace the run that is in `out`.
        resume: Go on with a run to `out` that stopped while it mapped.
        scheduler: Address of a Dask scheduler whose workers map the blocks; None maps them here.
        workers: Processes of a local cluster; 0 maps in this process.
        command: The command line, for provenance.
    """

    run: Path
    imagery: tuple[Path, ...]
    bands: str | None = None
    scale: float | None = None
    offset: float | None = None
    region: str | None = None
    device: DeviceName = "auto"
    min_area: float | None = None
    stability_blocks: int = 4
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    scheduler: str | None = None
    workers: int = 0
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRequest:
    """One run of `landmeta bench run`.

    Attributes:
        suite: Name of the suite.
        preset: Its size.
        data: Tile store; None simulates a small archive in `out`, for the preset `smoke` only.
        out: Folder of the results.
        dataset: Dataset of the store; by default sen12ms, or its only one.
        seeds: Trainings of each method; by default the preset's.
        methods: Rows to run, as method or norm names; all if empty.
        published: Table of published tasks on which to score too; see `landmeta_catalog.published_tasks`.
        command: The command line.
    """

    suite: str
    preset: str
    data: Path | None
    out: Path
    dataset: str | None = None
    seeds: int | None = None
    methods: tuple[str, ...] = ()
    published: Path | None = None
    command: str = ""
