"""Codes and names of the classes that labels hold, and what looks like a slip in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from landmeta._imagery.files import RasterFile
from landmeta._labels.features import ClassValue
from landmeta.errors import LabelError
from landmeta.legend import NODATA, Legend, legend_for

_MOST_CLASSES = 254
_MOST_OF_ALL = 0.9
"""Share of the labelled pixels above which a code is rather what surrounds the labels."""


def number_classes(
    values: Sequence[ClassValue], legend: Legend | None
) -> tuple[dict[ClassValue, int], Legend]:
    """Code of each class value, and the legend of these classes.

    Raises:
        LabelError: too many classes for a map, or one that `legend` lacks.
    """
    if legend is not None:
        return _of_legend(values, legend)
    if len(values) > _MOST_CLASSES:
        msg = f"the labels have {len(values)} different classes, expected at most {_MOST_CLASSES}"
        raise LabelError(msg, "--label-column says which column holds the class")
    names = {value: f"class {value}" if isinstance(value, int) else value for value in values}
    # A number stays the code of its class where a class raster can hold it.
    numbers = [value for value in values if isinstance(value, int) and 0 <= value < NODATA]
    codes = numbers if len(numbers) == len(values) else None
    chosen = legend_for([names[value] for value in values], codes)
    code_of = dict(zip(chosen.names, chosen.codes, strict=True))
    return {value: code_of[name] for value, name in names.items()}, chosen


def alike(values: Sequence[ClassValue]) -> list[str]:
    """One line for each set of class names that only upper and lower case or spaces tell apart."""
    families: dict[str, list[str]] = {}
    for name in sorted(value for value in values if isinstance(value, str)):
        families.setdefault(_plain(name), []).append(name)
    return [_apart(names) for names in families.values() if len(names) > 1]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _apart(names: Sequence[str]) -> str:
    by_case = len({name.casefold() for name in names}) == 1
    # Spaces are seen in quotes only.
    what, shown = ("case", names) if by_case else ("case or spaces", [repr(name) for name in names])
    return (
        f"classes differ only in {what}: {', '.join(shown)}; they stay apart, merge them in the labels "
        "if they are one"
    )


def like_background(file: RasterFile, codes: NDArray[np.int64], owner: NDArray[np.int64]) -> list[str]:
    """One line for each code of a label raster without nodata that may stand for pixels without a label.

    Args:
        file: the label raster.
        codes: its distinct codes on the imagery.
        owner: position in `codes` of each labelled pixel.
    """
    kind = np.dtype(file.dtypes[0])
    if file.nodata[0] is not None:
        return []
    highest = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else None
    shares = np.bincount(owner, minlength=len(codes)) / len(owner)
    return [
        f"code {code} of {file.path.name} looks like background, {share:.1%} of the labelled pixels have it: "
        f"it is taken as a class unless the file declares it as nodata (gdal_edit -a_nodata {code})"
        for code, share in zip(codes.tolist(), shares.tolist(), strict=True)
        if code == highest or share > _MOST_OF_ALL
    ]


def _of_legend(values: Sequence[ClassValue], legend: Legend) -> tuple[dict[ClassValue, int], Legend]:
    known: dict[ClassValue, int] = {}
    for land_class in legend:
        known.update({land_class.code: land_class.code, land_class.name: land_class.code})
    strange = [str(value) for value in values if value not in known]
    if strange:
        msg = f"the labels hold {', '.join(strange[:6])}, which the legend ({', '.join(legend.names)}) lacks"
        raise LabelError(msg, "give labels of this legend, or read them without one")
    used = {value: known[value] for value in values}
    return used, Legend(tuple(c for c in legend if c.code in used.values()))
