"""A label raster's class names and colours come into the legend from wherever GDAL keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
from rasterio.shutil import copy

from landmeta.labels import Labels, read_labels
from landmeta.legend import WORLDCOVER

from .conftest import flat_imagery, write_raster

FIELDS = '<FieldDefn index="{}"><Name>{}</Name><Type>{}</Type><Usage>{}</Usage></FieldDefn>'


def codes(path: Path, *values: int, palette: dict[int, tuple[int, ...]] | None = None) -> Path:
    """A label raster with a square of each code."""
    pixels = np.zeros((40, 50), np.uint8)
    for at, value in enumerate(values):
        pixels[4 * at : 4 * at + 3, :3] = value
    write_raster(path, pixels, nodata=0)
    if palette:
        with rasterio.open(path, "r+") as file:
            file.write_colormap(1, palette)
    return path


def beside(raster: Path, band: str) -> None:
    xml = f'<PAMDataset><PAMRasterBand band="1">{band}</PAMRasterBand></PAMDataset>'
    raster.with_name(raster.name + ".aux.xml").write_text(xml, encoding="utf-8")


def categories(*names: str) -> str:
    return f"<CategoryNames>{''.join(f'<Category>{name}</Category>' for name in names)}</CategoryNames>"


def table(rows: list[tuple[str, str]], usages: tuple[int, int] = (5, 2)) -> str:
    fields = FIELDS.format(0, "Value", 0, usages[0]) + FIELDS.format(1, "Land use", 2, usages[1])
    cells = "".join(f"<Row><F>{code}</F><F>{name}</F></Row>" for code, name in rows)
    return f"<GDALRasterAttributeTable>{fields}{cells}</GDALRasterAttributeTable>"


def named(labels: Labels) -> dict[int, str]:
    return {c.code: c.name for c in labels.legend}


def test_category_names_and_palette_are_kept(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 1, 3, palette={1: (1, 2, 3), 3: (255, 0, 16)})
    beside(file, categories("", "Wald", "", "Straße &amp; Weg"))
    labels = read_labels(file, flat_imagery())
    assert [(c.code, c.name, c.color) for c in labels.legend] == [
        (1, "Wald", "#010203"),
        (3, "Straße & Weg", "#ff0010"),
    ]
    assert labels.warnings == ()


@pytest.mark.parametrize("usages", [(5, 2), (3, 2)])
def test_an_attribute_table_names_classes_too(tmp_path: Path, usages: tuple[int, int]) -> None:
    file = codes(tmp_path / "a.tif", 7, 20)
    beside(file, table([("7", "heath"), ("20.0", "moor"), ("x", "?")], usages))
    assert named(read_labels(file, flat_imagery())) == {7: "heath", 20: "moor"}


def test_a_table_without_names_names_nothing(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 7, 20)
    beside(file, table([("7", "12"), ("20", "34")], (5, 1)))
    assert named(read_labels(file, flat_imagery())) == {7: "class 7", 20: "class 20"}


def test_a_vrt_says_its_names_itself(tmp_path: Path) -> None:
    source = codes(tmp_path / "a.tif", 1, 2)
    beside(source, categories("", "sand", "rock"))
    copy(source, tmp_path / "a.vrt", driver="VRT")
    assert named(read_labels(tmp_path / "a.vrt", flat_imagery())) == {1: "sand", 2: "rock"}


@pytest.mark.parametrize("column", ["LULC", "BESCHREIB"])
def test_the_attribute_table_of_arcgis_names_classes(tmp_path: Path, column: str) -> None:
    file = codes(tmp_path / "a.tif", 7, 20, 30)
    rows = pandas.DataFrame({"VALUE": [7, 20, 30], "COUNT": [9.0, 9.0, 9.0], column: ["heath", "moor", None]})
    pyogrio.write_dataframe(rows, tmp_path / "a.dbf", driver="ESRI Shapefile")
    (tmp_path / "a.dbf").rename(tmp_path / "a.tif.vat.dbf")
    assert named(read_labels(file, flat_imagery())) == {7: "heath", 20: "moor", 30: "class 30"}


def test_the_palette_of_a_known_legend_has_its_names(tmp_path: Path) -> None:
    palette = {c.code: tuple(bytes.fromhex(c.color[1:])) for c in WORLDCOVER}
    labels = read_labels(codes(tmp_path / "a.tif", 10, 50, 80, palette=palette), flat_imagery())
    assert tuple(labels.legend) == tuple(c for c in WORLDCOVER if c.code in (10, 50, 80))


def test_a_colour_that_two_classes_share_is_no_palette(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 1, 2, palette={1: (9, 9, 9), 2: (9, 9, 9)})
    assert len({c.color for c in read_labels(file, flat_imagery()).legend}) == 2


def test_a_name_for_two_codes_and_codes_without_one_stay_apart(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 1, 2, 3, 4)
    beside(file, categories("", "field", "field", "", "class 3"))
    assert named(read_labels(file, flat_imagery())) == {
        1: "field (1)",
        2: "field (2)",
        3: "class 3 (3)",
        4: "class 3 (4)",
    }


def test_a_name_that_is_like_another_with_its_code_stays_apart_too(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 1, 2, 3)
    beside(file, categories("", "A", "A", "A (1)"))
    assert named(read_labels(file, flat_imagery())) == {1: "A (1)", 2: "A (2)", 3: "A (1) (3)"}


def test_names_that_differ_in_case_are_told(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 1, 2)
    beside(file, categories("", "Forest", "forest"))
    assert "differ only in case" in read_labels(file, flat_imagery()).warnings[0]


@pytest.mark.parametrize("values", [[7.0, None, 20.0], ["7", "?", "20"]])
def test_rows_of_an_attribute_table_without_a_code_are_passed_over(
    tmp_path: Path, values: list[object]
) -> None:
    file = codes(tmp_path / "a.tif", 7, 20)
    rows = pandas.DataFrame({"VALUE": values, "CLASS": ["heath", "nothing", "moor"]})
    pyogrio.write_dataframe(rows, tmp_path / "a.dbf", driver="ESRI Shapefile")
    (tmp_path / "a.dbf").rename(tmp_path / "a.tif.vat.dbf")
    assert named(read_labels(file, flat_imagery())) == {7: "heath", 20: "moor"}


def test_what_gdal_cannot_read_either_names_nothing(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 1, 2)
    file.with_name("a.tif.aux.xml").write_text("<PAMDataset><PAMRasterBand", encoding="utf-8")
    assert named(read_labels(file, flat_imagery())) == {1: "class 1", 2: "class 2"}


def test_a_legend_that_is_given_goes_before_the_files_names(tmp_path: Path) -> None:
    file = codes(tmp_path / "a.tif", 10, 80)
    beside(file, table([("10", "trees"), ("80", "water")]))
    labels = read_labels(file, flat_imagery(), legend=WORLDCOVER)
    assert labels.legend.names == ("Tree cover", "Permanent water bodies")
