"""What a `--region` argument means: the demo, a box in degrees, a vector file or a known name."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import geopandas
import numpy as np
import pyogrio
from pyproj import CRS
from shapely import box, make_valid, union_all
from shapely.geometry.base import BaseGeometry

from landmeta.errors import RegionError
from landmeta_catalog.simulate import write_demo

Kind = Literal["demo", "bbox", "vector", "catalogue", "country"]
_ACCEPTED = (
    "--region takes demo, a box west,south,east,north in degrees, a vector file, "
    "or a catalogue region such as dfc2020/capetown-autumn"
)


@dataclass(frozen=True, slots=True)
class Region:
    """A region to map.

    `geometry` is in `crs`, both None where the whole of the imagery is meant or the boundary is
    not known; `imagery` and `labels` are None where the user has to give them.
    """

    name: str
    kind: Kind
    geometry: BaseGeometry | None = None
    crs: CRS | None = None
    imagery: tuple[Path, ...] | None = None
    labels: Path | None = None


def resolve_region(text: str) -> Region:
    """Say what region `text` names; `demo` is made on first use, in the cache folder.

    Raises:
        RegionError: a malformed box, a vector file that cannot be used, a country (no boundaries
            are available yet) or a name that means nothing.
        OutputError: the demo cannot be written to the cache folder.
    """
    text = text.strip()
    path = Path(text).expanduser()
    if text == "demo":
        return _demo()
    if text and path.exists():
        return _vector(path)
    if "," in text:
        return _box(text)
    if path.suffix or text.startswith((".", "/", "~")):
        msg = f"the region's vector file {text} does not exist"
        raise RegionError(msg, f"give the path of an existing file: {_ACCEPTED}")
    if re.fullmatch(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+", text):
        return Region(text, "catalogue")
    raise _unknown(text)


def cache_folder() -> Path:
    """Where made and fetched data is kept: LANDMETA_CACHE, else `~/.cache/landmeta`."""
    chosen = os.environ.get("LANDMETA_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "landmeta"


def _demo() -> Region:
    files = write_demo(cache_folder() / "demo")
    return Region("demo", "demo", imagery=(files.scene,), labels=files.labels)


def _box(text: str) -> Region:
    """A box `west,south,east,north`, degrees of longitude and latitude (WGS 84)."""
    try:
        west, south, east, north = values = tuple(float(v) for v in text.split(","))
    except ValueError:
        msg = f"the region {text!r} is no box: four numbers west,south,east,north are expected"
        raise RegionError(msg, "for example --region=-4.1,52.3,-3.9,52.5") from None
    if not np.isfinite(values).all() or max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        msg = f"the box {text} is not in degrees: longitude lies in -180..180, latitude in -90..90"
        raise RegionError(msg, "give longitude and latitude as west,south,east,north, or a vector file")
    if south >= north:
        msg = f"the box {text} has its south ({south:g}) not below its north ({north:g})"
        raise RegionError(msg, "the order is west,south,east,north")
    if west >= east:
        msg = f"the box {text} has its west ({west:g}) not below its east ({east:g})"
        raise RegionError(msg, "the order is west,south,east,north; split a box that crosses 180 degrees")
    return Region(text, "bbox", box(west, south, east, north), CRS.from_epsg(4326))


def _vector(path: Path) -> Region:
    """The union of all polygons of all layers of a vector file, in the CRS of its first layer."""
    try:
        names = [str(name) for name, geometry in pyogrio.list_layers(path) if geometry]
        layers = [geopandas.read_file(path, layer=name) for name in names]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        msg = f"the region {path} cannot be read as a vector file"
        raise RegionError(msg, f"give a GeoPackage, GeoJSON or shapefile: {_ACCEPTED}") from error
    lacking = [name for name, layer in zip(names, layers, strict=True) if layer.crs is None]
    if lacking:
        msg = f"the region {path} has no coordinate reference system (layer {lacking[0]})"
        raise RegionError(msg, "assign one, for example: ogr2ogr -a_srs EPSG:4326 with_crs.gpkg FILE")
    shapes = [s for layer in layers for s in layer.geometry.to_crs(layers[0].crs) if s is not None]
    area = union_all([make_valid(s) for s in shapes])
    if area.area == 0:
        msg = f"the region {path} covers no area: polygons are expected, {len(shapes)} other shapes found"
        raise RegionError(msg, "give a file with polygons, or a box west,south,east,north")
    return Region(path.stem, "vector", area, CRS.from_user_input(layers[0].crs))


def _unknown(text: str) -> RegionError:
    """The error for a name that is neither known nor of a known form."""
    if difflib.get_close_matches(text.lower(), ["demo"], cutoff=0.6):
        return RegionError(f"the region {text!r} is not known; did you mean demo?", _ACCEPTED)
    if re.fullmatch(r"[^\W\d_][\w .'()-]*", text):
        msg = f"the region {text!r} is not known: named countries are not available yet"
        return RegionError(msg, f"give a box or a vector file: {_ACCEPTED}")
    return RegionError(f"the region {text!r} is not known", _ACCEPTED)
