from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from landmeta.classmap import ClassMap
from landmeta.legend import LandClass, Legend
from landmeta_maps.sidecars import write_polygon_style
from landmeta_maps.writer import write_map


@pytest.fixture
def folder(class_map: ClassMap, tmp_path: Path) -> Path:
    write_map([class_map.block], class_map.grid, class_map.legend, tmp_path)
    return tmp_path


def test_category_names_stand_at_the_position_of_their_code(folder: Path) -> None:
    band = ET.parse(folder / "landcover.tif.aux.xml").getroot().find("PAMRasterBand")
    assert band is not None
    names = [item.text or "" for item in band.iter("Category")]
    assert names == ["", "forest", "open water", "", "", "", "", "R&D <b>site</b>"]


def test_the_attribute_table_has_value_name_and_colour_with_gdals_usages(folder: Path) -> None:
    root = ET.parse(folder / "landcover.tif.aux.xml").getroot()
    table = root.find("PAMRasterBand/GDALRasterAttributeTable")
    assert table is not None
    assert table.get("tableType") == "thematic"
    fields = [
        tuple(field.findtext(key) for key in ("Name", "Type", "Usage")) for field in table.iter("FieldDefn")
    ]
    assert fields == [
        ("value", "0", "5"),
        ("name", "2", "2"),
        ("R", "0", "6"),
        ("G", "0", "7"),
        ("B", "0", "8"),
        ("A", "0", "9"),
    ]
    rows = [[cell.text for cell in row.iter("F")] for row in table.iter("Row")]
    assert rows[2] == ["7", "R&D <b>site</b>", "215", "48", "39", "255"]


def test_the_qgis_style_paints_every_class_by_value(folder: Path) -> None:
    renderer = ET.parse(folder / "landcover.qml").getroot().find("pipe/rasterrenderer")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = [(e.get("value"), e.get("color"), e.get("label")) for e in renderer.iter("paletteEntry")]
    assert entries == [
        ("1", "#1b7837", "forest"),
        ("2", "#2166ac", "open water"),
        ("7", "#d73027", "R&D <b>site</b>"),
    ]


@pytest.mark.parametrize(("form", "key", "value"), [("Option/Option", "name", "value"), ("prop", "k", "v")])
def test_the_qgis_style_of_polygons_gives_every_code_its_name_and_colour(
    tmp_path: Path, form: str, key: str, value: str
) -> None:
    classes = ((0, "forest", "#1b7837"), (2, "open 'water'", "#2166ac"), (7, 'R&D <b>"site"</b>', "#d73027"))
    write_polygon_style(Legend(tuple(LandClass(*item) for item in classes)), tmp_path / "polygons.gpkg")
    renderer = ET.parse(tmp_path / "polygons.qml").getroot().find("renderer-v2")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "code")
    fills = {
        symbol.get("name"): {item.get(key): item.get(value) for item in symbol.iterfind(f"layer/{form}")}
        for symbol in renderer.iterfind("symbols/symbol[@type='fill']")
    }
    found = [
        (c.get("value"), c.get("type"), c.get("label"), fills[c.get("symbol")]["color"])
        for c in renderer.iterfind("categories/category")
    ]
    assert found == [
        ("0", "long", "forest", "27,120,55,255"),
        ("2", "long", "open 'water'", "33,102,172,255"),
        ("7", "long", 'R&D <b>"site"</b>', "215,48,39,255"),
    ]
    assert all(fill["outline_color"] == fill["color"] for fill in fills.values())


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not installed")
def test_gdal_itself_reads_the_names_and_the_table(folder: Path) -> None:
    path = str(folder / "landcover.tif")
    text = subprocess.run(["gdalinfo", path], check=True, capture_output=True, text=True).stdout
    assert "7: R&D <b>site</b>" in text
    assert '<GDALRasterAttributeTable tableType="thematic">' in text
