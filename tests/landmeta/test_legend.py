from __future__ import annotations

import itertools

import pytest

from landmeta.legend import (
    DFC2020,
    EUROSAT,
    IGBP_TO_DFC2020,
    KNOWN_LEGENDS,
    WORLDCOVER,
    LandClass,
    Legend,
    legend_for,
)


def _distance(one: str, other: str) -> float:
    pairs = ((int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5))
    return sum((a - b) ** 2 for a, b in pairs) ** 0.5


def test_a_legend_refuses_codes_that_are_there_twice() -> None:
    with pytest.raises(ValueError, match="distinct class codes"):
        Legend((LandClass(1, "a", "#000000"), LandClass(1, "b", "#ffffff")))


def test_a_class_refuses_the_code_of_nodata() -> None:
    with pytest.raises(ValueError, match="255"):
        LandClass(255, "cloud", "#ffffff")


def test_codes_of_free_names_count_from_one_in_sorted_order() -> None:
    legend = legend_for(["water", "forest", "urban", "forest"])
    assert legend.names == ("forest", "urban", "water")
    assert legend.codes == (1, 2, 3)


def test_numbers_in_names_sort_by_value() -> None:
    assert legend_for(["class 10", "class 9", "class 1"]).names == ("class 1", "class 9", "class 10")


def test_given_codes_are_kept_and_the_legend_is_in_their_order() -> None:
    legend = legend_for(["b", "a"], codes=[3, 7])
    assert [(c.code, c.name) for c in legend] == [(3, "b"), (7, "a")]


def test_names_of_a_known_legend_get_its_codes_and_colours() -> None:
    legend = legend_for(["Water", "Urban/Built-up", "Forest"])
    assert [(c.code, c.color) for c in legend] == [(1, "#009900"), (7, "#a5a5a5"), (10, "#1c0dff")]


def test_one_unknown_name_leaves_the_known_legend_out() -> None:
    assert legend_for(["Water", "Forest", "Rubber"]).codes == (1, 2, 3)


@pytest.mark.parametrize(
    ("name", "channel"), [("water", 2), ("SeaLake edge", 2), ("deciduous_forest", 1), ("URBAN", 0)]
)
def test_a_name_that_says_what_it_is_gets_a_natural_colour(name: str, channel: int) -> None:
    color = legend_for([name, "zz"]).classes[0].color
    values = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    assert max(values) == values[channel]


def test_words_are_matched_at_their_beginning_only() -> None:
    """`rice` is in `price`, `ice` in `rice`: neither is snow."""
    rice, snow = legend_for(["rice"]).colors[0], legend_for(["ice"]).colors[0]
    assert rice == legend_for(["crop"]).colors[0] != snow


def test_no_two_of_sixty_classes_look_alike() -> None:
    names = [f"forest {i}" for i in range(20)] + [f"thing {i}" for i in range(40)]
    colors = legend_for(names).colors
    assert min(_distance(a, b) for a, b in itertools.combinations(colors, 2)) > 15


def test_a_handful_of_free_names_are_well_apart() -> None:
    colors = legend_for(["forest", "woods", "water", "lake", "alpha", "beta", "gamma"]).colors
    assert min(_distance(a, b) for a, b in itertools.combinations(colors, 2)) > 38


def test_a_legend_may_have_as_many_classes_as_there_are_codes() -> None:
    assert len(set(legend_for([f"c{i}" for i in range(254)]).colors)) == 254


@pytest.mark.parametrize(("legend", "size"), list(zip(KNOWN_LEGENDS, (10, 11, 10), strict=True)))
def test_known_legends_are_complete_and_found_by_their_own_names(legend: Legend, size: int) -> None:
    assert len(legend) == size
    assert legend_for(legend.names) == legend


def test_the_crosswalk_takes_igbp_classes_to_the_dfc_classes_named_alike() -> None:
    names = dict(zip(DFC2020.codes, DFC2020.names, strict=True))
    igbp = {5: "Forest", 7: "Shrubland", 9: "Savanna", 12: "Croplands", 13: "Urban/Built-up", 17: "Water"}
    assert {i: names[IGBP_TO_DFC2020[i]] for i in igbp} == igbp
    assert len(IGBP_TO_DFC2020) == 18


def test_worldcover_and_eurosat_have_their_published_classes() -> None:
    assert WORLDCOVER.codes == (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)
    assert sorted(EUROSAT.names) == list(EUROSAT.names)
