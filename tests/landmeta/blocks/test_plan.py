"""Blocks are planned on metadata alone: they cover the grid, and their windows lie on the model's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmeta.blocks.plan import plan_blocks
from landmeta.raster import imagery_of_array


@given(rows=st.integers(1, 70), cols=st.integers(1, 70), block=st.sampled_from([8, 16, 24, 64]))
@settings(max_examples=60, deadline=None)
def test_blocks_cover_every_pixel_exactly_once_and_windows_are_aligned(rows, cols, block):
    imagery = imagery_of_array(np.zeros((1, rows, cols), np.float32), ("B02",))
    seen = np.zeros((rows, cols), int)
    for b in plan_blocks(imagery, align=8, context=16, block=block):
        seen[b.row : b.row + b.height, b.col : b.col + b.width] += 1
        assert b.read_height % 8 == b.read_width % 8 == b.read_row % 8 == b.read_col % 8 == 0
        assert b.read_row + 16 <= b.row
        assert b.read_row + b.read_height >= b.row + b.height + 16
    assert (seen == 1).all()


@pytest.mark.parametrize("align", [8, 16, 24])
def test_windows_of_a_part_begin_on_the_grid_of_the_whole_file(align):
    whole = imagery_of_array(np.zeros((1, 200, 200), np.float32), ("B02",))
    part = replace(imagery_of_array(np.zeros((1, 90, 70), np.float32), ("B02",)), origin=(12, 20))
    corners = {(b.read_row, b.read_col) for b in plan_blocks(whole, align=align, context=8, block=48)}
    for b in plan_blocks(part, align=align, context=8, block=48):
        assert (b.read_row + 12) % align == (b.read_col + 20) % align == 0
    assert all(row % align == col % align == 0 for row, col in corners)


def test_blocks_off_the_grid_of_the_model_are_refused():
    imagery = imagery_of_array(np.zeros((1, 64, 64), np.float32), ("B02",))
    with pytest.raises(ValueError, match="20 px are no multiple of 8 px"):
        plan_blocks(imagery, align=8, context=8, block=20)
