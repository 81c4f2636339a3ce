"""Patches are cut into named tiles, and a tile's class follows one of two majority rules."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from landmeta.errors import DataError
from landmeta.legend import DFC2020, EUROSAT, IGBP_TO_DFC2020
from landmeta_catalog.archives import KINDS, open_archive
from landmeta_catalog.archives.base import (
    CROPS,
    NO_CLASS,
    Patch,
    checked_codes,
    majority_class,
    pure_class,
    quadrant,
    quadrant_window,
)


def test_quadrants_cover_a_patch_exactly_once() -> None:
    seen = np.zeros((256, 256), int)
    for name in CROPS["quadrants"]:
        quadrant(seen, name)[...] += 1
    assert (seen == 1).all()


def test_quadrants_are_named_by_row_then_column() -> None:
    image = np.arange(2 * 4 * 4).reshape(2, 4, 4)
    assert quadrant(image, "tr").tolist() == [[[2, 3], [6, 7]], [[18, 19], [22, 23]]]
    assert quadrant(image, "bl")[0].tolist() == [[8, 9], [12, 13]]
    assert quadrant(image, "c")[0].tolist() == [[5, 6], [9, 10]]
    assert quadrant(image, "") is not image
    assert np.array_equal(quadrant(image, ""), image)
    assert quadrant_window("br", (256, 256)) == (128, 128, 128, 128)


def test_the_published_rule_counts_igbp_classes_before_they_are_merged() -> None:
    # 12 and 14 are both croplands: together most frequent, each alone less so than grassland.
    codes = np.repeat(np.array([10, 12, 14], np.uint8), [40, 35, 25]).reshape(10, 10)
    published = majority_class(codes, DFC2020, IGBP_TO_DFC2020, "published")
    simplified = majority_class(codes, DFC2020, IGBP_TO_DFC2020, "simplified")
    assert (published.code, simplified.code) == (4, 6)
    assert published.fractions == simplified.fractions == (0, 0, 0, 0.4, 0, 0.6, 0, 0, 0, 0)


@pytest.mark.parametrize("code", [0, 255])
def test_unlabelled_pixels_never_win_and_lower_the_fractions(code: int) -> None:
    codes = np.full((4, 4), code, np.uint8)
    assert majority_class(codes, DFC2020).code == NO_CLASS
    assert sum(majority_class(codes, DFC2020).fractions) == 0
    codes[0, 0] = 7
    assert majority_class(codes, DFC2020).code == 7
    assert majority_class(codes, DFC2020).fractions[6] == 1 / 16


@given(arrays.arrays(np.uint8, (6, 6), elements=st.integers(0, 17)))
def test_fractions_sum_to_the_labelled_share_under_both_rules(codes: np.ndarray) -> None:
    for rule in ("published", "simplified"):
        found = majority_class(codes, DFC2020, IGBP_TO_DFC2020, rule)
        assert sum(found.fractions) == pytest.approx((codes > 0).mean())
        assert (found.code == NO_CLASS) == (not codes.any())


def test_a_forgotten_crop_of_the_labels_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"crop of PatchData\.labels"):
        majority_class(None, DFC2020)


def test_a_folder_names_the_class_of_all_its_pixels() -> None:
    found = pure_class("Forest", EUROSAT)
    assert found.code == 2
    assert found.fractions == (0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(DataError, match="'Moor' is none of AnnualCrop, Forest"):
        pure_class("Moor", EUROSAT)


def test_unknown_class_codes_are_named_with_their_file() -> None:
    codes = np.array([[1, 10, 0, 255], [11, 77, 3, 3]])
    with pytest.raises(DataError, match=r"dfc\.tif holds class code 11, 77, expected 1 to 10"):
        checked_codes(codes, DFC2020.codes, Path("dfc.tif"))
    assert checked_codes(codes[:1], DFC2020.codes, Path("dfc.tif")).dtype == np.uint8


def test_codes_that_are_no_whole_numbers_are_unknown() -> None:
    with pytest.raises(DataError, match=r"class code 1\.5"):
        checked_codes(np.array([[1.5, 2.0]]), DFC2020.codes, Path("dfc.tif"))


def test_patches_can_be_pickled_compared_and_put_into_sets() -> None:
    patch = Patch("1", "spring", "p30", {"s2": Path("a.tif")})
    again = pickle.loads(pickle.dumps(patch))
    assert again == patch
    assert len({again, patch}) == 1


def test_an_unknown_kind_is_refused_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'sen13' is no kind of archive") as caught:
        open_archive("sen13", tmp_path)
    assert all(kind in caught.value.hint for kind in KINDS)


@pytest.mark.parametrize(
    ("kind", "options", "message", "hint"),
    [
        ("sen12ms", {"crop": "half"}, "no crop 'half'", "quadrants, centre, whole"),
        ("sen12ms", {"majority": "first"}, "no majority rule 'first'", "published, simplified"),
        ("sen12ms", {"sensors": ("s3",)}, "no sensors s3", "s2, s1"),
        ("dfc2020", {"sensors": ()}, r"no sensors \(none\)", "s2, s1"),
        ("dfc2020", {"majority": "published"}, "takes no option majority", "leave it out"),
    ],
)
def test_options_without_such_a_choice_are_refused(
    tmp_path: Path, kind: str, options: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_archive(kind, tmp_path, **options)
    assert hint in caught.value.hint


def test_an_option_of_none_means_the_default(tmp_path: Path) -> None:
    assert open_archive("sen12ms", tmp_path, crop=None) == open_archive("sen12ms", tmp_path)
