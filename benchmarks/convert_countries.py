"""Write the countries of the catalogue: Natural Earth's admin 0 at 1:10m, simplified, with ISO 3166 codes.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz && pip install iso3166==3.0.0
    python benchmarks/convert_countries.py package/countries-10m.json

world-atlas is Natural Earth 4.1 (public domain) as TopoJSON: arcs in whole steps of 0.0036 by 0.0017
degrees. Its borders are the ones Natural Earth draws, who holds a place rather than who claims it. The arcs
are joined, rings across 180 degrees cut in two, and the coverage simplified as one, so that neighbours keep
a common border. The table that is written has name, other_names (parted by "; "), iso_a2, iso_a3 (empty
where ISO has none) and geometry (EPSG:4326). The figure printed last tells how far the borders moved.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import iso3166
import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

OUT = Path(__file__).parents[1] / "data_catalog" / "landmeta_catalog" / "countries.parquet"
TOLERANCE = 0.03
"""Corners that span less than a triangle of this side squared, in degrees, are left out."""
SMALL = 0.25
"""Area in square degrees below which a country is kept as it is: there is little to save."""
EXACT = 1e-9
SPECK = 1e-8
"""Area in square degrees (100 square metres) of what a cut or a rounding leaves behind."""
GRID = 0.001
"""Step of the coordinates that are stored, in degrees: finer than the source's own."""

PLAIN = {
    "Dem. Rep. Congo": "Democratic Republic of the Congo",
    "Falkland Is.": "Falkland Islands",
    "Indian Ocean Ter.": "Australian Indian Ocean Territories",
    "Macedonia": "North Macedonia",
    "N. Cyprus": "Northern Cyprus",
    "Pitcairn Is.": "Pitcairn Islands",
    "Vatican": "Vatican City",
    "eSwatini": "Eswatini",
    "Ashmore and Cartier Is.": "Ashmore and Cartier Islands",
    "British Virgin Is.": "British Virgin Islands",
    "Clipperton I.": "Clipperton Island",
    "Coral Sea Is.": "Coral Sea Islands",
    "Cyprus U.N. Buffer Zone": "Cyprus UN Buffer Zone",
    "Fr. S. Antarctic Lands": "French Southern and Antarctic Lands",
    "Spratly Is.": "Spratly Islands",
    "U.S. Virgin Is.": "United States Virgin Islands",
    "USNB Guantanamo Bay": "Guantanamo Bay Naval Base",
}
"""Names spelt out where neither Natural Earth's label nor ISO's entry is what people write."""

OTHERS = {
    "CD": ["DR Congo", "Congo-Kinshasa"],
    "CG": ["Republic of the Congo", "Congo-Brazzaville"],
    "CI": ["Ivory Coast"],
    "CV": ["Cape Verde"],
    "CZ": ["Czech Republic"],
    "GB": ["UK", "Great Britain"],
    "MM": ["Burma"],
    "NL": ["Holland"],
    "SZ": ["Swaziland"],
    "TL": ["East Timor"],
    "US": ["United States", "America"],
    "VI": ["U.S. Virgin Islands"],
}
UNLISTED = {"Kosovo": ("XK", "XKX")}
"""User-assigned codes that are in common use."""
NOT_THE_CODE = {"Ashmore and Cartier Is."}
"""Parts that the source gives the code of the whole."""


def read_topology(path: Path) -> gpd.GeoDataFrame:
    """Label, ISO number and geometry of every country in a TopoJSON file."""
    topology = json.loads(path.read_text(encoding="utf-8"))
    scale, origin = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    arcs = [np.cumsum(np.array(arc), axis=0) * scale + origin for arc in topology["arcs"]]
    rows = [
        (g["properties"]["name"], g.get("id"), country(g, arcs))
        for g in topology["objects"]["countries"]["geometries"]
    ]
    table = gpd.GeoDataFrame(rows, columns=["label", "number", "geometry"], crs="EPSG:4326")
    return table[~table.is_empty].reset_index(drop=True)


def country(entry: dict[str, Any], arcs: Sequence[np.ndarray]) -> MultiPolygon:
    """Land of an entry of the topology, its arcs joined, in degrees."""
    polygons = [entry["arcs"]] if entry["type"] == "Polygon" else entry["arcs"]
    parts = [part for rings in polygons for part in polygon([join(ring, arcs) for ring in rings])]
    # A cut leaves rounding errors, by which neighbours would no longer meet.
    return polygons_of(shapely.set_precision(shapely.union_all(parts), EXACT))


