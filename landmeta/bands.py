"""Spectral bands: names as people write them, canonical names, wavelengths and scale."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from landmeta.errors import ImageryError

_WAVELENGTHS = {
    "B01": 443.9,
    "B02": 496.6,
    "B03": 560.0,
    "B04": 664.5,
    "B05": 703.9,
    "B06": 740.2,
    "B07": 782.5,
    "B08": 835.1,
    "B8A": 864.8,
    "B09": 945.0,
    "B10": 1373.5,
    "B11": 1613.7,
    "B12": 2202.4,
}
"""Centre wavelength in nm of each band of Sentinel-2A."""

SENTINEL2: tuple[str, ...] = tuple(_WAVELENGTHS)
"""The 13 bands of Sentinel-2 MSI by canonical name, from short to long wavelength."""

RADAR: tuple[str, ...] = ("VV", "VH")
"""Sentinel-1 backscatter in dB; these have no wavelength and no reflectance."""

KNOWN: tuple[str, ...] = SENTINEL2 + RADAR
"""Every canonical band name."""

_COMMON_NAMES = {
    "coastal": "B01",
    "coastalaerosol": "B01",
    "aerosol": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "narrownir": "B8A",
    "nirnarrow": "B8A",
    "nir09": "B09",
    "watervapour": "B09",
    "watervapor": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir1": "B11",
    "swir22": "B12",
    "swir2": "B12",
}
_NUMBERED = re.compile(r"(?:sentinel2|s2)?b0?(1[0-2]|[1-9]|8a)")
_RADAR = re.compile(r"(?:sentinel1|s1)?(vv|vh)")
_LANDSAT_STEM = re.compile(r"(?:l[cot]0?[89]|le0?7|lt0?[45]|lm0?[1-5])(?:_|\d{6})|hls\.l30\.")
_LANDSAT_BAND = re.compile(r"s[rt]_b[1-9]\d?")


@dataclass(frozen=True, slots=True)
class BandSet:
    """The bands of an image, in its order, and how its numbers become reflectance.

    `names` are canonical (see `SENTINEL2`); reflectance (0..1) = number in the file * `scale` + `offset`.
    """

    names: tuple[str, ...]
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in KNOWN]
        if unknown:
            msg = f"bands {unknown} are not canonical; known are {', '.join(KNOWN)}"
            raise ValueError(msg)
        _refuse_doubles(self.names)
        if not self.scale > 0:
            msg = f"a scale of {self.scale:g} makes no reflectance, it must be above 0"
            raise ImageryError(msg, "--scale 1e-4 is usual for integers")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def wavelengths(self) -> tuple[float | None, ...]:
        """Centre wavelength of each band in nm, None for radar."""
        return tuple(_WAVELENGTHS.get(name) for name in self.names)

    @property
    def optical(self) -> tuple[int, ...]:
        """Positions of the bands that hold reflectance."""
        return tuple(i for i, name in enumerate(self.names) if name in _WAVELENGTHS)

    def indices(self, names: Iterable[str]) -> tuple[int, ...]:
        """Positions of `names` (in any accepted spelling) among these bands.

        Raises:
            ImageryError: one of the names is unknown or not among these bands.
        """
        return tuple(self._index(name) for name in names)

    def _index(self, name: str) -> int:
        wanted = canonical(name)
        if wanted is None or wanted not in self.names:
            msg = f"band {name!r} is not among the bands {', '.join(self.names)}"
            raise ImageryError(msg, "give imagery that has this band")
        return self.names.index(wanted)


def canonical(name: str, *, numbers: bool = True) -> str | None:
    """Canonical name of a band: `B2`, `b02`, `S2B2`, `blue` and `B2 (496 nm)` are all `B02`.

    A bare number is no name: whether 9 means B09 or the ninth band cannot be known. Without `numbers` words
    such as `blue` alone are names. None if unknown.
    """
    text = name.strip().lower()
    words = re.split(r"[\s,;:()\[\]/]+", text)
    for candidate in (text, words[0]):
        key = re.sub(r"[\s_.-]+", "", candidate)
        found = _lookup(key) if numbers else _COMMON_NAMES.get(key)
        if found:
            return found
    return None


def _lookup(key: str) -> str | None:
    if key in _COMMON_NAMES:
        return _COMMON_NAMES[key]
    radar = _RADAR.fullmatch(key)
    if radar:
        return radar[1].upper()
    numbered = _NUMBERED.fullmatch(key)
    if not numbered:
        return None
    number = numbered[1].upper()
    return "B8A" if number == "8A" else f"B{int(number):02d}"


def landsat_numbers(stem: str, descriptions: Iterable[str | None] = ()) -> bool:
    """Whether a file's name or its bands' are those of Landsat, where B5 is near infrared, not red edge."""
    named = (text for text in descriptions if text)
    return bool(_LANDSAT_STEM.match(stem.lower())) or any(_LANDSAT_BAND.match(n.lower()) for n in named)


def band_of_filename(stem: str, *, numbers: bool = True) -> str | None:
    """Band that a file of one band is named after, as in `T30UVD_20210527_B8A_20m` or `nir08`.

    Tokens such as B02 come before words such as `blue`, so that `green_bay_B02` is B02; without `numbers`
    words alone count. None where there is no such token or there are several different ones.
    """
    tokens = [token.lower() for token in re.split(r"[^A-Za-z0-9]+", stem)]
    numbered = {_lookup(t) for t in tokens if _NUMBERED.fullmatch(t) or _RADAR.fullmatch(t)}
    words = {_COMMON_NAMES[t] for t in tokens if t in _COMMON_NAMES}
    found = (numbered if numbers else set()) or words
    return found.pop() if len(found) == 1 else None


def parse_bands(text: str) -> tuple[str, ...]:
    """Canonical names from a comma-separated list such as `B2,B3,nir`.

    Raises:
        ImageryError: a name is unknown, given twice, or the list is empty.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    names = [canonical(word) for word in words]
    unknown = [word for word, name in zip(words, names, strict=True) if name is None]
    if unknown or not words:
        what = f"unknown band {', '.join(map(repr, unknown))}" if unknown else "an empty list of bands"
        msg = f"{what}; known are {', '.join(KNOWN)} and words such as blue, red, nir, swir16"
        raise ImageryError(msg, "--bands names every band of the file in order, as in --bands B2,B3,B4,B8")
    known = tuple(name for name in names if name is not None)
    _refuse_doubles(known)
    return known


def _refuse_doubles(names: tuple[str, ...]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        msg = f"band {', '.join(doubled)} is named more than once in {', '.join(names)}"
        raise ImageryError(msg, "--bands names each band once, in the order of the file")
