"""Labels that are shapes: polygons and points in vector files, and the footprints of labelled tiles."""

from __future__ import annotations

import re
import shlex
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyogrio
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from pyogrio.errors import DataLayerError, DataSourceError
from shapely.geometry.base import BaseGeometry

from landmeta._imagery.extents import Bounds, check_georeference, transform_geometry
from landmeta._imagery.files import inspect
from landmeta._imagery.naming import SUFFIXES
from landmeta.errors import ImageryError, LabelError

ClassValue = str | int
"""A class as the labels give it: a name, or a number of a legend that is not in the file."""

_CLASS_COLUMNS = ("class", "class_name", "classname", "label", "landcover", "land_cover", "lulc", "category")
_COORDINATES = (
    *(("lon", "lat"), ("longitude", "latitude"), ("long", "lat"), ("lng", "lat")),
    *(("x", "y"), ("easting", "northing"), ("east", "north"), ("e", "n")),
)
_COLUMN_HINT = "--label-column says which column holds the class"
_LINES = "are lines, expected polygons or points"
_UNDEFINED = "lie where the imagery's CRS is not defined"
_CRS_HINT = (
    "check the CRS of --labels: metres in a file that says EPSG:4326 lie nowhere; "
    "ogr2ogr -a_srs EPSG:CODE OUT IN writes the right one"
)
FORMAT_HINT = "--labels takes a vector file, a raster of class codes or a folder class/tile.tif"


@dataclass(frozen=True)
class Features:
    """Polygons and points in the imagery's CRS with the class of each, in the order of the file.

    `unit` is what a class must have two of: pixels, or tiles where a label is a whole tile. `doubted` names
    the CRS of the file where it is projected and all coordinates look like degrees.
    """

    geometry: NDArray[np.object_]
    classes: tuple[ClassValue, ...]
    notes: tuple[str, ...] = ()
    unit: str = "pixels"
    doubted: str = ""


def as_label_error(error: ImageryError) -> LabelError:
    """The same finding, told of the labels."""
    return LabelError(str(error), error.hint.replace("--imagery", "--labels"))


def read_tiles(folder: Path, target: CRS) -> Features | None:
    """Footprints of the rasters in `folder/class/`; None if there are none.

    Raises:
        LabelError: a tile cannot be read or has no place on Earth.
    """
    tiles = sorted(
        tile
        for inner in folder.iterdir()
        if inner.is_dir() and not inner.name.startswith(".")
        for tile in inner.iterdir()
        if tile.suffix.lower() in SUFFIXES
    )
    footprints, moved = [], set()
    for tile in tiles:
        try:
            file = inspect(tile)
            check_georeference(file)
        except ImageryError as error:
            raise as_label_error(error) from error
        at, (rows, cols) = file.transform, file.shape
        frame: BaseGeometry = shapely.box(at.c, at.f + rows * at.e, at.c + cols * at.a, at.f)
        source = CRS(file.crs)
        if source != target:
            moved.add(crs_name(source))
            frame = transform_geometry(shapely.segmentize(frame, rows * -at.e / 8), source, target)
        footprints.append(frame)
    if not tiles:
        return None
    notes = tuple(f"labels reprojected from {name} to {crs_name(target)}" for name in sorted(moved))
    return Features(_object_array(footprints), tuple(t.parent.name for t in tiles), notes, unit="tiles")


def read_vector(path: Path, target: CRS, column: str | None) -> Features:
    """Shapes of a vector file, moved to `target`, with the class from a column or from the layer's name.

    Raises:
        LabelError: no vector file, no shapes, no CRS, no class column, or values that are no classes.
    """
    layers = _layers(path)
    by_layer = _class_columns(path, layers, column)
    tables, notes, doubted = [], [], set()
    for layer, name in by_layer.items():
        table = _read_layer(path, layer, name)
        moved, note = _to_crs(table, path, target)
        if len(table):
            doubted.add(doubted_crs(tuple(table.total_bounds.tolist()), CRS(table.crs)))
        tables.append(moved)
        notes.extend(note)
    geometry = np.concatenate([t.geometry.to_numpy() for t in tables])
    values: pandas.Series = pandas.concat([t["class"] for t in tables], ignore_index=True)
    shapes, classes, dropped = _clean(geometry, values, next(iter(by_layer.values())))
    if not len(shapes):
        raise _nothing_left(path, geometry, dropped)
    return Features(
        geometry=shapes,
        classes=classes,
        notes=tuple(dict.fromkeys([*notes, *dropped])),
        doubted=doubted.pop() if len(doubted) == 1 else "",
    )


