from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import pytest
from affine import Affine
from jsonschema import Draft7Validator
from odc.geo.geobox import GeoBox
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from shapely.geometry import Polygon, shape

from landmeta.classmap import ClassMap
from landmeta_maps.stac import EXTENSIONS, Model, _item_id, footprint_lonlat, write_stac_item
from landmeta_maps.summary import summarize
from landmeta_maps.writer import write_map

NOON = datetime(2021, 5, 27, 12, tzinfo=UTC)
CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"


def item_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "item.json").read_text())
    return found


@pytest.fixture
def folder(class_map: ClassMap, tmp_path: Path) -> Path:
    write_map([class_map.block], class_map.grid, class_map.legend, tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    model = Model("landmeta demo", ("B02", "B03", "B04"), pretrained_source="landmeta starter")
    write_stac_item(tmp_path, summarize(class_map), region="Demo, north", created=NOON, model=model)
    return tmp_path


def test_the_item_is_valid_by_the_core_schema_without_a_network(folder: Path) -> None:
    schemas = get_local_schema_cache()
    known = Registry().with_resources([(uri, Resource.from_contents(s)) for uri, s in schemas.items()])
    errors = list(Draft7Validator(schemas[CORE], registry=known).iter_errors(item_of(folder)))
    assert errors == []


def test_the_schema_check_can_fail(folder: Path) -> None:
    broken = item_of(folder) | {"bbox": "everywhere"}
    schemas = get_local_schema_cache()
    known = Registry().with_resources([(uri, Resource.from_contents(s)) for uri, s in schemas.items()])
    assert list(Draft7Validator(schemas[CORE], registry=known).iter_errors(broken))


@pytest.mark.parametrize(("region", "words"), [("Österbotten: süd", "Osterbotten_sud"), ("北京", "region")])
def test_the_id_of_an_item_keeps_the_letters_below_accents(region: str, words: str) -> None:
    assert _item_id(region, NOON) == f"landmeta-{words}-20210527T120000Z"


def test_pystac_reads_the_item_and_finds_the_files(folder: Path) -> None:
    item = pystac.Item.from_file(str(folder / "item.json"))
    assert item.datetime == NOON
    assert item.id == "landmeta-Demo_north-20210527T120000Z"
    for asset in item.assets.values():
        assert asset.href.startswith("./")
        assert (folder / asset.href).is_file()
    assert set(item.assets) == {"landcover", "probabilities", "confidence", "style", "names", "model"}


def test_classes_have_names_that_the_extension_allows(folder: Path) -> None:
    classes = item_of(folder)["assets"]["landcover"]["classification:classes"]
    assert classes[0] == {"value": 1, "name": "forest", "title": "forest", "color_hint": "1B7837"}
    assert [c["name"] for c in classes] == ["forest", "open_water", "R_D_b_site_b", "nodata"]
    assert classes[-1] == {"value": 255, "name": "nodata", "title": "No data", "nodata": True}


def test_projection_fields_are_those_of_the_raster(class_map: ClassMap, folder: Path) -> None:
    properties = item_of(folder)["properties"]
    assert properties["proj:code"] == "EPSG:32630"
    assert properties["proj:shape"] == [300, 300]
    assert properties["proj:transform"][:6] == [10, 0, 400_000, 0, -10, 5_800_000]
    assert properties["proj:bbox"] == [400_000, 5_797_000, 403_000, 5_800_000]


def test_probability_bands_tell_name_scale_and_nodata(folder: Path) -> None:
    bands = item_of(folder)["assets"]["probabilities"]["bands"]
    assert [band["name"] for band in bands] == ["forest", "open water", "R&D <b>site</b>"]
    assert {(b["data_type"], b["nodata"], b["raster:scale"]) for b in bands} == {("uint16", 65535, 1e-4)}


def test_the_model_has_what_the_extension_requires(folder: Path) -> None:
    item = item_of(folder)
    assert EXTENSIONS["mlm"] in item["stac_extensions"]
    for field in ("mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"):
        assert item["properties"][field]
    assert item["assets"]["model"]["roles"] == ["mlm:model"]
    assert item["assets"]["model"]["mlm:artifact_type"] == "safetensors.torch.save_file"
    entry = item["properties"]["mlm:input"][0]
    assert entry["input"]["shape"][1] == len(entry["bands"]) == 3


def test_without_a_model_file_there_are_no_model_fields(class_map: ClassMap, tmp_path: Path) -> None:
    write_stac_item(
        tmp_path, summarize(class_map), region="x", created=NOON, model=Model("landmeta x", ("B02",))
    )
    item = item_of(tmp_path)
    assert EXTENSIONS["mlm"] not in item["stac_extensions"]
    assert not [key for key in item["properties"] if key.startswith("mlm:")]


def test_the_time_of_the_imagery_is_the_items_where_it_is_known(class_map: ClassMap, tmp_path: Path) -> None:
    taken = datetime(2020, 1, 2, tzinfo=UTC)
    write_stac_item(tmp_path, summarize(class_map), region="x", created=NOON, acquired=taken)
    properties = item_of(tmp_path)["properties"]
    assert properties["datetime"] == "2020-01-02T00:00:00Z"
    assert properties["created"] == "2021-05-27T12:00:00Z"
    assert "not known" not in properties["description"]


def test_where_it_is_not_known_the_item_says_so(folder: Path) -> None:
    assert "not known" in item_of(folder)["properties"]["description"]


def test_a_time_without_zone_is_refused(class_map: ClassMap, tmp_path: Path) -> None:
    naive = datetime(2021, 5, 27)
    with pytest.raises(ValueError, match="no time zone"):
        write_stac_item(tmp_path, summarize(class_map), region="x", created=naive)


def test_the_same_run_gives_the_same_item(class_map: ClassMap, folder: Path) -> None:
    before = (folder / "item.json").read_bytes()
    model = Model("landmeta demo", ("B02", "B03", "B04"), pretrained_source="landmeta starter")
    write_stac_item(folder, summarize(class_map), region="Demo, north", created=NOON, model=model)
    assert (folder / "item.json").read_bytes() == before


def test_the_footprint_is_counter_clockwise_and_in_degrees(make_grid: Callable[..., GeoBox]) -> None:
    outline = footprint_lonlat(make_grid())
    assert isinstance(outline, Polygon)
    assert outline.exterior.is_ccw
    assert outline.bounds == pytest.approx((-4.47, 52.31, -4.42, 52.34), abs=0.02)


def test_a_grid_across_180_degrees_is_cut_in_two(
    make_class_map: Callable[..., ClassMap], tmp_path: Path
) -> None:
    grid = GeoBox((50, 200), Affine(1000, 0, 80_000, 0, -1000, 8_100_000), "EPSG:32701")
    write_stac_item(tmp_path, summarize(make_class_map(grid)), region="Fiji", created=NOON)
    item = item_of(tmp_path)
    outline = shape(item["geometry"])
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    assert [round(outline.bounds[i]) for i in (0, 2)] == [-180, 180]
    west, _, east, _ = item["bbox"]
    assert west > 170 > -170 > east


def test_a_grid_all_around_the_globe_keeps_both_ends() -> None:
    whole = GeoBox((18, 36), Affine(10, 0, -180, 0, -10, 90), "EPSG:4326")
    assert footprint_lonlat(whole).bounds == (-180, -90, 180, 90)
