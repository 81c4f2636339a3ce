"""Reading a tile store: the index by region, tiles by slot, as stored numbers or as physical values."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from jaxtyping import Float

from landmeta.errors import DataError
from landmeta.legend import Legend
from landmeta_catalog import _tile_index as tile_index
from landmeta_catalog._manifest import Dataset, read_manifest
from landmeta_catalog._shards import Shard, shard_path
from landmeta_catalog.tiles import SHARD_TILES, ArraySpec

_OPEN_FILES = 100
"""Shard files kept open; macOS allows a process 256."""

_OpenShards = OrderedDict[tuple[str, str, int], Shard]
"""By dataset, array and number, the one used last at the end."""


class TileStore:
    """A finished tile store, open for reading; `with TileStore.open(path) as store` closes its files.

    It pickles as its path, so that worker processes open their own. One object serves one thread.
    """

    def __init__(self, path: Path, datasets: dict[str, Dataset]) -> None:
        self.path = path
        self._datasets = datasets
        self._shards: _OpenShards = OrderedDict()
        weakref.finalize(self, _close, self._shards)

    @classmethod
    def open(cls, path: Path) -> TileStore:
        """Open the store in a folder.

        Raises:
            DataError: no store, one of another format, or none of its datasets is finished.
        """
        path = Path(path)
        datasets = read_manifest(path).datasets
        finished = {name: dataset for name, dataset in datasets.items() if dataset.finished}
        if not finished or not (path / "index.parquet").is_file():
            what = ", ".join(datasets) or "a dataset"
            msg = f"the store {path} is not finished: the ingest of {what} was interrupted"
            raise DataError(msg, "run the same landmeta ingest command again: it goes on where it stopped")
        return cls(path, finished)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return TileStore.open, (self.path,)

    def __enter__(self) -> TileStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; reading opens them again."""
        _close(self._shards)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the finished datasets."""
        return tuple(self._datasets)

    def legend(self, dataset: str) -> Legend:
        """Classes of a dataset; raises DataError where it is not there."""
        return self._dataset(dataset).legend

    def arrays(self, dataset: str) -> tuple[ArraySpec, ...]:
        """Arrays of a dataset; raises DataError where it is not there."""
        return self._dataset(dataset).arrays

    def simulated(self, dataset: str) -> bool:
        """Whether its archive was simulated; raises DataError where it is not there."""
        return bool(self._dataset(dataset).settings.get("simulated"))

    def digest(self, dataset: str) -> str:
        """SHA-256 over the ids and checksums of all tiles of a dataset; DataError where it is not there."""
        index = self.index(dataset=dataset, columns=["id", "checksum"])
        lines = index["id"].astype(str) + index["checksum"].astype(str)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            msg = f"the store {self.path} has no finished dataset {name!r}"
            raise DataError(msg, f"its datasets are {', '.join(self._datasets)}")
        return self._datasets[name]

    def index(
        self,
        *,
        dataset: str | None = None,
        region: str | None = None,
        season: str | None = None,
        columns: Sequence[str] | None = None,
        quarantined: bool = False,
    ) -> pd.DataFrame:
        """Rows of the index, sorted by dataset, region, season and slot.

        Only the row groups that can hold the region are read. Repeated words come as categories.

        Args:
            dataset: Only tiles of this dataset.
            region: Only tiles of this region.
            season: Only tiles of this season.
            columns: Names in `INDEX_COLUMNS`; all but `geometry` by default. With `geometry` the result
                is a GeoDataFrame in longitude and latitude.
            quarantined: Whether broken tiles, which have no slot, are among the rows.

        Raises:
            DataError: a dataset or column that is not there, or a damaged index.
        """
        if dataset is not None:
            self._dataset(dataset)
        where = {"dataset": dataset, "region": region, "season": season}
        return tile_index.read_rows(self.path / "index.parquet", where, columns, quarantined=quarantined)

    def regions(self, dataset: str) -> pd.DataFrame:
        """Tiles of each class (columns, in legend order) in each region and season (rows, sorted).

        Raises:
            DataError: no such dataset.
        """
        columns = ["region", "season", "class_name"]
        rows = self.index(dataset=dataset, columns=columns)
        counts = rows.groupby(columns, observed=True).size()
        counts.index = pd.MultiIndex.from_tuples(
            [tuple(map(str, key)) for key in counts.index], names=columns
        )
        table = counts.unstack(fill_value=0)
        return table.reindex(columns=list(self.legend(dataset).names), fill_value=0).astype(np.int64)

    def read(
        self, dataset: str, array: str, slots: Iterable[int], bands: Sequence[str] | None = None
    ) -> npt.NDArray[Any]:
        """Stored numbers (tile, band, y, x) of the tiles at `slots`, in that order.

        Args:
            dataset: Name of the dataset.
            array: Name of one of its arrays.
            slots: Places, as in the index's column `slot`.
            bands: Canonical names in the order wanted; by default all bands.

        Raises:
            DataError: a dataset, array, band or slot that is not there, or a damaged shard.
        """
        spec = self._dataset(dataset).spec(array)
        chosen = band_positions(spec, bands)
        wanted = [int(slot) for slot in slots]
        out = np.empty((len(wanted), len(chosen), spec.side, spec.side), spec.dtype)
        whole = chosen == list(range(len(spec.bands)))
        scratch = np.empty(spec.shape, spec.dtype)
        for i, slot in enumerate(wanted):
            self._decode(dataset, spec, slot, out[i] if whole else scratch)
            if not whole:
                out[i] = scratch[chosen]
        return out

    def read_scaled(
        self, dataset: str, array: str, slots: Iterable[int], bands: Sequence[str] | None = None
    ) -> Float[np.ndarray, "tile band y x"]:
        """Physical values, float32 (tile, band, y, x): reflectance 0..1 or dB; NaN where there is no data.

        Arguments and errors are those of `read`.
        """
        spec = self._dataset(dataset).spec(array)
        stored = self.read(dataset, array, slots, bands)
        values = stored.astype(np.float32)
        values *= np.float32(spec.scale)
        if spec.offset != 0:
            values += np.float32(spec.offset)
        if spec.nodata is not None:
            values[stored == spec.nodata] = np.nan
        return values

    def _decode(self, dataset: str, spec: ArraySpec, slot: int, out: npt.NDArray[Any]) -> None:
        if slot < 0:
            msg = f"dataset {dataset} has no tile at slot {slot}: it is quarantined"
            raise DataError(msg, "read the slots of tiles whose status in the index is ok")
        shard, place = divmod(slot, SHARD_TILES)
        key = (dataset, spec.name, shard)
        held = self._shards.get(key)
        if held is None:
            held = Shard(shard_path(self.path / dataset / spec.name, shard), spec)
            self._shards[key] = held
            if len(self._shards) > _OPEN_FILES:
                self._shards.popitem(last=False)[1].close()
        else:
            self._shards.move_to_end(key)
        held.read(place, out)


def _close(shards: _OpenShards) -> None:
    while shards:
        shards.popitem()[1].close()


def band_positions(spec: ArraySpec, bands: Sequence[str] | None) -> list[int]:
    """Positions of `bands` among those of the array; all for None; raises DataError for one it lacks."""
    if bands is None:
        return list(range(len(spec.bands)))
    missing = [band for band in bands if band not in spec.bands]
    if missing:
        msg = f"array {spec.name} has no band {', '.join(missing)}"
        raise DataError(msg, f"its bands are {', '.join(spec.bands)}")
    return [spec.bands.index(band) for band in bands]
