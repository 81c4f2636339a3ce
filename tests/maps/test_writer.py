"""A map written block by block is the map written whole, and its size does not show in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landmeta.classmap import ClassMap, MapBlock
from landmeta.errors import OutputError
from landmeta_maps import summary as summary_module
from landmeta_maps.areas import class_areas_ha, row_counts
from landmeta_maps.summary import summarize
from landmeta_maps.writer import write_map

FILES = ("landcover.tif", "probabilities.tif", "confidence.tif")


def blocks_of(class_map: ClassMap, side: int, first: int = 0) -> Iterator[MapBlock]:
    """Blocks of `side` pixels from a corner `first` pixels before the map's own."""
    rows, cols = class_map.grid.shape
    for top in range(-first, rows, side):
        for left in range(-first, cols, side):
            place = np.s_[max(top, 0) : min(top + side, rows), max(left, 0) : min(left + side, cols)]
            yield MapBlock(
                place[0].start,
                place[1].start,
                class_map.codes[place],
                class_map.probabilities[(slice(None), *place)],
                class_map.confidence[place],
            )


@pytest.mark.parametrize(("side", "first"), [(64, 0), (100, 37), (512, 5)])
def test_blocks_give_the_bytes_and_the_summary_of_the_whole(
    class_map: ClassMap, tmp_path: Path, side: int, first: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    found = []
    for folder, blocks in ((whole, [class_map.block]), (parts, blocks_of(class_map, side, first))):
        folder.mkdir()
        found.append(write_map(blocks, class_map.grid, class_map.legend, folder))
    for name in FILES:
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert found[0].areas_ha == pytest.approx(found[1].areas_ha)
    np.testing.assert_array_equal(found[0].codes, found[1].codes)


@pytest.mark.parametrize("longest", [7, 33, 100, 299])
def test_the_overview_of_blocks_is_that_of_the_whole_map(
    class_map: ClassMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(summary_module, "LONGEST", longest)
    found = write_map(blocks_of(class_map, 64, 11), class_map.grid, class_map.legend, tmp_path)
    expected = summarize(class_map)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    assert found.codes.shape == tuple(found.overview_grid.shape)
    assert max(found.codes.shape) <= longest


def test_what_no_block_covers_is_nodata_and_counts_no_area(class_map: ClassMap, tmp_path: Path) -> None:
    first = next(blocks_of(class_map, 100))
    found = write_map([first], class_map.grid, class_map.legend, tmp_path)
    with rasterio.open(tmp_path / "landcover.tif") as image:
        codes = image.read(1)
    assert (codes[:100, :100] == class_map.codes[:100, :100]).all()
    assert (codes[100:] == 255).all()
    counts = row_counts(codes, class_map.legend)
    assert found.areas_ha == pytest.approx(class_areas_ha(counts, class_map.grid))
    with rasterio.open(tmp_path / "probabilities.tif") as image:
        assert (image.read(1)[100:] == 65535).all()


def test_a_failure_in_the_middle_leaves_no_file(class_map: ClassMap, tmp_path: Path) -> None:
    def broken() -> Iterator[MapBlock]:
        yield next(blocks_of(class_map, 100))
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_map(broken(), class_map.grid, class_map.legend, tmp_path)
    assert list(tmp_path.iterdir()) == []
