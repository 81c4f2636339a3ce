from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmeta.bands import KNOWN, SENTINEL2, BandSet, band_of_filename, canonical, parse_bands
from landmeta.errors import ImageryError


def test_sentinel_2_has_13_bands_and_b8a_follows_b08() -> None:
    assert len(SENTINEL2) == 13
    assert SENTINEL2.index("B8A") == SENTINEL2.index("B08") + 1


@pytest.mark.parametrize(
    "spelling", ["B2", "b02", "B02", "S2B2", "blue", "Blue", " B2 ", "B2 (496.6 nm)", "B2 - blue", "S2_B02"]
)
def test_every_usual_spelling_of_the_blue_band_is_b02(spelling: str) -> None:
    assert canonical(spelling) == "B02"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("B8A", "B8A"),
        ("b08a", "B8A"),
        ("nir08", "B8A"),
        ("nir", "B08"),
        ("B8", "B08"),
        ("nir09", "B09"),
        ("swir16", "B11"),
        ("swir22", "B12"),
        ("rededge2", "B06"),
        ("red edge 2", "B06"),
        ("coastal", "B01"),
        ("red", "B04"),
        ("VV", "VV"),
        ("S1VH", "VH"),
    ],
)
def test_names_of_other_bands_and_catalogues_are_known(spelling: str, name: str) -> None:
    assert canonical(spelling) == name


@pytest.mark.parametrize("text", ["", "2", "B0", "B13", "B20", "worldcover", "Band 2", "bluebell", "B8B"])
def test_what_is_no_band_has_no_canonical_name(text: str) -> None:
    assert canonical(text) is None


@given(st.sampled_from(KNOWN))
def test_canonical_names_are_their_own_canonical_name(name: str) -> None:
    assert canonical(name) == name == canonical(name.lower())


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("T30UVD_20210527T112121_B02_10m", "B02"),
        ("scene_B8A_", "B8A"),
        ("nir08", "B8A"),
        ("green_bay_B04", "B04"),
        ("S1A_vv", "VV"),
        ("scene", None),
        ("B02_B03", None),
        ("B02_copy_of_B2", "B02"),
        ("tile_11", None),
    ],
)
def test_a_file_name_tells_its_band_where_one_token_does(stem: str, name: str | None) -> None:
    assert band_of_filename(stem) == name


def test_a_list_of_bands_keeps_its_order() -> None:
    assert parse_bands("B8A, B2,red ,swir16") == ("B8A", "B02", "B04", "B11")


def test_an_unknown_band_is_named_with_the_ones_that_are_known() -> None:
    with pytest.raises(ImageryError, match="'Q3'.*B8A") as caught:
        parse_bands("B2,Q3")
    assert "--bands" in caught.value.hint


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_of_bands_is_refused(text: str) -> None:
    with pytest.raises(ImageryError, match="empty"):
        parse_bands(text)


def test_a_band_named_twice_is_refused_in_any_spelling() -> None:
    with pytest.raises(ImageryError, match="B02 is named more than once"):
        parse_bands("B2,B3,blue")


def test_indices_accept_any_spelling_and_name_the_band_that_is_missing() -> None:
    bands = BandSet(("B04", "B02"), scale=1e-4)
    assert bands.indices(["blue", "B4"]) == (1, 0)
    with pytest.raises(ImageryError, match="'B8'.*B04, B02"):
        bands.indices(["B8"])


def test_wavelengths_are_of_sentinel_2_and_radar_has_none() -> None:
    bands = BandSet(("VV", "B02", "B8A"))
    assert bands.wavelengths == (None, 496.6, 864.8)
    assert bands.optical == (1, 2)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ImageryError, match="scale of 0"):
        BandSet(("B02",), scale=0.0)


def test_a_band_set_takes_canonical_names_only() -> None:
    with pytest.raises(ValueError, match="blue"):
        BandSet(("blue",))
