"""What a `--region` argument means: the demo, a country, a box in degrees, a vector file or a known name."""

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
from landmeta_catalog.boundaries import Country, boundary, find_country, similar_countries
from landmeta_catalog.places import NamedPlace, find_place, similar_places
from landmeta_catalog.simulate import write_demo

Kind = Literal["demo", "bbox", "vector", "catalogue", "country"]
_ACCEPTED = (
    "--region takes demo, a country such as Kenya or KE, a box west,south,east,north in degrees, "
    "a vector file, or a catalogue region such as dfc2020/capetown-autumn"
)
_WORDS: dict[Kind, str] = {"bbox": "box", "vector": "vector file", "catalogue": "catalogue region"}


@dataclass(frozen=True, slots=True)
class Region:
    """A region to map.

    `geometry` is in `crs`, both None where the whole of the imagery is meant. Of a catalogue region it is
    the box of 100 km around its place, as its footprint is not known. `imagery` and `labels` are None where
    the user has to give them. `place` tells in words where it lies, "" where the name does; `file` is the
    vector file that holds the geometry, if one does.
    """

    name: str
    kind: Kind
    geometry: BaseGeometry | None = None
    crs: CRS | None = None
    imagery: tuple[Path, ...] | None = None
    labels: Path | None = None
    place: str = ""
    file: Path | None = None


def path_of(text: str) -> Path:
    """The path that a user may have meant, `~` being a home where there is one: `~nobody` is a name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def resolve_region(text: str) -> Region:
    """Say what region `text` names; `demo` is made on first use, in the cache folder.

    Raises:
        RegionError: a malformed box, a vector file that cannot be used, or a name that means nothing;
            the message has names that are spelt nearly so.
        OutputError: the demo cannot be written to the cache folder.
    """
    text = text.strip()
    path = path_of(text)
    if text == "demo":
        return _demo()
    if text and path.exists():
        return _vector(path)
    if "," in text and re.search(r"\d", text):
        return _box(text)
    if country := find_country(text):
        return _country(country)
    if "," in text:
        return _box(text)
    if re.fullmatch(r"\.\w+", path.suffix) or text.startswith((".", "/", "~")):
        msg = f"the region's vector file {text} does not exist"
        raise RegionError(msg, f"give the path of an existing file: {_ACCEPTED}")
    if place := find_place(text):
        return _catalogue(place)
    raise _unknown(text)


def no_imagery(region: Region) -> RegionError:
    """The error for a region that nobody gave imagery of."""
    where = f" ({region.place})" if region.place else ""
    msg = f"there is no imagery for the {_WORDS.get(region.kind, region.kind)} {region.name!r}{where}"
    if region.kind == "catalogue":
        dataset = region.name.partition("/")[0]
        hint = (
            f"give imagery of it with --imagery; landmeta catalog show {dataset} tells how to have its tiles"
        )
        return RegionError(msg, hint)
    return RegionError(msg, "give your own with --imagery, or map the simulated scene of --region demo")


def cache_folder() -> Path:
    """Where made and fetched data is kept: LANDMETA_CACHE, else `~/.cache/landmeta`."""
    chosen = os.environ.get("LANDMETA_CACHE")
    return path_of(chosen) if chosen else Path.home() / ".cache" / "landmeta"


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
    return Region(path.stem, "vector", area, CRS.from_user_input(layers[0].crs), file=path)


def _country(country: Country) -> Region:
    return Region(country.name, "country", boundary(country), CRS.from_epsg(4326))


def _catalogue(place: NamedPlace) -> Region:
    return Region(place.name, "catalogue", place.extent, CRS.from_epsg(4326), place=place.describe())


def _unknown(text: str) -> RegionError:
    """The error for a name that is not known, with those that it may be meant for."""
    near = [
        *difflib.get_close_matches(text.lower(), ["demo"], cutoff=0.6),
        *similar_countries(text),
        *(similar_places(text) if "/" in text else ()),
    ]
    meant = f"; did you mean {' or '.join(near[:3])}?" if near else ""
    return RegionError(f"the region {text!r} is not known{meant}", _ACCEPTED)