def _nothing_left(path: Path, geometry: NDArray[np.object_], dropped: Sequence[str]) -> LabelError:
    """The error that no label is left, with what is there instead."""
    kinds = Counter(shape.geom_type for shape in geometry if shape is not None and not shape.is_empty)
    found = [f"{count} {kind} features" for kind, count in kinds.items()] or [f"{len(geometry)} features"]
    # Of lines the count by kind says it all.
    why = [note.partition(":")[0] for note in dropped if _LINES not in note]
    reason = f" ({', '.join(why)})" if why else ""
    msg = (
        f"{path} holds no polygon or point that has a class: "
        f"found {', '.join(found)}{reason}, expected polygons or points"
    )
    if any("Line" in kind for kind in kinds):
        return LabelError(msg, "buffer lines first, then they are polygons")
    elsewhere = any(_UNDEFINED in note for note in dropped)
    return LabelError(msg, _CRS_HINT if elsewhere else FORMAT_HINT)


def _layers(path: Path) -> dict[str, tuple[str, ...]]:
    """Columns of every layer that has shapes."""
    try:
        listed = [str(name) for name, kind in pyogrio.list_layers(path) if kind]
        found = {layer: tuple(pyogrio.read_info(path, layer=layer)["fields"]) for layer in listed}
    except (DataSourceError, DataLayerError) as error:
        msg = f"{path} is neither a vector file nor a raster that GDAL can read"
        raise LabelError(msg, FORMAT_HINT) from error
    if not found:
        msg = f"{path} holds no layer with shapes"
        raise LabelError(msg, _csv_hint(path) if path.suffix.lower() == ".csv" else FORMAT_HINT)
    return found


def _csv_hint(path: Path) -> str:
    """The command that makes points of the table, with its own columns where they have usual names."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        fields = [field.strip().strip('"') for field in re.split("[,;\\t]", file.readline())]
    lower = {field.lower(): field for field in reversed(fields)}
    pairs = [(lower[x], lower[y]) for x, y in _COORDINATES if x in lower and y in lower]
    x, y = pairs[0] if pairs else ("lon", "lat")
    degrees = x.lower().startswith("lon") or x.lower() == "lng"
    options = f"-oo X_POSSIBLE_NAMES={x} -oo Y_POSSIBLE_NAMES={y} -a_srs EPSG:{4326 if degrees else 'CODE'}"
    names = f"{shlex.quote(path.with_suffix('.gpkg').name)} {shlex.quote(path.name)}"
    where = "in" if pairs else "as if they were in"
    code = "" if degrees else " (CODE is that of their CRS)"
    return f"make points of its coordinates, {where} columns {x} and {y}{code}: ogr2ogr {names} {options}"


def _class_columns(
    path: Path, layers: dict[str, tuple[str, ...]], column: str | None
) -> dict[str, str | None]:
    """For each layer to read the column with the class, or None where the layer's name is the class."""
    if column is not None:
        having: dict[str, str | None] = {la: column for la, fields in layers.items() if column in fields}
        if not having:
            msg = f"{path} has no column {column!r}; it has {_listed(layers)}"
            raise LabelError(msg, _COLUMN_HINT)
        return having
    guessed = {layer: class_column(fields) for layer, fields in layers.items()}
    if all(guessed.values()) or (len(layers) > 1 and not any(guessed.values())):
        return guessed
    msg = f"{path} does not say which column holds the class; it has {_listed(layers)}"
    raise LabelError(msg, _COLUMN_HINT)


