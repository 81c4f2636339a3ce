"""Reads a data folder into the units and support draws of the acceptance protocols.

Everything that decides a figure besides the methods is here: which classes and units are eligible, which
samples are support and query under a seed, and the values that the rival sees.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from jaxtyping import Float32, Int
from PIL import Image
from pyogrio.errors import DataSourceError
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize
from rasterio.transform import Affine

from landmeta.errors import DataError

ABERYSTWYTH_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
EUROSAT_BANDS = (*(f"B{i:02d}" for i in range(1, 13)), "B8A")
HLS_BANDS = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
RGB_BANDS = ("B04", "B03", "B02")

_LEFT, _RIGHT = 56, 72  # hls: support from columns before the first, query from the second on
_MIN_PIXELS = 60
_SHOTS, _MIN_TILES = 5, 9
_FOLDS = 5
_LAYOUT = "compare the folder with the layout that the protocols expect"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is run of the benchmark's folder `data`.

    `part` is `test`, `val` or `train` of splits.json where a data set has parts, or `all`; `seeds` is how
    many support draws a unit has.
    """

    data: Path
    part: str
    seeds: int

    def units(self, dataset: str, part: str) -> set[str] | None:
        """Names of the units of a part; None (all of them) for the part `all` and without splits.json."""
        splits = read_splits(self.data)
        return None if part == "all" or not splits else set(splits[dataset][part])


@dataclass(frozen=True, slots=True)
class PixelEpisode:
    """Support and query pixels as flat row-major indices; `groups` (support,) tells polygons apart."""

    train_index: Int[np.ndarray, "support"]
    train_codes: Int[np.ndarray, "support"]
    query_index: Int[np.ndarray, "query"]
    truth: Int[np.ndarray, "query"]
    groups: Int[np.ndarray, "support"] | None = None


@dataclass(frozen=True, slots=True)
class PixelUnit:
    """One image; `values * scale` is reflectance. Trial i has seed i; its episodes are scored as one pool."""

    name: str
    values: Float32[np.ndarray, "band y x"]
    scale: float
    bands: tuple[str, ...]
    trials: tuple[tuple[PixelEpisode, ...], ...]


@dataclass(frozen=True, slots=True)
class TileUnit:
    """Tiles with one class each; `codes` follow the order of class names. Trial i has seed i."""

    name: str
    images: Float32[np.ndarray, "tile band y x"]
    bands: tuple[str, ...]
    codes: Int[np.ndarray, "tile"]
    trials: tuple[tuple[Int[np.ndarray, "support"], Int[np.ndarray, "query"]], ...]


Unit = PixelUnit | TileUnit
Load = Callable[[], Unit | None]
"""Reads one unit; None if it is not eligible."""


def units_of(task: str, selection: Selection) -> list[Load]:
    """The candidate units of a task in the order of their names, each as a function that reads it.

    Raises:
        DataError: the folder lacks the task's files. Reading a unit raises it too.
    """
    with reading(selection.data):
        return _TASKS[task](selection)


@contextmanager
def reading(data: Path) -> Iterator[None]:
    """Turn what readers raise on absent and damaged files into one DataError."""
    try:
        with warnings.catch_warnings():
            # The chips have no CRS by design: the protocols need pixel positions only.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (OSError, DataSourceError, UnicodeDecodeError) as error:  # rasterio's and Pillow's are OSErrors
        msg = f"cannot read a file of the benchmark: {error}"
        raise DataError(msg, hint=f"--data {data}: complete the folder or leave the task out") from error
    except KeyError as error:
        msg = f"a table of the benchmark lacks the column or key {error}"
        raise DataError(msg, hint=f"--data {data}: {_LAYOUT}") from error


def read_splits(data: Path) -> dict[str, dict[str, Any]]:
    """Lists of units by data set and part, with remarks: splits.json; empty where there is none.

    Raises:
        DataError: it cannot be read.
    """
    path = data / "splits.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}"
        raise DataError(msg, hint="mend the file, or remove it to run every unit as unseen") from error
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        msg = f"{path} holds no table of parts for each data set"
        raise DataError(msg, hint="mend the file, or remove it to run every unit as unseen")
    return content


