from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_AppDefinedError

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


FILLING = """
import resource, signal, sys
from pathlib import Path
import numpy as np, rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from landmeta.classmap import MapBlock
from landmeta.errors import OutputError
from landmeta.legend import LandClass, Legend
from landmeta_maps.cog import finish, raw_codes
from landmeta_maps.writer import write_map

def limit(bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))

def attempt(work, path, pixels):
    path.unlink(missing_ok=True)
    try:
        work()
    except OutputError:
        found = "refused"
    else:
        limit(resource.RLIM_INFINITY)
        with rasterio.open(path) as image:
            found = "whole" if (image.read(1) == pixels).all() else "other pixels"
    limit(resource.RLIM_INFINITY)
    print(found)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, side = Path(sys.argv[1]), 600
legend = Legend((LandClass(1, "a", "#1b7837"), LandClass(2, "b", "#2166ac")))
grid = GeoBox((side, side), Affine(10, 0, 4e5, 0, -10, 5.8e6), "EPSG:32630")
codes = np.random.default_rng(0).integers(1, 3, (side, side)).astype(np.uint8)
shares = np.full((2, side, side), 5000, np.uint16)
raw, cog = folder / "raw.tif", folder / "cog.tif"
with raw_codes(raw, grid, legend) as image:
    image.write(codes, 1)

def copied():
    finish(raw, cog, overviews="MODE", predictor="NO")

def mapped():
    write_map([MapBlock(0, 0, codes, shares, shares[0])], grid, legend, folder)

for work, path in ((copied, cog), (mapped, folder / "landcover.tif")):
    attempt(work, path, codes)
    # the largest file of the map is the plain one of its shares
    full = path.stat().st_size if work is copied else 2 * 4 * 512 * 512 * 2 + 5000
    for size in (*range(0, full, full // 12), *range(full - 9000, full, 700)):
        limit(size)
        attempt(work, path, codes)
"""


def test_a_disk_that_is_full_at_any_moment_gives_an_error_or_a_whole_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLING, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = done.stdout.split("\n")[:-1]
    assert set(found) == {"whole", "refused"}
    assert found.count("refused") > 40
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_lost_its_end_unnoticed_is_not_finished(
    class_map: ClassMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rasterio.shutil.copy

    def short(source: object, part: Path, **options: object) -> None:
        whole(source, part, **options)
        os.truncate(part, part.stat().st_size - 10)

    monkeypatch.setattr(rasterio.shutil, "copy", short)
    with pytest.raises(
        OutputError, match=r"landcover\.tif, the disk may be full: .*blocks are missing"
    ) as caught:
        write_map([class_map.block], class_map.grid, class_map.legend, tmp_path)
    assert "free space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [CPLE_AppDefinedError(3, 1, "Seek error"), SystemError("Unknown GDAL Error")]
)
def test_an_error_of_gdal_while_a_file_is_finished_is_one_line(
    class_map: ClassMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(rasterio.shutil, "copy", failing)
    with pytest.raises(OutputError, match=r"cannot write .*landcover\.tif, the disk may be full"):
        write_map([class_map.block], class_map.grid, class_map.legend, tmp_path)
    assert list(tmp_path.iterdir()) == []
