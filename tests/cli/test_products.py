"""What a run adds on demand: polygons and the raster of stability, read back by other readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate

from .conftest import Said, Scene


def test_polygons_and_stability_lie_in_the_run_folder_and_leave_it_with_the_run(
    scene: Scene, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    common = ["adapt", "--imagery", scene.imagery, "--labels", scene.labels, "--out", out]
    said = landmeta(*common, "--min-area", "0.1", "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)

    with rasterio.open(out / "landcover.tif") as source:
        codes = source.read(1)
    table = pyogrio.read_dataframe(out / "polygons.gpkg")
    assert shapely.is_valid(table.geometry.values).all()
    assert table.crs == "EPSG:32632"
    assert set(table["code"]) <= set(np.unique(codes))
    assert abs(table.area_ha.sum() - (codes != 255).sum() * 0.01) < 0.1
    assert table.area_ha.min() > 0.07

    assert cog_validate(out / "stability.tif", quiet=True)[0]
    with rasterio.open(out / "stability.tif") as source:
        shares = source.read(1, masked=True)
        assert source.shape == codes.shape
        assert source.descriptions == ("origin shift",)
        assert source.scales == (1e-4,)
    assert abs(float(shares.mean()) * 1e-4 - report["stability"]["origin_shift"]) < 1e-3

    assets = json.loads((out / "item.json").read_text())["assets"]
    assert {"polygons", "polygons-style", "stability"} <= set(assets)
    assert assets["polygons-style"]["href"] == "./polygons.qml"
    outputs = json.loads((out / "provenance.json").read_text())["outputs"]
    assert "polygons.qml" in outputs

    assert landmeta(*common, "--stability-blocks", 0, "--overwrite").code == 0
    assert not (out / "polygons.gpkg").exists()
    assert not (out / "polygons.qml").exists()
    assert not (out / "stability.tif").exists()
    assert json.loads((out / "report.json").read_text())["stability"] is None


def test_predict_writes_them_too(scene: Scene, landmeta: Callable[..., Said], tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "again"
    adapt = ["adapt", "--imagery", scene.imagery, "--labels", scene.labels, "--stability-blocks", 0]
    assert landmeta(*adapt, "--out", run).code == 0
    assert not (run / "stability.tif").exists()
    said = landmeta("predict", run, "--imagery", scene.imagery, "--min-area", 1, "--out", out)
    assert said.code == 0, said.err
    assert pyogrio.read_info(out / "polygons.gpkg")["features"] >= 3
    assert (out / "stability.tif").is_file()