# --- hls_worldcover --------------------------------------------------------------------------------


def _hls(selection: Selection, shots: int) -> list[Load]:
    """Clusters of the part, each by its first chip in the order of names."""
    folder = selection.data / "hls_worldcover"
    keep = selection.units("hls_worldcover", selection.part)
    chips: dict[str, list[str]] = defaultdict(list)
    for row in _table(folder / "index.csv"):
        if keep is None or row["cluster"] in keep:
            chips[row["cluster"]].append(row["path"])
    return [
        partial(_hls_unit, name, folder / min(paths), selection.seeds, shots)
        for name, paths in sorted(chips.items())
    ]


def _hls_unit(name: str, path: Path, seeds: int, shots: int) -> PixelUnit | None:
    image, _ = _read(path, len(HLS_BANDS) + 1)
    labels = image[len(HLS_BANDS)].ravel().astype(np.int64)
    column = np.arange(labels.size) % image.shape[2]
    left, right = column < _LEFT, column >= _RIGHT
    classes = [
        k
        for k in np.unique(labels)
        if min(np.count_nonzero(labels[side] == k) for side in (left, right)) >= _MIN_PIXELS
    ]
    if len(classes) < 2:
        return None
    query = np.flatnonzero(right & np.isin(labels, classes))
    pools = [np.flatnonzero(left & (labels == k)) for k in classes]
    trials = []
    for seed in range(seeds):
        train = _draw(pools, shots, seed)
        trials.append((PixelEpisode(train, labels[train], query, labels[query]),))
    values = image[: len(HLS_BANDS)].astype(np.float32)
    return PixelUnit(name, values, 1e-4, HLS_BANDS, tuple(trials))


# --- tiles -----------------------------------------------------------------------------------------


def _eurosat(selection: Selection) -> list[Load]:
    """One unit: every chip of the folder, whatever the part."""
    folder = selection.data / "eurosat_ms"
    rows = _table(folder / "index.csv")

    def load() -> TileUnit | None:
        images = [
            _read(folder / row["path"], len(EUROSAT_BANDS))[0].astype(np.float32) / np.float32(1e4)
            for row in rows
        ]
        names = [row["class_name"] for row in rows]
        return _tile_unit("all", images, EUROSAT_BANDS, names, selection.seeds)

    return [load]


def _sen12ms(selection: Selection) -> list[Load]:
    """Region-seasons of the part: `test`, or `all`; the data set has no others."""
    folder = selection.data / "sen12ms_rgb"
    if selection.part in ("train", "val"):
        return []
    keep = selection.units("sen12ms_rgb", "bench_test") if selection.part == "test" else None
    seeds = max(1, selection.seeds // 2)
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _table(folder / "index.csv"):
        if keep is None or row["region"] in keep:
            groups[f"{row['season']}_{row['region']}"].append(row)

    def load(name: str) -> TileUnit | None:
        count = Counter(row["class_name"] for row in groups[name])
        rows = [row for row in groups[name] if count[row["class_name"]] >= _MIN_TILES]
        images = [_read_rgb(folder / row["path"]) for row in rows]
        return _tile_unit(name, images, RGB_BANDS, [row["class_name"] for row in rows], seeds)

    return [partial(load, name) for name in sorted(groups)]


def _tile_unit(
    name: str,
    images: Sequence[Float32[np.ndarray, "band y x"]],
    bands: tuple[str, ...],
    class_names: Sequence[str],
    seeds: int,
) -> TileUnit | None:
    if not images:
        return None
    if len(sizes := {(image.shape[1], image.shape[2]) for image in images}) > 1:
        found = " and ".join(f"{height} x {width}" for height, width in sorted(sizes)[:2])
        msg = f"tiles of {name} have {found} pixels, expected one size"
        raise DataError(msg, hint=f"--data: {_LAYOUT}")
    codes = np.unique(np.array(class_names), return_inverse=True)[1].astype(np.int64)
    pools = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]
    trials = []
    for seed in range(seeds):
        support = _draw(pools, _SHOTS, seed)
        trials.append((support, np.setdiff1d(np.arange(len(codes)), support)))
    if not len(trials[0][1]):
        return None
    return TileUnit(name, np.stack(images), bands, codes, tuple(trials))


