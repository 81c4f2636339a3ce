"""The map as one web page that opens from disk, with no server and no network."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import folium
import numpy as np
from branca.element import Element, Figure, MacroElement
from jinja2 import Environment, PackageLoader, Template
from rasterio.enums import Resampling

from landmeta.classmap import PROBABILITY_NODATA, decode_probability
from landmeta.legend import NODATA
from landmeta_maps._atomic import write_text
from landmeta_maps._leaflet import leaflet_licence, leaflet_script, leaflet_style
from landmeta_maps.areas import share_text
from landmeta_maps.color import class_table, confidence_steps, ramp_css, ramp_table
from landmeta_maps.picture import Mercator, mercator_view, palette_png, rgba_png, true_color_image, warp
from landmeta_maps.summary import MapSummary

if TYPE_CHECKING:
    import geopandas as gpd

    from landmeta.labels import Labels
    from landmeta.raster import Imagery

MAX_LABELS = 5000
"""Label outlines on one page; a label raster can have far more patches than a browser draws quickly."""

_OPACITY = 0.8
_LABEL_STYLE: dict[str, Any] = {"color": "#111111", "weight": 1.5, "fillOpacity": 0.9}


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    color: str
    share: float
    text: str


def write_web_map(
    summary: MapSummary, imagery: Imagery | None, labels: Labels | None, path: Path, *, title: str
) -> None:
    """Write one HTML page with land cover, confidence, the true-colour image and the labels on a map.

    Everything the page needs is inside it. The images are warped to Web Mercator (classes by nearest
    neighbour) and at most 2048 px a side: for looking, not for measuring. `imagery` and `labels` may be
    None, then their layers are left out. The same arguments give the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    page = folium.Map(tiles=None, zoom_control=False, prefer_canvas=True, zoom_snap=0.25)
    page.default_js, page.default_css = [], []
    view = mercator_view(summary.grid)
    _add_backgrounds(page)
    if imagery is not None:
        _overlay(rgba_png(true_color_image(imagery, view)), view, "True colour").add_to(page)
    thematic = _thematic_layers(summary, view)
    for layer in thematic:
        layer.add_to(page)
    if labels is not None:
        _label_layer(labels, view.meridian).add_to(page)
    control = folium.LayerControl(collapsed=False).add_to(page)
    names = {"map": page, "land_cover": thematic[0], "confidence": thematic[1], "control": control}
    _add_panel(page, summary, view, {key: element.get_name() for key, element in names.items()}, title)
    write_text(path, _same_ids(_render(page, title)))


def _add_backgrounds(page: folium.Map) -> None:
    """A plain background, and street tiles for those who are online and ask for them."""
    folium.FeatureGroup(name="Plain background", overlay=False, show=True).add_to(page)
    folium.TileLayer("OpenStreetMap", name="OpenStreetMap (needs a network)", show=False).add_to(page)


def _overlay(uri: str, view: Mercator, name: str, **options: Any) -> folium.raster_layers.ImageOverlay:
    return folium.raster_layers.ImageOverlay(
        uri, [list(corner) for corner in view.bounds], name=name, alt=name, **options
    )


def _thematic_layers(summary: MapSummary, view: Mercator) -> list[folium.raster_layers.ImageOverlay]:
    codes = warp(summary.codes, summary.overview_grid, view, NODATA, Resampling.nearest)
    counts = warp(summary.confidence, summary.overview_grid, view, PROBABILITY_NODATA, Resampling.nearest)
    steps = confidence_steps(decode_probability(counts), _even_vote(summary))
    cover = palette_png(codes, class_table(summary.legend))
    return [
        _overlay(cover, view, "Land cover", opacity=_OPACITY),
        _overlay(palette_png(steps, ramp_table()), view, "Confidence", opacity=_OPACITY, show=False),
    ]


def _even_vote(summary: MapSummary) -> float:
    """The least confidence that the winning class of a pixel can have."""
    return 1.0 / max(len(summary.legend), 2)


