"""Simulated Sentinel-2 scenes: a landscape with its truth, labelled tiles and the demo region."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely import box

from landmeta.errors import OutputError
from landmeta.legend import NODATA, LandClass, Legend
from landmeta_catalog.layout import SHARES, lay_out
from landmeta_catalog.materials import clothe
from landmeta_catalog.noise import Mask
from landmeta_catalog.spectra import NAMES, library, observe

BANDS = NAMES
"""Band names in the order of `Scene.image`."""
LEGEND = Legend(
    (
        LandClass(1, "Forest", "#009900"),
        LandClass(4, "Grassland", "#b6ff05"),
        LandClass(5, "Wetlands", "#27ff87"),
        LandClass(6, "Croplands", "#c24f44"),
        LandClass(7, "Urban/Built-up", "#a5a5a5"),
        LandClass(9, "Barren", "#f9ffa4"),
        LandClass(10, "Water", "#1c0dff"),
    )
)
"""The classes of simulated scenes, codes and colours of DFC2020."""
SCALE = 1e-4
"""Reflectance = `Scene.image` x SCALE."""
VERSION = 1
"""Raised whenever the same arguments no longer give the same scene."""
DEMO_SEED = 1
_CRS = "EPSG:32632"
_ORIGIN = (448_000.0, 5_372_000.0)


@dataclass(frozen=True, slots=True)
class LabelledTile:
    """A square of `size` pixels from (`row`, `col`) on, labelled as one class.

    `purity` 0..1 is the share of its pixels that truly are of the class; labels do not tell it.
    """

    row: int
    col: int
    size: int
    code: int
    purity: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A simulated scene on a `grid` of 10 m in EPSG:32632, with tiles labelled for adaptation.

    `image` is uint16 (13, y, x), reflectance x 10000, 0 = nodata; `truth` is uint8 (y, x), class
    codes, 255 = nodata.
    """

    image: npt.NDArray[np.uint16]
    truth: npt.NDArray[np.uint8]
    grid: GeoBox
    legend: Legend
    tiles: tuple[LabelledTile, ...]


