"""Regions that a dataset names, with where they lie: DFC2020's seven and the 252 scenes of SEN12MS.

`places.csv` has one point each: the place that DFC2020 names a region after, the position of a scene of
SEN12MS (rounded to 0.001 degrees). Footprints are published of neither; they follow from the patches.
"""

from __future__ import annotations

import csv
import difflib
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from shapely import box
from shapely.geometry.base import BaseGeometry

HALF_SIDE_KM = 50
"""A named region is taken to lie within this distance, east-west and north-south, of its point."""
_KM_PER_DEGREE = 111.32


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """A region of a dataset in one season; `region` and `season` are spelt as in the dataset.

    `place` is what it is named after, "" where it has a number only; `country` is an ISO A2 code;
    `longitude` and `latitude` are degrees.
    """

    dataset: str
    season: str
    region: str
    place: str
    country: str
    longitude: float
    latitude: float

    @property
    def name(self) -> str:
        """Name in the catalogue: `dfc2020/capetown-autumn`, `sen12ms/spring-1`."""
        words = (self.season, self.region) if self.region.isdigit() else (self.region.lower(), self.season)
        return f"{self.dataset}/{'-'.join(words)}"

    @property
    def extent(self) -> BaseGeometry:
        """The box of 100 km around its point, in degrees (EPSG:4326), cut at 180 degrees."""
        high = HALF_SIDE_KM / _KM_PER_DEGREE
        wide = high / math.cos(math.radians(self.latitude))
        return box(
            max(self.longitude - wide, -180),
            self.latitude - high,
            min(self.longitude + wide, 180),
            self.latitude + high,
        )

    def describe(self) -> str:
        """Where it lies, in words."""
        from landmeta_catalog.boundaries import find_country

        country = find_country(self.country)
        where = ", ".join(filter(None, (self.place, country.name if country else self.country)))
        north, east = ("N" if self.latitude >= 0 else "S"), ("E" if self.longitude >= 0 else "W")
        return f"{where}, {abs(self.latitude):.2f} {north} {abs(self.longitude):.2f} {east}"


@lru_cache(maxsize=1)
def named_places() -> tuple[NamedPlace, ...]:
    """All named regions: by dataset, then as the dataset orders them."""
    with (files(__package__) / "places.csv").open(encoding="utf-8") as text:
        return tuple(
            NamedPlace(
                row["dataset"],
                row["season"],
                row["region"],
                row["place"],
                row["country"],
                float(row["longitude"]),
                float(row["latitude"]),
            )
            for row in csv.DictReader(text)
        )


def find_place(name: str) -> NamedPlace | None:
    """The region of a name in the catalogue; case does not count. None if unknown."""
    return next((place for place in named_places() if place.name == name.lower()), None)


def similar_places(name: str) -> tuple[str, ...]:
    """Names in the catalogue that are spelt nearly like `name`, the nearest first."""
    names = [place.name for place in named_places()]
    starts = [known for known in names if known.startswith(name.lower())]
    return tuple(starts[:3] or difflib.get_close_matches(name.lower(), names, cutoff=0.7))
