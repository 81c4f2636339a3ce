"""EuroSAT with 13 bands (B8A last in its files) or as RGB, in folders of its ten classes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from landmeta.bands import SENTINEL2
from landmeta.errors import DataError
from landmeta.legend import EUROSAT
from landmeta_catalog.archives._files import Header
from landmeta_catalog.archives._images import band_names, layout_of, usual_header
from landmeta_catalog.archives.chips import RGB_BANDS, RGB_FULL_SCALE
from landmeta_catalog.archives.class_folder import ClassFolder, list_tiles

FILE_ORDER = (*(band for band in SENTINEL2 if band != "B8A"), "B8A")
"""Bands in the files: B01 to B12, then B8A; the files themselves do not say so."""
_DEPTH = 8


def eurosat(path: Path, *, dataset: str = "eurosat") -> ClassFolder:
    """Reader of EuroSAT's folder of classes, or of a folder somewhere above it.

    Images with 13 bands are read in the usual order B01, ..., B08, B8A, B09, ..., B12; the JPEGs as
    reflectance in B04, B03, B02 through the stretch they were made with.

    Raises:
        DataError: no folder of EuroSAT's classes, or images that are not EuroSAT's.
    """
    root = _class_root(path)
    file, header = usual_header(list_tiles(root))
    names, picture = band_names(header), header.dtype == "uint8"
    bands = RGB_BANDS if picture else SENTINEL2
    if header.count != len(bands) or (any(names) and set(names) != set(bands)):
        listed = ", ".join(name for name in names if name)
        msg = f"{file} has {header.count} bands ({listed or 'without names'}), expected {len(bands)}"
        raise DataError(msg, "landmeta ingest folder takes other images in folders of classes")
    if picture:
        layout = layout_of(file, header, scale=RGB_FULL_SCALE / 255)
    else:
        layout = layout_of(file, header, bands=None if any(names) else ",".join(FILE_ORDER))
        layout = replace(layout, bands=SENTINEL2, nodata=0)
    return ClassFolder(root, dataset, EUROSAT, layout, published_names=True)


def is_multispectral_eurosat(classes: Collection[str], header: Header) -> bool:
    """Whether folders of these names, holding such images, can only be EuroSAT with 13 bands."""
    unnamed = not any(band_names(header))
    return set(classes) <= set(EUROSAT.names) and unnamed and header.count == len(FILE_ORDER)


def _class_root(path: Path) -> Path:
    """The folder with folders of EuroSAT's class names, at `path` or below it."""
    level = [path]
    for _ in range(_DEPTH):
        inside = [inner for folder in level if folder.is_dir() for inner in sorted(folder.iterdir())]
        for folder in inside:
            if folder.name in EUROSAT.names and folder.is_dir():
                return folder.parent
        level = [folder for folder in inside if folder.is_dir() and not folder.name.startswith(".")]
    msg = f"{path} holds no folder named after a class of EuroSAT ({', '.join(EUROSAT.names[:3])}, ...)"
    raise DataError(msg, "give the folder that holds the ten folders of classes")
