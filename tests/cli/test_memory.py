"""Mapping a raster far larger than memory: the peak of a process of its own, measured by the system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

SIDE = 20_000
LIMIT_MB = 1_500
SCRIPT = """
import json, sys
from pathlib import Path

import numpy as np

from landmeta.adaptation import adapt_region
from landmeta.labels import read_labels
from landmeta.memory import peak_memory
from landmeta.prediction import map_blocks
from landmeta.raster import open_imagery
from landmeta_maps.writer import write_map

folder = Path(sys.argv[1])
imagery = open_imagery([folder / "scene.tif"], bands="B2,B3,B4,B8", scale=1e-4)
labels = read_labels(folder / "labels.gpkg", imagery, column="kind")
model = adapt_region(imagery, labels).ensemble
summary = write_map(map_blocks(model, imagery), imagery.grid, model.legend, folder)
print(json.dumps({"peak_mb": peak_memory(), "areas_ha": summary.areas_ha}))
"""


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A sparse raster of 20,000 x 20,000 px with data in three places, and labels in one of them."""
    import geopandas as gpd
    import numpy as np
    from shapely.geometry import box

    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 4, "dtype": "uint16", "nodata": 0}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True, "crs": "EPSG:32630"}
    corner = Affine(10, 0, 400_000, 0, -10, 5_800_000)
    piece = rng.integers(300, 500, (4, 400, 400), dtype=np.uint16)
    piece[3, :, 200:] += 3_000
    with rasterio.open(tmp_path / "scene.tif", "w", transform=corner, **profile, **layout) as image:
        for row, col in ((0, 0), (9_900, 1_300), (SIDE - 400, SIDE - 400)):
            image.write(piece, window=Window(col, row, 400, 400))
    west, north = corner.c, corner.f
    shapes = [
        box(west + left, north - top - 200, west + left + 200, north - top)
        for left in (200, 3_000)
        for top in (200, 2_000)
    ]
    frame = gpd.GeoDataFrame({"kind": ["dark", "dark", "bright", "bright"]}, geometry=shapes, crs=32630)
    frame.to_file(tmp_path / "labels.gpkg")
    return tmp_path


@pytest.mark.slow
def test_the_peak_stays_below_the_limit_whatever_the_size_of_the_raster(sparse: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(sparse)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak_mb"] < LIMIT_MB
    assert sum(found["areas_ha"]) == pytest.approx(3 * 400 * 400 / 100)
    with rasterio.open(sparse / "landcover.tif") as image:
        assert image.shape == (SIDE, SIDE)
        assert (image.read(1, window=Window(1_300, 9_900, 400, 400)) != 255).all()
