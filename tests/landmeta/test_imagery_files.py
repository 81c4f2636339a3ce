from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from landmeta._imagery.files import _OPEN_FILES, _handles, fingerprint
from landmeta.errors import ImageryError
from landmeta.raster import open_imagery

from .conftest import BLOCKS, NORTH, WEST, imagery_error, reflectances, write_raster


def test_a_vrt_is_read_like_a_file(tmp_path: Path, scene: Path) -> None:
    vrt = tmp_path / "scene.vrt"
    rasterio.shutil.copy(scene, vrt, driver="VRT")
    assert open_imagery([vrt]).bands.names == ("B02", "B8A")
    np.testing.assert_array_equal(
        open_imagery([vrt]).read(0, 0, 9, 9), open_imagery([scene]).read(0, 0, 9, 9)
    )


def test_threads_read_the_same_numbers(tmp_path: Path) -> None:
    imagery = open_imagery(
        [write_raster(tmp_path / "a.tif", reflectances(2, 256), names=["B2", "B3"], **BLOCKS)]
    )
    expected, results = imagery.read(0, 0, 256, 256), {}

    def work(index: int) -> None:
        for _ in range(5):
            results[index] = imagery.read(index * 60, 0, 60, 256)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        np.testing.assert_array_equal(results[index], expected[:, index * 60 : index * 60 + 60])


def test_many_files_are_not_all_kept_open(tmp_path: Path) -> None:
    for i in range(_OPEN_FILES + 8):
        write_raster(tmp_path / f"{i:02d}.tif", reflectances(1, 4), names=["B2"], at=(WEST + 40 * i, NORTH))
    imagery = open_imagery([tmp_path])
    assert np.isfinite(imagery.read(0, 0, *imagery.shape)).all()
    assert len(_handles.open) <= _OPEN_FILES


# --- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (None, "a.tif does not exist"),
        ("", "a.tif is an empty file"),
        ("name,value\n1,2\n", "a.tif is no raster"),
    ],
    ids=["missing", "empty", "no raster"],
)
def test_a_file_that_holds_no_image_is_named(tmp_path: Path, content: str | None, finding: str) -> None:
    if content is not None:
        (tmp_path / "a.tif").write_text(content)
    assert finding in str(imagery_error([tmp_path / "a.tif"]))


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("options", [{}, BLOCKS], ids=["strips", "blocks"])
def test_a_truncated_tiff_is_refused_when_opened(
    tmp_path: Path, part: float, options: dict[str, Any]
) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(3, 256), names=["B2", "B3", "B4"], **options)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    message = str(imagery_error([file]))
    assert "a.tif" in message
    assert "truncated" in message


def test_a_truncated_tiff_is_refused_even_where_its_first_and_last_blocks_are_whole(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(1, 256) * 0, names=["B2"], SPARSE_OK=True, **BLOCKS)
    with rasterio.open(file, "r+") as out:
        for corner in (0, 192, 64, 128):  # in this order they stand in the file
            part = rasterio.windows.Window(corner, corner, 64, 64)
            out.write(reflectances(1, 64, seed=corner), window=part)
    content = file.read_bytes()
    file.write_bytes(content[:-2000])
    assert "block 2, 2" in str(imagery_error([file]))


def test_a_tiff_with_a_damaged_block_is_an_error_of_its_name_when_read(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances(1, 256), names=["B2"], **BLOCKS)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    file.write_bytes(content)
    with pytest.raises(ImageryError, match=r"a\.tif"):
        open_imagery([file], scale=1e-4).read(0, 0, 256, 256)


def test_a_file_removed_after_opening_is_an_error_of_its_name(scene: Path) -> None:
    imagery = open_imagery([scene])
    scene.unlink()
    with pytest.raises(ImageryError, match=r"scene\.tif is not there") as error:
        imagery.read(0, 0, 2, 2)
    assert "worker" in error.value.hint


def test_imagery_opened_by_a_relative_path_is_found_from_any_folder(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    imagery = open_imagery("scene.tif")
    assert imagery.paths == (scene,)
    monkeypatch.chdir("/")
    assert np.isfinite(imagery.read(0, 0, 2, 2)).all()


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", reflectances().astype(np.complex64), names=["VV", "VH"])
    assert "complex" in str(imagery_error([file]))


# --- fingerprints ----------------------------------------------------------------------------------


def test_a_copy_has_the_fingerprint_of_the_file_and_other_pixels_have_another(
    tmp_path: Path, scene: Path
) -> None:
    ((path, size, checksum),) = fingerprint(scene)
    assert (path, size) == (str(scene.resolve()), scene.stat().st_size)
    content = scene.read_bytes()
    scene.unlink()
    scene.write_bytes(content)
    os.utime(scene, (0, 0))
    assert fingerprint(scene) == [(path, size, checksum)]
    scene.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint(scene)[0][2] != checksum


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_the_fingerprint_of_a_large_file_is_of_parts_from_head_to_tail(tmp_path: Path, at: float) -> None:
    path = write_raster(tmp_path / "large.tif", np.ones((2, 1500, 1500), np.uint16))
    before = fingerprint(path)
    with rasterio.open(path, "r+") as out:
        values = out.read()
        row = int(at * 1400)
        values[:, row : row + 100] = 2
        out.write(values)
    after = fingerprint(path)
    assert after[0][:2] == before[0][:2]
    assert after[0][2] != before[0][2]


def test_a_vrt_has_the_fingerprints_of_its_sources(tmp_path: Path, scene: Path) -> None:
    rasterio.shutil.copy(scene, tmp_path / "scene.vrt", driver="VRT")
    (tmp_path / "scene.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    found = fingerprint(tmp_path / "scene.vrt")
    assert [Path(path).name for path, *_ in found] == ["scene.vrt", "scene.tif"]
    assert found[1:] == fingerprint(scene)
    text = (tmp_path / "scene.vrt").read_text()
    (tmp_path / "outer.vrt").write_text(text.replace("scene.tif", "scene.vrt"))
    assert fingerprint(tmp_path / "outer.vrt")[1:] == [found[1], found[0]]


def test_the_fingerprint_of_a_file_that_is_gone_is_an_error_of_its_name(tmp_path: Path) -> None:
    with pytest.raises(ImageryError, match=r"gone\.tif"):
        fingerprint(tmp_path / "gone.tif")
