"""What a map made by `landmeta predict` says of its model and its inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio

from .conftest import Said


def test_the_map_of_a_map_says_where_the_model_comes_from(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    scene = ("--imagery", adapted.parent / "scene.tif", "--scale", "1e-4", "--stability-blocks", 0)
    for made, by in (("one", adapted), ("two", tmp_path / "one")):
        said = landmeta("predict", by, *scene, "--out", tmp_path / made)
        assert said.code == 0, said.err
        assert "recall" not in said.out
    origins = [json.loads((tmp_path / n / "report.json").read_text())["model_from"] for n in ("one", "two")]
    holdout = json.loads((adapted / "report.json").read_text())["holdout"]
    assert [(o["region"], o["holdout"]) for o in origins] == [("scene", holdout)] * 2


@pytest.mark.parametrize("holdout", [{"value": 0.5}, {"metric": "a", "value": None, "ci95": [0, 1]}, 7])
def test_an_edited_report_beside_the_model_stops_no_map(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, holdout: object
) -> None:
    shutil.copytree(adapted / "model", tmp_path / "run" / "model")
    (tmp_path / "run" / "report.json").write_text(json.dumps({"region": "here", "holdout": holdout}))
    scene = ("--imagery", adapted.parent / "scene.tif", "--scale", "1e-4", "--stability-blocks", 0)
    said = landmeta("predict", tmp_path / "run", *scene, "--out", tmp_path / "map")
    assert said.code == 0, said.err
    assert json.loads((tmp_path / "map" / "report.json").read_text())["model_from"]["region"] is None


def test_provenance_knows_the_sources_of_a_vrt_and_the_regions_file(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    shutil.copy(adapted.parent / "scene.tif", tmp_path / "scene.tif")
    rasterio.shutil.copy(tmp_path / "scene.tif", tmp_path / "scene.vrt", driver="VRT")
    own = tmp_path / "own"
    arguments = ("predict", adapted, "--imagery", tmp_path / "scene.vrt", "--scale", "1e-4", "--out", own)
    said = landmeta(*arguments, "--region", adapted.parent / "labels.gpkg", "--min-area", 1e6)
    assert said.code == 0, said.err
    inputs = json.loads((own / "provenance.json").read_text())["inputs"]
    files = {Path(name).name for part in inputs for name in part["files"]}
    assert {"scene.vrt", "scene.tif", "labels.gpkg", "model.safetensors"} <= files
    assert len(gpd.read_file(own / "polygons.gpkg")) == 0  # no patch is as large as that


def test_a_regions_file_is_not_replaced_by_the_run_that_reads_it(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    scene = ("--imagery", adapted.parent / "scene.tif", "--scale", "1e-4", "--out", tmp_path / "own")
    assert landmeta("predict", adapted, *scene, "--min-area", 0.01).code == 0
    region = tmp_path / "own" / "polygons.gpkg"
    said = landmeta("predict", adapted, *scene, "--region", region, "--overwrite")
    assert said.code == 2
    assert "polygons.gpkg is an input and would be replaced" in said.err
    assert region.is_file()
