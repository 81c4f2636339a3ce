"""Land-cover legends: class code, name and colour."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NODATA = 255
"""Code of pixels without a class in every class raster that landmeta writes."""


@dataclass(frozen=True, slots=True)
class LandClass:
    """One class: `code` 0..254 as written to the map, `name`, `color` as `#rrggbb`."""

    code: int
    name: str
    color: str

    def __post_init__(self) -> None:
        if not 0 <= self.code < NODATA:
            msg = f"class code {self.code} is outside 0..{NODATA - 1}"
            raise ValueError(msg)
        if not re.fullmatch(r"#[0-9a-f]{6}", self.color):
            msg = f"colour {self.color!r} of class {self.name!r} is not of the form #rrggbb"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of a map, in the order of the class models' logits."""

    classes: tuple[LandClass, ...]

    def __post_init__(self) -> None:
        for what in ("code", "name"):
            values = [getattr(c, what) for c in self.classes]
            if len(set(values)) != len(values):
                msg = f"a legend needs distinct class {what}s, found {values}"
                raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[LandClass]:
        return iter(self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """Class codes in logit order."""
        return tuple(c.code for c in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in logit order."""
        return tuple(c.name for c in self.classes)

    @property
    def colors(self) -> tuple[str, ...]:
        """Class colours in logit order, `#rrggbb`."""
        return tuple(c.color for c in self.classes)
