from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from landmeta.classmap import ClassMap, encode_probability
from landmeta.errors import OutputError
from landmeta_maps.writer import write_map

FILES = ("landcover.tif", "probabilities.tif", "confidence.tif")


@pytest.fixture
def folder(class_map: ClassMap, tmp_path: Path) -> Path:
    write_map([class_map.block], class_map.grid, class_map.legend, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_every_raster_is_a_valid_cog(
    name: str, make_class_map: Callable[..., ClassMap], make_grid: Callable[..., GeoBox], tmp_path: Path
) -> None:
    from rio_cogeo.cogeo import cog_validate

    found = make_class_map(make_grid(700, 1100))
    write_map([found.block], found.grid, found.legend, tmp_path)
    valid, errors, notes = cog_validate(tmp_path / name, strict=True, quiet=True)
    assert (valid, errors, notes) == (True, [], [])
    with rasterio.open(tmp_path / name) as image:
        assert image.block_shapes[0] == (512, 512)
        assert image.overviews(1) == [2, 4]


def test_codes_grid_and_nodata_are_read_back_unchanged(class_map: ClassMap, folder: Path) -> None:
    with rasterio.open(folder / "landcover.tif") as image:
        np.testing.assert_array_equal(image.read(1), class_map.codes)
        assert (image.nodata, image.dtypes, image.count) == (255, ("uint8",), 1)
        assert image.transform == class_map.grid.affine
        assert image.crs.to_epsg() == 32630


def test_the_palette_is_in_the_file_and_nodata_is_transparent(class_map: ClassMap, folder: Path) -> None:
    with rasterio.open(folder / "landcover.tif") as image:
        table = image.colormap(1)
        assert image.colorinterp[0] == rasterio.enums.ColorInterp.palette
    assert table[1] == (0x1B, 0x78, 0x37, 255)
    assert table[7] == (0xD7, 0x30, 0x27, 255)
    assert table[255][3] == 0


def test_overviews_hold_the_majority_and_no_class_in_between(
    make_class_map: Callable[..., ClassMap], make_grid: Callable[..., GeoBox], tmp_path: Path
) -> None:
    grid = make_grid(1024, 1024)
    found = make_class_map(grid)
    found.codes[:] = 1
    found.codes[:, ::3] = 7  # one column of three: never the majority of a 2 x 2 cell, 4 would be the mean
    write_map([found.block], found.grid, found.legend, tmp_path)
    with rasterio.open(tmp_path / "landcover.tif", overview_level=0) as image:
        small = image.read(1)
    assert set(np.unique(small)) <= {1, 7}
    assert (small == 1).mean() > 0.3


def test_probabilities_have_a_named_band_a_class_and_their_scale(class_map: ClassMap, folder: Path) -> None:
    with rasterio.open(folder / "probabilities.tif") as image:
        assert image.descriptions == class_map.legend.names
        assert image.scales == (1e-4, 1e-4, 1e-4)
        assert (image.nodata, image.dtypes[0]) == (65535, "uint16")
        np.testing.assert_array_equal(image.read(), class_map.probabilities)
        assert image.read(masked=True).mask[:, 0, 0].all()
    with rasterio.open(folder / "confidence.tif") as image:
        assert (image.count, image.descriptions, image.scales) == (1, ("confidence",), (1e-4,))
        np.testing.assert_array_equal(image.read(1), class_map.confidence)


def test_the_same_map_gives_the_same_bytes(class_map: ClassMap, folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    write_map([class_map.block], class_map.grid, class_map.legend, again)
    for path in again.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_nothing_but_the_products_is_left_in_the_folder(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {*FILES, "landcover.tif.aux.xml", "landcover.qml"}


def test_sidecars_of_an_older_raster_are_removed(class_map: ClassMap, tmp_path: Path) -> None:
    stale = [f"{name}{suffix}" for name in FILES for suffix in (".ovr", ".msk", ".aux.xml", ".vat.dbf")]
    for name in stale:
        (tmp_path / name).write_text("stale")
    write_map([class_map.block], class_map.grid, class_map.legend, tmp_path)
    left = [name for name in stale if (tmp_path / name).exists()]
    assert left == ["landcover.tif.aux.xml"]
    assert "stale" not in (tmp_path / left[0]).read_text()


def test_rasterio_reads_the_file_quietly_with_its_sidecars(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with rasterio.open(folder / "landcover.tif") as image:
            assert any(name.endswith("landcover.tif.aux.xml") for name in image.files)
            assert image.read(1).max() == 255


def test_a_missing_folder_is_named(class_map: ClassMap, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere is no folder"):
        write_map([class_map.block], class_map.grid, class_map.legend, tmp_path / "nowhere")


def test_probabilities_are_encoded_to_four_decimals_with_nodata() -> None:
    values = np.array([0.0, 0.12344, 1.0, 1.2, np.nan], np.float32)
    assert encode_probability(values).tolist() == [0, 1234, 10000, 10000, 65535]


def test_a_class_map_of_another_shape_is_refused(class_map: ClassMap) -> None:
    with pytest.raises(ValueError, match=r"confidence is uint16 \(2, 300\), expected uint16 \(300, 300\)"):
        ClassMap(
            class_map.codes,
            class_map.probabilities,
            class_map.confidence[:2],
            class_map.grid,
            class_map.legend,
        )
