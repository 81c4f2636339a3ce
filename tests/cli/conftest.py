"""A small scene with labels, and the command line run in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from landmeta_cli.app import run

SIZE, LEFT, TOP, PIXEL = 64, 500_000.0, 5_400_000.0, 10.0
BANDS = ("B2", "B3", "B4", "B8")
SPECTRA = {"water": (500, 400, 300, 200), "forest": (300, 500, 400, 3000), "town": (1500, 1600, 1700, 2000)}


@dataclass(frozen=True)
class Said:
    """What one command line left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Scene:
    """Paths of a raster (4 bands, uint16, an upright strip a class) and of its label polygons."""

    folder: Path
    imagery: Path
    labels: Path


def pixels() -> np.ndarray:
    """Digital numbers, uint16 (4, 64, 64): strips of water, forest and town from west to east."""
    rng = np.random.default_rng(0)
    strip = np.minimum(np.arange(SIZE) * 3 // SIZE, 2)
    clean = np.array(list(SPECTRA.values()), np.float64)[strip].T[:, None, :].repeat(SIZE, 1)
    return (clean * rng.normal(1, 0.1, clean.shape)).clip(1).astype(np.uint16)


def square(row: int, col: int, side: int = 6) -> BaseGeometry:
    """A square of pixels in the CRS of the scene."""
    west, north = LEFT + col * PIXEL, TOP - row * PIXEL
    return box(west, north - side * PIXEL, west + side * PIXEL, north)


def polygons() -> gpd.GeoDataFrame:
    """Five squares of 36 px a class."""
    places = [(r, c, name) for c, name in zip((6, 28, 50), SPECTRA, strict=True) for r in (2, 14, 26, 38, 50)]
    return gpd.GeoDataFrame(
        {"class": [name for *_, name in places]},
        geometry=[square(r, c) for r, c, _ in places],
        crs="EPSG:32632",
    )


def write_raster(
    path: Path,
    values: np.ndarray,
    *,
    names: Sequence[str] = BANDS,
    crs: str | None = "EPSG:32632",
    nodata: float | None = 0,
) -> Path:
    """Write (band, y, x) as a GeoTIFF at the scene's place."""
    profile = {
        "driver": "GTiff",
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "crs": crs,
        "transform": Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP),
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        file.descriptions = tuple(names) if names else (None,) * len(values)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Imagery and labels in a folder of their own, so that a test sees what else appears in `tmp_path`."""
    folder = tmp_path / "data"
    folder.mkdir()
    imagery = write_raster(folder / "scene.tif", pixels())
    polygons().to_file(folder / "labels.gpkg")
    return Scene(folder, imagery, folder / "labels.gpkg")


@pytest.fixture
def landmeta(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run one command line: `landmeta("adapt", "--imagery", path)`."""

    def call(*arguments: object) -> Said:
        capfd.readouterr()
        code = run([str(a) for a in arguments])
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the scene."""
    folder = tmp_path_factory.mktemp("adapted")
    write_raster(folder / "scene.tif", pixels())
    polygons().to_file(folder / "labels.gpkg")
    code = run(
        ["adapt", "--imagery", str(folder / "scene.tif"), "--scale", "1e-4", "--out", str(folder / "run")]
        + ["--labels", str(folder / "labels.gpkg"), "--label-column", "class"]
    )
    assert code == 0
    return folder / "run"
