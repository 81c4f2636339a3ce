"""Folders of GeoTIFF chips that hold their labels as a band, named for instance `worldcover`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from landmeta.errors import DataError
from landmeta.legend import DFC2020, NODATA, WORLDCOVER, Legend
from landmeta_catalog.archives._files import Header, read_header, read_image
from landmeta_catalog.archives._images import Layout, layout_of, usual_header
from landmeta_catalog.archives._index import NAME, Row, read_index
from landmeta_catalog.archives.base import (
    CROPS,
    Broken,
    Codes,
    Crop,
    Patch,
    PatchData,
    Place,
    TileClass,
    checked_codes,
    majority_class,
)
from landmeta_catalog.archives.class_folder import dataset_name
from landmeta_catalog.tiles import ArraySpec

LABEL_BANDS: Mapping[str, Legend] = {"worldcover": WORLDCOVER, "dfc2020": DFC2020}
"""Names of a band of class codes, and the legend of its codes."""
OTHER_PART = "other"
"""Region of chips that a table of splits does not list."""
FILL = -9999
"""Fill value of the surface reflectance of Harmonized Landsat Sentinel-2, HLS user guide v2."""


@dataclass(frozen=True, slots=True)
class LabelledChips:
    """Reader of chips with a label band in one folder; `labelled_chips` makes one.

    Class of a tile is the majority of its pixels; where `index.csv` has a column `cluster`, the chips of a
    cluster, which show one place on several dates, make one block. `parts` are the names of the regions that
    clusters are put into, where a table of splits is given.
    """

    path: Path
    dataset: str
    legend: Legend
    layout: Layout
    label_band: str
    crop: Crop = "whole"
    parts: Mapping[str, str] | None = field(default=None, hash=False)

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The image, then the `labels`."""
        side = self.layout.side if self.crop == "whole" else self.layout.side // 2
        labels = ArraySpec("labels", ("labels",), "uint8", 1.0, 0.0, 0, side)
        return replace(self.layout.spec, side=side), labels

    @property
    def quadrants(self) -> tuple[str, ...]:
        """Chips stay whole unless `crop` says otherwise."""
        return CROPS[self.crop]

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        """See `Archive.scan`; a chip that `index.csv` lists and that is not there is broken."""
        rows = read_index(self.path)
        files = {path.name: path for path in list_chips(self.path)}
        patches: dict[str, Patch] = {}
        broken = []
        for name in sorted({*files, *rows}):
            path = self.path / name
            patch = _patch(path, rows.get(name, {}), self.parts)
            if name not in files:
                reason = f"is listed in {NAME} and is not there"
            elif path.stem in patches:
                reason = f"chip {path.stem} occurs twice, already as {patches[path.stem].files['image'].name}"
            else:
                patches[path.stem] = patch
                continue
            broken.append(Broken(patch.patch, patch.region, patch.season, path, reason))
        return sorted(patches.values(), key=lambda p: (p.region, p.season, p.patch)), broken

    def locate(self, patch: Patch) -> Place | None:
        """See `Archive.locate`."""
        path = patch.files["image"]
        header = read_header(path)
        self._check(header, path)
        return header.place

    def read(self, patch: Patch) -> PatchData:
        """See `Archive.read`; `labels` are codes of the legend."""
        path = patch.files["image"]
        header, values = read_image(path, lambda header: self._check(header, path))
        image = self.layout.encode(values[list(self.layout.check(header, path))], path)
        found = values[self._check(header, path)]
        codes = checked_codes(found, self.legend.codes, path)
        stored = np.where(codes == NODATA, 0, codes).astype(np.uint8)
        return PatchData({self.layout.spec.name: image, "labels": stored[None]}, codes)

    def _check(self, header: Header, path: Path) -> int:
        """Position of the label band, after checking the other bands."""
        self.layout.check(header, path)
        names = _plain_names(header)
        if self.label_band not in names:
            msg = f"{path} has no band named {self.label_band}"
            raise DataError(msg, "all chips of a folder must have the same bands")
        return names.index(self.label_band)

    def tile_class(self, patch: Patch, labels: Codes | None) -> TileClass:
        """See `Archive.tile_class`; `labels` are codes of the legend (y, x)."""
        return majority_class(labels, self.legend)


def _plain_names(header: Header) -> list[str]:
    return [(text or "").strip().lower() for text in header.descriptions]


def label_band(header: Header) -> str | None:
    """Name of the band of class codes, None where no band is named as one."""
    return next((name for name in _plain_names(header) if name in LABEL_BANDS), None)


def list_chips(folder: Path) -> list[Path]:
    """TIFFs directly in a folder, by name."""
    if not folder.is_dir():
        return []
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in shown if path.suffix.lower() in (".tif", ".tiff") and path.is_file())


def _patch(path: Path, row: Row, parts: Mapping[str, str] | None) -> Patch:
    cluster = row.get("cluster") or None
    region = parts.get(cluster or path.stem, OTHER_PART) if parts is not None else row.get("region") or ""
    return Patch(region, row.get("season") or "", path.stem, {"image": path}, block=cluster)


def read_parts(splits: Path, dataset: str) -> dict[str, str]:
    """Part of each cluster of a dataset, from JSON `{dataset: {part: [clusters]}}`.

    Raises:
        DataError: The file cannot be read, or lists no clusters of the dataset.
    """
    try:
        listed = json.loads(splits.read_text(encoding="utf-8"))[dataset]
        found = {str(c): part for part, names in listed.items() if isinstance(names, list) for c in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{splits} has no parts of {dataset}: {type(error).__name__}: {error}"
        raise DataError(msg, 'expected JSON such as {"' + dataset + '": {"train": ["1", "2"]}}') from error
    if not found:
        msg = f"{splits} lists no cluster of {dataset}"
        raise DataError(msg, 'expected JSON such as {"' + dataset + '": {"train": ["1", "2"]}}')
    return found


def labelled_chips(
    path: Path,
    *,
    dataset: str | None = None,
    scale: float | None = None,
    crop: Crop = "whole",
    splits: Path | None = None,
) -> LabelledChips:
    """Reader of the chips in `path`.

    Args:
        path: Their folder.
        dataset: Name of the dataset; that of the folder by default.
        scale: Value of one digital number.
        crop: What a chip is cut into.
        splits: JSON whose parts of this dataset become its regions (`read_parts`); clusters that it does not
            list make the region `OTHER_PART`.

    Raises:
        DataError: no chips, none that can be read, or none of their bands is named as one of labels.
    """
    if crop not in CROPS:
        msg = f"crop {crop!r} is unknown"
        raise DataError(msg, f"choose from {', '.join(CROPS)}")
    chips = list_chips(path)
    if not chips:
        msg = f"{path} holds no TIFF"
        raise DataError(msg, "give the folder that holds the chips")
    file, header = usual_header(chips)
    band = label_band(header)
    if band is None:
        named = ", ".join(name for name in _plain_names(header) if name) or "none"
        msg = f"{file} has no band of labels (names of its bands: {named})"
        raise DataError(msg, f"name the band {' or '.join(LABEL_BANDS)}, or put tiles in a folder a class")
    layout = layout_of(file, header, scale=scale)
    if header.dtype == "int16" and header.nodata is None:
        layout = replace(layout, nodata=FILL)
    name = dataset or dataset_name(path)
    parts = None if splits is None else read_parts(Path(splits), name)
    return LabelledChips(path, name, LABEL_BANDS[band], layout, band, crop, parts)
