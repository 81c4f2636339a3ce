from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from landmeta.classmap import ClassMap
from landmeta_maps.areas import class_areas_ha, row_counts, row_pixel_areas, share_text


def test_a_hundred_pixels_of_ten_metres_are_one_hectare(class_map: ClassMap) -> None:
    counts = [(class_map.codes == code).sum() for code in class_map.legend.codes]
    assert class_areas_ha(row_counts(class_map.codes, class_map.legend), class_map.grid) == pytest.approx(
        [count / 100 for count in counts]
    )


def test_pixels_in_degrees_shrink_towards_the_pole() -> None:
    grid = GeoBox((60, 4), Affine(1, 0, 0, 0, -1, 60), "EPSG:4326")
    areas = row_pixel_areas(grid)
    assert (np.diff(areas) > 0).all()
    assert areas[-1] == pytest.approx(12_308e6, rel=1e-3)  # one degree square at the equator


def test_web_mercator_is_measured_on_the_ground_not_in_its_plane() -> None:
    grid = GeoBox((1, 1), Affine(10, 0, 0, 0, -10, 8_399_738), "EPSG:3857")  # 60 degrees north
    assert row_pixel_areas(grid)[0] == pytest.approx(25, rel=0.01)


def test_feet_are_turned_into_metres() -> None:
    grid = GeoBox((2, 2), Affine(100, 0, 0, 0, -100, 0), "EPSG:2263")  # US survey feet
    assert row_pixel_areas(grid)[0] == pytest.approx((100 * 0.3048006096) ** 2)


def test_classes_add_up_to_what_is_mapped(make_class_map: Callable[..., ClassMap]) -> None:
    grid = GeoBox((30, 40), Affine(0.01, 0, 10, 0, -0.01, 50), "EPSG:4326")
    found = make_class_map(grid)
    mapped = ((found.codes != 255).sum(axis=1) * row_pixel_areas(grid)).sum() / 1e4
    assert sum(class_areas_ha(row_counts(found.codes, found.legend), grid)) == pytest.approx(mapped)


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.0001, "< 0.1 %"), (0.1234, "12.3 %"), (float("nan"), "0 %")]
)
def test_small_shares_are_not_rounded_to_nothing(share: float, text: str) -> None:
    assert share_text(share) == text
