"""Pictures of rasters for pages: warped to Web Mercator, shrunk, as PNG inside the page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject

from landmeta_maps.color import true_color

if TYPE_CHECKING:
    from landmeta.raster import Imagery

LONGEST = 2048
"""Longest side of an image inside a page, pixels."""

_READ = 1024
_RADIUS = 6378137.0


@dataclass(frozen=True, slots=True)
class Mercator:
    """A window of Web Mercator whose x axis starts at `meridian` (degrees east).

    A mercator about any meridian is Web Mercator moved sideways; one about the map's own middle has no
    seam at 180 degrees. `transform` (metres), `width` and `height` (pixels) tell where images lie.
    """

    meridian: float
    transform: Affine
    width: int
    height: int

    @property
    def crs(self) -> CRS:
        """The projection of `transform`."""
        return _mercator(self.meridian)

    @property
    def bounds(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """South-west and north-east corners as (latitude, longitude); longitudes may pass 180 degrees."""
        west, north = self.transform * (0, 0)
        east, south = self.transform * (self.width, self.height)
        return (_latitude(south), self._longitude(west)), (_latitude(north), self._longitude(east))

    def _longitude(self, x: float) -> float:
        return self.meridian + math.degrees(x / _RADIUS)


def _latitude(y: float) -> float:
    return math.degrees(math.atan(math.sinh(y / _RADIUS)))


def _mercator(meridian: float) -> CRS:
    text = f"+proj=merc +a={_RADIUS} +b={_RADIUS} +lat_ts=0 +lon_0={meridian!r} +k=1 +units=m +nadgrids=@null"
    return CRS.from_string(f"{text} +wktext +no_defs")


def middle_longitude(grid: GeoBox) -> float:
    """Longitude of the middle of `grid`, degrees east -180..180."""
    rows, cols = grid.shape
    to_lonlat = Transformer.from_crs(str(grid.crs), 4326, always_xy=True)
    longitude, _ = to_lonlat.transform(*(grid.affine * (cols / 2, rows / 2)))
    return round(float(longitude), 6)


def mercator_view(grid: GeoBox, longest: int = LONGEST) -> Mercator:
    """The Web Mercator window that holds `grid` at about its resolution, at most `longest` pixels a side."""
    meridian = middle_longitude(grid)
    rows, cols = grid.shape
    ends = (_crs(grid), _mercator(meridian), cols, rows)
    bounds = grid.boundingbox.bbox
    transform, width, height = calculate_default_transform(*ends, *bounds)
    if max(width, height) > longest:
        scale = longest / max(width, height)
        size = {"dst_width": max(1, round(width * scale)), "dst_height": max(1, round(height * scale))}
        transform, width, height = calculate_default_transform(*ends, *bounds, **size)
    return Mercator(meridian, transform, width, height)


def _crs(grid: GeoBox) -> CRS:
    if grid.crs is None:
        msg = "a web map needs a grid with a CRS"
        raise ValueError(msg)
    return CRS.from_wkt(grid.crs.to_wkt())


def warp(
    image: np.ndarray, grid: GeoBox, view: Mercator, nodata: float, resampling: Resampling
) -> np.ndarray:
    """Warp `image` (y, x) or (band, y, x) on `grid` to `view`; outside and unknown pixels are `nodata`."""
    out = np.full((*image.shape[:-2], view.height, view.width), nodata, image.dtype)
    reproject(
        image,
        out,
        src_transform=grid.affine,
        src_crs=_crs(grid),
        src_nodata=nodata,
        dst_transform=view.transform,
        dst_crs=view.crs,
        dst_nodata=nodata,
        resampling=resampling,
    )
    return out


def true_color_overview(imagery: Imagery, longest: int = LONGEST) -> tuple[np.ndarray, GeoBox]:
    """Red, green and blue of the imagery as reflectance, shrunk by averaging, and the grid it lies on.

    Float32 (3, y, x), NaN = nodata, at most `longest` pixels a side. Imagery without these three bands is
    shown by its first three, or by its first in grey. Reads block by block: memory is that of the result.
    """
    rows, cols = imagery.grid.shape
    factor = max(1, math.ceil(max(rows, cols) / longest))
    small = (math.ceil(rows / factor), math.ceil(cols / factor))
    out = np.full((3, *small), np.nan, np.float32)
    cells = max(1, _READ // factor)
    bands = _visible(imagery.bands.names)
    for top in range(0, small[0], cells):
        for left in range(0, small[1], cells):
            high, wide = min(cells, small[0] - top), min(cells, small[1] - left)
            block = imagery.read(top * factor, left * factor, high * factor, wide * factor)[list(bands)]
            out[:, top : top + high, left : left + wide] = _shrink(block, factor)
    return out, GeoBox(small, imagery.grid.affine * Affine.scale(factor), imagery.grid.crs)


def _visible(names: tuple[str, ...]) -> tuple[int, int, int]:
    if {"B04", "B03", "B02"} <= set(names):
        return names.index("B04"), names.index("B03"), names.index("B02")
    return (0, 1, 2) if len(names) >= 3 else (0, 0, 0)


def _shrink(block: np.ndarray, factor: int) -> np.ndarray:
    """Mean of the valid pixels of each `factor` x `factor` cell; NaN where a cell has none."""
    if factor == 1:
        return block
    bands, rows, cols = block.shape
    cells = block.reshape(bands, rows // factor, factor, cols // factor, factor)
    valid = np.isfinite(cells)
    count = valid.sum(axis=(2, 4))
    total = np.where(valid, cells, 0).sum(axis=(2, 4), dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def true_color_image(imagery: Imagery, view: Mercator) -> np.ndarray:
    """The imagery as people would see it, warped to `view`: uint8 RGBA (y, x, 4), transparent at nodata."""
    overview, grid = true_color_overview(imagery)
    return true_color(warp(overview, grid, view, np.nan, Resampling.bilinear))


def palette_png(codes: np.ndarray, table: np.ndarray) -> str:
    """Data URI of a PNG of uint8 `codes` (y, x) coloured by the RGBA `table` (256, 4): small and sharp."""
    image = Image.fromarray(codes)
    image.putpalette(table[:, :3].tobytes())
    return _data_uri(image, transparency=table[:, 3].tobytes())


def rgba_png(pixels: np.ndarray) -> str:
    """Data URI of a PNG of uint8 RGBA `pixels` (y, x, 4)."""
    return _data_uri(Image.fromarray(pixels))


def _data_uri(image: Image.Image, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
