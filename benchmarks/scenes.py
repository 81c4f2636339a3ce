"""The scenes on which moments, seams and borders are looked at, with their labels and held-out pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from landmeta.bench._acceptance_units import PixelEpisode, PixelUnit, Selection, reading, units_of
from landmeta.labels import read_labels
from landmeta.raster import open_imagery
from landmeta_catalog.simulate import LEGEND, write_demo


def hls_units(data: Path, part: str, seeds: int) -> list[PixelUnit]:
    """Clusters with the trials of hls-5px, then those of hls-20px."""
    units = []
    selection = Selection(data, part, seeds)
    with reading(data):
        for few, many in zip(units_of("hls-5px", selection), units_of("hls-20px", selection), strict=True):
            a, b = few(), many()
            if isinstance(a, PixelUnit) and isinstance(b, PixelUnit):
                units.append(PixelUnit(a.name, a.values, a.scale, a.bands, a.trials + b.trials))
    return units


def aberystwyth_unit(data: Path) -> PixelUnit:
    """The scene of Aberystwyth in five folds by polygon."""
    (load,) = units_of("aberystwyth", Selection(data, "all", 1))
    with reading(data):
        unit = load()
    assert isinstance(unit, PixelUnit)
    return unit


def demo_unit(folder: Path, spots: int = 16, each: int = 300) -> PixelUnit:
    """The demo region: its labels are support, pixels of spots spread over it the query, with their truth."""
    files = write_demo(folder)
    imagery = open_imagery([files.scene])
    labels = read_labels(files.labels, imagery)
    with rasterio.open(files.truth) as source:
        truth = source.read(1)
    height, width = imagery.shape
    image = imagery.read(0, 0, height, width)
    free = (truth != 255) & np.isfinite(image).all(axis=0)
    train = labels.rows * width + labels.cols
    free.ravel()[train] = False
    query = spots_in(free, spots, each, np.random.default_rng(0))
    names = dict(zip(labels.legend.codes, labels.legend.names, strict=True))
    named = dict(zip(LEGEND.names, LEGEND.codes, strict=True))
    codes = np.array([named[names[int(c)]] for c in labels.codes])
    episode = PixelEpisode(train, codes, query, truth.ravel()[query].astype(np.int64), labels.groups)
    return PixelUnit("demo", image, 1.0, imagery.bands.names, ((episode,),))


def spots_in(free: np.ndarray, spots: int, each: int, rng: np.random.Generator, side: int = 96) -> np.ndarray:
    """Flat indices of pixels at random within squares at random; few squares meet few blocks."""
    found, wanted = [], float(each)
    while len(found) < spots:
        wanted *= 0.98  # few pixels may be free
        row, col = (int(rng.integers(0, size - side)) for size in free.shape)
        inside = np.zeros_like(free)
        inside[row : row + side, col : col + side] = True
        if (index := np.flatnonzero(inside & free)).size >= wanted:
            found.append(rng.permutation(index)[:each])
    return np.unique(np.concatenate(found))
