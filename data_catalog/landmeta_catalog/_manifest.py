"""`store.json`: the format of a tile store, and of every dataset in it the arrays, legend and settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landmeta.errors import DataError
from landmeta.legend import LandClass, Legend
from landmeta_catalog._atomic import write_text
from landmeta_catalog._shards import array_metadata
from landmeta_catalog.tiles import ArraySpec

FORMAT = 1
"""Raised when a store of the last format can no longer be read."""

_INGEST = "landmeta ingest KIND PATH --out STORE makes a store"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of a store; `tiles` counts the places in its arrays, used or not."""

    name: str
    arrays: tuple[ArraySpec, ...]
    legend: Legend
    tiles: int
    settings: Mapping[str, Any]
    finished: bool = False

    def spec(self, array: str) -> ArraySpec:
        """The array of that name; raises DataError where the dataset has none."""
        for spec in self.arrays:
            if spec.name == array:
                return spec
        msg = f"dataset {self.name} has no array {array!r}"
        raise DataError(msg, f"its arrays are {', '.join(spec.name for spec in self.arrays)}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `store.json` says."""

    landmeta: str
    datasets: Mapping[str, Dataset] = field(default_factory=dict)

    def dataset(self, name: str) -> Dataset:
        """The dataset of that name; raises DataError where the store has none."""
        if name not in self.datasets:
            msg = f"the store has no dataset {name!r}"
            raise DataError(msg, f"its datasets are {', '.join(self.datasets) or 'none'}")
        return self.datasets[name]


def read_manifest(store: Path) -> Manifest:
    """Read `store.json`.

    Raises:
        DataError: there is no store, its manifest is damaged, or it has another format.
    """
    path = store / "store.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{store} is no tile store: it holds no store.json"
        raise DataError(msg, _INGEST) from None
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as the manifest of a tile store: {error}"
        raise DataError(msg, _INGEST) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found, maker = (content.get(k) if isinstance(content, dict) else None for k in ("format", "landmeta"))
        msg = f"the store {store} has format {found} (landmeta {maker}); this landmeta reads format {FORMAT}"
        raise DataError(msg, "ingest the archive again with --out and a new folder")
    try:
        datasets = {name: _dataset(name, entry) for name, entry in content["datasets"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} is damaged: {type(error).__name__} {error}"
        raise DataError(msg, _INGEST) from error
    return Manifest(str(content.get("landmeta", "")), datasets)


def _dataset(name: str, entry: Mapping[str, Any]) -> Dataset:
    arrays = tuple(ArraySpec(**{**spec, "bands": tuple(spec["bands"])}) for spec in entry["arrays"])
    legend = Legend(tuple(LandClass(**c) for c in entry["legend"]))
    return Dataset(
        name, arrays, legend, int(entry["tiles"]), dict(entry["settings"]), bool(entry["finished"])
    )


def new_manifest() -> Manifest:
    """A manifest without datasets, made by this landmeta."""
    return Manifest(version("landmeta"))


def enter(store: Path, manifest: Manifest, dataset: Dataset) -> None:
    """Write the Zarr metadata of a dataset, then `store.json` with the dataset added or replaced.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    _write_zarr_metadata(store / dataset.name, dataset)
    entries = {d.name: _entry(d) for d in {**manifest.datasets, dataset.name: dataset}.values()}
    content = {"format": FORMAT, "landmeta": manifest.landmeta, "datasets": entries}
    write_text(store / "store.json", json.dumps(content, indent=1, ensure_ascii=False))


def _entry(dataset: Dataset) -> dict[str, Any]:
    return {
        "arrays": [spec.plain() for spec in dataset.arrays],
        "legend": [asdict(c) for c in dataset.legend],
        "tiles": dataset.tiles,
        "settings": dict(dataset.settings),
        "finished": dataset.finished,
    }


def _write_zarr_metadata(folder: Path, dataset: Dataset) -> None:
    """A group with one array each; consolidated, so that readers need not list the folder of shards."""
    arrays = {spec.name: array_metadata(spec, dataset.tiles) for spec in dataset.arrays}
    for name, metadata in arrays.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_text(folder / name / "zarr.json", json.dumps(metadata, indent=1))
    together = {"kind": "inline", "must_understand": False, "metadata": arrays}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": together}
    write_text(folder / "zarr.json", json.dumps(group, indent=1))


def check_name(what: str, name: str) -> None:
    """Refuse a name that cannot be a folder on every system; raises DataError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name in {"parts", "zarr.json"}:
        msg = f"{what} {name!r} cannot be a folder of a store: letters, digits, '_', '.' and '-' can"
        raise DataError(msg, "choose a name of these characters")