def _label_layer(labels: Labels, meridian: float) -> folium.GeoJson:
    colors = {item.name: item.color for item in labels.legend}
    shapes = labels.footprints[["class_name", "geometry"]]
    name = "Labels" if len(shapes) <= MAX_LABELS else f"Labels ({MAX_LABELS:,} of {len(shapes):,})"
    shown = np.linspace(0, len(shapes) - 1, min(len(shapes), MAX_LABELS)).astype(np.int64)  # of all the file
    shapes = _to_lonlat(shapes.iloc[shown], meridian)
    shapes["fill"] = [colors.get(str(n), "#808080") for n in shapes["class_name"]]
    # The tooltip is written into the page as HTML; a brace would be folium's, see `_verbatim`.
    names = [html.escape(str(n)) for n in shapes["class_name"]]
    shapes["class_name"] = [escaped.replace("{", "&#123;") for escaped in names]
    return folium.GeoJson(
        shapes.to_json(drop_id=True),
        name=name,
        show=not labels.patches,  # those of a label raster may hide the whole map
        style_function=lambda feature: {**_LABEL_STYLE, "fillColor": feature["properties"]["fill"]},
        marker=folium.CircleMarker(radius=5, fill=True, **_LABEL_STYLE),
        tooltip=folium.GeoJsonTooltip(fields=["class_name"], aliases=["Label:"], sticky=True),
    )


def _to_lonlat(shapes: gpd.GeoDataFrame, meridian: float) -> gpd.GeoDataFrame:
    """The shapes in degrees, rounded to 0.1 m, without a jump at 180 degrees (see `Mercator`)."""
    centred = shapes.to_crs(f"+proj=longlat +datum=WGS84 +pm={meridian!r} +no_defs")
    moved = centred.geometry.translate(xoff=meridian).set_precision(1e-6, mode="pointwise")
    return centred.set_geometry(moved).set_crs(4326, allow_override=True)


def legend_rows(summary: MapSummary) -> list[_Row]:
    """What the legend says of every class: name, colour, share of the mapped area 0..1 and as text."""
    areas = np.array(summary.areas_ha)
    shares = areas / max(float(areas.sum()), 1e-12)
    return [
        _Row(item.name, item.color, float(share), share_text(float(share)))
        for item, share in zip(summary.legend, shares, strict=True)
    ]


class _Panel(MacroElement):
    """HTML and script that come after all layers, so that the script can name them."""

    _template = Template(
        "{% macro html(this, kwargs) %}{{ this.markup }}{% endmacro %}"
        "{% macro script(this, kwargs) %}{{ this.code }}{% endmacro %}"
    )

    def __init__(self, markup: str, code: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name = "Panel"
        self.markup = markup
        self.code = code


def _add_panel(
    page: folium.Map, summary: MapSummary, view: Mercator, names: dict[str, str], title: str
) -> None:
    """Add the legend and its script; `names` are the script's variables for the page's elements."""
    rows, cols = summary.grid.shape
    panel = {
        "title": title,
        "rows": legend_rows(summary),
        "subtitle": f"{cols:,} × {rows:,} px, {sum(summary.areas_ha):,.0f} ha mapped",
        "ramp": ramp_css(),
        "lowest": _even_vote(summary),
        "opacity": _OPACITY,
    }
    script = {
        "bounds": view.bounds,
        "classes": {item.color: item.name for item in summary.legend},
        "ramp": ["#" + bytes(color[:3]).hex() for color in ramp_table()[:NODATA].tolist()],
        "lowest": _even_vote(summary),
    }
    templates = _templates()
    markup = templates.get_template("webmap_panel.html.j2").render(panel)
    code = templates.get_template("webmap.js.j2").render(names | script)
    page.add_child(_Panel(_verbatim(markup), _verbatim(code)))


def _verbatim(text: str) -> str:
    """A template that renders to `text`: branca takes texts for templates, and a class name may look so."""
    return text.replace("{", "{{ '{' }}")


def _templates() -> Environment:
    return Environment(loader=PackageLoader("landmeta_maps"), autoescape=True, trim_blocks=True)


def _render(page: folium.Map, title: str) -> str:
    figure = cast(Figure, page.get_root())
    figure.title = html.escape(title)
    style = _templates().get_template("webmap.css").render()
    for text in (
        f"<style>{leaflet_style()}</style>",
        f"<style>{style}</style>",
        f"<script>/*\n{leaflet_licence()}*/\n{leaflet_script()}</script>",
    ):
        figure.header.add_child(Element(_verbatim(text)))
    return str(figure.render())


def _same_ids(page: str) -> str:
    """Replace the random ids of the page's elements by numbers in order of appearance."""
    seen: dict[str, str] = {}
    return re.sub(
        r"(?<=_)[0-9a-f]{32}(?![0-9a-f])", lambda m: seen.setdefault(m[0], f"{len(seen):04d}"), page
    )
