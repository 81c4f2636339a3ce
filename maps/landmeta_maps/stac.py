"""`item.json`: a run folder as a STAC item, with relative links, so that the folder can be moved."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pystac
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry

from landmeta.classmap import PROBABILITY_NODATA, PROBABILITY_SCALE
from landmeta.legend import NODATA, Legend
from landmeta_maps._atomic import write_text
from landmeta_maps.picture import middle_longitude
from landmeta_maps.summary import MapSummary

_SCHEMAS = "https://stac-extensions.github.io"
EXTENSIONS = {
    "projection": f"{_SCHEMAS}/projection/v2.0.0/schema.json",
    "raster": f"{_SCHEMAS}/raster/v2.0.0/schema.json",
    "classification": f"{_SCHEMAS}/classification/v2.0.0/schema.json",
    "mlm": f"{_SCHEMAS}/mlm/v1.5.2/schema.json",
}
"""Version of each extension that the item follows."""

_COG = pystac.MediaType.COG.value
_DECIMALS = 7
_EDGE_POINTS = 16


@dataclass(frozen=True, slots=True)
class Model:
    """What the item says of the adapted model that made the map.

    `bands` are the canonical names of its input in order; `name` starts with a letter and holds letters,
    digits, spaces, dots, hyphens and underscores; `pretrained_source` tells where its start comes from.
    """

    name: str
    bands: tuple[str, ...]
    architecture: str = "ResNet-12 with instance normalisation and one-vs-all heads"
    pretrained_source: str | None = None


def write_stac_item(
    folder: Path,
    summary: MapSummary,
    *,
    region: str,
    created: datetime,
    acquired: datetime | None = None,
    model: Model | None = None,
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Write `folder/item.json`, a STAC 1.1 item of the files that are in the folder now.

    `created` is when the map was made, `acquired` when the imagery was taken; where that is unknown the
    item carries `created` and its description says so. With `model`, and `model/model.safetensors` in the
    folder, the fields of the machine-learning extension are there too. `properties` are added as they are.
    The same arguments and files give the same bytes.

    Raises:
        ValueError: a time has no time zone.
        OutputError: the file cannot be written.
    """
    for name, moment in (("created", created), ("acquired", acquired)):
        if moment is not None and moment.tzinfo is None:
            msg = f"{name} {moment} has no time zone; STAC needs one"
            raise ValueError(msg)
    footprint = footprint_lonlat(summary.grid)
    item = pystac.Item(
        id=_item_id(region, acquired or created),
        geometry=mapping(footprint),
        bbox=_bounding_box(footprint),
        datetime=acquired or created,
        properties=_properties(summary.grid, region, created, acquired) | dict(properties or {}),
        stac_extensions=[EXTENSIONS[name] for name in ("projection", "raster", "classification")],
    )
    _add_assets(item, folder, summary)
    if model is not None and "model" in item.assets:
        _describe_model(item, model, summary.legend)
    text = json.dumps(item.to_dict(include_self_link=False), indent=2, ensure_ascii=False)
    write_text(folder / "item.json", text + "\n")


def footprint_lonlat(grid: GeoBox) -> BaseGeometry:
    """Outline of `grid` in degrees, edges bent as the projection bends them, cut in two at 180 degrees."""
    rows, cols = grid.shape
    steps = [i / _EDGE_POINTS for i in range(_EDGE_POINTS)]
    ring: list[tuple[float, float]] = [
        (cols * s, rows) for s in steps
    ]  # counter-clockwise on the ground, as GeoJSON asks
    ring += [(cols, rows * (1 - s)) for s in steps]
    ring += [(cols * (1 - s), 0) for s in steps]
    ring += [(0, rows * s) for s in steps]
    meridian = middle_longitude(grid)
    xs, ys = zip(*(grid.affine * corner for corner in ring), strict=True)
    lon, lat = Transformer.from_crs(str(grid.crs), 4326, always_xy=True).transform(xs, ys)
    # What goes all the way round ends at 180 degrees from the middle on either side.
    around = [x if abs(x - meridian) <= 180 else meridian + (x - meridian + 180) % 360 - 180 for x in lon]
    outline = Polygon([(round(x, _DECIMALS), round(y, _DECIMALS)) for x, y in zip(around, lat, strict=True)])
    return _cut_at_180(outline)


def _cut_at_180(outline: Polygon) -> BaseGeometry:
    west, _, east, _ = outline.bounds
    if west >= -180 and east <= 180:
        return outline
    parts = (
        translate(outline.intersection(box(-180 + turn, -90, 180 + turn, 90)), xoff=-turn)
        for turn in (-360, 0, 360)
    )
    return MultiPolygon([part for part in parts if isinstance(part, Polygon) and not part.is_empty])


def _bounding_box(footprint: BaseGeometry) -> list[float]:
    """West, south, east, north; west is larger than east where the outline crosses 180 degrees."""
    west, south, east, north = footprint.bounds
    if isinstance(footprint, MultiPolygon):
        parts = sorted(shape(part).bounds for part in footprint.geoms)
        west, east = parts[-1][0], parts[0][2]
    return [west, south, east, north]


def _item_id(region: str, moment: datetime) -> str:
    plain = unicodedata.normalize("NFKD", region).encode("ascii", "ignore").decode()  # Ä is A, not nothing
    words = re.sub(r"[^A-Za-z0-9.-]+", "_", plain).strip("_") or "region"
    return f"landmeta-{words}-{moment:%Y%m%dT%H%M%SZ}"