def join(ring: Sequence[int], arcs: Sequence[np.ndarray]) -> np.ndarray:
    """Coordinates of a ring: its arcs one after the other, those with a negative number backwards."""
    pieces = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ring]
    return np.concatenate([piece[min(k, 1) :] for k, piece in enumerate(pieces)])


def polygon(rings: list[np.ndarray]) -> list[BaseGeometry]:
    """Parts of a polygon in -180..180 degrees, cut at 180 where its rings go on across it."""
    if len(rings[0]) < 4:  # an islet smaller than the source's step
        return []
    shell, *holes = (unwrap(ring) for ring in rings if len(ring) > 3)
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    for hole in holes:
        hole[:, 0] += 360 * np.round((middle - hole[:, 0].mean()) / 360)
    whole = shapely.make_valid(Polygon(shell, holes))
    return [translate(whole & shapely.box(turn - 180, -90, turn + 180, 90), -turn) for turn in (-360, 0, 360)]


def unwrap(ring: np.ndarray) -> np.ndarray:
    """A ring without jumps of longitude; one that runs round the Earth is closed over the south pole."""
    ring = np.column_stack([np.unwrap(ring[:, 0], period=360), ring[:, 1]])
    first, last = ring[0], ring[-1]
    if abs(last[0] - first[0]) > 180:
        return np.vstack([ring, [last[0], -90], [first[0], -90], first])
    return ring


def polygons_of(shape: BaseGeometry) -> MultiPolygon:
    """The polygons of a geometry, whatever else came out of a cut."""
    pieces = shapely.get_parts(shapely.get_parts(shape))
    return MultiPolygon([p for p in pieces if p.geom_type == "Polygon" and p.area > SPECK])


def simplify(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Countries with common borders simplified alike; small ones as they are, all on the stored grid."""
    shapes = table.geometry.to_numpy()
    simple = shapely.coverage_simplify(shapes, TOLERANCE)
    chosen = np.where(shapely.area(shapes) < SMALL, shapes, simple)
    snapped = [polygons_of(shapely.set_precision(shape, GRID)) for shape in chosen]
    keep = [b if not b.is_empty else a for a, b in zip(shapes, snapped, strict=True)]
    return table.set_geometry(gpd.GeoSeries(keep, crs=table.crs))


def describe(label: str, number: str | None) -> tuple[str, str, str, str]:
    """Name, other names, ISO A2 and A3 of a label of Natural Earth."""
    entry = next((c for c in iso3166.countries if c.numeric == number), None)
    if entry is None or label in NOT_THE_CODE:
        name = PLAIN.get(label, label)
        return name, label if label != name else "", *UNLISTED.get(label, ("", ""))
    name = PLAIN.get(label) or (entry.name if "." in label or label == "Faeroe Is." else label)
    turned = (
        " ".join(reversed(entry.name.split(", ", 1))) if entry.name.endswith((" of", " of the")) else name
    )
    others = [label, entry.name, turned, entry.apolitical_name, *OTHERS.get(entry.alpha2, ())]
    distinct = [other for other in dict.fromkeys(others) if other != name]
    return name, "; ".join(distinct), entry.alpha2, entry.alpha3


def moved(table: gpd.GeoDataFrame, simple: gpd.GeoDataFrame, name: str) -> str:
    """Distances in metres of points along the source's border of a country from the border as stored."""
    rows = [frame.loc[frame["label"] == name].geometry for frame in (table, simple)]
    before, after = (row.to_crs(row.estimate_utm_crs()).iloc[0].boundary for row in rows)
    points = shapely.points(shapely.get_coordinates(shapely.segmentize(before, 2000)))
    median, most = np.percentile(shapely.distance(points, after), [50, 95])
    return f"{name}: median {median:.0f} m, 95 % within {most:.0f} m"


def main() -> None:
    """Read, simplify, name and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="countries-10m.json of the npm package world-atlas")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    table = read_topology(arguments.source)
    simple = simplify(table)
    names = [describe(*row) for row in zip(table["label"], table["number"], strict=True)]
    written = gpd.GeoDataFrame(
        names, columns=["name", "other_names", "iso_a2", "iso_a3"], geometry=simple.geometry
    )
    written = written.sort_values("name").reset_index(drop=True)
    written.to_parquet(arguments.out, compression="zstd", compression_level=19)
    print(f"{len(written)} countries, {arguments.out.stat().st_size:,} bytes in {arguments.out}")
    print("\n".join(moved(table, simple, name) for name in ("Kenya", "Germany", "Japan", "Luxembourg")))


if __name__ == "__main__":
    main()
