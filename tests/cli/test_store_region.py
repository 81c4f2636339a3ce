"""The paper's own experiment: a few labelled tiles of an ingested region, all the others mapped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from landmeta.errors import DataError, RegionError
from landmeta_catalog.simulate import BANDS, LEGEND, simulate_scene
from landmeta_catalog.store_regions import StoreRegion, find_store_region, open_store_scene
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tiles import ArraySpec, index_frame
from landmeta_cli.requests import AdaptRequest
from landmeta_cli.store_inputs import read_store_inputs
from landmeta_cli.workflows import adapt_run

from .conftest import Said, write_raster

SIDE, SCENE = 32, 384
S2 = ArraySpec("s2", BANDS, "uint16", 1e-4, nodata=0, side=SIDE)


def tile_rows(truth: np.ndarray, season: str) -> list[dict[str, object]]:
    """Index rows of the tiles: contiguous in autumn, without place in spring, in rows far apart in winter."""
    names = dict(zip(LEGEND.codes, LEGEND.names, strict=True))
    rows: list[dict[str, object]] = []
    for row in range(0, SCENE, SIDE):
        for col in range(0, SCENE, SIDE):
            tile = truth[row : row + SIDE, col : col + SIDE]
            code = max(LEGEND.codes, key=lambda c: int((tile == c).sum()))
            north = 5e6 - 10 * row * (12 if season == "winter" else 1)
            where = {"crs": "EPSG:32632", "x": 4e5 + 10 * col, "y": north, "pixel": 10.0}
            rows.append(
                {"region": "CapeTown", "season": season, "patch": f"p{row}", "quadrant": f"{col}",
                 "block": f"{row}/{col}", "class_code": code, "class_name": names[code], "side": SIDE,
                 **({} if season == "spring" else where)}
            )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seasons of a region in 12 x 12 tiles of 32 px; one tile is missing."""
    path = tmp_path_factory.mktemp("tiles") / "store"
    scene = simulate_scene(5, SCENE, per_class=0)
    cut = scene.image.reshape(len(BANDS), 12, SIDE, 12, SIDE).transpose(1, 3, 0, 2, 4).reshape(-1, *S2.shape)
    create_dataset(path, "dfc2020", (S2,), LEGEND, 6 * 128, settings={})
    for first, season in ((0, "autumn"), (2, "spring"), (4, "winter")):
        rows = tile_rows(scene.truth, season)
        keep = [i for i in range(144) if i != 100]
        for shard, some in ((first, keep[:128]), (first + 1, keep[128:])):
            write_shard(
                path, "dfc2020", shard, {"s2": cut[some]},
                index_frame([rows[i] for i in some]).drop(columns="slot"),
            )  # fmt: skip
    finish_dataset(path, "dfc2020", index_frame([]))
    return path


@pytest.mark.parametrize(
    "name", ["capetown-autumn", "CapeTown/autumn", "dfc2020/CapeTown-autumn", "autumn-CapeTown"]
)
def test_a_region_of_a_store_is_found_by_its_names(store: Path, name: str) -> None:
    assert find_store_region(f"{store}/{name}") == StoreRegion(store, "dfc2020", "CapeTown", "autumn")


def test_what_is_no_store_means_something_else(tmp_path: Path) -> None:
    assert find_store_region("demo") is None
    assert find_store_region("dfc2020/capetown-autumn") is None
    assert find_store_region(str(tmp_path / "region.gpkg")) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [("mumbai", "no region 'mumbai'"), ("capetown", "3 regions called 'capetown'"), ("", "several")],
)
def test_an_unclear_region_is_answered_with_the_names_there_are(store: Path, name: str, found: str) -> None:
    with pytest.raises(RegionError, match=found) as error:
        find_store_region(f"{store}/{name}")
    assert "dfc2020/CapeTown-autumn" in str(error.value)


def test_tiles_lie_where_they_were_cut_and_what_is_missing_is_nodata(store: Path) -> None:
    place = StoreRegion(store, "dfc2020", "CapeTown", "autumn")
    scene = open_store_scene(place, shots=2)
    expected = simulate_scene(5, SCENE, per_class=0).image.astype(np.float32) * np.float32(1e-4)
    row, col = 100 // 12 * SIDE, 100 % 12 * SIDE
    expected[:, row : row + SIDE, col : col + SIDE] = np.nan
    np.testing.assert_array_equal(scene.imagery.read(0, 0, SCENE, SCENE), expected)
    part = scene.imagery.read(-5, 50, 90, 400)
    np.testing.assert_array_equal(part[:, 5:, : SCENE - 50], expected[:, :85, 50:])
    assert np.isnan(part[:, :5]).all()


