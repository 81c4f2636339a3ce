"""Small rasters, label files and imagery, and what opening bad ones must say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from landmeta.errors import ImageryError, LabelError
from landmeta.labels import Labels, read_labels
from landmeta.legend import LandClass, Legend
from landmeta.raster import Imagery, imagery_of_array, open_imagery

BANDS = ("B02", "B03", "B04", "B08")

UTM = "EPSG:32630"
WEST, NORTH = 500_000.0, 5_800_000.0

BLOCKS = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}
ABERYSTWYTH = "B2,B3,B4,B5,B6,B7,B8,B8A,B11,B12"


# --- files -----------------------------------------------------------------------------------------


def write_raster(
    path: Path,
    values: np.ndarray,
    *,
    names: Sequence[str | None] = (),
    crs: str | None = UTM,
    at: tuple[float, float] = (WEST, NORTH),
    pixel: float = 10.0,
    transform: Affine | None = None,
    scale: float | None = None,
    offset: float = 0.0,
    **options: Any,
) -> Path:
    """A GeoTIFF of values (band, y, x) or (y, x); 10 m pixels on a UTM grid unless told otherwise."""
    bands = values[None] if values.ndim == 2 else values
    count, height, width = bands.shape
    placed = transform or Affine(pixel, 0, at[0], 0, -pixel, at[1])
    profile = {"count": count, "height": height, "width": width, "dtype": bands.dtype, "crs": crs}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        out = rasterio.open(path, "w", driver="GTiff", transform=placed, **profile, **options)
    with out:
        out.write(bands)
        if names:
            out.descriptions = tuple(names)
        if scale is not None:
            out.scales, out.offsets = (scale,) * count, (offset,) * count
    return path


def write_vector(
    path: Path, shapes: Sequence[Any], classes: Sequence[Any], *, column: str = "class", crs: str = UTM
) -> Path:
    """A vector file of shapes that are in UTM, written in `crs`."""
    table = gpd.GeoDataFrame({column: classes}, geometry=list(shapes), crs=UTM)
    table.to_crs(crs).to_file(path)
    return path


def reflectances(count: int = 2, size: int = 16, seed: int = 0) -> np.ndarray:
    """Integers x 10000 of plausible reflectance, (band, y, x), every pixel another."""
    return np.random.default_rng(seed).integers(500, 6000, (count, size, size)).astype(np.uint16)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A file of `reflectances()` that names its bands."""
    return write_raster(tmp_path / "scene.tif", reflectances(), names=["B2", "B8A"])


# --- imagery and labels on it ----------------------------------------------------------------------


def flat_imagery(height: int = 40, width: int = 50, blank: Sequence[tuple[int, int]] = ()) -> Imagery:
    """Two bands at 0.3; one band is nodata at the `blank` pixels. 10 m pixels from WEST, NORTH."""
    values = np.full((2, height, width), 0.3, np.float32)
    for row, col in blank:
        values[1, row, col] = np.nan
    grid = GeoBox((height, width), Affine(10, 0, WEST, 0, -10, NORTH), UTM)
    return imagery_of_array(values, ["B02", "B03"], grid)


def area(row: float, col: float, rows: float, cols: float) -> shapely.Polygon:
    """The rectangle over some pixels of the flat imagery."""
    return shapely.box(WEST + col * 10, NORTH - (row + rows) * 10, WEST + (col + cols) * 10, NORTH - row * 10)


def centre(row: int, col: int) -> shapely.Point:
    """The centre of a pixel of the flat imagery."""
    return shapely.Point(WEST + col * 10 + 5, NORTH - row * 10 - 5)


TWO = [area(0, 0, 2, 2), area(20, 20, 2, 2)]
"""Shapes of two labels of four pixels each."""

LINE = shapely.LineString([(WEST, NORTH), (WEST + 50, NORTH - 50)])


def block(row: int, col: int, rows: int, cols: int) -> set[tuple[int, int]]:
    """Positions of the pixels under `area` of the same numbers."""
    return {(r, c) for r in range(row, row + rows) for c in range(col, col + cols)}


def pixels_of(labels: Labels, name: str) -> set[tuple[int, int]]:
    """Positions of the samples of a class."""
    code = dict(zip(labels.legend.names, labels.legend.codes, strict=True))[name]
    at = labels.codes == code
    return set(zip(labels.rows[at].tolist(), labels.cols[at].tolist(), strict=True))


@pytest.fixture
def aberystwyth(data: Path) -> Imagery:
    """The real scene of ten bands."""
    return open_imagery([data / "aberystwyth/s2_20210527.tif"], bands=ABERYSTWYTH, scale=1e-3)


def make_labels(rows: np.ndarray, cols: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> Labels:
    legend = Legend((LandClass(1, "dark", "#101010"), LandClass(2, "bright", "#e0e0e0")))
    footprints = gpd.GeoDataFrame({"group": [], "class_name": []}, geometry=[])
    return Labels(legend, rows, cols, codes, groups, footprints)


@pytest.fixture(scope="session")
def stripes() -> tuple[Imagery, Labels, np.ndarray]:
    """200 x 168 px of two classes in stripes 20 px wide, six labelled squares, a nodata corner, the truth."""
    rng = np.random.default_rng(0)
    truth = (np.arange(200) // 20 % 2)[:, None].repeat(168, axis=1) + 1
    image = 0.1 + 0.1 * (truth == 2) + 0.03 * rng.standard_normal((4, 200, 168))
    image[:, :10, :12] = np.nan
    pixels = []
    for group, (row, col) in enumerate([(25, 20), (65, 90), (105, 40), (45, 30), (85, 100), (125, 60)]):
        grid = np.mgrid[row : row + 8, col : col + 8].reshape(2, -1)
        pixels.append(np.stack([*grid, truth[grid[0], grid[1]], np.full(64, group)]))
    labels = make_labels(*np.concatenate(pixels, axis=1).astype(np.int64))
    return imagery_of_array(image.astype(np.float32), BANDS), labels, truth


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the threads of torch, and sets them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# --- errors ----------------------------------------------------------------------------------------


def imagery_error(paths: Sequence[Path], **options: Any) -> ImageryError:
    """What `open_imagery` refuses the files with: one line and a hint."""
    with pytest.raises(ImageryError) as caught:
        open_imagery(paths, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def label_error(path: Path, imagery: Imagery | None = None, **options: Any) -> LabelError:
    """What `read_labels` refuses the file with: one line and a hint."""
    with pytest.raises(LabelError) as caught:
        read_labels(path, imagery or flat_imagery(), **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value
