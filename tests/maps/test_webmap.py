from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from shapely.geometry import box

from landmeta.classmap import ClassMap
from landmeta.labels import Labels
from landmeta.legend import LandClass, Legend
from landmeta.raster import Imagery
from landmeta_maps.summary import summarize
from landmeta_maps.webmap import legend_rows, write_web_map

from .conftest import headless

OVERLAYS = ("True colour", "Land cover", "Confidence")


@pytest.fixture
def page(class_map: ClassMap, imagery: Imagery, labels: Labels, tmp_path: Path) -> Path:
    path = tmp_path / "map.html"
    write_web_map(summarize(class_map), imagery, labels, path, title="Isle of <Test>")
    return path


def test_the_page_loads_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)\s*=\s*[\"'](?!data:)", text)
    assert not re.findall(r"url\((?!data:|#)", text)
    assert not re.findall(r"@import", text)
    tiles = re.findall(r"https?://[^\"' )]*\{z\}[^\"' )]*", text)
    assert tiles == ["https://tile.openstreetmap.org/{z}/{x}/{y}.png"]


def test_street_tiles_are_offered_but_not_shown(page: Path) -> None:
    text = page.read_text()
    assert re.search(r"feature_group_\d{4}\.addTo\(map", text)
    assert not re.search(r"tile_layer_\d{4}\.addTo\(map", text)


def test_every_image_layer_is_inside_as_png(page: Path) -> None:
    text = page.read_text()
    layers = re.findall(
        r'L\.imageOverlay\(\s*"data:image/png;base64,[^"]+".*?"alt": "([^"]+)"', text, re.DOTALL
    )
    assert tuple(layers) == OVERLAYS


def test_leaflets_licence_notice_is_kept(page: Path) -> None:
    assert "BSD 2-Clause License" in page.read_text()
    assert "Volodymyr Agafonkin" in page.read_text()


def test_names_from_the_users_files_cannot_become_markup(page: Path) -> None:
    text = page.read_text()
    assert "<b>site</b>" not in text
    assert "R&amp;D &lt;b&gt;site&lt;/b&gt;" in text
    assert "<Test>" not in text
    assert "<title>Isle of &lt;Test&gt;</title>" in text


@pytest.mark.parametrize("name", ["{{ 7 * 7 }}", "{% if", "{# lake", "{% endraw %}{{ 7 * 7 }}"])
def test_names_from_the_users_files_are_no_templates(
    name: str,
    make_class_map: Callable[..., ClassMap],
    make_grid: Callable[..., GeoBox],
    labels: Labels,
    tmp_path: Path,
) -> None:
    legend = Legend((LandClass(1, "forest", "#1b7837"), LandClass(7, name, "#d73027")))
    table = labels.footprints.assign(class_name=["forest", name])
    path, found = tmp_path / "map.html", make_class_map(make_grid(), legend)
    write_web_map(summarize(found), None, replace(labels, legend=legend, footprints=table), path, title=name)
    text = path.read_text()
    assert text.count(name) == 4  # title of the page and of its panel, legend, readout
    assert _features(text)[1]["properties"]["class_name"] == name.replace("{", "&#123;")


def test_the_readout_starts_at_the_least_confidence_a_winner_can_have(page: Path) -> None:
    lowest = re.search(r"const lowest = ([0-9.]+);", page.read_text())
    assert lowest
    assert float(lowest[1]) == pytest.approx(1 / 3)


def _features(text: str) -> list[dict[str, Any]]:
    found = re.search(r'_add\((\{"features".*\})\);', text)
    assert found
    features: list[dict[str, Any]] = json.loads(found[1])["features"]
    return features


def test_labels_are_in_degrees_with_class_and_colour(page: Path) -> None:
    features = _features(page.read_text())
    assert [f["geometry"]["type"] for f in features] == ["Polygon", "Point"]
    assert features[0]["properties"]["class_name"] == "forest"
    assert features[0]["properties"]["fill"] == "#1b7837"
    lon, lat = features[1]["geometry"]["coordinates"]
    assert (lon, lat) == pytest.approx((-4.44, 52.34), abs=0.05)


