"""The map of a run: blocks are kept as they are finished, then become the files that a GIS reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta.blocks.folder import PLAN
from landmeta.checksums import sha256
from landmeta.devices import DeviceName, choose_device
from landmeta_cli.console import Progress
from landmeta_cli.provenance import version
from landmeta_cli.run_folder import BLOCKS, staging_folder

if TYPE_CHECKING:
    import numpy as np
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    from landmeta.blocks.plan import BlockWindow
    from landmeta.classmap import MapBlock
    from landmeta.labels import Labels
    from landmeta.prediction import MappingModel
    from landmeta.raster import Imagery
    from landmeta_cli.runs import Watch
    from landmeta_maps.summary import MapSummary


@dataclass(frozen=True, slots=True)
class Cluster:
    """Who maps the blocks: the workers of the Dask scheduler at an address, local ones, or this process."""

    scheduler: str | None = None
    workers: int = 0

    def __bool__(self) -> bool:
        return bool(self.scheduler or self.workers)


@dataclass(frozen=True, slots=True)
class Region:
    """What is mapped: imagery, the part of its grid that is wanted, labels to show, a title for pages."""

    imagery: Imagery
    outline: Geometry | None
    title: str
    labels: Labels | None = None


@dataclass(frozen=True, slots=True)
class Products:
    """How a map is made, and what beside it.

    Attributes:
        device: Where the model computes: a GPU rounds otherwise, so its blocks are not mixed with a CPU's.
        stability_blocks: Blocks on which stability is measured, 0 for none.
        seed: Of the choice of those blocks.
        min_area: Hectares of the smallest polygon; None for no polygons.
        cluster: Its workers map the blocks, and this process puts them together.
    """

    device: DeviceName
    stability_blocks: int
    seed: int
    min_area: float | None
    cluster: Cluster = Cluster()


def write_products(
    model: MappingModel, region: Region, folder: Path, wanted: Products, watch: Watch
) -> tuple[MapSummary, dict[str, float] | None]:
    """Map a region into `folder`, which holds the model already: rasters, stability, polygons and web map.

    Blocks that an earlier run to this folder has finished are not computed again.

    Returns:
        The summary that pages need, and the stability if it was measured.

    Raises:
        ImageryError: A file is gone or damaged.
        OutputError: The folder cannot be written, or holds blocks of another run.
        ClusterError: The cluster does not answer or loses its workers.
    """
    from landmeta_maps.polygons import write_polygons
    from landmeta_maps.webmap import write_web_map

    with watch.stage("map"):  # blocks are written as they come
        summary = _write_rasters(model, region, folder, wanted, watch.progress)
    with watch.stage("stability"):
        stable = _write_stability(model, region, folder, blocks=wanted.stability_blocks, seed=wanted.seed)
    if wanted.min_area is not None:
        with watch.stage("polygons"):
            write_polygons(folder, summary, wanted.min_area)
    with watch.stage("write"):
        write_web_map(summary, region.imagery, region.labels, folder / "map.html", title=region.title)
    return summary, stable


def _write_rasters(
    model: MappingModel, region: Region, folder: Path, how: Products, progress: Progress
) -> MapSummary:
    from landmeta.blocks.folder import BlockFolder
    from landmeta.prediction import map_blocks
    from landmeta_maps.writer import write_map

    imagery, outline = region.imagery, region.outline
    wanted = None if outline is None else meets(outline, imagery.grid)
    kept = BlockFolder(folder / BLOCKS, map_plan(model, folder / "model", imagery, how.device))
    if how.cluster:
        from landmeta.cluster import connect, map_on_cluster

        with connect(how.cluster.scheduler, how.cluster.workers) as client:
            map_on_cluster(model, imagery, client, kept, progress=progress, wanted=wanted)
    blocks = map_blocks(model, imagery, folder=kept, progress=progress, wanted=wanted)
    if outline is not None:
        blocks = keep_inside(blocks, outline, imagery.grid)
    return write_map(blocks, imagery.grid, model.legend, folder)


def _write_stability(
    model: MappingModel, region: Region, folder: Path, *, blocks: int, seed: int
) -> dict[str, float] | None:
    """Measure stability on some blocks of the map and write its raster, both within the outline.

    None where that was not asked for (`blocks` 0), or no block that was drawn has data.
    """
    if not blocks:
        return None
    from landmeta.stability import stability
    from landmeta_maps.writer import stability_raster

    imagery, outline = region.imagery, region.outline
    part: dict[str, Any] = {}
    if outline is not None:
        mask = _mask_of(outline, imagery.grid)
        part = {
            "wanted": meets(outline, imagery.grid),
            "inside": lambda window: mask(window.row, window.col, (window.height, window.width)),
        }
    with stability_raster(imagery.grid, folder) as put:
        return stability(model, imagery, blocks=blocks, seed=seed, put=put, **part)


def unmeasured(blocks: int, stable: Mapping[str, float] | None) -> list[str]:
    """A warning where stability was asked for, on so many blocks, and none of them has data."""
    if not blocks or stable is not None:
        return []
    from landmeta.stability import PASSED_OVER

    drawn = f"none of the blocks drawn, {blocks + PASSED_OVER} at most, has data"
    return [f"stability was not measured: {drawn} (a larger --stability-blocks draws more)"]


def device_for(name: DeviceName, out: Path, *, resume: bool) -> DeviceName:
    """The device of a run to `out`; `auto` goes on where the finished blocks of a stopped run were computed.

    Raises:
        DeviceError: CUDA is asked for, or was computed on, where there is none.
    """
    if name == "auto" and resume:
        with suppress(OSError, ValueError, KeyError):
            name = json.loads((staging_folder(out) / BLOCKS / PLAN).read_text(encoding="utf-8"))["device"]
    return choose_device(name)


def map_plan(model: MappingModel, saved: Path, imagery: Imagery, device: str) -> dict[str, Any]:
    """What decides the bytes of the blocks: the model in the folder `saved`, device, files, part and blocks.

    Raises:
        ImageryError: A file is gone.
    """
    from landmeta import prediction
    from landmeta.raster import fingerprint

    files = [found for path in dict.fromkeys(imagery.paths) for found in fingerprint(path)]
    return {
        "landmeta": version(),
        "model": sha256(saved / "model.safetensors"),
        "device": device,
        "files": files,
        "bands": (imagery.bands.names, imagery.bands.scale, imagery.bands.offset),
        "grid": (str(imagery.grid.crs), tuple(imagery.grid.affine), tuple(imagery.grid.shape)),
        "origin": imagery.origin,
        # Blocks of another side or halo would leave holes, or pixels that saw other neighbours.
        "blocks": {
            "side": prediction.BLOCK,
            "align": model.align * model.stride,
            "context": model.context,
            "overlap": model.overlap,
        },
    }


def meets(outline: Geometry, grid: GeoBox) -> Callable[[BlockWindow], bool]:
    """Tells of a block of the map whether it meets `outline`: outside there is nothing to compute."""
    import shapely
    from geopandas import GeoSeries

    shape = GeoSeries([outline.geom], crs=str(outline.crs)).to_crs(str(grid.crs)).iloc[0]
    shapely.prepare(shape)
    at = grid.transform

    def block_meets(window: BlockWindow) -> bool:
        west, north = at.c + window.col * at.a, at.f + window.row * at.e
        east, south = west + window.width * at.a, north + window.height * at.e
        return bool(shape.intersects(shapely.box(west, south, east, north)))

    return block_meets


def keep_inside(blocks: Iterable[MapBlock], outline: Geometry, grid: GeoBox) -> Iterator[MapBlock]:
    """The blocks with nodata where a pixel's centre lies outside `outline`; empty ones are left out."""
    mask = _mask_of(outline, grid)
    for block in blocks:
        inside = mask(block.row, block.col, block.codes.shape)
        if inside.any():
            yield block.within(inside)


def _mask_of(outline: Geometry, grid: GeoBox) -> Callable[[int, int, tuple[int, ...]], np.ndarray]:
    """Gives, for first row, first column and shape of a part of the grid, where it is inside: bool (y, x)."""
    from affine import Affine
    from geopandas import GeoSeries
    from rasterio.features import geometry_mask

    shape = GeoSeries([outline.geom], crs=str(outline.crs)).to_crs(str(grid.crs))

    def mask(row: int, col: int, size: tuple[int, ...]) -> np.ndarray:
        corner = grid.transform * Affine.translation(col, row)
        inside: np.ndarray = geometry_mask(shape, size, corner, invert=True)
        return inside

    return mask
