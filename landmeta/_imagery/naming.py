"""Which file and band holds which spectral band: names in files, in file names, or given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from landmeta._imagery.files import RasterFile
from landmeta.bands import KNOWN, band_of_filename, canonical, landsat_numbers, parse_bands
from landmeta.errors import ImageryError

Layer = tuple[RasterFile, tuple[tuple[str, int], ...]]
"""A file and the (canonical name, 1-based index) of the bands that are taken from it."""

Named = tuple[list[Layer], tuple[str, ...], list[str]]
"""Layers, the order of the bands, and one line for each thing left out."""

SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".img"})
"""Names of files that are taken for rasters in a folder."""

_HINT = "--bands B2,B3,B4,B8 says what every band is, in the order of the file"
_LANDSAT_HINT = (
    "Landsat numbers its bands otherwise than Sentinel-2: --bands blue,green,red,nir,swir16,swir22 "
    "names B2 to B7 of Landsat 8 and 9; level 2 wants --scale 2.75e-5 --offset -0.2, HLS L30 --scale 1e-4"
)


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files given, with folders replaced by the rasters directly in them, in name order.

    Raises:
        ImageryError: nothing was given or a folder holds no raster.
    """
    found: list[Path] = []
    for path in paths:
        inside = _rasters_in(path) if path.is_dir() else [path]
        found.extend(inside)
    if not found:
        msg = "no imagery was given"
        raise ImageryError(msg, "--imagery takes a raster, several rasters or a folder of them")
    return list(dict.fromkeys(found))


def _rasters_in(folder: Path) -> list[Path]:
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    inside = sorted(path for path in shown if path.suffix.lower() in SUFFIXES)
    if not inside:
        msg = f"the folder {folder} holds no raster ({', '.join(sorted(SUFFIXES))})"
        raise ImageryError(msg, "--imagery takes a raster, several rasters or a folder of them")
    return inside


def name_bands(files: Sequence[RasterFile], given: str | None) -> Named:
    """Layers to read, the band order and one warning a thing left out.

    Raises:
        ImageryError: names are unknown, missing, double or do not fit the number of bands.
    """
    wanted = parse_bands(given) if given is not None else None
    single = [file for file in files if len(_spectral_indexes(file)) == 1]
    if len(files) > 1 and single and len(single) < len(files):
        other = next(file for file in files if file not in single)
        msg = f"{single[0].path} has one band and {other.path} several; they make no image together"
        raise ImageryError(msg, "give files of one band each, or tiles that have all bands")
    if len(files) > 1 and single:
        return _name_single(files, wanted)
    return _name_tiles(files, wanted)


def _spectral_indexes(file: RasterFile) -> tuple[int, ...]:
    return tuple(i for i in range(1, file.count + 1) if i not in file.alpha)


