"""Polygons: what another reader finds in the file is valid, whole, and nowhere below the minimum area."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas
import pyogrio
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from landmeta.classmap import ClassMap
from landmeta.errors import OutputError
from landmeta_maps.areas import row_pixel_areas
from landmeta_maps.polygons import LAYER, polygons, without_small, write_polygons
from landmeta_maps.summary import MapSummary, summarize
from landmeta_maps.writer import write_map

PIXEL_HA = 0.01


@pytest.fixture
def patchy(make_class_map: Callable[..., ClassMap], make_grid: Callable[..., GeoBox]) -> ClassMap:
    """Stripes with one pixel in five of another class, and a corner of nodata."""
    whole = make_class_map(make_grid(60, 50))
    rng = np.random.default_rng(0)
    salt = rng.choice(np.array(whole.legend.codes, np.uint8), whole.codes.shape)
    mixed = np.where(rng.random(whole.codes.shape) < 0.2, salt, whole.codes).astype(np.uint8)
    codes = np.where(whole.codes == 255, np.uint8(255), mixed)
    return ClassMap(codes, whole.probabilities, whole.confidence, whole.grid, whole.legend)


def made(codes: np.ndarray, summary: MapSummary, min_area: float) -> gpd.GeoDataFrame:
    """All tables as one."""
    return gpd.GeoDataFrame(pandas.concat(polygons(codes, summary, min_area), ignore_index=True))


@pytest.mark.parametrize("min_area", [0.0, 0.2])
def test_an_independent_reader_finds_valid_polygons_that_cover_the_map_once(
    patchy: ClassMap, tmp_path: Path, min_area: float
) -> None:
    summary = write_map([patchy.block], patchy.grid, patchy.legend, tmp_path)
    count = write_polygons(tmp_path, summary, min_area)
    info = pyogrio.read_info(tmp_path / "polygons.gpkg", layer=LAYER)
    assert (info["features"], info["geometry_type"], info["crs"]) == (count, "Polygon", "EPSG:32630")
    _, _, geometry, fields = pyogrio.raw.read(tmp_path / "polygons.gpkg", layer=LAYER)
    found, (codes, names, hectares) = shapely.from_wkb(geometry), fields
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(found)
    mapped = float((patchy.codes != 255).sum()) * 100
    assert shapely.area(found).sum() == pytest.approx(mapped, rel=1e-3)
    assert hectares == pytest.approx(shapely.area(found) / 10_000, abs=1e-4)
    assert hectares.min() > 0.7 * min_area
    assert dict(zip(codes, names, strict=True)) == dict(
        zip(patchy.legend.codes, patchy.legend.names, strict=True)
    )
    assert sorted(p.name for p in tmp_path.glob(".*")) == []


def test_a_map_of_many_tiles_has_the_polygons_of_one(
    patchy: ClassMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarize(patchy)
    whole = made(patchy.codes, summary, 0.05)
    monkeypatch.setattr("landmeta_maps.outlines._SIDE", 17)
    tiled = made(patchy.codes, summary, 0.05)
    assert tiled.geom_type.unique().tolist() == ["Polygon"]
    assert shapely.coverage_is_valid(tiled.geometry.to_numpy())
    assert tiled.area_ha.sum() == pytest.approx(whole.area_ha.sum())
    pairs = tiled.geometry.representative_point().to_frame().sjoin(whole[["geometry", "code"]])
    assert sorted(pairs.index_right) == list(range(len(whole)))
    assert (pairs.code == tiled.code[pairs.index]).all()
    moved = [tiled.geometry[i].symmetric_difference(whole.geometry[j]) for i, j in pairs.index_right.items()]
    assert max(piece.buffer(-8).area for piece in moved) == 0  # nowhere by two pixels of 10 m


@pytest.mark.parametrize("side", [90, 1024])
def test_straight_borders_of_any_length_have_vertices_at_their_ends_only(
    side: int, class_map: ClassMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta_maps.outlines._SIDE", side)
    codes = np.full(class_map.codes.shape, 1, np.uint8)
    codes[60:, 39:180], codes[60:, 180:] = 2, 7
    table = made(codes, summarize(class_map), 0)
    assert shapely.coverage_is_valid(table.geometry.to_numpy())
    assert table.geometry.area.tolist() == [100.0 * (codes == code).sum() for code in table.code]
    assert table.geometry.count_coordinates().max() < 20


@pytest.mark.parametrize("least", [0.0, 1e9])
def test_the_class_is_text_where_no_patch_lies_within_the_first_tile(
    class_map: ClassMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    monkeypatch.setattr("landmeta_maps.outlines._SIDE", 30)
    codes = np.full_like(class_map.codes, 255)
    codes[40:, 40:] = 2
    block = replace(class_map, codes=codes).block
    write_polygons(tmp_path, write_map([block], class_map.grid, class_map.legend, tmp_path), least)
    path = tmp_path / "polygons.gpkg"
    kinds = pyogrio.read_info(path, layer=LAYER)
    assert dict(zip(kinds["fields"], kinds["dtypes"], strict=True))["class"] == "object"
    assert pyogrio.read_dataframe(path)["class"].tolist() == ([] if least else ["open water"])


@pytest.mark.parametrize("side", [17, 1024])
def test_the_edge_of_the_map_is_kept_as_it_is(
    side: int,
    make_class_map: Callable[..., ClassMap],
    make_grid: Callable[..., GeoBox],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("landmeta_maps.outlines._SIDE", side)
    codes = np.random.default_rng(0).integers(1, 3, (60, 50)).astype(np.uint8)
    found = made(codes, summarize(make_class_map(make_grid(60, 50))), 0).geometry
    west, south, east, north = found.total_bounds
    assert found.area.sum() == pytest.approx((east - west) * (north - south)) == 100 * codes.size


def test_the_style_beside_the_file_goes_by_a_column_of_it_and_knows_all_its_values(
    patchy: ClassMap, tmp_path: Path
) -> None:
    write_polygons(tmp_path, write_map([patchy.block], patchy.grid, patchy.legend, tmp_path), 0.1)
    renderer = ET.parse(tmp_path / "polygons.qml").getroot().find("renderer-v2")
    assert renderer is not None
    table = pyogrio.read_dataframe(tmp_path / "polygons.gpkg", layer=LAYER)
    styled = {c.get("value"): c.get("label") for c in renderer.iter("category")}
    found = table[[str(renderer.get("attr")), "class"]].drop_duplicates().itertuples(index=False)
    assert {str(code): name for code, name in found} == styled


def test_changes_to_an_older_file_are_not_made_to_the_new_one(patchy: ClassMap, tmp_path: Path) -> None:
    summary = write_map([patchy.block], patchy.grid, patchy.legend, tmp_path)
    left = [tmp_path / f"polygons.gpkg{suffix}" for suffix in ("-wal", "-shm", "-journal")]
    for file in left:
        file.write_bytes(b"of another file")
    write_polygons(tmp_path, summary, 0.1)
    assert not any(file.exists() for file in left)
    assert pyogrio.read_info(tmp_path / "polygons.gpkg", layer=LAYER)["features"] > 0


def test_nothing_is_left_of_a_file_that_could_not_be_finished(
    patchy: ClassMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(table: gpd.GeoDataFrame, path: Path) -> int:
        path.write_bytes(b"half")
        path.with_name(f"{path.name}-journal").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    summary = write_map([patchy.block], patchy.grid, patchy.legend, tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("landmeta_maps.polygons._append", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_polygons(tmp_path, summary, 0.1)
    assert sorted(tmp_path.iterdir()) == before


def test_a_small_patch_joins_its_neighbour_and_a_large_one_stays() -> None:
    codes = np.ones((12, 12), np.uint8)
    codes[1:3, 1:3], codes[6:10, 6:10] = 2, 3
    joined = without_small(codes, 5)
    assert set(np.unique(joined)) == {1, 3}
    assert (joined == 3).sum() == 16


def test_in_a_map_of_nothing_but_small_patches_all_of_them_join() -> None:
    noise = np.random.default_rng(0).integers(1, 5, (100, 100)).astype(np.uint8)
    joined = without_small(noise, 20)
    _, counts = np.unique(_patches(joined), return_counts=True)
    assert counts.min() >= 20


def _patches(codes: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    found = np.zeros(codes.shape, np.int64)
    for code in np.unique(codes):
        labels, _ = ndimage.label(codes == code)
        found = np.where(labels > 0, labels + 10_000 * int(code), found)
    return found


def test_stairs_become_straight_and_no_area_is_lost(class_map: ClassMap) -> None:
    whole = class_map
    rows, cols = np.indices(whole.codes.shape)
    codes = np.where(cols > rows, np.uint8(1), np.uint8(2))
    table = made(codes, summarize(whole), 0.1)
    assert len(table) == 2
    assert table.geometry.count_coordinates().max() < 20  # the stairs have 300 steps
    assert table.area_ha.sum() == pytest.approx(codes.size * PIXEL_HA)


def test_a_small_patch_amid_nodata_is_left_out(class_map: ClassMap) -> None:
    whole = class_map
    codes = np.full(whole.codes.shape, 255, np.uint8)
    codes[5:7, 5:7], codes[50:90, 50:90] = 1, 2
    table = made(codes, summarize(whole), 0.1)
    assert table["class"].tolist() == ["open water"]
    assert made(np.full_like(codes, 255), summarize(whole), 0.1).empty


def test_a_map_that_is_gone_is_named(class_map: ClassMap, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"polygons\.gpkg"):
        write_polygons(tmp_path, summarize(class_map), 1.0)


def test_areas_are_those_of_the_rows_where_polygons_lie(make_class_map: Callable[..., ClassMap]) -> None:
    grid = GeoBox((60, 20), Affine(1, 0, 0, 0, -1, 60), "EPSG:4326")
    summary = summarize(make_class_map(grid))
    codes = np.full((60, 20), 1, np.uint8)
    codes[30:] = 2
    table = made(codes, summary, 0).set_index("code")
    north, south = (float(v) for v in row_pixel_areas(grid)[[15, 45]])
    assert table.loc[1, "area_ha"] / table.loc[2, "area_ha"] == pytest.approx(north / south, rel=0.01)


def test_a_minimum_above_the_whole_map_leaves_no_polygon(class_map: ClassMap) -> None:
    summary = summarize(class_map)
    assert len(made(np.full((20, 20), 1, np.uint8), summary, 1e9)) == 0