def class_column(fields: Sequence[str]) -> str | None:
    """The field whose name says that it holds the class."""
    lower = {field.lower(): field for field in reversed(fields)}
    return next((lower[name] for name in _CLASS_COLUMNS if name in lower), None)


def _listed(layers: dict[str, tuple[str, ...]]) -> str:
    if len(layers) == 1:
        return f"the columns {', '.join(next(iter(layers.values()))) or '(none)'}"
    return "; ".join(f"layer {la}: {', '.join(fields) or 'no columns'}" for la, fields in layers.items())


def _read_layer(path: Path, layer: str, column: str | None) -> geopandas.GeoDataFrame:
    """Shapes with a column `class`; M values and the like are of no interest, nor are warnings of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        table = pyogrio.read_dataframe(path, layer=layer, columns=[column] if column else [])
    values = table[column] if column else pandas.Series([layer] * len(table), dtype=object)
    return geopandas.GeoDataFrame({"class": values}, geometry=table.geometry.values, crs=table.crs)


def _to_crs(
    table: geopandas.GeoDataFrame, path: Path, target: CRS
) -> tuple[geopandas.GeoDataFrame, list[str]]:
    if table.crs is None:
        msg = f"{path} has no CRS, so its labels have no place on the map"
        raise LabelError(msg, "write it into the file, for example with ogr2ogr -a_srs EPSG:4326 OUT IN")
    source = CRS(table.crs)
    if source == target:
        return table, []
    moved = table.to_crs(target.to_wkt())
    return moved, [f"labels reprojected from {crs_name(source)} to {crs_name(target)}"]


def doubted_crs(bounds: Bounds, crs: CRS) -> str:
    """Name of a projected CRS of which all coordinates look like degrees; of any other nothing."""
    west, south, east, north = bounds
    degrees = west >= -180 and east <= 180 and south >= -90 and north <= 90
    return crs_name(crs) if degrees and crs.projected else ""


def crs_name(crs: CRS) -> str:
    """Short name of a CRS for a message."""
    return f"EPSG:{crs.epsg}" if crs.epsg else crs.proj.name


def _clean(
    geometry: NDArray[np.object_], values: pandas.Series, column: str | None
) -> tuple[NDArray[np.object_], tuple[ClassValue, ...], list[str]]:
    """Polygons and points one by one with their class, and one line for each kind of thing left out."""
    blank = values.isna().to_numpy() | (values.astype(str).str.strip() == "").to_numpy()
    empty = shapely.is_missing(geometry) | shapely.is_empty(geometry)
    keep = ~(blank | empty)
    parts, owner = shapely.get_parts(geometry[keep], return_index=True)
    parts, again = shapely.get_parts(parts, return_index=True)  # what collections held
    classes = _class_values(values[keep], column)
    kept = [classes[i] for i in owner[again]]
    drawn = np.isin(shapely.get_type_id(parts), (0, 3))
    finite = np.isfinite(shapely.bounds(parts)).all(axis=1)
    counts = {
        "have no class": int((blank & ~empty).sum()),
        "have no shape": int(empty.sum()),
        _LINES: int((~drawn).sum()),
        _UNDEFINED: int((drawn & ~finite).sum()),
    }
    notes = [f"{count} labels {what}: left out" for what, count in counts.items() if count]
    chosen = np.flatnonzero(drawn & finite)
    return parts[chosen], tuple(kept[i] for i in chosen), notes


def _class_values(values: pandas.Series, column: str | None) -> list[ClassValue]:
    if pandas.api.types.is_bool_dtype(values) or not pandas.api.types.is_numeric_dtype(values):
        return [str(value).strip() for value in values]
    numbers = values.to_numpy(float)
    broken = numbers[numbers != np.rint(numbers)]
    if len(broken):
        msg = f"column {column!r} holds {broken[0]:g}, expected class names or whole numbers"
        raise LabelError(msg, _COLUMN_HINT)
    return [int(number) for number in numbers]


def _object_array(items: Sequence[object]) -> NDArray[np.object_]:
    out = np.empty(len(items), object)
    out[:] = items
    return out
