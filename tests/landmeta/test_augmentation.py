from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landmeta.augmentation import SYMMETRIES, draw_symmetries, turned

TILES = np.arange(8 * 2 * 5 * 5, dtype=np.uint16).reshape(8, 2, 5, 5)
EACH = np.arange(SYMMETRIES)


def test_the_symmetries_are_a_flip_and_quarter_turns() -> None:
    out = turned(TILES, EACH)
    for e in EACH:
        flipped = TILES[e][:, ::-1] if e >= 4 else TILES[e]
        np.testing.assert_array_equal(out[e], np.rot90(flipped, e % 4, axes=(1, 2)))


def test_the_eight_symmetries_of_a_tile_without_symmetry_differ() -> None:
    same_tile = np.repeat(TILES[:1], SYMMETRIES, axis=0)
    assert len({tile.tobytes() for tile in turned(same_tile, EACH)}) == SYMMETRIES


@given(st.lists(st.integers(0, 7), min_size=8, max_size=8))
def test_torch_and_numpy_agree_and_the_tiles_given_stay_as_they_are(symmetries: list[int]) -> None:
    before = TILES.astype(np.float32)
    tensor = torch.from_numpy(before.copy())
    out = turned(tensor, np.array(symmetries))
    assert isinstance(out, torch.Tensor)
    assert out.dtype == torch.float32
    np.testing.assert_array_equal(out.numpy(), turned(before, np.array(symmetries)))
    np.testing.assert_array_equal(tensor.numpy(), before)


def test_labels_turn_with_their_images() -> None:
    labels = turned(TILES[:, 0], EACH)
    np.testing.assert_array_equal(labels, turned(TILES, EACH)[:, 0])


def test_all_symmetries_are_drawn_about_equally_often() -> None:
    counts = np.bincount(draw_symmetries(8000, np.random.default_rng(0)), minlength=SYMMETRIES)
    assert counts.min() > 900


def test_two_flips_and_a_number_of_quarter_turns_reach_each_symmetry_in_two_of_sixteen_ways() -> None:
    """METEOR's recipe of three draws is the uniform draw of one symmetry."""
    reached = {}
    for up in (0, 1):
        for left in (0, 1):
            for turns in range(4):
                tile = TILES[0][:, ::-1] if up else TILES[0]
                tile = np.rot90(tile[:, :, ::-1] if left else tile, turns, axes=(1, 2))
                reached[tile.tobytes()] = reached.get(tile.tobytes(), 0) + 1
    assert set(reached.values()) == {2}
    assert len(reached) == SYMMETRIES


def test_tiles_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        turned(np.zeros((2, 1, 4, 5)), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="3 symmetries"):
        turned(np.zeros((2, 1, 4, 4)), np.zeros(3, np.int64))
