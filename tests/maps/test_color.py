from __future__ import annotations

import numpy as np
import pytest

from landmeta.legend import LandClass, Legend
from landmeta_maps.color import class_table, confidence_steps, ink, ramp_table, true_color


def test_codes_without_a_class_and_nodata_are_transparent() -> None:
    table = class_table(Legend((LandClass(0, "bare", "#102030"), LandClass(3, "water", "#0000ff"))))
    assert table[0].tolist() == [16, 32, 48, 255]
    assert np.flatnonzero(table[:, 3]).tolist() == [0, 3]


def test_confidence_runs_from_an_even_vote_to_certainty() -> None:
    steps = confidence_steps(np.array([0.1, 0.25, 0.625, 1.0, np.nan]), 0.25)
    assert steps.tolist() == [0, 0, 127, 254, 255]


def test_the_ramp_of_confidence_gets_lighter_at_every_step() -> None:
    table = ramp_table()
    luminance = table[:255, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) >= -0.5).all()
    assert luminance[-1] - luminance[0] > 150
    assert table[255, 3] == 0


def test_true_color_keeps_the_hue_and_hides_nodata() -> None:
    ground = np.random.default_rng(1).uniform(0.05, 0.2, (3, 40, 40)).astype(np.float32)
    ground[0, 5, 5] = np.nan
    ground[:, 10, 10] = [0.25, 0.1, 0.1]
    image = true_color(ground)
    assert image[5, 5].tolist() == [0, 0, 0, 0]
    red, green, blue, alpha = image[10, 10].tolist()
    assert alpha == 255
    assert red > green + 40
    assert red > blue + 40


def test_true_color_of_nothing_is_transparent() -> None:
    assert not true_color(np.full((3, 4, 5), np.nan, np.float32)).any()


@pytest.mark.parametrize(
    ("color", "expected"), [("#ffffff", "#000000"), ("#0b5cad", "#ffffff"), ("#fde725", "#000000")]
)
def test_ink_is_the_colour_that_reads_better(color: str, expected: str) -> None:
    assert ink(color) == expected
