"""Readers of small labelled archives for training: arrays out, nothing cached on disk."""

from __future__ import annotations

import csv
import io
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from jaxtyping import Float, Int
from PIL import Image

from landmeta.errors import DataError

HLS_BANDS = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
RGB_BANDS = ("B04", "B03", "B02")
RGB_FULL_SCALE = 0.275
"""Reflectance that EuroSAT's JPEGs show as 255 (its published renders stretch 0..2750 linearly)."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A scene of 128 x 128 px: `image` reflectance (band, y, x), `labels` WorldCover codes (y, x)."""

    cluster: str
    image: Float[np.ndarray, "band y x"]
    labels: Int[np.ndarray, "y x"]


def hls_chips(folder: Path, clusters: Sequence[str]) -> list[Chip]:
    """Chips of the clusters, by name; raises DataError where the folder has no `index.csv`."""
    index = folder / "index.csv"
    if not index.exists():
        msg = f"{folder} holds no index.csv: expected the layout of hls_worldcover"
        raise DataError(msg)
    with index.open() as text:
        rows = sorted(csv.DictReader(text), key=lambda r: r["path"])
    chips = []
    for row in rows:
        if row["cluster"] in set(clusters):
            with rasterio.open(folder / row["path"]) as source:
                values = source.read()
            image = values[:7].astype(np.float32) * 1e-4
            chips.append(Chip(row["cluster"], image, values[7].astype(np.int64)))
    return chips


def eurosat_rgb_tiles(
    archive: Path, first: int, count: int
) -> dict[str, list[Float[np.ndarray, "band y x"]]]:
    """Tiles `first` to `first + count` by name of every class, bands B04, B03, B02 as reflectance."""
    names: dict[str, list[str]] = defaultdict(list)
    tiles: dict[str, list[Float[np.ndarray, "band y x"]]] = defaultdict(list)
    with tarfile.open(archive) as tar:
        for name in sorted(tar.getnames()):
            if name.endswith(".jpg"):
                names[Path(name).parent.name].append(name)
        for class_name, members in sorted(names.items()):
            for member in members[first : first + count]:
                data = tar.extractfile(member)
                if data is None:
                    continue
                pixels = np.asarray(Image.open(io.BytesIO(data.read())), dtype=np.float32)
                tiles[class_name].append(pixels.transpose(2, 0, 1) * (RGB_FULL_SCALE / 255))
    return dict(tiles)