@pytest.mark.parametrize("patches", [False, True])
def test_a_label_raster_does_not_hide_the_map_at_first(
    patches: bool, class_map: ClassMap, labels: Labels, tmp_path: Path
) -> None:
    path = tmp_path / "map.html"
    write_web_map(summarize(class_map), None, replace(labels, patches=patches), path, title="a")
    assert bool(re.search(r"geo_json_\w+\.addTo\(", path.read_text())) is not patches


def test_of_very_many_labels_some_of_all_parts_are_shown(
    class_map: ClassMap, labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta_maps.webmap.MAX_LABELS", 4)
    point = labels.footprints.geometry.iloc[-1]
    points = [point.__class__(point.x + 100 * i, point.y) for i in range(10)]
    table = labels.footprints.iloc[[0] * 10].assign(geometry=points)
    path = tmp_path / "map.html"
    write_web_map(summarize(class_map), None, replace(labels, footprints=table), path, title="a")
    shown = [f["geometry"]["coordinates"][0] for f in _features(path.read_text())]
    steps = (np.array(shown) - shown[0]) / (shown[-1] - shown[0])
    assert steps == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.01)
    assert "Labels (4 of 10)" in path.read_text()


def test_the_legend_gives_the_share_of_every_class(class_map: ClassMap, page: Path) -> None:
    rows = legend_rows(summarize(class_map))
    assert sum(row.share for row in rows) == pytest.approx(1)
    for row, code in zip(rows, class_map.legend.codes, strict=True):
        assert row.share == pytest.approx((class_map.codes == code).sum() / (class_map.codes != 255).sum())
        assert row.text in page.read_text()


def test_the_same_map_gives_the_same_page(
    page: Path, class_map: ClassMap, imagery: Imagery, labels: Labels, tmp_path: Path
) -> None:
    write_web_map(summarize(class_map), imagery, labels, tmp_path / "again.html", title="Isle of <Test>")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_without_imagery_and_labels_their_layers_are_left_out(class_map: ClassMap, tmp_path: Path) -> None:
    write_web_map(summarize(class_map), None, None, tmp_path / "map.html", title="Map")
    text = (tmp_path / "map.html").read_text()
    assert re.findall(r'"alt": "([^"]+)"', text) == ["Land cover", "Confidence"]
    assert "L.geoJson(" not in text.rpartition("<body>")[2]


def test_labels_lie_on_the_map_across_180_degrees(
    make_class_map: Callable[..., ClassMap], tmp_path: Path
) -> None:
    grid = GeoBox((200, 300), Affine(500, 0, 100_000, 0, -500, 8_100_000), "EPSG:32701")
    found = make_class_map(grid)
    west, south, east, north = grid.boundingbox.bbox
    shape = box(west, south, east, north)
    table = gpd.GeoDataFrame({"group": [0], "class_name": ["forest"]}, geometry=[shape], crs="EPSG:32701")
    empty = np.zeros(0, np.int64)
    write_web_map(
        summarize(found),
        None,
        Labels(found.legend, empty, empty, empty, empty, table),
        tmp_path / "m.html",
        title="Fiji",
    )
    text = (tmp_path / "m.html").read_text()
    ring = np.array(json.loads(re.search(r'"coordinates": (\[\[\[.*?\]\]\])', text)[1])[0])  # type: ignore[index]
    assert np.ptp(ring[:, 0]) < 2
    bounds = json.loads(re.search(r"L\.latLngBounds\((.*?)\);", text)[1])  # type: ignore[index]
    assert bounds[0][1] - 0.1 < ring[:, 0].min() < ring[:, 0].max() < bounds[1][1] + 0.1


@pytest.mark.browser
def test_a_browser_shows_the_images_the_legend_and_the_labels(
    chromium: str, page: Path, tmp_path: Path
) -> None:
    dom = headless(chromium, tmp_path / "profile", "--dump-dom", page.as_uri())
    shown = re.findall(r'<img class="leaflet-image-layer[^>]*alt="([^"]+)"', dom)
    assert shown == ["True colour", "Land cover"]  # confidence waits to be asked for
    assert dom.count("leaflet-control-layers-selector") >= 6
    assert "leaflet-control-scale-line" in dom
    assert re.search(r"<canvas[^>]*leaflet-zoom-animated", dom)  # the labels
    headless(chromium, tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}", page.as_uri())
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image.convert("RGB"))[:, 300:].reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 1000  # the map is there, not just its background
