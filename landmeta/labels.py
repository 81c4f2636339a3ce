"""Labels: pixels of the imagery whose class is known, from polygons, points, label rasters or tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import geopandas
import numpy as np
import shapely
from jaxtyping import Bool, Int64
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from landmeta._imagery.extents import (
    DEGREES,
    check_georeference,
    degrees_extent,
    describe,
    transform_geometry,
)
from landmeta._imagery.files import RasterFile, inspect
from landmeta._imagery.naming import SUFFIXES
from landmeta._labels.categories import Categories, read_categories
from landmeta._labels.classes import alike, like_background, number_classes
from landmeta._labels.features import (
    FORMAT_HINT,
    ClassValue,
    Features,
    as_label_error,
    crs_name,
    doubted_crs,
    read_tiles,
    read_vector,
)
from landmeta._labels.patches import find_patches, outlines
from landmeta._labels.pixels import Covered, burn, contested, settle
from landmeta._labels.rasters import code_strips, overlaps
from landmeta.errors import ImageryError, LabelError
from landmeta.legend import Legend
from landmeta.raster import Imagery

_BLOCK = 512
_LARGEST_PATCH = 128
"""Pixels of a side: a larger patch could hardly be held out, and with it all of its class."""

_MOST_OF_CLASS = 300_000
"""Pixels of a class kept: a raster or the parcels of a whole scene have millions, adaptation looks at 400."""

_FEWEST = 2
_OVERLAP_HINT = "--labels must overlap --imagery (and --region); check the CRS of both"


@dataclass(frozen=True)
class Labels:
    """Labelled pixels with data, one a sample; every pixel occurs once.

    `rows`, `cols`: position on the imagery's grid. `codes`: class code of `legend`. `groups`: the polygon,
    point, patch or tile that the pixel comes from, in file order: what hold-out keeps together.
    `footprints`: one row a group (`group`, `class_name`, `geometry` in the imagery's CRS).
    `warnings`: one line each about what was reprojected or left out, or looks like a slip. `patches`: whether
    the groups are connected pixels of a label raster, which may be of any size.
    """

    legend: Legend
    rows: Int64[np.ndarray, "sample"]
    cols: Int64[np.ndarray, "sample"]
    codes: Int64[np.ndarray, "sample"]
    groups: Int64[np.ndarray, "sample"]
    footprints: geopandas.GeoDataFrame
    warnings: tuple[str, ...] = ()
    unit: str = "pixels"
    patches: bool = False

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class _Found:
    """Labelled pixels before it is known which have data; `owner` of a pixel is its group."""

    covered: Covered
    values: tuple[ClassValue, ...]
    group_class: NDArray[np.int64]
    geometry: NDArray[np.object_]
    notes: tuple[str, ...]
    unit: str = "pixels"
    doubted: str = ""
    said: Categories = field(default_factory=Categories)
    patches: bool = False


def read_labels(
    path: Path,
    imagery: Imagery,
    *,
    column: str | None = None,
    legend: Legend | None = None,
    seed: int = 0,
) -> Labels:
    """Read the labels at `path` onto the grid of `imagery`.

    Polygons label the pixels whose centre they hold (or the one of their centroid), points the pixel they are
    in; any OGR format and CRS, with the class in `column`, in a column named class, label, ..., or in the
    layers' names. A raster of class codes labels the pixels whose centres its own pixels hold, and its
    connected patches, large ones cut into squares, are the groups; 0 and its nodata are no label; names and
    palette of its codes are kept. A folder `class/tile.tif` labels the footprint of each tile. Of clipped
    imagery only the clipped grid is labelled. Where a class has more than 300,000 pixels, so many are drawn:
    of a raster wherever they lie, of polygons and tiles as many of each large one.

    Args:
        path: vector file, label raster or folder.
        imagery: what is labelled; only blocks with labels are read.
        column: column of the class, in vector files.
        legend: what numbers or names in the labels mean, for example `WORLDCOVER`; by default the codes
            of `legend_for`, and numbers (digits in text too) keep their value and are called `class 3`.
        seed: seed of the drawing from very many labelled pixels.

    Raises:
        LabelError: nothing there, no CRS, no class column, all outside the imagery or on nodata, one class
            only, fewer than two samples of a class (pixels, or tiles of a folder).
        ImageryError: a block of the imagery cannot be read.
    """
    target = imagery.grid.crs
    if target is None:
        msg = "the imagery has no CRS, so labels have no place on it"
        raise LabelError(msg, "write the CRS into the imagery, for example with gdal_edit -a_srs")
    found = _find(Path(path), imagery, target, column, np.random.default_rng(seed))
    if not len(found.covered.rows):
        raise _outside(Path(path), found, imagery, target)
    named, chosen, renumbered = number_classes(found.values, legend, found.said)
    valid = _has_data(imagery, found.covered)
    covered = found.covered.take(valid)
    notes = [*found.notes, *alike(chosen.names), *renumbered]
    notes += _counted(int((~valid).sum()), "labelled pixels have no imagery (nodata)")
    codes = np.array([named[v] for v in found.values], np.int64)[found.group_class[covered.owner]]
    if not len(codes):
        msg = f"all {len(valid)} labelled pixels of {path} lie where the imagery has no data"
        raise LabelError(msg, "label where the imagery shows something")
    _require_classes(codes, covered.owner, chosen, found.unit)
    return Labels(
        legend=chosen,
        rows=covered.rows,
        cols=covered.cols,
        codes=codes,
        groups=covered.owner,
        footprints=_footprints(found, covered, codes, chosen, target),
        warnings=tuple(notes),
        unit=found.unit,
        patches=found.patches,
    )


def _counted(count: int, what: str) -> list[str]:
    return [f"{count} {what}: left out"] if count else []


def _find(path: Path, imagery: Imagery, target: CRS, column: str | None, rng: np.random.Generator) -> _Found:
    if not path.exists():
        msg = f"the labels {path} do not exist"
        raise LabelError(msg, FORMAT_HINT)
    if path.is_dir():
        tiles = read_tiles(path, target)
        return _of_features(tiles or read_vector(path, target, column), imagery, rng)
    if path.suffix.lower() in SUFFIXES:
        return _of_raster(path, imagery, target, rng)
    return _of_features(read_vector(path, target, column), imagery, rng)


def _of_features(features: Features, imagery: Imagery, rng: np.random.Generator) -> _Found:
    values = tuple(dict.fromkeys(features.classes))
    position = {value: i for i, value in enumerate(values)}
    group_class = np.array([position[value] for value in features.classes], np.int64)
    most = _shares(features.geometry, group_class, imagery.grid)
    covered, seen, small = burn(features.geometry, imagery.grid, most, rng)
    outside = len(features.geometry) - len(np.unique(covered.owner))
    drawn = _drawn(seen, len(covered.rows))
    settled, disputed = settle(covered, group_class, imagery.shape[1])
    if drawn:  # then a pixel of one label need not be among those kept of another over it
        clear = ~contested(settled, features.geometry, group_class, imagery.grid)
        settled, disputed = settled.take(clear), disputed + int((~clear).sum())
    given = len(features.geometry)
    notes = [*features.notes, *_counted(outside, f"of {given} labels lie outside the imagery")]
    if small:
        notes.append(f"{small} polygons hold no pixel's centre: each labels the pixel of its centroid")
    notes += drawn
    notes += _counted(disputed, "pixels are under labels of different classes")
    return _Found(
        covered=settled,
        values=values,
        group_class=group_class,
        geometry=features.geometry,
        notes=tuple(notes),
        unit=features.unit,
        doubted=features.doubted,
    )


def _shares(geometry: NDArray[np.object_], classes: NDArray[np.int64], grid: GeoBox) -> NDArray[np.int64]:
    """Pixels to keep of each shape: all, or at most so many where its class has more than can be kept."""
    # What reaches beyond the imagery is not burnt, so it does not count. Clipping is inexact for invalid
    # shapes and for holes that touch the frame: good enough to decide whether to draw.
    inside = np.minimum(
        shapely.area(shapely.clip_by_rect(geometry, *grid.boundingbox.bbox)), shapely.area(geometry)
    )
    pixels = inside / abs(grid.transform.a * grid.transform.e)
    most = np.full(len(geometry), math.prod(grid.shape))
    for large in np.flatnonzero(np.bincount(classes, weights=pixels) > _MOST_OF_CLASS):
        most[classes == large] = _level(pixels[classes == large], _MOST_OF_CLASS)
    return most


def _level(sizes: NDArray[np.float64], most: int) -> int:
    """Of how much at most of each of some sizes the sum is `most`, which is less than all."""
    sizes = np.sort(sizes)
    smaller = np.cumsum(sizes) - sizes
    levels = (most - smaller) / np.arange(len(sizes), 0, -1)
    return max(int(levels[np.argmax(sizes >= levels)]), 1)


def _of_raster(path: Path, imagery: Imagery, target: CRS, rng: np.random.Generator) -> _Found:
    file = _inspect_codes(path)
    strips = code_strips(file, imagery.grid)
    found = find_patches(strips, imagery.shape[1], rng, most=_MOST_OF_CLASS, largest=_LARGEST_PATCH)
    notes = []
    if not _same_pixels(file, imagery):
        notes.append(
            f"{path.name} is on a grid of its own: pixels of the imagery take the label at their centre"
        )
    source = CRS(file.crs)
    if source != target:
        notes.insert(0, f"labels reprojected from {crs_name(source)} to {crs_name(target)}")
    if not found.counts:
        raise _no_code(file) if overlaps(file, imagery.grid) else _raster_outside(file, imagery)
    notes += like_background(file, found.counts)
    notes += _drawn(sum(found.counts.values()), len(found.pixels.rows))
    codes = np.array(list(found.counts), np.int64)
    return _Found(
        covered=found.pixels,
        values=tuple(found.counts),
        group_class=np.searchsorted(codes, found.patch_code),
        geometry=outlines(found, imagery.grid),
        notes=tuple(notes),
        said=read_categories(file),
        patches=True,
    )


def _drawn(seen: int, kept: int) -> list[str]:
    """One line where not all labelled pixels are kept."""
    if kept == seen:
        return []
    drawn = f"of {seen:,} labelled pixels {kept:,} are kept, drawn at random"
    return [f"{drawn}: about {_MOST_OF_CLASS:,} of a large class"]


def _inspect_codes(path: Path) -> RasterFile:
    try:
        file = inspect(path)
        check_georeference(file)
    except ImageryError as error:
        raise as_label_error(error) from error
    if file.count - len(file.alpha) != 1:
        msg = f"the label raster {path} has {file.count} bands, expected one of class codes"
        raise LabelError(msg, "--labels takes a raster of class codes, --imagery the image")
    return file


def _same_pixels(file: RasterFile, imagery: Imagery) -> bool:
    at, other = imagery.grid.transform, file.transform
    shift = (other.c - at.c) / at.a, (other.f - at.f) / at.e
    return (
        CRS(file.crs) == imagery.grid.crs
        and np.allclose((at.a, at.e), (other.a, other.e), rtol=1e-6)
        and all(abs(value - round(value)) < 0.05 for value in shift)
    )


def _outside(path: Path, found: _Found, imagery: Imagery, target: CRS) -> LabelError:
    """The error that no label is left, with both extents."""
    disputed = [note for note in found.notes if "different classes" in note]
    if disputed:
        return LabelError(f"no label of {path} is left: {disputed[0]}", "give each place one class")
    everything = transform_geometry(shapely.GeometryCollection(list(found.geometry)), target, DEGREES)
    west, south, east, north = everything.bounds
    msg = (
        f"all labels of {path} lie outside the imagery: they span {describe((west, south, east, north))}, "
        f"the imagery {describe(degrees_extent(imagery.grid))} (degrees)"
    )
    return _elsewhere(msg, found.doubted, "ogr2ogr -a_srs EPSG:4326 OUT IN")


def _no_code(file: RasterFile) -> LabelError:
    nodata = file.nodata[0]
    background = "0 or no data" if nodata in (None, 0) else f"0, or {nodata:.12g}, its nodata"
    msg = f"the label raster {file.path} holds no class code over the imagery, only background ({background})"
    return LabelError(msg, "number the classes from 1, and label what --imagery (and --region) show")


def _raster_outside(file: RasterFile, imagery: Imagery) -> LabelError:
    grid = GeoBox(file.shape, file.transform, file.crs)
    msg = (
        f"all labels of {file.path} lie outside the imagery: it spans {describe(degrees_extent(grid))}, "
        f"the imagery {describe(degrees_extent(imagery.grid))} (degrees)"
    )
    doubted = doubted_crs(grid.boundingbox.bbox, CRS(file.crs))
    return _elsewhere(msg, doubted, f"gdal_edit -a_srs EPSG:4326 {file.path.name}")


def _elsewhere(msg: str, doubted: str, mend: str) -> LabelError:
    """The error that labels miss the imagery, with the command `mend` where their CRS seems to be wrong."""
    if not doubted:
        return LabelError(msg, _OVERLAP_HINT)
    return LabelError(
        f"{msg}; the coordinates look like degrees though the file says {doubted}",
        f"if they are degrees, write that into the file: {mend}",
    )


def _has_data(imagery: Imagery, covered: Covered) -> Bool[np.ndarray, "sample"]:
    """Whether all bands have data at each pixel; reads only the blocks that hold some."""
    valid = np.zeros(len(covered.rows), bool)
    rows, cols = imagery.shape
    block = (covered.rows // _BLOCK) * (cols // _BLOCK + 1) + covered.cols // _BLOCK
    order = np.argsort(block, kind="stable")
    starts = np.flatnonzero(np.r_[True, block[order][1:] != block[order][:-1]])
    for members in np.split(order, starts[1:]):
        top, left = covered.rows[members].min(), covered.cols[members].min()
        high, wide = covered.rows[members].max() + 1 - top, covered.cols[members].max() + 1 - left
        values = imagery.read(int(top), int(left), int(high), int(wide))
        complete = np.asarray(np.isfinite(values).all(axis=0))
        valid[members] = complete[covered.rows[members] - top, covered.cols[members] - left]
    return valid


def _require_classes(codes: NDArray[np.int64], groups: NDArray[np.int64], legend: Legend, unit: str) -> None:
    """Refuse labels of one class only, or with a class of fewer than two samples."""
    if len(legend) < _FEWEST:
        msg = f"all labels are of one class, {legend.names[0]!r}; a map needs at least two"
        raise LabelError(msg, "label a second class, for example everything else")
    samples = [groups[np.flatnonzero(codes == code)] for code in legend.codes]
    counts = [len(np.unique(of_class) if unit == "tiles" else of_class) for of_class in samples]
    few = [f"{c.name!r} has {n}" for c, n in zip(legend, counts, strict=True) if n < _FEWEST]
    if few:
        msg = f"a class needs at least {_FEWEST} {unit} on the imagery: {', '.join(few)}"
        raise LabelError(msg, "label more of it on the imagery, or take the class out of the labels")


def _footprints(
    found: _Found, covered: Covered, codes: NDArray[np.int64], legend: Legend, target: CRS
) -> geopandas.GeoDataFrame:
    groups, first = np.unique(covered.owner, return_index=True)
    names = dict(zip(legend.codes, legend.names, strict=True))
    columns = {"group": groups, "class_name": [names[int(code)] for code in codes[first]]}
    return geopandas.GeoDataFrame(columns, geometry=found.geometry[groups], crs=target.to_wkt())
