"""Folders that the acceptance protocols cannot score say which file is at fault, and end in no traceback."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from shapely.geometry import box

from landmeta.bench.acceptance import AcceptanceRow, Classifiers, run_acceptance
from landmeta.errors import DataError

NORTH_UP = Affine(10, 0, 0, 0, -10, 0)


@dataclass(frozen=True)
class First:
    """Gives everything the first class of the support."""

    def prepare(self, image: np.ndarray, band_names: tuple[str, ...]) -> First:
        return self

    def classify(self, train_index, train_codes, query_index, seed, groups=None) -> np.ndarray:
        assert len(train_index)
        assert len(query_index)
        return np.full(len(query_index), train_codes[0])

    def __call__(self, support, codes, query, band_names, seed) -> np.ndarray:
        return np.full(len(query), codes[0])


def score(data: Path, task: str) -> AcceptanceRow:
    (row,) = run_acceptance(data, classify=Classifiers(First(), First(), ()), seeds=1, tasks=[task])
    return row


def write_index(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tif(path: Path, image: np.ndarray) -> None:
    profile = {"crs": "EPSG:32631", "transform": NORTH_UP, "dtype": image.dtype}
    bands, height, width = image.shape
    with rasterio.open(path, "w", "GTiff", width=width, height=height, count=bands, **profile) as target:
        target.write(image)


def write_eurosat(data: Path, *, chips: int) -> Path:
    """Chips of two classes; the path of the first."""
    folder = data / "eurosat_ms"
    folder.mkdir()
    rows = [{"path": f"{k}{i}.tif", "class_name": k} for k in ("Forest", "River") for i in range(chips)]
    for row in rows:
        write_tif(folder / row["path"], np.ones((13, 4, 4), np.uint16))
    write_index(folder / "index.csv", rows)
    return folder / rows[0]["path"]


@pytest.fixture
def rgb(tmp_path: Path) -> Path:
    """A region of nine tiles a class; the path of the first."""
    folder = tmp_path / "sen12ms_rgb"
    folder.mkdir()
    rows = [
        {"path": f"{k}{i}.webp", "season": "fall", "region": "91", "class_name": k}
        for k in ("Forests", "Water")
        for i in range(9)
    ]
    for row in rows:
        Image.new("RGB", (8, 8), (90, 80, 70)).save(folder / row["path"])
    write_index(folder / "index.csv", rows)
    return folder / rows[0]["path"]


def write_scene(data: Path, classes: list[str | None], *, east: float = 0) -> None:
    """A scene of 40 px with a polygon for each of the classes, moved so many metres."""
    folder = data / "aberystwyth"
    folder.mkdir()
    write_tif(folder / "s2_20210527.tif", np.ones((10, 40, 40), np.uint16))
    shapes = [box(40 * i + east, -50, 40 * i + 30 + east, -10) for i in range(len(classes))]
    frame = gpd.GeoDataFrame({"class": classes}, geometry=shapes, crs="EPSG:32631")
    frame.to_file(folder / "labels.gpkg", driver="GPKG")


@pytest.mark.parametrize("text", ["{", "[]", '{"hls_worldcover": 1}'])
def test_a_damaged_table_of_splits_is_named(text: str, rgb: Path) -> None:
    data = rgb.parent.parent
    (data / "splits.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"splits\.json"):
        score(data, "sen12ms-rgb-5shot")


def grey(path: Path) -> None:
    Image.new("L", (8, 8)).save(path, format="png")


def with_alpha(path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(path, format="png")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize("damage", [grey, with_alpha, cut_short])
def test_a_tile_that_is_no_picture_of_three_bands_is_named(damage: Callable[[Path], None], rgb: Path) -> None:
    damage(rgb)
    with pytest.raises(DataError, match=r"Forests0\.webp"):
        score(rgb.parent.parent, "sen12ms-rgb-5shot")


def test_tiles_of_several_sizes_are_told(rgb: Path) -> None:
    Image.new("RGB", (9, 8)).save(rgb)
    with pytest.raises(DataError, match="8 x 8 and 8 x 9 pixels"):
        score(rgb.parent.parent, "sen12ms-rgb-5shot")


def test_a_table_of_tiles_that_is_no_text_is_told(rgb: Path) -> None:
    (rgb.parent / "index.csv").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError, match="cannot read a file of the benchmark"):
        score(rgb.parent.parent, "sen12ms-rgb-5shot")


def test_a_folder_whose_chips_are_all_support_has_no_unit(tmp_path: Path) -> None:
    write_eurosat(tmp_path, chips=5)
    with pytest.raises(DataError, match="no eligible unit"):
        score(tmp_path, "eurosat-ms-5shot")


def test_polygons_without_class_are_told(tmp_path: Path) -> None:
    write_scene(tmp_path, ["water", "forest", None, None])
    with pytest.raises(DataError, match="2 polygons"):
        score(tmp_path, "aberystwyth")


def test_polygons_outside_of_the_scene_leave_nothing_to_score(tmp_path: Path) -> None:
    write_scene(tmp_path, ["water", "forest"] * 2, east=1e6)
    with pytest.raises(DataError, match="no eligible unit"):
        score(tmp_path, "aberystwyth")


def test_a_fold_outside_of_the_scene_is_left_out(tmp_path: Path) -> None:
    """Of four folds, one polygon a class each, the last lies to the east of the scene."""
    write_scene(tmp_path, ["water", "forest"] * 4, east=160)
    assert score(tmp_path, "aberystwyth").n == 6 * 3 * 4
