"""Writing simulated regions as the files of an archive, which appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from pyproj import Transformer

from landmeta.errors import OutputError
from landmeta_catalog._simulated_land import make_region
from landmeta_catalog._simulated_modis import modis_cover
from landmeta_catalog._simulated_radar import backscatter
from landmeta_catalog.spectra import observe

Progress = Callable[[str, int, int], None]
Name = Callable[["Cell", str, int], str]
"""Path of a file inside the archive, from region, kind (`s2`, `s1`, `lc`, `dfc`) and number of the patch."""

SIDE = 256
"""Pixels a side of a patch."""
MARKER = "simulated.json"
_PIXEL = 10.0


@dataclass(frozen=True)
class Cell:
    """One region in one season, with `patches` from the archive's patch number `first` on."""

    region: str
    season: str
    lon: float
    lat: float
    first: int
    patches: int
    stride: int
    seed: tuple[int, ...]

    @property
    def epsg(self) -> int:
        """Code of the UTM zone."""
        return (32600 if self.lat >= 0 else 32700) + int((self.lon + 180) // 6) + 1

    @property
    def columns(self) -> int:
        """Patches in a row of the grid."""
        return int(np.ceil(np.sqrt(self.patches)))

    @property
    def size(self) -> int:
        """Pixels a side of the square that holds all patches."""
        return (self.columns - 1) * self.stride + SIDE

    def corner(self, number: int) -> tuple[int, int]:
        """First row and column of a patch, in pixels of the region."""
        row, col = divmod(number, self.columns)
        return row * self.stride, col * self.stride

    def transform(self) -> Affine:
        """Grid of the region, its middle at `lon`, `lat`, on whole tens of metres."""
        project = Transformer.from_crs("EPSG:4326", f"EPSG:{self.epsg}", always_xy=True)
        x, y = project.transform(self.lon, self.lat)
        half = self.size / 2 * _PIXEL
        west, north = (np.round(v / _PIXEL) * _PIXEL for v in (x - half, y + half))
        return Affine(_PIXEL, 0, float(west), 0, -_PIXEL, float(north))


@dataclass(frozen=True)
class Content:
    """What is drawn for each region; see `simulated_archives`."""

    shift: float
    noise: float
    savanna: bool
    labels: bool
    nan_patch: int | None = None
    """Number in the archive of the patch whose radar is NaN."""


def grid_cells(
    places: Sequence[tuple[str, str, float, float]], seed: int, patches: int, stride: int
) -> list[Cell]:
    """Cells of (region, season, longitude, latitude), each with `patches` on a square grid.

    Raises:
        ValueError: no place, no patch, or a stride that is not positive.
    """
    if not places or patches < 1 or stride < 1:
        msg = f"{len(places)} regions of {patches} patches every {stride} px make no archive"
        raise ValueError(msg)
    return [
        Cell(region, season, lon, lat, at * patches, patches, stride, (seed, at))
        for at, (region, season, lon, lat) in enumerate(places)
    ]


def publish(
    folder: Path,
    made: Mapping[str, Any],
    cells: Sequence[Cell],
    content: Content,
    name: Name,
    *,
    workers: int | None,
    progress: Progress | None,
) -> Path:
    """Write the cells to `folder` unless it says that it was `made` just so; return it.

    Raises:
        OutputError: the folder cannot be written, or holds an archive that was not simulated.
    """
    marker, stamp = folder / MARKER, json.dumps(made, sort_keys=True, indent=1)
    try:
        if marker.is_file() and marker.read_text() == stamp:
            return folder
        present = sorted(folder.glob("ROIs*"))
        if present and not marker.is_file():
            msg = f"{folder} holds {present[0].name}, which was not simulated here"
            raise OutputError(msg, "choose another folder with --out: nothing is overwritten")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
            _write_cells(Path(scratch), cells, content, name, workers, progress)
            marker.unlink(missing_ok=True)
            for old in present:
                shutil.rmtree(old)
            for new in sorted(Path(scratch).iterdir()):
                new.replace(folder / new.name)
        marker.write_text(stamp)
    except OutputError:
        raise
    except OSError as error:
        msg = f"the simulated archive cannot be written to {folder}: {error.strerror or error}"
        raise OutputError(msg, "make room, 1.5 MB a patch, or choose another folder with --out") from error
    return folder


def _write_cells(
    root: Path,
    cells: Sequence[Cell],
    content: Content,
    name: Name,
    workers: int | None,
    progress: Progress | None,
) -> None:
    pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 4))
    try:
        jobs = [pool.submit(_write_cell, root, cell, content, name) for cell in cells]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if progress is not None:
                progress("simulate", done, len(cells))
    finally:
        pool.shutdown(cancel_futures=True)


def _write_cell(root: Path, cell: Cell, content: Content, name: Name) -> None:
    transform, crs = cell.transform(), f"EPSG:{cell.epsg}"
    for number, arrays in enumerate(draw_patches(cell, content)):
        row, col = cell.corner(number)
        here = transform @ Affine.translation(col, row)
        for kind, values in arrays.items():
            path = root / name(cell, kind, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {"driver": "GTiff", "count": len(values), "height": SIDE, "width": SIDE,
                       "dtype": values.dtype, "crs": crs, "transform": here}  # fmt: skip
            if values.dtype.kind == "u":  # speckle does not compress
                profile |= {"compress": "deflate", "zlevel": 1, "predictor": 2}
            with rasterio.open(path, "w", **profile) as dataset:
                dataset.write(values)


def draw_patches(cell: Cell, content: Content) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Arrays (band, y, x) of each patch of a region by kind, in order of their number."""
    land_rng, sensor_rng, radar_rng, cover_rng = np.random.default_rng(cell.seed).spawn(4)
    region = make_region(land_rng, cell.size, cell.season, shift=content.shift, savanna=content.savanna)
    scene: dict[str, npt.NDArray[Any]] = {
        "s2": observe(region.surface, region.table, region.weather, sensor_rng),
        "s1": backscatter(radar_rng, region, shift=content.shift),
        "lc": modis_cover(cover_rng, region, noise=content.noise),
    }
    if content.labels:
        scene["dfc"] = region.truth[None]
    for number in range(cell.patches):
        row, col = cell.corner(number)
        patch = {kind: values[:, row : row + SIDE, col : col + SIDE] for kind, values in scene.items()}
        if cell.first + number == content.nan_patch:
            patch["s1"] = np.full_like(patch["s1"], np.nan)
        yield patch
