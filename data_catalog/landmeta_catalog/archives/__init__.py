"""Readers of tile archives in their published layouts; `open_archive` picks one by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from landmeta.errors import DataError
from landmeta_catalog.archives._images import usual_header
from landmeta_catalog.archives._sentinel import contest_of
from landmeta_catalog.archives.base import Archive as Archive
from landmeta_catalog.archives.class_folder import class_folder, dataset_name, list_tiles
from landmeta_catalog.archives.dfc2020 import Dfc2020
from landmeta_catalog.archives.eurosat import eurosat, is_multispectral_eurosat
from landmeta_catalog.archives.hls import label_band, labelled_chips, list_chips
from landmeta_catalog.archives.sen12ms import Sen12ms

_READERS: Mapping[str, Callable[..., Archive]] = {
    "sen12ms": Sen12ms,
    "dfc2020": Dfc2020,
    "eurosat": eurosat,
    "chips": labelled_chips,
    "class_folder": class_folder,
}
KINDS = ("sen12ms", "dfc2020", "eurosat", "folder")
"""Kinds of archive that a user can name."""


def open_archive(kind: str, path: Path, **options: Any) -> Archive:
    """Reader of the archive at `path`.

    Args:
        kind: `sen12ms`, `dfc2020`, `eurosat`, or `folder` for any other: TIFF chips with a band of labels,
            or folders of classes (those of EuroSAT with 13 bands are recognised by their names).
        path: its folder.
        **options: what the reader takes: `dataset`; `sensors`, `crop` (both contests) and `majority`
            (SEN12MS); `bands`, `scale` and `offset` (folders of classes); `scale`, `crop` and `splits`
            (chips). None stands for the default.

    Raises:
        DataError: no such kind, option or choice, or nothing of that kind at `path`.
    """
    if kind not in KINDS:
        msg = f"{kind!r} is no kind of archive"
        raise DataError(msg, f"choose from {', '.join(KINDS)}")
    path, options = Path(path), {name: value for name, value in options.items() if value is not None}
    if kind == "folder":
        kind = _kind_of_folder(path, options)
        options.setdefault("dataset", dataset_name(path))
    reader = _READERS[kind]
    unknown = sorted(set(options) - set(inspect.signature(reader).parameters))
    if unknown:
        msg = f"{path} is read as {kind}, which takes no option {', '.join(unknown)}"
        raise DataError(msg, "leave it out")
    return reader(path, **options)


def _kind_of_folder(path: Path, options: Mapping[str, Any]) -> str:
    inside = sorted(path.iterdir()) if path.is_dir() else []
    if contest := next((kind for kind in map(contest_of, [path, *inside]) if kind), None):
        msg = f"{path} is in the layout of SEN12MS and DFC2020, not in folders of classes"
        raise DataError(msg, f"landmeta ingest {contest} reads it")
    chips = list_chips(path)
    if chips and (label_band(usual_header(chips)[1]) or not any(inner.is_dir() for inner in path.iterdir())):
        return "chips"
    if "bands" in options:
        return "class_folder"
    tiles = list_tiles(path)
    classes = {tile.parent.name for tile in tiles}
    return "eurosat" if is_multispectral_eurosat(classes, usual_header(tiles)[1]) else "class_folder"
