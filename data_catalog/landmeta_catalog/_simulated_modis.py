"""MODIS land cover (MCD12Q1) of a simulated region: cells of 463 m, mixed, and wrong as often as the real."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from landmeta_catalog._simulated_land import SAVANNA, SHRUBLAND, Region
from landmeta_catalog.layout import BARREN, CROPLANDS, FOREST, GRASSLAND, URBAN, WATER, WETLANDS

CELL = 46.33127
"""Side of a cell of the sinusoidal grid in pixels of 10 m, called 500 m."""

# IGBP class: codes of the three LCCS layers (land cover, land use, surface hydrology) that go with it,
# from the legends in the user guide of MCD12Q1 collection 6.
_LCCS: Mapping[int, tuple[int, int, int]] = {
    1: (11, 11, 10), 2: (12, 11, 10), 3: (13, 11, 10), 4: (14, 11, 10), 5: (15, 11, 10), 6: (41, 41, 40),
    7: (43, 41, 40), 8: (21, 21, 20), 9: (22, 21, 20), 10: (31, 31, 30), 11: (31, 31, 50), 12: (31, 36, 30),
    13: (1, 9, 1), 14: (42, 35, 30), 15: (2, 2, 2), 16: (1, 1, 1), 17: (3, 3, 3),
}  # fmt: skip

# IGBP class: how often the map is right, and what it says instead, by weight. The whole is right for about
# two cells in three, as the 67 % that the makers found for the 17 classes (Sulla-Menashe et al. 2019,
# doi 10.1016/j.rse.2018.12.013); mistakes go to the classes that look alike from afar.
_MISTAKES: Mapping[int, tuple[float, Mapping[int, int]]] = {
    1: (0.70, {5: 4, 8: 4, 4: 1}),
    2: (0.85, {8: 3, 4: 1, 9: 1}),
    4: (0.66, {5: 4, 8: 4, 14: 1}),
    5: (0.60, {4: 3, 1: 2, 8: 4}),
    6: (0.40, {7: 3, 8: 2, 10: 2}),
    7: (0.66, {10: 5, 16: 2, 9: 1}),
    8: (0.55, {9: 4, 5: 2, 14: 1, 10: 1}),
    9: (0.55, {8: 3, 10: 4, 12: 2}),
    10: (0.68, {7: 2, 9: 3, 12: 4, 14: 1}),
    11: (0.50, {10: 3, 8: 3, 9: 2, 17: 1}),
    12: (0.80, {14: 3, 10: 4, 9: 1}),
    13: (0.75, {12: 2, 14: 1, 10: 1, 16: 1}),
    14: (0.50, {12: 5, 8: 2, 10: 2}),
    16: (0.76, {7: 4, 10: 3}),
    17: (0.93, {11: 2, 16: 1}),
}


def modis_cover(rng: np.random.Generator, region: Region, *, noise: float) -> npt.NDArray[np.uint8]:
    """The four bands of SEN12MS's land cover, uint8 (4, y, x): IGBP 1 to 17, then LCCS codes.

    `noise` 0 labels every cell by what it holds, 1 makes as many mistakes as the real map.
    """
    number, shape = _cells(rng, len(region.truth))
    classes = int(region.truth.max()) + 1
    key = number * classes + region.truth
    counts = np.bincount(key.ravel(), minlength=shape[0] * shape[1] * classes).reshape(*shape, classes)
    # A cell's signal comes in part from its neighbours: the sensor's own pixel is wider.
    counts = ndimage.gaussian_filter(counts.astype(np.float32), (0.45, 0.45, 0))
    share = counts / np.maximum(counts.sum(2, keepdims=True), 1e-6)
    conifer = np.bincount(number.ravel(), region.conifer.ravel(), shape[0] * shape[1]).reshape(shape)
    forest = np.bincount(number.ravel(), (region.truth == FOREST).ravel(), shape[0] * shape[1])
    cells = _igbp(share, conifer / np.maximum(forest.reshape(shape), 1), region.dry)
    cells = _mistake(rng, cells, noise)
    layers = np.zeros((4, 18), np.uint8)
    layers[0] = np.arange(18)
    for code, others in _LCCS.items():
        layers[1:, code] = others
    return np.asarray(layers[:, cells.ravel()[number]])


def _cells(rng: np.random.Generator, size: int) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """Number of the cell of each pixel (y, x), and rows and columns of cells.

    The sinusoidal grid is sheared against UTM, the more the farther from the central meridian.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    shear, start = rng.uniform(-0.45, 0.45), rng.uniform(0, CELL, 2)
    row = np.floor((y + start[0]) / CELL).astype(np.int64)
    col = np.floor((x + shear * y + start[1]) / CELL).astype(np.int64)
    col -= col.min()
    shape = int(row.max()) + 1, int(col.max()) + 1
    return np.asarray(row * shape[1] + col, np.int64), shape


def _igbp(
    share: npt.NDArray[np.float32], conifer: npt.NDArray[np.float64], dry: float
) -> npt.NDArray[np.int64]:
    """IGBP class of each cell (row, col) from the shares of the DFC2020 classes (row, col, class)."""
    held = np.zeros((*share.shape[:2], 11), np.float32)
    held[..., : share.shape[2]] = share
    simple = {GRASSLAND: 10, WETLANDS: 11, CROPLANDS: 12, URBAN: 13, BARREN: 16, WATER: 17}
    lookup = np.zeros(11, np.int64)
    lookup[list(simple)] = list(simple.values())
    main = held[..., 1:].argmax(2) + 1
    cells: npt.NDArray[np.int64] = lookup[main]
    cells[main == FOREST] = 5
    cells[(main == FOREST) & (conifer > 0.6)] = 1
    cells[(main == FOREST) & (conifer < 0.35)] = 4
    cells[(main == FOREST) & (held[..., FOREST] < 0.5)] = 8
    cells[main == SHRUBLAND] = 7 if dry > 0.3 else 6
    cells[main == SAVANNA] = 9
    cells[(main == SAVANNA) & (held[..., FOREST] > 0.2)] = 8
    cells[(main == CROPLANDS) & (held[..., CROPLANDS] < 0.55)] = 14
    return cells


def _mistake(rng: np.random.Generator, cells: npt.NDArray[np.int64], noise: float) -> npt.NDArray[np.int64]:
    """Cells with mistakes, which come in patches of a few cells."""
    doubt = ndimage.gaussian_filter(rng.standard_normal(cells.shape), 0.7)
    order = doubt.ravel().argsort().argsort().reshape(cells.shape) / cells.size
    wrong = cells.copy()
    for code, (right, others) in _MISTAKES.items():
        at = (cells == code) & (order < noise * (1 - right))
        weights = np.array(list(others.values()), float)
        wrong[at] = rng.choice(list(others), int(at.sum()), p=weights / weights.sum())
    return wrong
