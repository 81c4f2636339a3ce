"""Codes and names of the classes that labels hold, and what looks like a slip in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from landmeta._imagery.files import RasterFile
from landmeta._labels.categories import Categories, painted
from landmeta._labels.features import ClassValue
from landmeta.errors import LabelError
from landmeta.legend import NODATA, Legend, legend_for

MOST_CLASSES = 254
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_LISTED = 12
_NOTHING_SAID = Categories()
_MOST_OF_ALL = 0.9
"""Share of the labelled pixels above which a code is rather what surrounds the labels."""


def number_classes(
    values: Sequence[ClassValue], legend: Legend | None, said: Categories = _NOTHING_SAID
) -> tuple[dict[ClassValue, int], Legend, list[str]]:
    """Code of each class value, the legend of these classes, and a line where numbers are no codes.

    Digits in text, as shapefiles often hold them, are the numbers that they spell. Names and colours that are
    `said` of numbers are kept.

    Raises:
        LabelError: too many classes for a map, or one that `legend` lacks.
    """
    numbers = _numbers(values)
    # 10 and 010 are two classes to whoever wrote them, and only one number.
    apart = len(set(numbers.values())) == len(values)
    if legend is not None:
        return *_of_legend(values, numbers if apart else {}, legend), []
    if len(values) > MOST_CLASSES:
        msg = f"the labels have {len(values)} different classes, expected at most {MOST_CLASSES}"
        raise LabelError(msg, "--label-column says which column holds the class")
    names = {value: f"class {value}" if numbers else value for value in values}
    if apart:
        said = said.of(set(numbers.values()))
        names |= {value: said.names[number] for value, number in numbers.items()}
    # A number stays the code of its class where a class raster can hold it.
    fit = apart and all(0 <= number < NODATA for number in numbers.values())
    chosen = legend_for([str(name) for name in names.values()], list(numbers.values()) if fit else None)
    code_of = dict(zip(chosen.names, chosen.codes, strict=True))
    named = {value: code_of[str(name)] for value, name in names.items()}
    colors = {named[value]: said.colors[number] for value, number in numbers.items() if said.colors}
    return named, painted(chosen, colors), [] if fit else _renumbered(numbers, named)


def _numbers(values: Sequence[ClassValue]) -> dict[ClassValue, int]:
    """The whole number that each value is or spells; nothing where one of them is a name."""
    spelled = [value for value in values if isinstance(value, int) or _DIGITS.fullmatch(value)]
    return {value: int(value) for value in spelled} if len(spelled) == len(values) else {}


def _renumbered(numbers: Mapping[ClassValue, int], named: Mapping[ClassValue, int]) -> list[str]:
    by_code = sorted(numbers, key=lambda value: named[value])
    moved = [f"class {v} has code {named[v]} in the map" for v in by_code if numbers[v] != named[v]]
    if not moved:
        return []
    more = [f"{len(moved) - _LISTED} more are in the legend"] if len(moved) > _LISTED else []
    why = f"a map's codes are 0 to {NODATA - 1}, one a class"
    return [f"{', '.join([*moved[:_LISTED], *more])}: {why}"]


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


def like_background(file: RasterFile, counts: Mapping[int, int]) -> list[str]:
    """One line for each code of a label raster without nodata that may stand for pixels without a label.

    Args:
        file: the label raster.
        counts: labelled pixels of each of its codes on the imagery.
    """
    kind = np.dtype(file.dtypes[0])
    if file.nodata[0] is not None:
        return []
    highest = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else None
    every = sum(counts.values())
    return [
        f"code {code} of {file.path.name} looks like background, {count / every:.1%} of the labelled pixels "
        f"have it: it is taken as a class unless the file declares it as nodata (gdal_edit -a_nodata {code})"
        for code, count in counts.items()
        if code == highest or count > _MOST_OF_ALL * every
    ]


def _of_legend(
    values: Sequence[ClassValue], numbers: Mapping[ClassValue, int], legend: Legend
) -> tuple[dict[ClassValue, int], Legend]:
    known: dict[ClassValue, int] = {}
    for land_class in legend:
        known.update({land_class.code: land_class.code, land_class.name: land_class.code})
    meant = {value: numbers.get(value, value) for value in values}
    strange = [str(value) for value in values if meant[value] not in known]
    if strange:
        msg = f"the labels hold {', '.join(strange[:6])}, which the legend ({', '.join(legend.names)}) lacks"
        raise LabelError(msg, "give labels of this legend, or read them without one")
    used = {value: known[meant[value]] for value in values}
    return used, Legend(tuple(c for c in legend if c.code in used.values()))