def simulate_scene(
    seed: int,
    size: int = 1200,
    *,
    shift: float = 0.0,
    variety: float = 0.0,
    scale: float | None = None,
    nodata_corner: bool | None = None,
    cloud_shadow: bool | None = None,
    per_class: int = 5,
    tile_size: int | None = None,
) -> Scene:
    """Simulate a scene of `size` x `size` pixels, the same for the same arguments.

    Args:
        seed: seed of the landscape, of the region's spectra and of the noise.
        size: pixels a side, at least 32.
        shift: 0 keeps the reference spectra; 1 draws another season, soil, haze and illumination.
        variety: 0 keeps the usual class shares; 1 draws them anew within a factor of about two.
        scale: size of fields, rivers and towns relative to the default scene; by default smaller
            in small scenes, so that these also hold every class.
        nodata_corner: cut a corner off as the edge of the swath does; by default from 512 pixels on.
        cloud_shadow: darken a patch; by default from 512 pixels on.
        per_class: labelled tiles a class in `Scene.tiles`, 0 for none.
        tile_size: their side in pixels; by default a sixteenth of the scene, 4 to 32.

    Raises:
        ValueError: `size` below 32.
    """
    if size < 32:
        msg = f"a scene needs at least 32 pixels a side, {size} asked for"
        raise ValueError(msg)
    layout_rng, surface_rng, region_rng, sensor_rng = np.random.default_rng(seed).spawn(4)
    if scale is None:
        scale = float(np.clip((size / 1200) ** 0.6, 0.2, 1.0))
    large = size >= 512
    land = lay_out(layout_rng, size, scale, _shares(region_rng, variety))
    surface = clothe(surface_rng, land, shadow=large if cloud_shadow is None else cloud_shadow)
    image = observe(surface, *library(region_rng, shift), sensor_rng)
    truth = land.truth.copy()
    if large if nodata_corner is None else nodata_corner:
        outside = _swath_edge(size)
        image[:, outside] = 0
        truth[outside] = NODATA
    grid = GeoBox((size, size), Affine(10, 0, _ORIGIN[0], 0, -10, _ORIGIN[1]), _CRS)
    scene = Scene(image, truth, grid, LEGEND, ())
    side = tile_size or int(np.clip(size // 16, 4, 32))
    return replace(scene, tiles=labelled_tiles(scene, per_class=per_class, size=side, seed=seed))


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """The demo region on disk: 13-band `scene` GeoTIFF, `labels` GeoPackage, `truth` kept apart."""

    scene: Path
    labels: Path
    truth: Path


def _shares(rng: np.random.Generator, variety: float) -> Mapping[int, float]:
    """Class shares of a region, summing to 1."""
    drawn = np.array(list(SHARES.values())) * np.exp(0.6 * variety * rng.standard_normal(len(SHARES)))
    return dict(zip(SHARES, (drawn / drawn.sum()).tolist(), strict=True))


def _swath_edge(size: int) -> Mask:
    """Pixels (y, x) beyond the western edge of a descending orbit's swath."""
    y, x = np.ogrid[:size, :size]
    return np.asarray(x < 0.1 * size - 0.22 * y)


def labelled_tiles(
    scene: Scene, *, per_class: int = 5, size: int = 32, seed: int = 0
) -> tuple[LabelledTile, ...]:
    """Square tiles without nodata that do not overlap, up to `per_class` for each class present.

    They are drawn at random among those of at least 75 % purity; where a class has too few of
    these, the purest remaining ones are taken. The rarest class chooses first.
    """
    rng = np.random.default_rng(seed)
    counts = {code: int((scene.truth == code).sum()) for code in scene.legend.codes}
    step = max(size // 4, 1)
    free = _window_sums(scene.truth == NODATA, size)[::step, ::step] == 0
    tiles: list[LabelledTile] = []
    for code in sorted((c for c in counts if counts[c]), key=counts.__getitem__):
        purity = _window_sums(scene.truth == code, size)[::step, ::step] / size**2
        for _ in range(per_class):
            best = np.where(free, purity, 0)
            pure = np.flatnonzero(best >= 0.75)
            pick = int(rng.choice(pure)) if pure.size else int(best.argmax())
            row, col = divmod(pick, best.shape[1])
            if best[row, col] == 0:
                break
            tiles.append(LabelledTile(row * step, col * step, size, code, float(best[row, col])))
            reach = -(-size // step) - 1
            free[max(row - reach, 0) : row + reach + 1, max(col - reach, 0) : col + reach + 1] = False
    return tuple(sorted(tiles, key=lambda t: (t.code, t.row, t.col)))


def _window_sums(mask: Mask, size: int) -> npt.NDArray[np.int64]:
    """Count of true pixels in every window of `size` x `size`, by its upper left pixel."""
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows = total[size:] - total[:-size]
    return np.asarray(rows[:, size:] - rows[:, :-size])


def write_demo(folder: Path, *, seed: int = DEMO_SEED, size: int = 1200) -> DemoFiles:
    """Write the demo region to `folder`, or find it there from an earlier call.

    `scene.tif` holds uint16 reflectance x 10000 (0 = nodata) in 13 described bands, `labels.gpkg`
    squares with their `class`, five a class, and `truth/truth.tif` the class codes with a palette.
    Each file appears whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
        ValueError: `size` below 32.
    """
    files = DemoFiles(folder / "scene.tif", folder / "labels.gpkg", folder / "truth" / "truth.tif")
    marker, stamp = folder / "demo.json", _stamp(seed, size)
    try:
        if all(p.is_file() for p in (*_paths(files), marker)) and marker.read_text() == stamp:
            return files
        files.truth.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
            _write_scene(simulate_scene(seed, size), Path(scratch))
            (Path(scratch) / marker.name).write_text(stamp)
            marker.unlink(missing_ok=True)
            for target in (*_paths(files), marker):
                (Path(scratch) / target.name).replace(target)
    except OSError as error:
        msg = f"the demo region cannot be written to {folder}: {error.strerror or error}"
        raise OutputError(msg, "set LANDMETA_CACHE to a folder with 100 MB of space to write to") from error
    return files


def _paths(files: DemoFiles) -> tuple[Path, Path, Path]:
    return files.scene, files.labels, files.truth


def _stamp(seed: int, size: int) -> str:
    """What the marker file says of a demo made with these parameters."""
    made = {"version": VERSION, "seed": seed, "size": size, "classes": LEGEND.names, "bands": BANDS}
    text = json.dumps(made, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "made": made}, indent=1)


def _write_scene(scene: Scene, folder: Path) -> None:
    """Write scene.tif, labels.gpkg and truth.tif side by side into `folder`."""
    common = {"driver": "GTiff", "height": scene.grid.height, "width": scene.grid.width,
              "crs": str(scene.grid.crs), "transform": scene.grid.affine, "tiled": True,
              "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 4}  # fmt: skip
    profile = {**common, "count": len(BANDS), "dtype": "uint16", "nodata": 0, "predictor": 2}
    with rasterio.open(folder / "scene.tif", "w", **profile) as dataset:
        dataset.write(scene.image)
        dataset.descriptions = BANDS
    with rasterio.open(
        folder / "truth.tif", "w", **common, count=1, dtype="uint8", nodata=NODATA, photometric="palette"
    ) as dataset:
        dataset.write(scene.truth, 1)
        dataset.write_colormap(1, {c.code: _rgba(c.color) for c in scene.legend})
    squares = geopandas.GeoDataFrame(
        {"class": [_name(t.code) for t in scene.tiles]},
        geometry=[box(*_bounds(t, scene.grid)) for t in scene.tiles],
        crs=str(scene.grid.crs),
    )
    squares.to_file(folder / "labels.gpkg", driver="GPKG", layer="labels")


def _rgba(color: str) -> tuple[int, int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue, 255


def _name(code: int) -> str:
    return LEGEND.names[LEGEND.codes.index(code)]


def _bounds(tile: LabelledTile, grid: GeoBox) -> tuple[float, float, float, float]:
    """West, south, east and north of a tile in the grid's CRS."""
    pixel, west, north = grid.affine.a, grid.affine.c, grid.affine.f
    west, north = west + pixel * tile.col, north - pixel * tile.row
    return west, north - pixel * tile.size, west + pixel * tile.size, north
