"""Blocks of a model that disagrees with itself where they touch become one map without a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from landmeta.blocks.blending import bytes_held
from landmeta.blocks.folder import BlockFolder
from landmeta.blocks.plan import BlockWindow, plan_blocks
from landmeta.classmap import ClassMap
from landmeta.legend import LandClass, Legend
from landmeta.prediction import map_blocks, predict, windows_of
from landmeta.raster import Imagery, imagery_of_array

LEGEND = Legend((LandClass(1, "low", "#000000"), LandClass(2, "high", "#ffffff")))


@dataclass(frozen=True)
class OwnMean:
    """Two classes by the first band against the window's mean: every block has a threshold of its own."""

    overlap: int = 16
    legend: Legend = LEGEND
    stride: int = 1
    align: int = 8
    context: int = 8

    def prepare(self) -> None:
        """No state."""

    def logits(self, window: Tensor, state: Any) -> Tensor:
        del state
        band = window[:1].nan_to_num()
        above = band - band.mean()
        return torch.cat([-above, above])


def imagery_of(values: np.ndarray) -> Imagery:
    return imagery_of_array(values[None].astype(np.float32), ("B02",))


@pytest.fixture
def slope() -> Imagery:
    """Reflectance that rises from the upper left to the lower right."""
    rows, cols = np.mgrid[:200, :170]
    return imagery_of((rows + cols) / 200)


def steepest(found: ClassMap) -> int:
    """The largest difference between pixels that touch, in counts of the first class."""
    share = found.probabilities[0].astype(int)
    return int(max(abs(np.diff(share, axis=0)).max(), abs(np.diff(share, axis=1)).max()))


