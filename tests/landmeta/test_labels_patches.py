from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from landmeta._labels.patches import Patches, find_patches
from landmeta.labels import read_labels

from .conftest import NORTH, WEST, area, flat_imagery, write_raster


def in_strips(codes: np.ndarray, high: int, **options: int) -> Patches:
    strips = ((top, 0, codes[top : top + high]) for top in range(0, len(codes), high))
    wanted = {"most": codes.size, **options}
    return find_patches(strips, codes.shape[1], np.random.default_rng(0), **wanted)


def bounds(mask: np.ndarray) -> list[int]:
    rows, cols = np.nonzero(mask)
    return [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(1, 12)
)
def test_patches_are_the_connected_components_of_each_class(
    seed: int, height: int, width: int, classes: int, high: int
) -> None:
    codes = np.random.default_rng(seed).integers(0, classes + 1, (height, width))
    codes[0, 0] = 1
    found = in_strips(codes, high)
    rows, cols = np.nonzero(codes)
    np.testing.assert_array_equal([found.pixels.rows, found.pixels.cols], [rows, cols])
    image = np.full(codes.shape, -1)
    image[rows, cols] = found.pixels.owner
    number = 0
    for code in range(1, classes + 1):
        components, count = ndimage.label(codes == code, np.ones((3, 3)))
        for component in range(1, count + 1):
            (patch,) = np.unique(image[components == component])
            assert found.patch_code[patch] == code
            assert found.boxes[patch].tolist() == bounds(components == component)
            assert (image == patch).sum() == (components == component).sum()
        number += count
        assert found.counts.get(code, 0) == (codes == code).sum()
    first = [np.flatnonzero(found.pixels.owner == patch)[0] for patch in range(number)]
    assert len(found.patch_code) == number
    assert first == sorted(first)


def test_a_patch_larger_than_a_square_is_cut_on_a_grid_and_others_are_not() -> None:
    codes = 1 + (np.indices((8, 12))[1] >= 9)  # 72 px of one class and 24 of another
    found = in_strips(codes, 3, largest=5)
    image = found.pixels.owner.reshape(8, 12)
    assert len(np.unique(image[codes == 2])) == 1
    squares = {(r // 5, c // 5): image[r, c] for r in range(8) for c in range(9)}
    assert len(set(squares.values())) == 4
    assert all(image[r, c] == squares[r // 5, c // 5] for r in range(8) for c in range(9))
    assert found.boxes[squares[0, 1]].tolist() == [0, 5, 5, 9]
    assert found.boxes[squares[1, 0]].tolist() == [5, 0, 8, 5]
    assert found.boxes[image[0, 9]].tolist() == [0, 9, 8, 12]
    assert len(in_strips(codes, 3, largest=9).patch_code) == 2


def test_of_a_large_class_so_many_pixels_are_drawn_and_of_a_small_one_all() -> None:
    codes = np.ones((60, 50), np.int64)
    codes[58:, 7:12] = 2
    found = in_strips(codes, 4, most=100)
    kept = codes[found.pixels.rows, found.pixels.cols]
    assert [(kept == code).sum() for code in (1, 2)] == [100, 10]
    assert found.counts == {1: 2990, 2: 10}
    assert not found.whole
    assert found.boxes.tolist() == [[0, 0, 60, 50], [58, 7, 60, 12]]  # of the patches, not of what is kept


def test_each_pixel_of_a_class_is_as_likely_to_be_drawn() -> None:
    """Kept by chance alone each of 40 pixels is drawn 75 of 300 times, 7.5 more or less."""
    codes, times = np.ones((10, 4), np.int64), np.zeros((10, 4))
    for seed in range(300):
        strips = ((top, 0, codes[top : top + 2]) for top in range(0, 10, 2))
        pixels = find_patches(strips, 4, np.random.default_rng(seed), most=10).pixels
        times[pixels.rows, pixels.cols] += 1
    assert times.sum() == 3000
    assert abs(times - 75).max() < 4.5 * 7.5
    assert abs(times.sum(axis=1) - 300).max() < 4.5 * 15


def test_labels_of_a_raster_with_more_pixels_than_are_kept_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta.labels._MOST_OF_CLASS", 300)
    codes = np.ones((40, 50), np.uint8)
    codes[10:14, 10:20] = 2
    file = write_raster(tmp_path / "a.tif", codes, nodata=255)
    labels = read_labels(file, flat_imagery())
    assert labels.warnings == (
        "of 2,000 labelled pixels 340 are kept, drawn at random: about 300 of a large class",
    )
    assert np.bincount(labels.codes).tolist() == [0, 300, 40]
    np.testing.assert_array_equal(labels.codes, codes[labels.rows, labels.cols])
    assert labels.footprints.geometry.tolist() == [area(0, 0, 40, 50), area(10, 10, 4, 10)]
    again, other = (read_labels(file, flat_imagery(), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(labels.rows, again.rows)
    assert not np.array_equal(labels.rows, other.rows)


def test_a_million_labelled_pixels_are_read_in_seconds(tmp_path: Path) -> None:
    codes = (np.indices((1000, 1000)).sum(axis=0) // 100 % 4 + 1).astype(np.uint8)
    labels = read_labels(write_raster(tmp_path / "a.tif", codes), flat_imagery(1000, 1000))
    assert len(labels) == 1_000_000
    np.testing.assert_array_equal(labels.codes, codes[labels.rows, labels.cols])


def test_a_label_raster_that_begins_within_the_imagery_is_read_strip_by_strip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.rasters._SIDE", 16)
    codes = np.random.default_rng(0).integers(0, 4, (33, 37)).astype(np.uint8)
    file = write_raster(tmp_path / "a.tif", codes, at=(WEST + 50, NORTH - 30))
    labels = read_labels(file, flat_imagery())
    assert len(labels) == (codes > 0).sum()
    np.testing.assert_array_equal(labels.codes, codes[labels.rows - 3, labels.cols - 5])


def test_patches_spread_far_are_outlined_by_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landmeta._labels.patches._TRACED", 100)
    codes = np.zeros((40, 50), np.uint8)
    codes[0:2, 0:3], codes[39, 48:] = 1, 2
    labels = read_labels(write_raster(tmp_path / "a.tif", codes), flat_imagery())
    assert labels.footprints.geometry.tolist() == [area(0, 0, 2, 3), area(39, 48, 1, 2)]


def test_speckle_of_very_many_patches_is_outlined_by_boxes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta._labels.patches._MOST_OUTLINES", 2)
    codes = np.zeros((40, 50), np.uint8)
    codes[[0, 1, 9, 20], [0, 1, 9, 20]] = 1, 1, 2, 2
    labels = read_labels(write_raster(tmp_path / "a.tif", codes), flat_imagery())
    assert labels.footprints.geometry.tolist()[0] == area(0, 0, 2, 2)
