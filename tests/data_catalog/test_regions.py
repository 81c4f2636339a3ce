"""A region argument means one thing, or one clear line says what is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import geopandas
import pytest
import rasterio
from shapely import Point, box

from landmeta.errors import RegionError
from landmeta_catalog.regions import cache_folder, no_imagery, resolve_region
from landmeta_catalog.simulate import LEGEND


def write_vector(path: Path, shapes: list[object], crs: str | None, **options: str) -> Path:
    geopandas.GeoDataFrame({"id": range(len(shapes))}, geometry=shapes, crs=crs).to_file(path, **options)
    return path


def test_a_box_in_degrees_is_a_region_in_wgs84() -> None:
    region = resolve_region(" -4.2,52.3,-3.9,52.5")
    assert region.kind == "bbox"
    assert region.geometry is not None
    assert region.geometry.bounds == (-4.2, 52.3, -3.9, 52.5)
    assert region.crs is not None
    assert region.crs.to_epsg() == 4326
    assert region.imagery is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,2,3", "four numbers"),
        ("1,2,3,4,5", "four numbers"),
        ("1,2,three,4", "four numbers"),
        ("448000,5360000,460000,5372000", "not in degrees"),
        ("1,2,nan,4", "not in degrees"),
        ("-4,95,-3,96", "not in degrees"),
        ("-3,52,-4,53", "west"),
        ("-4,53,-3,52", "south"),
        ("-4,52,-4,53", "west"),
    ],
)
def test_a_malformed_box_is_refused_with_a_hint(text: str, complaint: str) -> None:
    with pytest.raises(RegionError, match=complaint) as caught:
        resolve_region(text)
    assert "west,south,east,north" in caught.value.hint or "--region=" in caught.value.hint


def test_a_vector_file_gives_the_union_of_its_polygons(tmp_path: Path) -> None:
    shapes = [box(0, 0, 2, 1), box(1, 0, 3, 1), None]
    region = resolve_region(str(write_vector(tmp_path / "aoi.gpkg", shapes, "EPSG:32632")))
    assert (region.kind, region.name) == ("vector", "aoi")
    assert region.geometry is not None
    assert region.geometry.area == pytest.approx(3)
    assert region.crs is not None
    assert region.crs.to_epsg() == 32632


def test_layers_of_another_crs_join_the_union(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "aoi.gpkg", [box(9, 48, 9.1, 48.1)], "EPSG:4326", layer="a")
    mercator = geopandas.GeoSeries([box(9.1, 48, 9.2, 48.1)], crs=4326).to_crs(3857)
    write_vector(path, list(mercator), "EPSG:3857", layer="b")
    region = resolve_region(str(path))
    assert region.geometry is not None
    assert region.geometry.bounds == pytest.approx((9, 48, 9.2, 48.1))


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_vector_file_without_crs_is_refused(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "aoi.shp", [box(0, 0, 1, 1)], None)
    with pytest.raises(RegionError, match="no coordinate reference system"):
        resolve_region(str(path))


def test_a_vector_file_of_points_covers_no_area(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "aoi.gpkg", [Point(0, 0)], "EPSG:4326")
    with pytest.raises(RegionError, match="covers no area"):
        resolve_region(str(path))


def test_a_file_that_is_no_vector_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "aoi.gpkg"
    path.write_text("not a vector file")
    with pytest.raises(RegionError, match="cannot be read"):
        resolve_region(str(path))


@pytest.mark.parametrize("path", ["nowhere/aoi.gpkg", "~nobody/aoi.gpkg"])
def test_a_missing_vector_file_is_named(path: str) -> None:
    with pytest.raises(RegionError, match=rf"{re.escape(path)} does not exist"):
        resolve_region(path)


def test_a_catalogue_region_comes_with_its_place_and_without_imagery() -> None:
    region = resolve_region("dfc2020/CapeTown-autumn")
    assert (region.kind, region.name) == ("catalogue", "dfc2020/capetown-autumn")
    assert (region.imagery, region.labels) == (None, None)
    assert region.place == "Cape Town, South Africa, 33.92 S 18.42 E"
    assert region.geometry is not None
    assert region.geometry.contains(Point(18.42, -33.93))


@pytest.mark.parametrize("text", ["Kenya", "kenya", " KE ", "KEN"])
def test_a_country_comes_with_its_boundary_in_degrees(text: str) -> None:
    region = resolve_region(text)
    assert (region.kind, region.name, region.imagery) == ("country", "Kenya", None)
    assert region.geometry is not None
    assert region.geometry.contains(Point(36.82, -1.29))
    assert region.crs is not None
    assert region.crs.to_epsg() == 4326


@pytest.mark.parametrize("name", ["U.S. Virgin Islands", "Korea, Republic of", "St. Kitts and Nevis"])
def test_a_country_may_have_full_stops_and_commas(name: str) -> None:
    assert resolve_region(name).kind == "country"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Kenia", "Kenya"),
        ("Germny", "Germany"),
        ("dfc2020/capetown", "dfc2020/capetown-autumn"),
        ("sen12ms/spring-2", "sen12ms/spring-21"),
        ("dmeo", "demo"),
    ],
)
def test_a_mistyped_region_names_what_may_be_meant(text: str, meant: str) -> None:
    with pytest.raises(RegionError, match=f"{re.escape(repr(text))} is not known; did you mean {meant}"):
        resolve_region(text)


def test_a_file_goes_before_a_country_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vector(tmp_path / "Kenya.geojson", [box(0, 0, 1, 1)], "EPSG:4326").rename(tmp_path / "Kenya")
    monkeypatch.chdir(tmp_path)
    assert resolve_region("Kenya").kind == "vector"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Kenya", "the country 'Kenya'"),
        ("1,2,3,4", "the box '1,2,3,4'"),
        ("dfc2020/capetown-autumn", "the catalogue region 'dfc2020/capetown-autumn' (Cape Town, South"),
    ],
)
def test_without_imagery_one_line_says_of_what(text: str, what: str) -> None:
    error = no_imagery(resolve_region(text))
    assert str(error).startswith(f"there is no imagery for {what}")
    assert "--imagery" in error.hint


@pytest.mark.parametrize("name", ["dmeo", "Demo", "demo1", "", "?!", "Atlantis", "mars/phobos"])
def test_a_mistyped_name_gets_the_list_of_what_is_accepted(name: str) -> None:
    with pytest.raises(RegionError, match="not known") as caught:
        resolve_region(name)
    for accepted in ("demo", "country such as", "west,south,east,north", "vector file", "catalogue region"):
        assert accepted in caught.value.hint


def test_the_cache_folder_is_the_users_choice_or_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDMETA_CACHE", "somewhere")
    assert cache_folder() == Path("somewhere")
    monkeypatch.delenv("LANDMETA_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "landmeta"


def test_the_demo_is_made_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDMETA_CACHE", str(tmp_path))
    region = resolve_region("demo")
    assert region.kind == "demo"
    assert region.imagery is not None
    assert region.labels is not None
    assert all(p.is_relative_to(tmp_path) and p.is_file() for p in (*region.imagery, region.labels))
    labels = geopandas.read_file(region.labels)
    with rasterio.open(tmp_path / "demo" / "truth" / "truth.tif") as dataset:
        codes = dict(zip(LEGEND.names, LEGEND.codes, strict=True))
        for name, square in zip(labels["class"], labels.geometry, strict=True):
            truth = dataset.read(1, window=dataset.window(*square.bounds))
            assert (truth == codes[name]).mean() >= 0.75