def _name_single(files: Sequence[RasterFile], wanted: tuple[str, ...] | None) -> Named:
    """Files of one band each: named by the file's name, its description, or in the order given."""
    notes: list[str] = []
    names = [_name_of(file) for file in files]
    if wanted is not None and not set(wanted) <= set(names):
        if len(wanted) != len(files):
            raise _mismatch(len(wanted), f"there are {len(files)} files of one band", files)
        names, notes = _completed(names, wanted)
    if all(name is None for name in names):
        listed = ", ".join(file.path.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
        msg = f"neither the files nor their names say which bands they hold ({listed})"
        raise ImageryError(msg, _hint(files, ", or name files like scene_B02.tif"))
    notes += [
        f"{file.path.name} is left out: it is named after no known band"
        for file, name in zip(files, names, strict=True)
        if name is None
    ]
    layers: list[Layer] = [
        (file, ((name, _spectral_indexes(file)[0]),))
        for file, name in zip(files, names, strict=True)
        if name is not None and (wanted is None or name in wanted)
    ]
    present = {name for _, pairs in layers for name, _ in pairs}
    order = wanted or tuple(name for name in KNOWN if name in present)
    return layers, order, notes


def _completed(names: Sequence[str | None], wanted: tuple[str, ...]) -> tuple[list[str | None], list[str]]:
    """Names for the files that have none, in the order given; all are as given where others disagree."""
    known = [name for name in names if name]
    left = [name for name in wanted if name not in known]
    if len(left) == len(names) - len(known) and set(known) <= set(wanted):
        unused = iter(left)
        return [name or next(unused) for name in names], []
    return list(wanted), _disagreement("the set of files", wanted, names)


def _name_of(file: RasterFile) -> str | None:
    described = file.descriptions[_spectral_indexes(file)[0] - 1]
    named = band_of_filename(file.path.stem, numbers=not _is_landsat(file))
    return named or _of_description(file, described)


def _name_tiles(files: Sequence[RasterFile], wanted: tuple[str, ...] | None) -> Named:
    """Files that have all bands: named by their descriptions or in the order given."""
    layers: list[Layer] = []
    notes: list[str] = []
    for file in files:
        pairs, left_out = _pairs(file, wanted)
        layers.append((file, pairs))
        notes.extend(left_out)
    return layers, tuple(name for name, _ in layers[0][1]), list(dict.fromkeys(notes))


def _pairs(file: RasterFile, wanted: tuple[str, ...] | None) -> tuple[tuple[tuple[str, int], ...], list[str]]:
    indexes = _spectral_indexes(file)
    described = [_described(file, index) for index in indexes]
    named = {name: index for name, index in zip(described, indexes, strict=True) if name}
    if wanted is not None and len(wanted) == len(indexes):
        notes = _disagreement(file.path.name, wanted, described)
        return tuple(zip(wanted, indexes, strict=True)), notes
    if wanted is not None:
        if not set(wanted) <= set(named):
            raise _mismatch(len(wanted), f"{file.path} has {len(indexes)}", [file])
        return tuple((name, named[name]) for name in wanted), []
    if not named:
        msg = f"{file.path} does not say which bands its {len(indexes)} band(s) are"
        raise ImageryError(msg, _hint([file]))
    doubled = sorted({name for name in described if name and described.count(name) > 1})
    if doubled:
        msg = f"{file.path} names several of its bands {', '.join(doubled)}"
        raise ImageryError(msg, _HINT)
    unnamed = [index for index, name in zip(indexes, described, strict=True) if name is None]
    extra = [file.descriptions[index - 1] or f"band {index}" for index in unnamed]
    notes = [f"left out, as they are no known spectral bands: {', '.join(extra)}"] if extra else []
    return tuple(named.items()), notes


def _described(file: RasterFile, index: int) -> str | None:
    text = file.descriptions[index - 1]
    if text is None and file.count == 1:
        return band_of_filename(file.path.stem, numbers=not _is_landsat(file))
    return _of_description(file, text)


def _of_description(file: RasterFile, text: str | None) -> str | None:
    return canonical(text, numbers=not _is_landsat(file)) if text else None


def _disagreement(whose: str, wanted: tuple[str, ...], described: Sequence[str | None]) -> list[str]:
    if all(name is None or name == given for name, given in zip(described, wanted, strict=True)):
        return []
    inside = ", ".join(name or "?" for name in described)
    return [f"{whose} calls its bands {inside}; they are taken as given: {', '.join(wanted)}"]


def _mismatch(given: int, found: str, files: Sequence[RasterFile]) -> ImageryError:
    msg = f"--bands names {given} bands, {found}"
    alpha = files[0].alpha
    if alpha and len(files) == 1 and given == files[0].count:
        msg += f" and band {alpha[0]}, which the file marks as transparency (alpha)"
        return ImageryError(
            msg, f"if it is imagery, gdal_edit -colorinterp_{alpha[0]} undefined FILE says so"
        )
    return ImageryError(msg, _hint(files))


def _is_landsat(file: RasterFile) -> bool:
    return landsat_numbers(file.path.stem, file.descriptions)


def _hint(files: Sequence[RasterFile], more: str = "") -> str:
    return _LANDSAT_HINT if any(map(_is_landsat, files)) else _HINT + more
