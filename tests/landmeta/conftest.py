from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest

from landmeta.labels import Labels
from landmeta.legend import LandClass, Legend
from landmeta.raster import Imagery, imagery_of_array

BANDS = ("B02", "B03", "B04", "B08")


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
