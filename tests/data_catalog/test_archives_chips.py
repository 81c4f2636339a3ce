"""Chips with a band of labels are read, cut and put into the parts of a table of splits."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import pytest

from landmeta.errors import DataError
from landmeta.legend import WORLDCOVER
from landmeta_catalog.archives import open_archive

from .archive_files import bands, index, tiff

HLS = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")


def chips(folder: Path, count: int = 3, band: str = "worldcover") -> Path:
    for number in range(count):
        values = bands(8, 16, "int16").copy()
        values[7] = 40
        values[7, :4] = 80
        values[0, 0, 0] = -250
        tiff(folder / f"{number:03}.tif", values, names=(*HLS, band))
    index(folder, [{"path": f"{n:03}.tif", "cluster": str(n // 2)} for n in range(count)])
    return folder


def test_chips_with_a_band_of_labels_are_recognised(tmp_path: Path) -> None:
    archive = open_archive("folder", chips(tmp_path))
    image, labels = archive.arrays
    assert (image.name, image.bands, image.dtype, image.nodata) == ("s2", HLS, "int16", -9999)
    assert (labels.name, labels.dtype, labels.side) == ("labels", "uint8", 16)
    assert (archive.legend, archive.quadrants) == (WORLDCOVER, ("",))
    patches, _ = archive.scan()
    assert [(p.patch, p.block) for p in patches] == [("000", "0"), ("001", "0"), ("002", "1")]
    data = archive.read(patches[0])
    assert data.arrays["s2"][:, 0, 0].tolist() == [-250, 101, 201, 301, 401, 501, 601]
    found = archive.tile_class(patches[0], data.labels)
    assert found.code == 40
    assert found.fractions[WORLDCOVER.codes.index(80)] == 0.25
    assert pickle.loads(pickle.dumps(archive)) == archive


def test_chips_are_cut_and_put_into_the_parts_of_a_table_of_splits(tmp_path: Path) -> None:
    folder, splits = chips(tmp_path / "hls", count=5), tmp_path / "splits.json"
    splits.write_text('{"hls": {"train": ["0"], "test": ["1"], "note": "by cluster"}}', encoding="utf-8")
    archive = open_archive("folder", folder, crop="quadrants", splits=splits)
    assert [spec.side for spec in archive.arrays] == [8, 8]
    assert archive.quadrants == ("tl", "tr", "bl", "br")
    regions = {p.patch: p.region for p in archive.scan()[0]}
    assert regions == {"000": "train", "001": "train", "002": "test", "003": "test", "004": "other"}


@pytest.mark.parametrize("text", ["", "[]", '{"other": {}}', '{"hls": {"note": "none"}}', '{"hls": 3}'])
def test_splits_that_list_no_cluster_are_refused(tmp_path: Path, text: str) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"splits\.json"):
        open_archive("folder", chips(tmp_path / "hls"), splits=splits)


def test_chips_without_a_known_band_of_labels_say_what_they_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no band of labels \(names of its bands: b01, .*, answers\)"):
        open_archive("folder", chips(tmp_path, band="answers"))


def test_a_chip_that_lost_its_labels_is_named(tmp_path: Path) -> None:
    chips(tmp_path)
    tiff(tmp_path / "001.tif", bands(7, 16, "int16"), names=HLS)
    archive = open_archive("folder", tmp_path)
    with pytest.raises(DataError, match=r"001\.tif has no band named worldcover"):
        archive.read(archive.scan()[0][1])


def test_an_unknown_code_in_a_chip_is_named(tmp_path: Path) -> None:
    chips(tmp_path)
    values = bands(8, 16, "int16")
    tiff(tmp_path / "001.tif", values, names=(*HLS, "worldcover"))
    archive = open_archive("folder", tmp_path)
    with pytest.raises(DataError, match=r"001\.tif holds class code 701, expected 10 to 100"):
        archive.read(archive.scan()[0][1])


@pytest.mark.real
def test_the_real_hls_chips_are_blocked_by_cluster(data: Path) -> None:
    archive = open_archive("folder", data / "hls_worldcover")
    patches, broken = archive.scan()
    assert (len(patches), broken) == (199, [])
    with (data / "hls_worldcover" / "index.csv").open() as text:
        clusters = {row["path"]: row["cluster"] for row in csv.DictReader(text)}
    assert {p.files["image"].name: p.block for p in patches} == clusters
    read = archive.read(patches[0])
    assert archive.tile_class(patches[0], read.labels).code in WORLDCOVER.codes
