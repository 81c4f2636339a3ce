"""A small landscape in memory: class map, imagery and labels on one grid, for every product."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import Point, box

from landmeta.classmap import ClassMap, encode_probability
from landmeta.labels import Labels
from landmeta.legend import LandClass, Legend
from landmeta.raster import Imagery, imagery_of_array

LEGEND = Legend(
    (
        LandClass(1, "forest", "#1b7837"),
        LandClass(2, "open water", "#2166ac"),
        LandClass(7, "R&D <b>site</b>", "#d73027"),
    )
)


def utm(rows: int = 300, cols: int = 300, epsg: int = 32630, west: float = 400_000) -> GeoBox:
    return GeoBox((rows, cols), Affine(10, 0, west, 0, -10, 5_800_000), f"EPSG:{epsg}")


def class_map_of(grid: GeoBox, legend: Legend = LEGEND) -> ClassMap:
    """Vertical stripes 10 px wide, one class after the other, the first 20 rows and columns nodata."""
    rows, cols = grid.shape
    which = np.broadcast_to(np.arange(cols) // 10 % len(legend), (rows, cols))
    confidence = np.broadcast_to(np.linspace(0.4, 1.0, rows)[:, None], (rows, cols)).copy()
    confidence[:20, :20] = np.nan
    rest = (1 - confidence) / (len(legend) - 1)
    shares = np.where(np.arange(len(legend))[:, None, None] == which, confidence, rest)
    codes = np.array(legend.codes, np.uint8)[which]
    codes[:20, :20] = 255
    return ClassMap(codes, encode_probability(shares), encode_probability(confidence), grid, legend)


@pytest.fixture
def class_map() -> ClassMap:
    return class_map_of(utm())


@pytest.fixture
def make_class_map() -> Callable[..., ClassMap]:
    return class_map_of


@pytest.fixture
def make_grid() -> Callable[..., GeoBox]:
    return utm


@pytest.fixture
def imagery(class_map: ClassMap) -> Imagery:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.02, 0.3, (4, *class_map.grid.shape)).astype(np.float32)
    values[:, :20, :20] = np.nan
    return imagery_of_array(values, ["B02", "B03", "B04", "B08"], class_map.grid)


@pytest.fixture
def labels(class_map: ClassMap) -> Labels:
    west, south, east, north = class_map.grid.boundingbox.bbox
    shapes = [box(west + 500, south + 500, west + 700, south + 700), Point(east - 600, north - 600)]
    names = ["forest", "R&D <b>site</b>"]
    table = gpd.GeoDataFrame(
        {"group": [0, 1], "class_name": names}, geometry=shapes, crs=str(class_map.grid.crs)
    )
    at = np.array([240, 60])
    return Labels(class_map.legend, at, at[::-1].copy(), np.array([1, 7]), np.array([0, 1]), table)


QUIET = "quic no-first-run background-networking component-update sync gpu"


def headless(chromium: str, profile: Path, *flags: str) -> str:
    """What Chromium prints; a later flag overrides an earlier one, as the size of the window."""
    quiet = [f"--{'' if word.startswith('no-') else 'disable-'}{word}" for word in QUIET.split()]
    command = [chromium, "--headless", "--no-sandbox", *quiet, f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=8000", "--window-size=1200,800", *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
