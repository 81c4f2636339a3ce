"""A region-season of a tile store as imagery and labels: few labelled tiles, all the others to map."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
from affine import Affine
from jaxtyping import Bool, Float32, Int
from odc.geo.geobox import GeoBox
from shapely import box

from landmeta.bands import SENTINEL2, BandSet, parse_bands
from landmeta.errors import DataError, RegionError
from landmeta.labels import Labels
from landmeta.legend import Legend
from landmeta.raster import Imagery
from landmeta.tasks import Task, region_task
from landmeta.tile_table import TileTable
from landmeta_catalog.regions import path_of
from landmeta_catalog.store import TileStore
from landmeta_catalog.tiles import ArraySpec

_COLUMNS = (
    *("region", "season", "block", "class_code", "class_name", "crs", "x", "y", "pixel", "side", "slot"),
    "status",
)
_ALIGNED = 0.05
"""Share of a pixel by which tiles may miss a common grid."""


@dataclass(frozen=True, slots=True)
class StoreRegion:
    """A region-season of a dataset in a tile store."""

    store: Path
    dataset: str
    region: str
    season: str

    @property
    def name(self) -> str:
        """Dataset, region and season in one word, as `dfc2020/CapeTown-autumn`; either may have no name."""
        return "/".join(filter(None, (self.dataset, _word(self.region, self.season))))


def find_store_region(text: str) -> StoreRegion | None:
    """The region-season that `STORE/REGION`, `STORE/REGION-SEASON` or `STORE/DATASET/REGION-SEASON` names.

    `STORE` alone names the only one that it holds. None where no part of `text` is a tile store: it then
    means something else.

    Raises:
        RegionError: the store has no such region, or several.
        DataError: the store is unfinished or damaged.
    """
    path = path_of(text)
    store = next((p for p in (path, *path.parents) if (p / "store.json").is_file()), None)
    if store is None:
        return None
    wanted = path.relative_to(store).as_posix().casefold()
    known = _known(store)
    alone = wanted == "." and len(known) == 1
    found = known if alone else [place for place in known if wanted in _spellings(place)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(place.name for place in (found or known)[:8])
    more = ", ..." if len(found or known) > 8 else ""
    what = f"{len(found)} regions called {wanted!r}" if found else f"no region {wanted!r}"
    msg = f"the tile store {store} holds {what if wanted != '.' else 'several regions'}: {names}{more}"
    raise RegionError(msg, f"--region {store}/{_nearest(wanted, found or known).name}")


def _nearest(wanted: str, places: Sequence[StoreRegion]) -> StoreRegion:
    """The place that is spelt most like `wanted`, else the first."""
    names = {spelling: place for place in places for spelling in sorted(_spellings(place))}
    near = difflib.get_close_matches(wanted, names, n=1)
    return names[near[0]] if near else places[0]


def _known(store: Path) -> list[StoreRegion]:
    with TileStore.open(store) as tiles:
        return [
            StoreRegion(store, dataset, str(region), str(season))
            for dataset in tiles.datasets
            for region, season in tiles.regions(dataset).index
        ]


def _word(region: str, season: str) -> str:
    return "-".join(part for part in (region, season) if part)


def _spellings(place: StoreRegion) -> set[str]:
    short = {_word(place.region, place.season), _word(place.season, place.region), place.region}
    short |= {f"{place.region}/{place.season}", f"{place.season}/{place.region}"}
    names = short | {f"{place.dataset}/{name}" for name in short} | {place.name}
    return {name.casefold() for name in names}


@dataclass(frozen=True, slots=True)
class StoreScene:
    """The tiles of a region-season on one grid, and which of them are labelled.

    `tiles` are the index's rows with `row` and `col`, the pixel of each tile's upper left corner. `task`
    names support and query by position in `tiles`; `apart` says which query tiles lie at least 256 px (or,
    without one CRS, a patch) from every support tile. `unmapped` are the positions of the tiles of classes
    that do not take part, as they have too few tiles: these are neither support nor query.
    """

    imagery: Imagery
    labels: Labels
    tiles: pd.DataFrame
    task: Task
    apart: Bool[np.ndarray, "query"]
    unmapped: Int[np.ndarray, "_"]


def open_store_scene(
    place: StoreRegion, *, shots: int, seed: int = 0, bands: str | None = None
) -> StoreScene:
    """Lay the tiles of a region-season out on their grid and draw `shots` labelled tiles of every class.

    Every class with more than `shots` tiles takes part, and all its other tiles are the query, neighbours of
    labelled ones included, as in METEOR's evaluation on DFC2020 (METHODS 4.6). Pixels are read on demand.
    The same seed draws the same tiles.

    Raises:
        DataError: tiles without place on Earth, too few classes or tiles, or no optical array.
        ImageryError: `bands` names one that the store does not hold.
    """
    tiles, opened = _opened(place, bands)
    table = TileTable.from_frame(tiles)
    task, apart = _draw(table, place, shots, seed)
    unmapped = ~np.isin(table.code, task.classes)
    imagery = replace(opened, warnings=(*opened.warnings, *_dropped(table, unmapped, shots)))
    with TileStore.open(place.store) as store:
        legend = store.legend(place.dataset)
    labels = _labels(tiles, task, legend, int(tiles["side"].iloc[0]), imagery.grid)
    return StoreScene(imagery, labels, tiles, task, apart, table.row[unmapped])


def open_store_imagery(place: StoreRegion, *, bands: str | None = None) -> Imagery:
    """Lay the tiles of a region-season out on their grid, whatever their classes; pixels are read on demand.

    Raises:
        DataError: tiles without place on Earth, or no optical array.
        ImageryError: `bands` names one that the store does not hold.
    """
    return _opened(place, bands)[1]


def _opened(place: StoreRegion, bands: str | None) -> tuple[pd.DataFrame, Imagery]:
    """The tiles with their places on the grid, and the image that they make."""
    store = TileStore.open(place.store)
    frame = store.index(
        dataset=place.dataset, region=place.region, season=place.season, columns=list(_COLUMNS)
    )
    spec = _optical(store, place.dataset)
    tiles, grid, notes = _on_one_grid(frame.reset_index(drop=True), place, spec.side)
    names = parse_bands(bands) if bands else spec.bands
    BandSet(spec.bands).indices(names)
    rows, cols, slots = (tiles[name].to_numpy() for name in ("row", "col", "slot"))
    source = _TileMosaic(store, place.dataset, spec.name, names, rows, cols, slots, spec.side)
    paths = (place.store / "store.json", place.store / "index.parquet")
    return tiles, Imagery(grid, BandSet(tuple(names)), paths, tuple(notes), source=source)


def _optical(store: TileStore, dataset: str) -> ArraySpec:
    """The array of reflectance; that of most bands where there are several."""
    specs = store.arrays(dataset)
    optical = [spec for spec in specs if set(spec.bands) <= set(SENTINEL2)]
    if not optical:
        names = ", ".join(spec.name for spec in specs)
        msg = f"the dataset {dataset} of {store.path} holds no reflectance, only {names}"
        raise DataError(msg, "ingest an archive of Sentinel-2 tiles")
    return max(optical, key=lambda spec: len(spec.bands))


def _on_one_grid(
    frame: pd.DataFrame, place: StoreRegion, side: int
) -> tuple[pd.DataFrame, GeoBox, list[str]]:
    """Tiles with the pixel of their corner, the grid that holds them, and what was left out."""
    placed = frame[np.isfinite(frame["x"]) & np.isfinite(frame["y"]) & (frame["crs"].astype(str) != "")]
    if not len(placed):
        msg = f"the tiles of {place.name} have no place on Earth: they can be classified, not mapped"
        raise DataError(msg, "ingest georeferenced tiles, or use them in landmeta train and bench")
    system = placed["crs"].astype(str)
    main = str(system.value_counts().index[0])
    kept = placed[system == main].reset_index(drop=True)
    notes = []
    if left := len(frame) - len(kept):
        notes.append(f"{left} of {len(frame)} tiles are not in {main} or have no place: left out of the map")
    pixel = float(kept["pixel"].iloc[0])
    west, north = float(kept["x"].min()), float(kept["y"].max())
    cols, rows = (kept["x"] - west) / pixel, (north - kept["y"]) / pixel
    apart = np.maximum((cols - cols.round()).abs(), (rows - rows.round()).abs())
    if (kept["pixel"] != pixel).any() or float(apart.max()) > _ALIGNED:
        msg = f"the tiles of {place.name} do not lie on one grid of {pixel:g} m: they cannot be put together"
        raise DataError(msg, "ingest tiles of one resolution and grid")
    kept = kept.assign(row=rows.round().astype(np.int64), col=cols.round().astype(np.int64))
    shape = (int(kept["row"].max()) + side, int(kept["col"].max()) + side)
    return kept, GeoBox(shape, Affine(pixel, 0, west, 0, -pixel, north), main), notes


@dataclass(frozen=True, slots=True)
class _TileMosaic:
    """Tiles of a store as one image, read where a window meets them."""

    store: TileStore
    dataset: str
    array: str
    bands: tuple[str, ...]
    rows: Int[np.ndarray, "tile"]
    cols: Int[np.ndarray, "tile"]
    slots: Int[np.ndarray, "tile"]
    side: int

    def read(self, row: int, col: int, height: int, width: int) -> npt.NDArray[np.float32]:
        """Reflectance, float32 (band, y, x); NaN between the tiles; any window is allowed."""
        out = np.full((len(self.bands), height, width), np.nan, np.float32)
        near = (self.rows < row + height) & (self.rows + self.side > row)
        for tile in np.flatnonzero(near & (self.cols < col + width) & (self.cols + self.side > col)):
            values = self.store.read_scaled(self.dataset, self.array, [self.slots[tile]], self.bands)[0]
            _paste(out, values, int(self.rows[tile]) - row, int(self.cols[tile]) - col)
        return out


def _paste(
    out: Float32[np.ndarray, "band y x"], tile: Float32[np.ndarray, "band v u"], row: int, col: int
) -> None:
    """Put a tile whose corner lies at (row, col) of `out`, which may be outside, where it meets `out`."""
    side = tile.shape[1]
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + side, out.shape[1]), min(col + side, out.shape[2])
    out[:, top:bottom, left:right] = tile[:, top - row : bottom - row, left - col : right - col]


def _draw(
    table: TileTable, place: StoreRegion, shots: int, seed: int
) -> tuple[Task, Bool[np.ndarray, "query"]]:
    """The task of the region-season, and which of its query tiles lie apart."""
    rng = np.random.default_rng(seed)
    try:
        task = region_task(table, place.region, place.season, shots=shots, rng=rng, blocked=False)
    except DataError as error:
        error.hint = _fewer_shots(table)
        raise
    positions = np.full(int(table.row.max()) + 1, -1)
    positions[table.row] = np.arange(len(table.row))
    near, places = np.zeros(len(table.row), bool), table.places()
    for tile in positions[task.support]:
        near |= places.near(int(tile))
    return task, ~near[positions[task.query]]


def _fewer_shots(table: TileTable) -> str:
    """How two classes of a region-season can be mapped, which is the least."""
    counts = sorted(np.unique(table.code, return_counts=True)[1].tolist(), reverse=True)
    most = counts[1] - 1 if len(counts) > 1 else 0
    if most:
        return f"--shots {most} is the most that maps two classes"
    return "no --shots maps two classes of this region: take another, or labels of your own with --labels"


def _dropped(table: TileTable, unmapped: Bool[np.ndarray, "tile"], shots: int) -> list[str]:
    """The warning that classes are not mapped, with the most shots at which they are; none without such."""
    if not unmapped.any():
        return []
    codes, counts = np.unique(table.code[unmapped], return_counts=True)
    names = [table.class_name(code) for code in codes.tolist()]
    single = [name for name, count in zip(names, counts.tolist(), strict=True) if count == 1]
    found = f"{', '.join(names)}: no more than {shots} tiles, not mapped as classes"
    if not single:
        return [f"{found}; --shots {counts.min() - 1} is the most that maps every class"]
    # The one to learn from would leave none to score.
    never = f"no --shots maps {', '.join(single)}, of a single tile"
    if len(single) == len(names):
        return [f"{found}; {never}"]
    return [f"{found}; {never}; --shots {counts[counts > 1].min() - 1} is the most that maps all others"]


def _labels(tiles: pd.DataFrame, task: Task, legend: Legend, side: int, grid: GeoBox) -> Labels:
    """The pixels of the support tiles, each tile of one class and one group."""
    support = tiles.iloc[task.support]
    within = np.indices((side, side)).reshape(2, -1)
    at = support[["row", "col"]].to_numpy(np.int64)
    rows, cols = ((at[:, axis, None] + within[axis]).ravel() for axis in (0, 1))
    used = Legend(tuple(c for c in legend if c.code in task.classes))
    names = dict(zip(used.codes, used.names, strict=True))
    corners = [(grid.transform * (c, r), grid.transform * (c + side, r + side)) for r, c in at.tolist()]
    footprints = geopandas.GeoDataFrame(
        {
            "group": np.arange(len(support)),
            "class_name": [names[int(code)] for code in task.support_codes],
        },
        geometry=[box(west, south, east, north) for (west, north), (east, south) in corners],
        crs=str(grid.crs),
    )
    return Labels(
        legend=used,
        rows=rows,
        cols=cols,
        codes=np.repeat(task.support_codes, side * side),
        groups=np.repeat(np.arange(len(support)), side * side),
        footprints=footprints,
        unit="tiles",
    )
