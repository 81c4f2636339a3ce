"""A whole run on a small simulated scene: the folder is complete, says what it did and can be read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import Polygon, box

from landmeta_catalog.simulate import SCALE, simulate_scene
from landmeta_cli.app import run
from landmeta_cli.requests import AdaptRequest
from landmeta_cli.workflows import adapt_run, default_folder

from .conftest import LEFT, TOP, Said, Scene

FILES = {
    "landcover.tif",
    "landcover.tif.aux.xml",
    "landcover.qml",
    "probabilities.tif",
    "confidence.tif",
    "stability.tif",
    "map.html",
    "report.html",
    "report.json",
    "model/model.safetensors",
    "model/model.json",
    "item.json",
    "provenance.json",
}


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> AdaptRequest:
    """A simulated scene of 192 px, its tiles as polygons, and where the run goes."""
    folder = tmp_path_factory.mktemp("simulated")
    scene = simulate_scene(seed=3, size=192)
    profile = {"driver": "GTiff", "count": 13, "height": 192, "width": 192, "dtype": "uint16", "nodata": 0}
    with rasterio.open(
        folder / "scene.tif", "w", crs=str(scene.grid.crs), transform=scene.grid.transform, **profile
    ) as file:
        file.write(scene.image)
    names = dict(zip(scene.legend.codes, scene.legend.names, strict=True))
    at = scene.grid.transform
    corners = [(at.c + t.col * at.a, at.f + t.row * at.e, t.size * at.a) for t in scene.tiles]
    shapes = [box(west, north - side, west + side, north) for west, north, side in corners]
    frame = gpd.GeoDataFrame(
        {"kind": [names[t.code] for t in scene.tiles]}, geometry=shapes, crs="EPSG:32632"
    )
    frame.to_file(folder / "tiles.gpkg")
    return AdaptRequest(
        imagery=(folder / "scene.tif",),
        bands="B1,B2,B3,B4,B5,B6,B7,B8,B8A,B9,B10,B11,B12",
        scale=SCALE,
        labels=folder / "tiles.gpkg",
        label_column="kind",
        out=folder / "run",
        command=("landmeta", "adapt"),
    )


@pytest.fixture(scope="module")
def folder(request_: AdaptRequest) -> Path:
    """The run folder of `request_`, made once."""
    return adapt_run(request_).folder


def report_of(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def test_the_run_folder_is_complete_and_holds_nothing_else(folder: Path) -> None:
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == FILES


def test_the_map_lies_on_the_grid_of_the_imagery(request_: AdaptRequest, folder: Path) -> None:
    with rasterio.open(request_.imagery[0]) as scene, rasterio.open(folder / "landcover.tif") as cover:
        assert (cover.transform, cover.crs, cover.shape) == (scene.transform, scene.crs, scene.shape)


def test_the_report_has_the_fields_of_schema_1(folder: Path) -> None:
    report = report_of(folder)
    assert report["schema"] == 1
    assert {"region", "classes", "holdout", "random_forest", "stability", "timing_s", "warnings"} <= set(
        report
    )
    for score in (report["holdout"], report["random_forest"]):
        assert {"metric", "value", "ci95", "block", "folds", "n"} <= set(score)  # type: ignore[call-overload]
        assert 0.4 < score["value"] <= 1  # type: ignore[index]


def test_the_report_tells_how_the_imagery_was_read_and_no_setting_that_plays_no_part(
    request_: AdaptRequest, folder: Path
) -> None:
    bands = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
    report = report_of(folder)
    assert report["imagery"] == {"bands": bands, "scale": SCALE, "offset": 0.0, "scale_from": "given"}
    assert report["settings"]["shots"] is None  # type: ignore[index]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<td>Shots</td>" not in page
    assert ", ".join(bands) in page


def test_class_areas_add_up_to_the_mapped_area(folder: Path) -> None:
    with rasterio.open(folder / "landcover.tif") as cover:
        mapped = int((cover.read(1) != cover.nodata).sum())
    classes: list[dict[str, float]] = report_of(folder)["classes"]  # type: ignore[assignment]
    assert sum(c["area_ha"] for c in classes) == pytest.approx(mapped * 0.01)


def test_provenance_names_inputs_and_outputs_by_checksum(request_: AdaptRequest, folder: Path) -> None:
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(request_.imagery[0].read_bytes()).hexdigest()
    assert record["inputs"][0]["files"] == {"scene.tif": digest}
    assert set(record["outputs"]) == FILES - {"provenance.json"}
    cover = hashlib.sha256((folder / "landcover.tif").read_bytes()).hexdigest()
    assert record["outputs"]["landcover.tif"] == cover
    assert {"command", "versions", "seed", "commit", "settings"} <= set(record)


def test_the_same_run_writes_the_same_rasters(request_: AdaptRequest, folder: Path, tmp_path: Path) -> None:
    arguments = [
        *("--imagery", request_.imagery[0], "--labels", request_.labels, "--label-column", "kind"),
        *("--bands", request_.bands, "--scale", SCALE, "--out", tmp_path / "again"),
    ]
    assert run(["adapt", *map(str, arguments)]) == 0
    for name in ("landcover.tif", "probabilities.tif", "confidence.tif"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_region_maps_a_part_and_learns_from_all_labels(
    scene: Scene, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    # A box in the north-west: it holds water only, the other classes are learned outside it.
    with rasterio.open(scene.imagery) as file:
        west, _, _, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    bounds = f"{west - 0.001},{north - 0.003},{west + 0.002},{north + 0.001}"
    common = ["adapt", "--imagery", scene.imagery, "--labels", scene.labels, "--region", bounds]
    said = landmeta(*common, "--out", tmp_path / "part", "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert report == report_of(tmp_path / "part")
    with rasterio.open(tmp_path / "part" / "landcover.tif") as cover, rasterio.open(scene.imagery) as file:
        assert cover.width < file.width
        assert cover.height < file.height
        codes = cover.read(1)
    water = next(c for c in report["classes"] if c["name"] == "water")
    assert np.mean(codes == water["code"]) > 0.9
    assert len(report["classes"]) == 3


def test_a_vector_region_maps_no_pixel_outside_its_polygon(
    scene: Scene, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    triangle = Polygon([(LEFT, TOP), (LEFT + 400, TOP), (LEFT, TOP - 400)])
    gpd.GeoDataFrame(geometry=[triangle], crs="EPSG:32632").to_crs(4326).to_file(
        scene.folder / "part.geojson"
    )
    common = ["adapt", "--imagery", scene.imagery, "--labels", scene.labels]
    said = landmeta(*common, "--region", scene.folder / "part.geojson", "--out", tmp_path / "part")
    assert said.code == 0, said.err
    with rasterio.open(tmp_path / "part" / "landcover.tif") as cover:
        inside = cover.read(1) != cover.nodata
    rows, cols = np.indices(inside.shape)
    assert inside[rows + cols < 37].all()
    assert not inside[rows + cols > 41].any()


def test_a_map_can_be_the_labels_of_the_next_one(
    scene: Scene, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    given = ("adapt", "--imagery", scene.imagery, "--labels")
    assert landmeta(*given, scene.labels, "--out", tmp_path / "first").code == 0
    first, again = tmp_path / "first" / "landcover.tif", tmp_path / "again"
    said = landmeta(*given, first, "--out", again)
    assert said.code == 0, said.err
    with rasterio.open(first) as one, rasterio.open(again / "landcover.tif") as other:
        codes = np.unique(one.read(1))[:-1].tolist()  # the last is nodata
        assert [one.colormap(1)[c] for c in codes] == [other.colormap(1)[c] for c in codes]
    before, after = (json.loads((run / "report.json").read_text()) for run in (first.parent, again))
    assert [c["name"] for c in before["classes"]] == [c["name"] for c in after["classes"]]
    assert after["holdout"] is None or after["holdout"]["block"] == "patch"


def test_the_summary_sets_our_accuracy_beside_the_forest(
    scene: Scene, tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    said = landmeta("adapt", "--imagery", scene.imagery, "--labels", scene.labels, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    for words in (
        "3 classes",
        "41 ha",
        "5 folds by polygon",
        "landmeta",
        "random forest",
        "water",
        "map.html",
    ):
        assert words in said.out
    again = landmeta("adapt", "--imagery", scene.imagery, "--labels", scene.labels, "--out", tmp_path / "run")
    assert (again.code, again.out) == (2, "")
    assert "--overwrite" in again.err


@pytest.mark.parametrize(
    ("request_made", "name"),
    [
        (AdaptRequest(region="demo"), "demo"),
        (AdaptRequest(region="dfc2020/capetown-autumn"), "capetown-autumn"),
        (AdaptRequest(region="-4,5,6,7", imagery=(Path("a/S2 May.tif"),)), "s2-may"),
        (AdaptRequest(imagery=(Path("a/tiles"),)), "tiles"),
    ],
)
def test_the_default_folder_is_named_after_the_region_or_the_imagery(
    request_made: AdaptRequest, name: str
) -> None:
    assert default_folder(request_made) == Path("runs") / name
