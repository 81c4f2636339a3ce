"""Land-cover legends: class code, name and colour."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

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


def _legend(rows: Mapping[int, tuple[str, str]]) -> Legend:
    return Legend(tuple(LandClass(code, name, f"#{color}") for code, (name, color) in rows.items()))


DFC2020: Legend = _legend(
    {
        1: ("Forest", "009900"),
        2: ("Shrubland", "c6b044"),
        3: ("Savanna", "fbff13"),
        4: ("Grassland", "b6ff05"),
        5: ("Wetlands", "27ff87"),
        6: ("Croplands", "c24f44"),
        7: ("Urban/Built-up", "a5a5a5"),
        8: ("Snow/Ice", "69fff8"),
        9: ("Barren", "f9ffa4"),
        10: ("Water", "1c0dff"),
    }
)
"""The simplified IGBP scheme of DFC2020 and SEN12MS, in the contest's colours; 0 there is no class."""

IGBP_TO_DFC2020: tuple[int, ...] = (0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10)
"""DFC2020 code of IGBP class 0..17; 0 is no class."""

WORLDCOVER: Legend = _legend(
    {
        10: ("Tree cover", "006400"),
        20: ("Shrubland", "ffbb22"),
        30: ("Grassland", "ffff4c"),
        40: ("Cropland", "f096ff"),
        50: ("Built-up", "fa0000"),
        60: ("Bare / sparse vegetation", "b4b4b4"),
        70: ("Snow and ice", "f0f0f0"),
        80: ("Permanent water bodies", "0064c8"),
        90: ("Herbaceous wetland", "0096a0"),
        95: ("Mangroves", "00cf75"),
        100: ("Moss and lichen", "fae6a0"),
    }
)
"""ESA WorldCover, in its own colours; 0 there is no data."""

EUROSAT: Legend = _legend(
    {
        1: ("AnnualCrop", "e6b34a"),
        2: ("Forest", "2a7f3b"),
        3: ("HerbaceousVegetation", "a3b565"),
        4: ("Highway", "6e6e6e"),
        5: ("Industrial", "8e5ea2"),
        6: ("Pasture", "9ccb5b"),
        7: ("PermanentCrop", "b5651d"),
        8: ("Residential", "c0392b"),
        9: ("River", "5aa9d6"),
        10: ("SeaLake", "1f4e9c"),
    }
)
"""EuroSAT in the order of its folders. It has neither codes nor colours of its own: these are ours."""

KNOWN_LEGENDS: tuple[Legend, ...] = (DFC2020, WORLDCOVER, EUROSAT)

_NATURAL = (
    ("water|river|lake|sea|ocean|pond|reservoir", "#3182bd"),
    ("mangrove", "#00a57a"),
    ("wetland|marsh|swamp|bog|flooded", "#3fa59c"),
    ("shrub|scrub|heath|bush", "#b58f3c"),
    ("forest|tree|wood|conifer|broadlea", "#2a7f3b"),
    ("crop|arable|agri|field|farm|wheat|maize|corn|rice", "#e6b34a"),
    ("orchard|vine|plantation|permanent", "#b5651d"),
    ("pasture|meadow|grazing", "#b9da84"),
    ("grass|herb|lawn", "#9ccb5b"),
    ("savanna", "#d6cf5a"),
    ("industr|commerc", "#8e5ea2"),
    ("urban|built|town|city|settle|residen|house|building|artificial", "#c0392b"),
    ("road|highway|rail|asphalt|paved", "#6e6e6e"),
    ("snow|ice|glacier", "#dfeaf2"),
    ("moss|lichen|tundra", "#d8d2a0"),
    ("bare|barren|soil|sand|rock|beach|desert|quarry|mine", "#cbb79b"),
    ("burn", "#5b3a29"),
    ("shadow", "#3c3c46"),
    ("cloud", "#f4f4f8"),
)
"""Beginnings of a word in a class name, and the colour that people expect of it; the first match counts."""

_APART = 0.16
"""Distance of two colours, as RGB in 0..1, below which they are taken for one on a map."""


def legend_for(names: Sequence[str], codes: Sequence[int] | None = None) -> Legend:
    """Legend of the distinct class names of some labels.

    Names that are all spelled as in a known legend (DFC2020, WorldCover, EuroSAT) get its codes and colours.
    Others get the codes 1..n in sorted order, numbers in names by value, or the `codes` given; natural
    colours where a name says what it is (forest, water, ...), and colours that differ for all the rest.
    """
    distinct = list(dict.fromkeys(names))
    if codes is None:
        for known in KNOWN_LEGENDS:
            if distinct and set(distinct) <= set(known.names):
                return Legend(tuple(c for c in known if c.name in distinct))
        distinct.sort(key=_natural_order)
        codes = range(1, len(distinct) + 1)
    colors = _colors(distinct)
    rows = sorted(zip(codes, distinct, colors, strict=True))
    return Legend(tuple(LandClass(code, name, color) for code, name, color in rows))


def _natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"\d+|\D+", name.lower())
    return (*((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts), (2, 0, name))


def _colors(names: Sequence[str]) -> list[str]:
    """One colour a name, no two alike; names with a natural colour choose first."""
    chosen: dict[str, str] = {}
    for name in names:
        color = _natural_color(name)
        if color:
            chosen[name] = _unlike(color, chosen.values())
    for name in names:
        if name not in chosen:
            chosen[name] = _unlike(None, chosen.values())
    return [chosen[name] for name in names]


def _natural_color(name: str) -> str | None:
    words = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)).lower()
    for pattern, color in _NATURAL:
        if re.search(rf"\b(?:{pattern})", words):
            return color
    return None


def _unlike(wanted: str | None, taken: Iterable[str]) -> str:
    """The first of `wanted`, its darker and lighter shades, then any hue, that is unlike those taken."""
    candidates: list[str] = [*(_shades(wanted) if wanted else ()), *_wheel()]
    used = np.array([_rgb(color) for color in taken]).reshape(-1, 3)
    offered = np.array([_rgb(color) for color in candidates])
    gaps = np.linalg.norm(offered[:, None] - used[None], axis=2).min(axis=1, initial=2.0)
    unlike = gaps >= _APART
    # With very many classes colours must come closer: then the most different one left.
    return candidates[int(unlike.argmax() if unlike.any() else gaps.argmax())]


def _shades(color: str) -> list[str]:
    hue, light, saturation = colorsys.rgb_to_hls(*_rgb(color))
    return [color, *(_hex(colorsys.hls_to_rgb(hue, v, saturation)) for v in (light * 0.65, (light + 1) / 2))]


@lru_cache(maxsize=1)
def _wheel() -> tuple[str, ...]:
    # Steps of the golden angle: any first few hues are far apart.
    turns = [(i * 0.381966 + 0.83) % 1 for i in range(48)]
    lights = (0.5, 0.72, 0.32, 0.6, 0.42, 0.8, 0.24)
    return tuple(_hex(colorsys.hls_to_rgb(turn, light, 0.65)) for light in lights for turn in turns)


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hex(rgb: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * v):02x}" for v in rgb)
