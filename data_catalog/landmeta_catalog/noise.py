"""Random fields, curves and polygons from which a simulated landscape is made."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import rasterio.features
from affine import Affine
from scipy import fft
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

_burning = threading.Lock()
"""rasterio silences a warning of the identity transform inside; filters are the whole process's."""


def fractal(
    rng: np.random.Generator, size: int, *, longest: float, shortest: float = 2.0, hurst: float = 0.5
) -> Field:
    """Isotropic self-affine noise (y, x), float32, zero mean and unit standard deviation.

    `longest` and `shortest` are the limiting wavelengths in pixels; `hurst` 0..1 is the smoothness
    (1 rolling hills, 0 rough).
    """
    # A margin keeps the periodicity of the transform out of the picture.
    full = fft.next_fast_len(size + int(min(longest, size) * 0.5) + 2, real=True)
    fy = np.fft.fftfreq(full).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(full).astype(np.float32)[None, :]
    square = fy * fy + fx * fx
    low = 1.0 / min(longest, 1.5 * full)
    amplitude = (square + np.float32(low * low)) ** np.float32(-(hurst + 1.0) / 2)
    amplitude *= np.exp(-square * np.float32(0.5 * shortest * shortest))
    amplitude[0, 0] = 0
    shape = (full, full // 2 + 1)
    wave = rng.standard_normal(shape, np.float32) + 1j * rng.standard_normal(shape, np.float32)
    field = fft.irfft2((amplitude * wave).astype(np.complex64), s=(full, full))[:size, :size]
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-12), np.float32)


def meander(
    rng: np.random.Generator, start: Points, end: Points, *, wavelength: float, swing: float, wander: float
) -> Points:
    """Sine-generated river curve from `start` to `end`, as points (n, 2) of (x, y) pixels.

    `wavelength` is that of the bends in pixels, `swing` the largest angle of the channel against
    the valley (radians), `wander` the same for the valley itself.
    """
    length = float(np.hypot(*(end - start))) * (1 + 0.25 * swing**2)
    step = wavelength / 24
    count = max(int(length / step), 16)
    pace = 1 + 0.45 * _smooth_series(rng, count, 40)
    phase = np.cumsum(np.clip(pace, 0.35, 2.2)) * (2 * np.pi / 24) + rng.uniform(0, 2 * np.pi)
    strength = np.clip(swing * (1 + 0.55 * _smooth_series(rng, count, 45)), 0.1, 1.75)
    heading = strength * np.sin(phase) + wander * _smooth_series(rng, count, count / 3)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0)
    return _fit_ends(path, start, end)


def wiggly(rng: np.random.Generator, start: Points, end: Points, *, bend: float) -> Points:
    """Road-like gentle curve (n, 2) of (x, y) pixels; `bend` is the sideways swing relative to the length."""
    length = float(np.hypot(*(end - start)))
    count = max(int(length / 4), 8)
    t = np.linspace(0, 1, count)
    side = np.zeros(count)
    for k in (1, 2, 3):
        side += rng.normal() / k**1.3 * np.sin(np.pi * k * t)
    along = end - start
    across = np.array([-along[1], along[0]])
    return np.asarray(start + t[:, None] * along + bend * side[:, None] * across)


def _smooth_series(rng: np.random.Generator, count: int, width: float) -> Points:
    """Low-pass noise (count,) of unit standard deviation and correlation length `width` samples."""
    knots = max(int(count / max(width, 1.0)) + 4, 5)
    values = rng.standard_normal(knots)
    at = np.linspace(0, knots - 1, count)
    series = np.interp(at, np.arange(knots), values)
    kernel = np.hanning(max(int(width) | 1, 3) + 2)
    half = len(kernel) // 2
    padded = np.pad(series, half, mode="edge")
    series = np.convolve(padded, kernel / kernel.sum(), "valid")[:count]
    return np.asarray(series / max(float(series.std()), 1e-9))


def _fit_ends(path: Points, start: Points, end: Points) -> Points:
    """Rotate, scale and move `path` so that it runs from `start` to `end`."""
    z = (path[:, 0] - path[0, 0]) + 1j * (path[:, 1] - path[0, 1])
    target = complex(*(end - start))
    z = z * (target / z[-1])
    return np.stack([z.real + start[0], z.imag + start[1]], 1)


def draw(shapes: Iterable[BaseGeometry], size: int) -> Mask:
    """Mask (y, x) of the pixels whose centre lies in one of the shapes (pixel coordinates)."""
    burnt = [s for s in shapes if not s.is_empty]
    if not burnt:
        return np.zeros((size, size), bool)
    with _burning:
        filled = rasterio.features.rasterize(burnt, (size, size), transform=Affine.identity(), dtype="uint8")
    return np.asarray(filled, bool)


def draw_line(points: Points, width: float, size: int) -> Mask:
    """Mask (y, x) of a line `width` pixels wide along `points` (n, 2) of (x, y)."""
    return draw([LineString(points).buffer(width / 2)], size)


def voronoi_cells(rng: np.random.Generator, x: Field, y: Field, spacing: float) -> npt.NDArray[np.int32]:
    """Number of the nearest of randomly jittered grid points, int32 (y, x), about `spacing` pixels apart."""
    column, row = np.floor(x / spacing).astype(np.int32), np.floor(y / spacing).astype(np.int32)
    column -= column.min() - 2
    row -= row.min() - 2
    origin_x, origin_y = np.floor(x.min() / spacing) - 2, np.floor(y.min() / spacing) - 2
    wide, high = int(column.max()) + 3, int(row.max()) + 3
    jitter = rng.uniform(0.12, 0.88, (2, high, wide)).astype(np.float32)
    px = ((np.arange(wide)[None, :] + origin_x + jitter[0]) * spacing).astype(np.float32)
    py = ((np.arange(high)[:, None] + origin_y + jitter[1]) * spacing).astype(np.float32)
    best = np.full(x.shape, np.inf, np.float32)
    cell = np.zeros(x.shape, np.int32)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            number = (row + dr) * wide + column + dc
            distance = (px.ravel()[number] - x) ** 2 + (py.ravel()[number] - y) ** 2
            nearer = distance < best
            best[nearer] = distance[nearer]
            cell[nearer] = number[nearer]
    return cell
