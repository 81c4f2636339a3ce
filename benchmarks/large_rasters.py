"""What large label rasters and the polygons of large maps take: `python benchmarks/large_rasters.py`.

Rasters of nine classes in patches, one pixel in fifty of another class, up to the size of a Sentinel-2
tile: seconds and peak memory of reading one as labels, of reading parcels all over it as labels, and of its
polygons of half a hectare and more, tile by tile and (the smaller ones) all at once. Each in a process of its
own. Then what smoothing does to the borders of a simulated scene's classes, by its tolerance. Writes
benchmarks/results/large-rasters.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import geopandas
import numpy as np
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin
from recording import made
from scipy import ndimage

from landmeta.labels import read_labels
from landmeta.memory import peak_memory
from landmeta.raster import open_imagery
from landmeta_catalog.simulate import simulate_scene
from landmeta_maps.outlines import smoothed_outlines
from landmeta_maps.polygons import without_small

SIDES = (2000, 4000, 10980)
AT_ONCE = 4000  # the largest whose polygons are made at once too
LEAST = 50  # pixels of 10 m: half a hectare
TOLERANCES = (0.8, 1.2, 1.5, 2.0)

Codes = NDArray[np.uint8]


def patchy(side: int, seed: int = 0) -> Codes:
    """A raster of codes 1 to 9 whose patches are some tens of pixels wide, with specks."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.random((side // 4 + 1,) * 2).astype(np.float32), 2)
    smooth = ndimage.zoom(rough, 4, order=1)[:side, :side]
    limits = np.quantile(smooth[::7, ::7], np.linspace(0, 1, 9)[1:-1])
    codes = (np.digitize(smooth, limits) + 1).astype(np.uint8)
    codes[rng.random(codes.shape) < 0.02] = 9
    return codes


def write(path: Path, values: NDArray[Any], bands: tuple[str, ...] = ()) -> Path:
    """A tiled GeoTIFF (band, y, x) of 10 m pixels."""
    count, high, wide = values.shape
    profile = {"count": count, "height": high, "width": wide, "dtype": values.dtype, "nodata": 0}
    place = {"crs": "EPSG:32630", "transform": from_origin(500_000, 5_800_000, 10, 10)}
    with rasterio.open(path, "w", **profile, **place, tiled=True, compress="deflate") as file:
        file.write(values)
        file.descriptions = bands or (None,) * count
    return path


def parcels(path: Path, side: int, seed: int = 0) -> Path:
    """Parcels of 30 x 30 px, one in 33 px, of ten classes drawn at random."""
    rows, cols = (at.ravel() * 330.0 for at in np.indices((side // 33,) * 2))
    west, north = 500_000 + cols, 5_800_000 - rows
    shapes = shapely.box(west + 3, north - 300, west + 300, north - 3)
    classes = np.random.default_rng(seed).integers(1, 11, len(shapes)).astype(str)
    geopandas.GeoDataFrame({"class": classes}, geometry=shapes, crs=32630).to_file(path)
    return path


def labels(side: int, folder: Path) -> list[dict[str, Any]]:
    """Read labels of the whole of some imagery: a raster, and parcels."""
    blank = np.broadcast_to(np.uint16(1000), (4, side, side))
    image = write(folder / "image.tif", blank, ("B02", "B03", "B04", "B08"))
    files = {"raster": write(folder / "labels.tif", patchy(side)[None]), "parcels": folder / "parcels.gpkg"}
    parcels(files["parcels"], side)
    return [_in_a_process(f"labels: {what}", side, file, image) for what, file in files.items()]


def polygons(side: int, folder: Path) -> list[dict[str, Any]]:
    """Outlines of a map, tile by tile, and of smaller ones all at once."""
    raster = write(folder / "map.tif", patchy(side)[None])
    ways = ("tiles", "once") if side <= AT_ONCE else ("tiles",)
    return [_in_a_process(way, side, raster) for way in ways]


def _in_a_process(what: str, side: int, *paths: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", what, *map(str, paths)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"what": what, "side": side, **found}


def measure(what: str, paths: list[Path]) -> dict[str, Any]:
    """Seconds and peak memory of one thing in this process."""
    started = time.perf_counter()
    if what.startswith("labels"):
        kept = len(read_labels(paths[0], open_imagery([paths[1]], scale=1e-4)))
        counts = {"kept": kept}
    else:
        with rasterio.open(paths[0]) as file:
            codes = file.read(1)
        side = codes.shape[0] + 2 if what == "once" else 1024
        with patch("landmeta_maps.outlines._SIDE", side):
            parts = [len(found) for _, found in smoothed_outlines(without_small(codes, LEAST), LEAST)]
        counts = {"polygons": sum(parts)}
    return {"seconds": round(time.perf_counter() - started, 1), "peak_mb": peak_memory(), **counts}


def smoothing(tolerance: float) -> dict[str, Any]:
    """What a tolerance does to the truth of a simulated scene, patches below half a hectare joined."""
    codes = without_small(simulate_scene(0).truth.astype(np.uint8), LEAST)
    with patch("landmeta_maps.outlines._TOLERANCE", tolerance):
        parts = list(smoothed_outlines(codes, LEAST))
    shapes, found = (np.concatenate(column) for column in zip(*parts, strict=True))
    pairs = zip(shapes, found.tolist(), strict=True)
    back = rasterio.features.rasterize(pairs, out_shape=codes.shape, fill=255, dtype="uint8")
    mapped = codes != 255
    near = np.stack([np.roll(codes, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)])
    far = (near != back).all(axis=0)[1:-1, 1:-1]
    return {
        "tolerance": tolerance,
        "vertices": int(shapely.get_num_coordinates(shapes).sum()),
        "changed": round(float((back != codes)[mapped].mean()), 4),
        "by_more_than_a_pixel": round(float(far[mapped[1:-1, 1:-1]].mean()), 6),
        "smallest_px": float(shapely.area(shapes).min()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "large-rasters.json")
    a = parser.parse_args()
    if a.measure:
        print(json.dumps(measure(a.measure[0], [Path(p) for p in a.measure[1:]])))
        return
    head = made(f"python benchmarks/large_rasters.py --sides {' '.join(map(str, a.sides))}")
    rows = []
    for side in a.sides:
        with TemporaryDirectory() as folder:
            rows += [*labels(side, Path(folder)), *polygons(side, Path(folder))]
        print(*map(json.dumps, rows[-4:]), sep="\n", flush=True)
    smoothed = [smoothing(tolerance) for tolerance in TOLERANCES]
    print(*map(json.dumps, smoothed), sep="\n")
    a.out.write_text(json.dumps({**head, "rows": rows, "smoothing": smoothed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