# --- aberystwyth -----------------------------------------------------------------------------------


def _aberystwyth(selection: Selection) -> list[Load]:
    """One unit: the scene, five folds by polygon, seed 0."""
    folder = selection.data / "aberystwyth"

    def load() -> PixelUnit | None:
        image, transform = _read(folder / "s2_20210527.tif", len(ABERYSTWYTH_BANDS))
        polygons = gpd.read_file(folder / "labels.gpkg")
        episodes = _polygon_folds(polygons, image.shape[1:], transform)
        if not episodes:
            return None
        return PixelUnit("five folds", image.astype(np.float32), 1e-3, ABERYSTWYTH_BANDS, (episodes,))

    for path in (folder / "s2_20210527.tif", folder / "labels.gpkg"):
        if not path.exists():
            raise FileNotFoundError(path)
    return [load]


def _polygon_folds(
    polygons: gpd.GeoDataFrame, shape: tuple[int, ...], transform: Affine
) -> tuple[PixelEpisode, ...]:
    """Polygon i of a class, in file order, is left out in fold i mod 5."""
    if polygons["class"].isna().any():
        msg = f"{int(polygons['class'].isna().sum())} polygons of labels.gpkg have no class"
        raise DataError(msg, hint=f"--data: {_LAYOUT}")
    names = sorted(polygons["class"].unique())
    code = polygons["class"].map(names.index).to_numpy() + 1
    fold = polygons.groupby("class").cumcount().to_numpy() % _FOLDS

    def burn(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        shapes = zip(polygons.geometry.iloc[rows], values[rows].tolist(), strict=True)
        return np.asarray(rasterize(shapes, shape, transform=transform, dtype="int32")).ravel()

    episodes = []
    for k in np.unique(fold):
        rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        train, query = burn(rest, code), burn(held, code)
        polygon = burn(rest, np.arange(1, len(polygons) + 1))
        at, asked = np.flatnonzero(train), np.flatnonzero(query)
        if not (len(at) and len(asked)):  # its polygons lie outside of the scene
            continue
        episodes.append(
            PixelEpisode(
                at,
                train[at].astype(np.int64),
                asked,
                query[asked].astype(np.int64),
                polygon[at].astype(np.int64),
            )
        )
    return tuple(episodes)


# --- reading ---------------------------------------------------------------------------------------


def _draw(pools: Sequence[Int[np.ndarray, "_"]], shots: int, seed: int) -> Int[np.ndarray, "support"]:
    """`shots` of every class's pool; the order of draws is part of the protocol."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(pool)[:shots] for pool in pools])


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read(path: Path, bands: int) -> tuple[np.ndarray, Affine]:
    with rasterio.open(path) as source:
        if source.count != bands:
            msg = f"{path} has {source.count} bands, expected {bands}"
            raise DataError(msg, hint=f"--data: {_LAYOUT}")
        return source.read(), source.transform


def _read_rgb(path: Path) -> Float32[np.ndarray, "band y x"]:
    try:
        with Image.open(path) as picture:
            tile = np.asarray(picture)
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise DataError(msg, hint=f"--data: {_LAYOUT}") from error
    if tile.shape[2:] != (3,):
        msg = f"{path} is no picture of {len(RGB_BANDS)} bands"
        raise DataError(msg, hint=f"--data: {_LAYOUT}")
    return tile.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


_TASKS: dict[str, Callable[[Selection], list[Load]]] = {
    "hls-5px": partial(_hls, shots=5),
    "hls-20px": partial(_hls, shots=20),
    "eurosat-ms-5shot": _eurosat,
    "sen12ms-rgb-5shot": _sen12ms,
    "aberystwyth": _aberystwyth,
}
TASKS = tuple(_TASKS)
"""Names of the acceptance tasks, in the order in which they run."""
