"""What a label raster says of its codes: class names beside or in the file, colours of its palette."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyogrio
import rasterio
from pandas.api.types import is_string_dtype
from pyogrio.errors import DataSourceError

from landmeta._imagery.files import RasterFile, reading
from landmeta._labels.features import class_column
from landmeta.legend import KNOWN_LEGENDS, Legend

_VALUE, _LOWEST, _NAME = ("5", "3", "2")  # GDAL's usages of an attribute table's fields: MinMax, Min, Name


@dataclass(frozen=True, slots=True)
class Categories:
    """Names and colours (`#rrggbb`) by class code, as far as a label raster gives them."""

    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, str] = field(default_factory=dict)

    def of(self, codes: set[int]) -> Categories:
        """Those of some classes: a name for each, none twice, and colours where all have one of their own.

        A palette without names that colours these classes as a known legend does has its names; elsewhere a
        class is called `class 3`.
        """
        given = {code: name for code, name in self.names.items() if code in codes}
        colors = {code: color for code, color in self.colors.items() if code in codes}
        if len(set(colors.values())) < len(codes):
            colors = {}
        for known in KNOWN_LEGENDS if colors and not given else ():
            if colors.items() <= {c.code: c.color for c in known}.items():
                given = dict(zip(known.codes, known.names, strict=True))
        names = {code: given.get(code, f"class {code}") for code in codes}
        count = Counter(names.values())
        apart = {code: f"{name} ({code})" if count[name] > 1 else name for code, name in names.items()}
        if len(set(apart.values())) < len(codes):  # a name is like another with its code
            apart = {code: f"{name} ({code})" for code, name in names.items()}
        return Categories(apart, colors)


def painted(legend: Legend, colors: Mapping[int, str]) -> Legend:
    """The legend in the colours given for its codes."""
    return Legend(tuple(replace(c, color=colors.get(c.code, c.color)) for c in legend))


def read_categories(file: RasterFile) -> Categories:
    """Names from GDAL's `.aux.xml` or a VRT, else from ArcGIS's `.vat.dbf`, and the palette.

    Raises:
        ImageryError: the file cannot be opened any more.
    """
    beside = file.path if file.path.suffix.lower() == ".vrt" else Path(f"{file.path}.aux.xml")
    return Categories(_names(beside) or _arcgis_names(Path(f"{file.path}.vat.dbf")), _palette(file))


def _names(path: Path) -> dict[int, str]:
    """Category names of the first band, else those of its attribute table."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):  # none, or none that GDAL itself could read
        return {}
    bands = [e for e in root if e.tag.endswith("RasterBand") and e.get("band", "1") == "1"]
    listed = [_text(e) for band in bands for e in band.findall("CategoryNames/Category")]
    named = {code: name for code, name in enumerate(listed) if name}
    return named or {code: name for band in bands for code, name in _attributes(band).items()}


def _attributes(band: ET.Element) -> dict[int, str]:
    """Names by code in the attribute table of a band; nothing where it lacks either."""
    table = band.find("GDALRasterAttributeTable")
    if table is None:
        return {}
    usages = [_text(f) for f in table.findall("FieldDefn/Usage")]
    values = [usages.index(usage) for usage in (_VALUE, _LOWEST) if usage in usages]
    if not values or _NAME not in usages:
        return {}
    rows = [[_text(f) for f in row.findall("F")] for row in table.findall("Row")]
    pairs = [(row[values[0]], row[usages.index(_NAME)]) for row in rows if len(row) == len(usages)]
    return {int(float(code)): name for code, name in pairs if name and _is_whole(code)}


def _arcgis_names(path: Path) -> dict[int, str]:
    """Names in the column of text that is called like one of classes, or is the only one."""
    if not path.is_file():
        return {}
    try:
        table = pyogrio.read_dataframe(path, read_geometry=False)
    except (DataSourceError, UnicodeDecodeError):
        return {}
    value = next((column for column in table if column.lower() == "value"), None)
    texts = [c for c in table if is_string_dtype(table[c]) or table[c].dtype == object]
    name = class_column(texts) or (texts[0] if len(texts) == 1 else None)
    if value is None or name is None:
        return {}
    named = zip(table[value], table[name].fillna(""), strict=True)
    return {int(float(code)): text.strip() for code, text in named if text.strip() and _is_whole(str(code))}


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False


def _text(element: ET.Element) -> str:
    return (element.text or "").strip()


def _palette(file: RasterFile) -> dict[int, str]:
    with reading(file.path), rasterio.open(file.path) as source:
        try:
            palette = source.colormap(1)
        except ValueError:  # it has none
            return {}
    return {code: "#" + bytes(rgba[:3]).hex() for code, rgba in palette.items()}