@given(
    rows=st.integers(1, 90),
    cols=st.integers(1, 90),
    block=st.sampled_from([16, 24, 64]),
    overlap=st.sampled_from([0, 8]),
    origin=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
@settings(max_examples=80, deadline=None)
def test_cores_cover_every_pixel_once_and_blocks_reach_over_them_by_the_overlap(
    rows: int, cols: int, block: int, overlap: int, origin: tuple[int, int]
) -> None:
    imagery = replace(imagery_of(np.zeros((rows, cols))), origin=origin)
    seen = np.zeros((rows, cols), int)
    for window in plan_blocks(imagery, align=8, context=16, block=block, overlap=overlap):
        row, col, height, width = window.core
        seen[row : row + height, col : col + width] += 1
        assert window.pixels == height * width
        assert window.row == max(row - overlap, 0)
        assert window.col == max(col - overlap, 0)
        assert window.row + window.height == min(row + height + overlap, rows)
        assert window.col + window.width == min(col + width + overlap, cols)
        assert window.read_height % 8 == window.read_width % 8 == 0
        assert (window.read_row + origin[0]) % 8 == (window.read_col + origin[1]) % 8 == 0
        assert window.read_row + 16 <= window.row
        assert window.read_row + window.read_height >= window.row + window.height + 16
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("block", "overlap", "message"),
    [(32, 12, "overlaps of 12 px are no multiple of 8 px"), (32, 24, "overlap by 24 px on either side")],
)
def test_overlaps_that_do_not_suit_the_blocks_are_refused(block: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_blocks(imagery_of(np.zeros((64, 64))), align=8, context=8, block=block, overlap=overlap)


@pytest.mark.parametrize("shape", [(200, 170), (64, 64), (65, 129), (1, 200), (7, 3)])
def test_blocks_that_agree_are_blended_into_what_they_say(shape: tuple[int, int]) -> None:
    """The weights of all blocks on a pixel sum to 1."""
    values = np.random.default_rng(0).normal(size=shape)

    class Agreeing(OwnMean):
        def logits(self, window: Tensor, state: Any) -> Tensor:
            band = window[:1].nan_to_num()
            return torch.cat([-band, band])

    found, cut = (predict(Agreeing(o), imagery_of(values), block=64) for o in (16, 0))
    np.testing.assert_array_equal(found.codes, cut.codes)
    assert abs(found.probabilities.astype(int) - cut.probabilities.astype(int)).max() <= 1


def test_a_step_between_blocks_becomes_a_slope(slope: Imagery) -> None:
    whole, cut, blended = (
        predict(OwnMean(overlap), slope, block=block) for overlap, block in ((0, 256), (0, 64), (32, 64))
    )
    assert steepest(cut) > 10 * steepest(whole)
    assert steepest(blended) < 5 * steepest(whole)
    winner = np.take_along_axis(blended.probabilities, blended.codes[None] - 1, axis=0)[0]
    np.testing.assert_array_equal(winner, blended.probabilities.max(axis=0))


def test_a_blended_pixel_is_the_mean_of_its_blocks_under_half_a_sine(slope: Imagery) -> None:
    model = OwnMean(overlap=16)
    found = predict(model, slope, block=64)
    total, weights = np.zeros((2, 200, 170)), np.zeros((200, 170))

    def ramp(at: float, border: float) -> float:
        return (1 + np.sin(np.pi / 2 * np.clip((at - border) / 16, -1, 1))) / 2

    def weight(at: int, core: int, length: int, size: int) -> float:
        rise = 1.0 if core == 0 else ramp(at + 0.5, core)
        return rise * (1.0 if core + length == size else 1 - ramp(at + 0.5, core + length))

    for block in windows_of(model, slope, 64):
        row, col, height, width = block.core
        rows = [weight(at, row, height, 200) for at in range(200)]
        cols = [weight(at, col, width, 170) for at in range(170)]
        read = slope.read_mirrored(block.read_row, block.read_col, block.read_height, block.read_width)
        above = slope.read(0, 0, 200, 170)[0] - read.mean()
        high = 1 / (1 + np.exp(-2 * above))
        total += np.outer(rows, cols) * np.stack([1 - high, high])
        weights += np.outer(rows, cols)
    np.testing.assert_allclose(weights, 1, atol=1e-9)
    np.testing.assert_allclose(found.probabilities * 1e-4, total, atol=1.1e-4)


def test_nodata_stays_where_it_is_and_takes_no_part(slope: Imagery) -> None:
    values = slope.read(0, 0, 200, 170)[0]
    values[:70, :90] = np.nan  # the whole first block and parts of its neighbours
    found = predict(OwnMean(), imagery_of(values), block=64)
    np.testing.assert_array_equal(found.codes == 255, np.isnan(values))
    np.testing.assert_array_equal((found.probabilities == 65535).all(axis=0), np.isnan(values))
    shares = found.probabilities[:, ~np.isnan(values)].astype(int)
    assert abs(shares.sum(axis=0) - 10_000).max() <= 2
    np.testing.assert_array_equal(shares.max(axis=0), found.confidence[~np.isnan(values)])


def test_blocks_left_out_change_nothing_where_the_others_do_not_reach(slope: Imagery) -> None:
    def wanted(window: BlockWindow) -> bool:
        return window.core[0] > 0

    whole = predict(OwnMean(), slope, block=64)
    part = list(map_blocks(OwnMean(), slope, block=64, wanted=wanted))
    assert min(block.row for block in part) == 64
    for block in part:
        rows, cols = block.codes.shape
        place = np.s_[:, block.row : block.row + rows, block.col : block.col + cols]
        beyond = max(64 + 16 - block.row, 0)  # rows into which the blocks left out reach
        np.testing.assert_array_equal(block.probabilities[:, beyond:], whole.probabilities[place][:, beyond:])


@pytest.mark.parametrize("finished", [0, 1, 5])
def test_a_blended_map_goes_on_where_it_stopped_with_the_same_pixels(
    slope: Imagery, tmp_path: Path, finished: int
) -> None:
    expected = predict(OwnMean(), slope, block=64)
    first = map_blocks(OwnMean(), slope, block=64, folder=BlockFolder(tmp_path, {}))
    for _ in range(finished):
        next(first)
    first.close()
    again = np.zeros_like(expected.probabilities)
    for block in map_blocks(OwnMean(), slope, block=64, folder=BlockFolder(tmp_path, {})):
        rows, cols = block.codes.shape
        again[:, block.row : block.row + rows, block.col : block.col + cols] = block.probabilities
    np.testing.assert_array_equal(again, expected.probabilities)


def test_the_blocks_of_a_large_map_wait_for_a_row_of_their_neighbours_only() -> None:
    """A core is passed on as soon as the block below to its right has come."""
    imagery = imagery_of(np.random.default_rng(0).normal(size=(64 * 8, 64 * 4)))
    seen: list[int] = []

    def progress(_stage: str, done: int, _total: int) -> None:
        seen.append(done)

    assert bytes_held(windows_of(OwnMean(), imagery, 64), 2) == (2 * 64 * 256 + 3 * 64 * 64) * 3 * 4
    waiting = []
    for passed, _block in enumerate(map_blocks(OwnMean(), imagery, block=64, progress=progress)):
        waiting.append(seen[-1] + 1 - passed)
    assert len(waiting) == 32
    assert max(waiting) <= 4 + 2
