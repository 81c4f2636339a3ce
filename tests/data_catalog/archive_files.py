"""Small files such as archives hold: TIFFs, and tables of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine


def tiff(
    path: Path, values: np.ndarray, *, names: tuple[str, ...] = (), crs: str | None = None, **more: Any
) -> Path:
    """Write (band, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype,
               "crs": crs, "transform": Affine(10, 0, 5e5, 0, -10, 4e6), **more}  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
        if names:
            dataset.descriptions = names
    return path


def index(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write `index.csv`."""
    with (folder / "index.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def bands(count: int, side: int = 16, dtype: str = "uint16") -> np.ndarray:
    """Band b is b * 100 + 1 everywhere."""
    return np.broadcast_to(np.arange(count)[:, None, None] * 100 + 1, (count, side, side)).astype(dtype)