def _properties(grid: GeoBox, region: str, created: datetime, acquired: datetime | None) -> dict[str, Any]:
    text = "Land cover mapped from satellite imagery by a model adapted to a few labels of the region."
    if acquired is None:
        text += " When the imagery was taken is not known: datetime is when the map was made."
    crs = CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None
    epsg = crs.to_epsg() if crs else None
    code: dict[str, str | None] = {"proj:code": f"EPSG:{epsg}" if epsg else None}
    if crs and not epsg:
        code["proj:wkt2"] = crs.to_wkt()
    return {
        "title": f"Land cover of {region}",
        "description": text,
        "created": pystac.utils.datetime_to_str(created),
        **code,
        "proj:shape": list(grid.shape),
        "proj:transform": [float(v) for v in tuple(grid.affine)],
        "proj:bbox": [float(v) for v in grid.boundingbox.bbox],
    }


def _add_assets(item: pystac.Item, folder: Path, summary: MapSummary) -> None:
    """Add what is in the folder, each file with its title, media type and roles."""
    legend = summary.legend
    described = {
        "landcover": ("landcover.tif", "Land cover", _COG, ["data"], _landcover_fields(legend)),
        "probabilities": (
            "probabilities.tif",
            "Probability of each class",
            _COG,
            ["data"],
            _shares(legend.names),
        ),
        "confidence": ("confidence.tif", "Confidence", _COG, ["data"], _shares(["confidence"])),
        "stability": ("stability.tif", "Stability", _COG, ["data"], _shares(["origin shift"])),
        "polygons": ("polygons.gpkg", "Polygons", pystac.MediaType.GEOPACKAGE.value, ["data"], {}),
        "map": ("map.html", "Web map", "text/html", ["overview"], {}),
        "report": ("report.html", "Report", "text/html", ["metadata"], {}),
        "report-values": ("report.json", "Values of the report", "application/json", ["metadata"], {}),
        "provenance": ("provenance.json", "Provenance", "application/json", ["metadata"], {}),
        "style": ("landcover.qml", "Style for QGIS", "application/xml", ["metadata"], {}),
        "polygons-style": ("polygons.qml", "Polygon style for QGIS", "application/xml", ["metadata"], {}),
        "names": ("landcover.tif.aux.xml", "Class names for GDAL", "application/xml", ["metadata"], {}),
        "model": ("model/model.safetensors", "Adapted model", "application/octet-stream", ["data"], {}),
        "model-settings": ("model/model.json", "Settings of the model", "application/json", ["metadata"], {}),
    }
    for key, (name, title, media_type, roles, fields) in described.items():
        if (folder / name).is_file():
            item.add_asset(key, pystac.Asset(f"./{name}", title, None, media_type, roles, fields))


def _landcover_fields(legend: Legend) -> dict[str, Any]:
    return {
        "data_type": "uint8",
        "nodata": NODATA,
        "raster:sampling": "area",
        "classification:classes": _classes(legend),
    }


def _classes(legend: Legend) -> list[dict[str, Any]]:
    """Class objects of the classification extension; names that it does not allow are spelt anew."""
    taken: set[str] = {"nodata"}
    classes: list[dict[str, Any]] = []
    for item in legend:
        name = re.sub(r"[^0-9A-Za-z_-]+", "_", item.name).strip("_") or f"class_{item.code}"
        name = f"{name}_{item.code}" if name in taken else name
        taken.add(name)
        color = item.color.removeprefix("#").upper()
        classes.append({"value": item.code, "name": name, "title": item.name, "color_hint": color})
    return [*classes, {"value": NODATA, "name": "nodata", "title": "No data", "nodata": True}]


def _shares(names: Sequence[str]) -> dict[str, Any]:
    band = {"data_type": "uint16", "nodata": PROBABILITY_NODATA, "raster:scale": PROBABILITY_SCALE}
    return {"bands": [{"name": name} | band for name in names], "raster:sampling": "area"}


def _describe_model(item: pystac.Item, model: Model, legend: Legend) -> None:
    bands, classes = list(model.bands), len(legend)
    item.stac_extensions.append(EXTENSIONS["mlm"])
    item.assets["model"].roles = ["mlm:model"]
    item.assets["model"].extra_fields["mlm:artifact_type"] = "safetensors.torch.save_file"
    item.properties |= {
        "bands": [{"name": name} for name in bands],
        "mlm:name": model.name,
        "mlm:architecture": model.architecture,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:pretrained": model.pretrained_source is not None,
        "mlm:pretrained_source": model.pretrained_source,
        "mlm:input": [
            {
                "name": "surface reflectance 0..1",
                "bands": bands,
                "input": _structure([-1, len(bands), -1, -1], ["batch", "bands", "height", "width"]),
            }
        ],
        "mlm:output": [
            {
                "name": "one-vs-all logits",
                "tasks": ["semantic-segmentation"],
                "result": _structure([-1, classes, -1, -1], ["batch", "class", "height", "width"]),
                "classification:classes": _classes(legend)[:classes],
            }
        ],
    }


def _structure(size: list[int], names: list[str]) -> dict[str, Any]:
    return {"shape": size, "dim_order": names, "data_type": "float32"}
