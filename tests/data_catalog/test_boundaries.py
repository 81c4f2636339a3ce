"""Countries are found by name and code; their boundaries are where the countries are."""

from __future__ import annotations

import geopandas
import pytest
from shapely import Point

from landmeta_catalog.boundaries import boundary, countries, find_country, similar_countries
from landmeta_catalog.places import find_place, named_places, similar_places


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Kenya", "KE"),
        ("kenya", "KE"),
        ("KE", "KE"),
        ("ken", "KE"),
        ("Côte d'Ivoire", "CI"),
        ("cote divoire", "CI"),
        ("Ivory Coast", "CI"),
        ("the Gambia", "GM"),
        ("Bosnia & Herzegovina", "BA"),
        ("Korea, Republic of", "KR"),
        ("U.S.A.", "US"),
        ("UK", "GB"),
        ("AND", "AD"),
        ("Dem. Rep. Congo", "CD"),
        ("Congo", "CG"),
    ],
)
def test_a_country_is_found_by_name_or_code(text: str, code: str) -> None:
    found = find_country(text)
    assert found is not None
    assert found.iso_a2 == code


@pytest.mark.parametrize("text", ["", "?!", "Atlantis", "K", "1,2,3,4", "the"])
def test_what_is_no_country_is_not_found(text: str) -> None:
    assert find_country(text) is None


def test_a_mistyped_country_has_similar_names() -> None:
    assert similar_countries("Kenia") == ("Kenya",)
    assert similar_countries("Germny")[0] == "Germany"
    assert similar_countries("Ivory Cost") == ("Côte d'Ivoire",)
    assert similar_countries("xyzzy") == ()


def test_codes_are_those_of_iso_and_unique() -> None:
    listed = countries()
    for codes, length in (([c.iso_a2 for c in listed], 2), ([c.iso_a3 for c in listed], 3)):
        known = [code for code in codes if code]
        assert len(known) == len(set(known)) > 230
        assert all(len(code) == length and code.isupper() for code in known)
    assert [c.name for c in listed] == sorted(c.name for c in listed)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("Kenya", (36.82, -1.29), (32.58, 0.35)),  # Nairobi, Kampala
        ("Germany", (13.40, 52.52), (21.01, 52.23)),  # Berlin, Warsaw
        ("Lesotho", (28.2, -29.6), (26.2, -29.1)),  # a hole of South Africa
        ("Russia", (-173.0, 66.0), (-165.4, 64.5)),  # beyond 180 degrees; Nome
        ("Fiji", (178.44, -17.9), (175.0, -17.8)),
        ("Antarctica", (0.0, -89.9), (0.0, -60.0)),
        ("United States of America", (-95.0, 40.0), (-98.0, 55.0)),
    ],
)
def test_a_boundary_holds_its_places(
    name: str, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    country = find_country(name)
    assert country is not None
    area = boundary(country)
    assert area.contains(Point(inside))
    assert not area.contains(Point(outside))


def test_boundaries_are_valid_lie_in_degrees_and_hardly_overlap() -> None:
    from importlib.resources import as_file, files

    with as_file(files("landmeta_catalog") / "countries.parquet") as path:
        table = geopandas.read_parquet(path)
        assert path.stat().st_size < 900_000
    assert table.crs.to_epsg() == 4326
    assert table.is_valid.all()
    assert not table.is_empty.any()
    west, south, east, north = table.total_bounds
    assert (west, east) == (-180, 180)
    assert south == -90
    assert north < 84
    equal_area = table.to_crs("ESRI:54034")
    assert equal_area.area.sum() == pytest.approx(equal_area.union_all().area, rel=1e-3)


def test_south_africa_has_a_hole_for_lesotho() -> None:
    around, hole = (find_country(name) for name in ("South Africa", "Lesotho"))
    assert around is not None
    assert hole is not None
    assert boundary(around).intersection(boundary(hole)).area < 0.01 * boundary(hole).area


def test_the_named_regions_are_seven_and_252_and_lie_in_their_countries() -> None:
    places = named_places()
    by_dataset = {name: [p for p in places if p.dataset == name] for name in ("dfc2020", "sen12ms")}
    assert {name: len(found) for name, found in by_dataset.items()} == {"dfc2020": 7, "sen12ms": 252}
    assert len({p.name for p in places}) == len(places)
    for code in {p.country for p in places}:
        country = find_country(code)
        assert country is not None, code
        area = boundary(country)
        for place in (p for p in places if p.country == code):
            assert area.distance(Point(place.longitude, place.latitude)) < 0.15, place.name


def test_a_named_region_is_found_whatever_its_case() -> None:
    place = find_place("DFC2020/CapeTown-Autumn")
    assert place is not None
    assert (place.name, place.region, place.season) == ("dfc2020/capetown-autumn", "CapeTown", "autumn")
    assert place.describe() == "Cape Town, South Africa, 33.92 S 18.42 E"
    scene = find_place("sen12ms/spring-1")
    assert scene is not None
    assert scene.describe() == "Mozambique, 17.15 S 37.87 E"
    assert find_place("sen12ms/spring-2") is None


def test_the_extent_of_a_named_region_is_100_km_wide_and_high() -> None:
    place = find_place("dfc2020/blackforest-spring")
    assert place is not None
    shape = geopandas.GeoSeries([place.extent], crs=4326).to_crs(32632)
    west, south, east, north = shape.total_bounds
    assert (east - west, north - south) == pytest.approx((100_000, 100_000), rel=0.02)
    assert shape.iloc[0].contains(geopandas.points_from_xy([450_000], [5_316_000])[0])


def test_the_beginning_of_a_name_is_completed() -> None:
    assert similar_places("dfc2020/cape") == ("dfc2020/capetown-autumn",)
    assert similar_places("dfc2020/capetwon-autumn")[0] == "dfc2020/capetown-autumn"
    assert similar_places("mars/phobos") == ()
