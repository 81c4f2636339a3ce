"""What a run starts from: the region resolved, the imagery opened, the labels read; nothing written yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from landmeta.errors import ImageryError, LabelError, RegionError
from landmeta_cli.requests import AdaptRequest

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from odc.geo.geom import Geometry

    from landmeta.labels import Labels
    from landmeta.raster import Imagery
    from landmeta_catalog.regions import Region
    from landmeta_catalog.store_regions import StoreScene


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run starts from, read and validated.

    Attributes:
        region: Name of what is mapped.
        imagery: All of the imagery: labels anywhere on it train the model.
        mapped: The part of the imagery to map.
        outline: Boundary outside which the map has no data; None where the window is all there is.
        labels: The labelled pixels, positions on the grid of `imagery`.
        paths: Files and folders read.
        scene: The tiles of a tile store and which of them are labelled, where these are the labels.
        stored: Whether the imagery is of a tile store, which gives reflectance whatever scale is asked for.
    """

    region: str
    imagery: Imagery
    mapped: Imagery
    outline: Geometry | None
    labels: Labels
    paths: tuple[Path, ...]
    scene: StoreScene | None = None
    stored: bool = False


def read_inputs(request: AdaptRequest) -> Inputs:
    """Resolve the region, open the imagery and read the labels.

    Raises:
        RegionError: The region is unknown, has no imagery, or misses the imagery given.
        ImageryError: There is no imagery, or it cannot be understood.
        LabelError: There are no labels, or they cannot train a model.
    """
    from landmeta.labels import read_labels
    from landmeta.raster import open_imagery

    region = resolved(request.region, request.imagery)
    paths, label_path, column = _sources(request, region)
    imagery = open_imagery(paths, bands=request.bands, scale=request.scale, offset=request.offset)
    mapped = clip(imagery, region)
    labels = read_labels(label_path, imagery, column=column, seed=request.seed)
    name = region.name if region else paths[0].resolve().stem
    read = (*paths, label_path, *file_of(region))
    return Inputs(name, imagery, mapped, outline_of(region), labels, read)


def resolved(region: str | None, imagery: tuple[Path, ...] = ()) -> Region | None:
    """The region that a `--region` argument names for the imagery given, None where there was none.

    Raises:
        RegionError: It is unknown, brings imagery of its own, or is one of a tile store.
    """
    if region is None:
        return None
    from landmeta_catalog.regions import resolve_region
    from landmeta_catalog.store_regions import find_store_region

    if place := find_store_region(region):
        msg = f"{region} is the region {place.name} of a tile store, expected a part of the imagery"
        raise RegionError(msg, f"leave out --region; landmeta adapt --region {region} maps the store's tiles")
    found = resolve_region(region)
    if found.imagery and imagery:  # it has no outline: all of the imagery would be mapped under its name
        msg = f"the region {found.name} brings its own imagery, --imagery was given too"
        raise RegionError(msg, "leave out --region to map all of the imagery")
    return found


def _sources(request: AdaptRequest, region: Region | None) -> tuple[tuple[Path, ...], Path, str | None]:
    """Imagery, labels and label column: what the request names, else what the region brings."""
    own = tuple(region.imagery or ()) if region else ()
    paths = request.imagery or own
    if not paths and region:
        from landmeta_catalog.regions import no_imagery

        raise no_imagery(region)
    if not paths:
        msg = "there is nothing to map: neither imagery nor a region was given"
        raise ImageryError(msg, "--imagery PATH, or --region demo to try it")
    labels = request.labels or (region.labels if region else None)
    if labels is None:
        msg = "there are no labels: the model learns the classes of the map from them"
        raise LabelError(msg, "--labels PATH: polygons, points, a label raster or a folder class/tile.tif")
    return paths, labels, request.label_column


def outline_of(region: Region | None) -> Geometry | None:
    """The boundary to keep within: of a vector file or a country. A box is met by the window around it."""
    if region is None or region.geometry is None or region.kind in ("bbox", "catalogue"):
        return None
    from odc.geo.geom import Geometry

    return Geometry(region.geometry, crs=region.crs)


def file_of(region: Region | None) -> tuple[Path, ...]:
    """The vector file of a region, if it is one."""
    return () if region is None or region.file is None else (region.file,)


def clip(imagery: Imagery, region: Region | None) -> Imagery:
    """The window of the imagery that holds the region."""
    if region is None or region.geometry is None:
        return imagery
    return imagery.clip(outline_of(region) or region.geometry.bounds)


def pixel_metres(grid: GeoBox) -> float:
    """Side of a square pixel as large as the one in the middle of the grid, metres."""
    from landmeta_maps.areas import row_pixel_areas

    areas = row_pixel_areas(grid)
    return float(areas[len(areas) // 2] ** 0.5)
