"""Countries by name or ISO code, with their boundaries.

The table beside this module is Natural Earth's admin 0 at 1:10m (public domain), simplified; it is made by
`benchmarks/convert_countries.py`. Its borders show who holds a place, not who claims it, and lie within
some hundred metres of the source's: fine for choosing pixels to map, not for measuring along them.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

from shapely.geometry.base import BaseGeometry

_SIMILAR = 0.7


@dataclass(frozen=True, slots=True)
class Country:
    """A country, dependency or disputed area; the codes are of ISO 3166-1, empty where it has none."""

    name: str
    iso_a2: str
    iso_a3: str
    other_names: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def countries() -> tuple[Country, ...]:
    """All countries, sorted by name."""
    import pandas

    columns = ["name", "iso_a2", "iso_a3", "other_names"]
    with as_file(files(__package__) / "countries.parquet") as path:
        table = pandas.read_parquet(path, columns=columns)
    return tuple(
        Country(name, a2, a3, tuple(filter(None, others.split("; "))))
        for name, a2, a3, others in table[columns].itertuples(index=False)
    )


def find_country(text: str) -> Country | None:
    """The country of a name or an ISO code; case, accents and punctuation do not count. None if unknown."""
    return _by_key().get(_key(text))


def similar_countries(text: str, count: int = 3) -> tuple[str, ...]:
    """Names of countries that are spelt nearly like `text`, the nearest first."""
    keys = {_key(word): c.name for c in countries() for word in (c.name, *c.other_names)}
    near = difflib.get_close_matches(_key(text), keys, n=2 * count, cutoff=_SIMILAR)
    return tuple(dict.fromkeys(keys[key] for key in near))[:count]


def boundary(country: Country) -> BaseGeometry:
    """The area of a country: a multipolygon in degrees (EPSG:4326), cut at 180 degrees of longitude."""
    return _shapes()[country.name]


@lru_cache(maxsize=1)
def _shapes() -> dict[str, BaseGeometry]:
    import geopandas

    with as_file(files(__package__) / "countries.parquet") as path:
        table = geopandas.read_parquet(path, columns=["name", "geometry"])
    return dict(zip(table["name"], table.geometry, strict=True))


@lru_cache(maxsize=1)
def _by_key() -> dict[str, Country]:
    # Names last: Georgia is the country whatever else may be called so.
    listed = countries()
    return {
        **{_key(word): c for c in listed for word in c.other_names},
        **{_key(code): c for c in listed for code in _codes(c)},
        **{_key(c.name): c for c in listed},
    }


def _codes(country: Country) -> Iterable[str]:
    return filter(None, (country.iso_a2, country.iso_a3))


def _key(text: str) -> str:
    """A name as letters and digits alone, without accents, case, "the" and "and"."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    words = re.findall(r"[a-z0-9]+", bare)
    return "".join([word for word in words if word not in {"the", "and"}] or words)