def test_labels_are_whole_tiles_and_the_query_is_none_of_them(store: Path) -> None:
    place = StoreRegion(store, "dfc2020", "CapeTown", "autumn")
    scene = open_store_scene(place, shots=3, seed=1)
    labels = scene.labels
    assert (labels.unit, len(labels)) == ("tiles", 3 * len(labels.legend) * SIDE * SIDE)
    assert not set(scene.task.support) & set(scene.task.query)
    support = scene.tiles.iloc[scene.task.support]
    assert set(zip(labels.rows // SIDE, labels.cols // SIDE, strict=True)) == set(
        zip(support["row"] // SIDE, support["col"] // SIDE, strict=True)
    )
    again = open_store_scene(place, shots=3, seed=1)
    np.testing.assert_array_equal(again.task.support, scene.task.support)


def test_tiles_far_from_every_labelled_one_are_known(store: Path) -> None:
    scene = open_store_scene(StoreRegion(store, "dfc2020", "CapeTown", "winter"), shots=1)
    assert 0 < scene.apart.sum() < len(scene.apart)
    far = scene.tiles.iloc[scene.task.query[scene.apart]]
    labelled = scene.tiles.iloc[scene.task.support]
    for row, col in far[["row", "col"]].to_numpy():
        gap = np.maximum(abs(labelled["row"] - row), abs(labelled["col"] - col)) - SIDE
        assert gap.min() >= 256


def test_tiles_without_place_cannot_be_mapped(store: Path) -> None:
    with pytest.raises(DataError, match="no place on Earth"):
        open_store_scene(StoreRegion(store, "dfc2020", "CapeTown", "spring"), shots=2)


def test_a_run_maps_the_region_and_scores_its_unlabelled_tiles(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    request = AdaptRequest(region=f"{store}/capetown-autumn", shots=3, out=out)
    report = adapt_run(request).report
    assert report["region"] == "dfc2020/CapeTown-autumn"
    assert report["settings"]["shots"] == 3
    assert report["imagery"] == {"bands": list(BANDS), "scale": None, "offset": None, "scale_from": "store"}
    found = report["unlabelled_tiles"]
    assert found["shots"] == 3
    assert found["apart"] is None  # a scene of 384 px has no two tiles that far apart
    assert found["all"]["n"] > 100
    assert found["all"]["accuracy"] > 0.6
    assert found["left_out"] == 3
    whole, part = found["with_left_out"], found["all"]
    assert whole["n"] == part["n"] + 3  # none of them can be right
    assert whole["accuracy"] * whole["n"] == pytest.approx(part["accuracy"] * part["n"], abs=0.02)
    assert whole["balanced_accuracy"] == pytest.approx(part["balanced_accuracy"] * 5 / 7, abs=2e-4)
    assert "of which 3 are of classes that are not mapped" in (out / "report.html").read_text()
    assert json.loads((out / "report.json").read_text())["unlabelled_tiles"] == found
    with rasterio.open(out / "landcover.tif") as image:
        assert image.crs.to_epsg() == 32632
        assert image.shape == (SCENE, SCENE)
        assert image.transform.c == 4e5
        row, col = 100 // 12 * SIDE, 100 % 12 * SIDE
        assert (image.read(1)[row : row + SIDE, col : col + SIDE] == 255).all()


def _region_of(codes: list[int], store: Path) -> StoreRegion:
    """A new store's only region, with a tile of each of these codes."""
    tiles = np.resize(codes, 144).reshape(12, 12)
    rows = tile_rows(tiles.repeat(SIDE, 0).repeat(SIDE, 1), "autumn")[: len(codes)]
    create_dataset(store, "dfc2020", (S2,), LEGEND, len(codes), settings={})
    frame = index_frame(rows).drop(columns="slot")
    write_shard(store, "dfc2020", 0, {"s2": np.ones((len(codes), *S2.shape), np.uint16)}, frame)
    finish_dataset(store, "dfc2020", index_frame([]))
    return StoreRegion(store, "dfc2020", "CapeTown", "autumn")


@pytest.mark.parametrize(
    ("rare", "names", "advice"),
    [
        ({5: 4, 9: 4}, "", ""),
        ({5: 3, 9: 4}, "Wetlands", "--shots 2 is the most that maps every class"),
        ({5: 3, 9: 2}, "Wetlands, Barren", "--shots 1 is the most that maps every class"),
        (
            {5: 1, 9: 3},
            "Wetlands, Barren",
            "no --shots maps Wetlands, of a single tile; --shots 2 is the most that maps all others",
        ),
        ({5: 1}, "Wetlands", "no --shots maps Wetlands, of a single tile"),
    ],
)
def test_classes_of_too_few_tiles_are_named_with_the_shots_that_map_them(
    rare: dict[int, int], names: str, advice: str, tmp_path: Path
) -> None:
    codes = [code for code, count in ({6: 8, 1: 8} | rare).items() for _ in range(count)]
    scene = open_store_scene(_region_of(codes, tmp_path / "store"), shots=3)
    told = (f"{names}: no more than 3 tiles, not mapped as classes; {advice}",) if names else ()
    assert scene.imagery.warnings == told
    lost = [code for code, count in rare.items() if count <= 3]
    assert sorted(scene.tiles["class_code"].iloc[scene.unmapped]) == [c for c in codes if c in lost]


def test_the_command_line_tells_of_tiles_of_classes_not_mapped(
    store: Path, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    region = ("--region", f"{store}/capetown-autumn", "--shots", "7", "--stability-blocks", "0")
    said = landmeta("adapt", *region, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "of which 9 are of classes that are not mapped" in " ".join(said.out.split())
    assert "all of the mapped classes" in said.out
    assert "all, of classes not mapped too" in said.out


def test_a_model_of_a_store_maps_integers_at_the_scale_that_is_inferred(
    store: Path, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    request = AdaptRequest(
        region=f"{store}/capetown-autumn", shots=1, stability_blocks=0, out=tmp_path / "run"
    )
    adapt_run(request)
    scene = write_raster(tmp_path / "scene.tif", simulate_scene(6, 64, per_class=0).image, names=BANDS)
    said = landmeta("predict", tmp_path / "run", "--imagery", scene, "--dry-run")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--imagery", "x.tif"), "brings its own imagery"),
        (("--scale", "1e-4"), "--scale"),
        (("--offset", "-0.1"), "--offset"),
        (("--label-column", "class"), "--label-column"),
        (("--labels", "x.gpkg", "--shots", "3"), "--shots"),
    ],
)
def test_what_a_store_region_does_not_read_is_refused(
    options: tuple[str, ...], words: str, store: Path, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    said = landmeta("adapt", "--region", f"{store}/capetown-autumn", *options, "--out", tmp_path / "run")
    assert said.code == 2
    assert words in said.err
    assert "hint: leave out --" in said.err
    assert not (tmp_path / "run").exists()


def test_shots_are_refused_where_no_tiles_are_drawn(tmp_path: Path, landmeta: Callable[..., Said]) -> None:
    given = ("--imagery", "x.tif", "--labels", "x.gpkg", "--out", tmp_path / "run")
    said = landmeta("adapt", *given, "--shots", "5")
    assert said.code == 2
    assert "--shots 5 draws labelled tiles of a tile store's region" in said.err
    assert "hint: --region STORE/REGION" in said.err


def test_labels_of_ones_own_on_a_store_region_are_all_that_is_told_of(store: Path, tmp_path: Path) -> None:
    """No tile is drawn: neither how many a class has nor how many would map it matters."""
    tile = 10.0 * SIDE
    squares = gpd.GeoDataFrame(
        {"class": ["wood", "field"] * 4},
        geometry=[box(4e5 + k * tile, 5e6 - tile, 4e5 + (k + 0.5) * tile, 5e6) for k in range(8)],
        crs="EPSG:32632",
    )
    squares.to_file(tmp_path / "own.gpkg")
    place = StoreRegion(store, "dfc2020", "CapeTown", "autumn")
    assert open_store_scene(place, shots=5).imagery.warnings  # the store has classes of few tiles
    request = AdaptRequest(region=f"{store}/capetown-autumn", labels=tmp_path / "own.gpkg")
    inputs = read_store_inputs(request, place)
    assert inputs.imagery.warnings == ()
    assert sorted(inputs.labels.legend.names) == ["field", "wood"]


def test_predict_says_that_it_takes_no_region_of_a_store(
    store: Path, adapted: Path, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    region = f"{store}/capetown-autumn"
    given = ("--imagery", adapted.parent / "scene.tif", "--region", region, "--out", tmp_path / "run")
    said = landmeta("predict", adapted, *given)
    assert said.code == 2
    assert f"{region} is the region dfc2020/CapeTown-autumn of a tile store" in said.err
    assert f"landmeta adapt --region {region}" in said.err


def test_the_only_region_of_a_store_is_found_though_it_has_no_name(tmp_path: Path) -> None:
    """A folder of classes may hold tiles that belong to no region."""
    rows = [{**row, "region": "", "season": ""} for row in tile_rows(np.full((SCENE, SCENE), 6), "autumn")]
    store, frame = tmp_path / "store", index_frame(rows[:2]).drop(columns="slot")
    create_dataset(store, "mine", (S2,), LEGEND, 2, settings={})
    write_shard(store, "mine", 0, {"s2": np.ones((2, *S2.shape), np.uint16)}, frame)
    finish_dataset(store, "mine", index_frame([]))
    expected = StoreRegion(store, "mine", "", "")
    assert find_store_region(str(store)) == expected
    assert find_store_region(f"{store}/{expected.name}") == expected
    with pytest.raises(RegionError, match="no region 'elsewhere'") as error:
        find_store_region(f"{store}/elsewhere")
    assert error.value.hint == f"--region {store}/mine"


@pytest.mark.parametrize(("counts", "advice"), [((8, 4, 2), "--shots 3 is the most"), ((8, 1), "no --shots")])
def test_too_many_shots_are_answered_with_the_most_that_map(
    counts: tuple[int, ...], advice: str, tmp_path: Path
) -> None:
    codes = [code for code, count in zip((6, 1, 5), counts, strict=False) for _ in range(count)]
    place = _region_of(codes, tmp_path / "store")
    with pytest.raises(DataError, match="fewer than two classes have more than 9 tiles") as error:
        open_store_scene(place, shots=9)
    assert error.value.hint.startswith(advice)
