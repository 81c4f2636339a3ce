"""How unlabelled tiles came out, as rows and a sentence: for the report and the command line alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_FEWEST = 10  # a share of fewer tiles jumps by more than ten points with each


class TileRow(NamedTuple):
    """Some tiles: what they are, how many, and shares 0..1, None of too few tiles for one."""

    name: str
    n: int
    accuracy: float | None
    balanced_accuracy: float | None


def tile_rows(found: Mapping[str, Any]) -> list[TileRow]:
    """The parts of `unlabelled_tiles` of a report that are there, from the nearest to all there is."""
    left_out = found.get("left_out")
    names = {
        "apart": "At least 256 px from the labelled ones",
        "all": "All of the mapped classes" if left_out else "All",
        "with_left_out": "All, of classes not mapped too",
    }
    return [_row(name, found[key]) for key, name in names.items() if found.get(key)]


def _row(name: str, part: Mapping[str, Any]) -> TileRow:
    if part["n"] < _FEWEST:
        return TileRow(name, part["n"], None, None)
    return TileRow(name, part["n"], part["accuracy"], part["balanced_accuracy"])


def tile_words(found: Mapping[str, Any]) -> str:
    """How many unlabelled tiles there are, and how many of them the map cannot get right."""
    asked, left_out = found["all"]["n"], found.get("left_out", 0)
    if not left_out:
        return f"There are {asked:,} unlabelled tiles in all."
    some = "1 is of a class that is" if left_out == 1 else f"{left_out:,} are of classes that are"
    return (
        f"There are {asked + left_out:,} unlabelled tiles in all, of which {some} not mapped, for want of "
        "tiles to learn from. No such tile can come out right: the last line counts them as wrong, the "
        "others leave them out."
    )
