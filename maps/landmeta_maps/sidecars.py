"""Class names and colours beside a class raster and its polygons, where GDAL and QGIS look for them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from landmeta.legend import Legend
from landmeta_maps._atomic import write_text
from landmeta_maps.color import rgb

_STALE = (".aux.xml", ".ovr", ".msk", ".vat.dbf", ".vat.cpg")
"""What other programs leave beside `name.tif` under `name.tif` + suffix."""

_FIELDS = (("value", 0, 5), ("name", 2, 2), ("R", 0, 6), ("G", 0, 7), ("B", 0, 8), ("A", 0, 9))
"""Columns of the attribute table: name, GDAL's type (0 integer, 2 text) and GDAL's usage."""


def remove_sidecars(raster: Path) -> None:
    """Remove what GDAL keeps beside an older raster of this name: statistics, names, overviews, masks.

    A style (`.qml`) is somebody's work, and not about this or that raster's pixels.
    """
    for suffix in _STALE:
        raster.with_name(raster.name + suffix).unlink(missing_ok=True)


def write_sidecars(legend: Legend, raster: Path) -> None:
    """Write `<raster>.aux.xml` (GDAL: category names, attribute table) and `<stem>.qml` (QGIS: style).

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    write_text(raster.with_name(raster.name + ".aux.xml"), _aux_xml(legend))
    write_text(raster.with_suffix(".qml"), _qml(_raster_style(legend)))


def write_polygon_style(legend: Legend, polygons: Path) -> None:
    """Write `<stem>.qml` (QGIS: style) beside a file of polygons that has class codes in a column `code`.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    write_text(polygons.with_suffix(".qml"), _qml(_polygon_style(legend)))


def _aux_xml(legend: Legend) -> str:
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = dict(zip(legend.codes, legend.names, strict=True))
    categories = ET.SubElement(band, "CategoryNames")
    for code in range(max(legend.codes) + 1):  # GDAL counts from 0: codes without a class are empty
        ET.SubElement(categories, "Category").text = names.get(code, "")
    _attribute_table(legend, band)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _attribute_table(legend: Legend, band: ET.Element) -> None:
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_FIELDS):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        ET.SubElement(field, "Name").text = name
        ET.SubElement(field, "Type").text = str(kind)
        ET.SubElement(field, "Usage").text = str(usage)
    for index, item in enumerate(legend):
        row = ET.SubElement(table, "Row", index=str(index))
        for value in (item.code, item.name, *rgb(item.color), 255):
            ET.SubElement(row, "F").text = str(value)


def _raster_style(legend: Legend) -> ET.Element:
    pipe = ET.Element("pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    colors = ET.SubElement(renderer, "colorPalette")
    for item in legend:
        ET.SubElement(
            colors, "paletteEntry", value=str(item.code), label=item.name, color=item.color, alpha="255"
        )
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    return pipe


def _polygon_style(legend: Legend) -> ET.Element:
    # By code: QGIS compares names as they are written, and an empty one would stand for all other values.
    renderer = ET.Element("renderer-v2", type="categorizedSymbol", attr="code")
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for index, item in enumerate(legend):
        link = str(index)
        ET.SubElement(categories, "category", value=str(item.code), type="long", label=item.name, symbol=link)
        _fill(ET.SubElement(symbols, "symbol", type="fill", name=link), item.color)
    return renderer


def _fill(symbol: ET.Element, color: str) -> None:
    """Fill a symbol with `color` (`#rrggbb`)."""
    rgba = ",".join(str(value) for value in (*rgb(color), 255))
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill"})
    options = ET.SubElement(layer, "Option", type="Map")
    # A hairline (0) of the same colour: without it the background shines between neighbours.
    for key, value in (
        ("color", rgba),
        ("style", "solid"),
        ("outline_color", rgba),
        ("outline_style", "solid"),
        ("outline_width", "0"),
    ):
        ET.SubElement(options, "Option", name=key, value=value, type="QString")
        ET.SubElement(layer, "prop", k=key, v=value)  # the form that QGIS up to 3.16 reads


def _qml(style: ET.Element) -> str:
    root = ET.Element("qgis", version="3.28", styleCategories="Symbology")
    root.append(style)
    ET.SubElement(root, "blendMode").text = "0"
    ET.indent(root)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + ET.tostring(root, encoding="unicode") + "\n"
