"""Folders `class/tile` or `region/class/tile` of TIFF, PNG, JPEG or WebP, with or without georeference."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from landmeta.errors import DataError
from landmeta.legend import NODATA, Legend, legend_for
from landmeta_catalog.archives._files import read_header
from landmeta_catalog.archives._images import SUFFIXES, Layout, layout_of, usual_header
from landmeta_catalog.archives._index import NAME, Row, read_index
from landmeta_catalog.archives.base import (
    Broken,
    Codes,
    Patch,
    PatchData,
    Place,
    TileClass,
    pure_class,
)
from landmeta_catalog.tiles import ArraySpec

_QUADRANT = re.compile(r"(.+?)_?(?:tl|tr|bl|br)")


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """Reader of tiles in folders that name their class; `class_folder` makes one.

    Region, season and patch id are those in the columns `region`, `season`, `patch` and `quadrant` of an
    `index.csv`; without it the region is the folder above the class, or "". Tiles named as quadrants of a
    patch (`p510tr`) make one block.
    """

    path: Path
    dataset: str
    legend: Legend
    layout: Layout
    published_names: bool = False
    """Whether the file's name alone is the patch id; otherwise the class is put before it."""

    @property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The image alone: only the folder tells the class."""
        return (self.layout.spec,)

    @property
    def quadrants(self) -> tuple[str, ...]:
        """Tiles stay whole."""
        return ("",)

    def scan(self) -> tuple[list[Patch], list[Broken]]:
        """See `Archive.scan`; a tile that `index.csv` lists and that is not there is broken."""
        rows = read_index(self.path)
        patches: dict[tuple[str, str, str], Patch] = {}
        broken: list[Broken] = []
        found = set()
        for file in list_tiles(self.path):
            name = file.relative_to(self.path).as_posix()
            found.add(name)
            patch = self._patch(file, rows.get(name))
            key = (patch.region, patch.season, patch.patch)
            if key in patches:
                reason = f"patch {patch.patch} occurs twice, already as {patches[key].files['image'].name}"
                broken.append(Broken(patch.patch, patch.region, patch.season, file, reason))
            else:
                patches[key] = patch
        for name in sorted(set(rows) - found):
            patch = self._patch(self.path / name, rows[name])
            reason = f"is listed in {NAME} and is not there"
            broken.append(Broken(patch.patch, patch.region, patch.season, self.path / name, reason))
        return [patches[key] for key in sorted(patches)], broken

    def _patch(self, file: Path, row: Row | None) -> Patch:
        *above, class_name, _ = ("", *file.relative_to(self.path).parts)
        row = row or {}
        region = row.get("region") or "-".join(filter(None, above))
        season = row.get("season") or ""
        patch = (row.get("patch") or "") + (row.get("quadrant") or "")
        if not patch:
            patch = file.stem if self.published_names else f"{class_name}-{file.stem}"
        origin = row.get("patch") or _origin(file.stem)
        block = f"{season}/{region}/{origin}" if origin else None
        return Patch(region, season, patch, {"image": file}, class_name, block)

    def locate(self, patch: Patch) -> Place | None:
        """See `Archive.locate`."""
        path = patch.files["image"]
        header = read_header(path)
        self.layout.check(header, path)
        return header.place

    def read(self, patch: Patch) -> PatchData:
        """See `Archive.read`."""
        return PatchData({self.layout.spec.name: self.layout.read(patch.files["image"])})

    def tile_class(self, patch: Patch, labels: Codes | None) -> TileClass:
        """See `Archive.tile_class`; the class is that of the folder."""
        return pure_class(patch.class_name, self.legend)


def _origin(stem: str) -> str | None:
    """Patch that a tile named as a quadrant was cut from: p510 for p510tr."""
    match = _QUADRANT.fullmatch(stem)
    return match[1] if match else None


def list_tiles(root: Path) -> list[Path]:
    """Images in the folders below `root`, by name, hidden ones left out.

    Raises:
        DataError: `root` is no folder, or there is none.
    """
    if not root.is_dir():
        msg = f"{root} is no folder"
        raise DataError(msg, "give the folder that holds one folder a class")
    tiles: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        state = Path(folder).stat()
        if (state.st_dev, state.st_ino) in seen:  # a link that leads back
            inner.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__")))
        if Path(folder) != root:
            images = (n for n in names if Path(n).suffix.lower() in SUFFIXES and not n.startswith("."))
            tiles.extend(Path(folder) / name for name in images)
    if not tiles:
        msg = f"{root} holds no folder of images ({', '.join(sorted(SUFFIXES))})"
        raise DataError(msg, "expected class/tile or region/class/tile")
    return sorted(tiles)


def class_folder(
    path: Path,
    *,
    dataset: str | None = None,
    bands: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
) -> ClassFolder:
    """Reader of the tiles in `path`, whose innermost folders are the classes.

    Args:
        path: folder of `class/tile` or `region/class/tile`.
        dataset: name in the store, by default the folder's.
        bands: names in the order of the files, or a choice among the names in them; 8-bit pictures are
            red, green and blue.
        scale: physical value = number * scale + offset; by default what the files say, else 1e-4 for
            integers of 16 bits, 1/255 for 8 bits and 1 for floats.
        offset: see `scale`.

    Raises:
        DataError: no tiles, none that can be read, or it is unknown which bands or numbers they hold.
    """
    tiles = list_tiles(path)
    layout = layout_of(*usual_header(tiles), bands=bands, scale=scale, offset=offset)
    names = sorted({tile.parent.name for tile in tiles})
    if len(names) > NODATA - 1:
        msg = f"{path} has {len(names)} class folders, expected at most {NODATA - 1}"
        raise DataError(msg, "give the folder that holds one folder a class")
    legend = legend_for(names)
    return ClassFolder(path, dataset or dataset_name(path), legend, layout)


def dataset_name(path: Path) -> str:
    """Name of a folder with other characters than letters, digits, `_`, `-` and `.` replaced by `-`."""
    return re.sub(r"[^\w.-]+", "-", path.resolve().name) or "folder"
