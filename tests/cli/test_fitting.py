"""What `landmeta predict` says of imagery that does not look like that of its model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from landmeta.raster import imagery_of_array
from landmeta_cli.fitting import apart

from .conftest import Said, pixels, polygons, write_raster


def test_a_scale_that_the_model_was_told_is_not_inferred(
    tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    scene = write_raster(tmp_path / "scene.tif", pixels() // 10)
    bright = write_raster(tmp_path / "bright.tif", pixels() // 2)  # plausible at 1e-4 too
    polygons().to_file(tmp_path / "labels.gpkg")
    labels = ("--labels", tmp_path / "labels.gpkg", "--label-column", "class")
    run_folder, out = tmp_path / "run", tmp_path / "again"
    assert landmeta("adapt", "--imagery", scene, "--scale", "1e-3", *labels, "--out", run_folder).code == 0
    said = landmeta("predict", run_folder, "--imagery", bright, "--out", out)
    assert said.code == 2
    assert "0.0001 and offset 0 would be inferred" in said.err
    assert "imagery of scale 0.001 and offset 0" in said.err
    assert not out.exists()
    assert landmeta("predict", run_folder, "--imagery", bright, "--scale", "2e-4", "--out", out).code == 0
    report = json.loads((out / "report.json").read_text())
    bands = ["B02", "B03", "B04", "B08"]
    assert report["imagery"] == {"bands": bands, "scale": 2e-4, "offset": 0.0, "scale_from": "given"}
    assert "2e-4, given" in (out / "report.html").read_text()
    told = landmeta("predict", out, "--imagery", bright, "--out", tmp_path / "third")
    assert "scale 0.001" in told.err  # the model's own, also from a run that only maps


def test_an_offset_that_the_model_was_told_is_not_left_out(
    tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    scene = write_raster(tmp_path / "scene.tif", pixels() + np.uint16(200), nodata=200)
    polygons().to_file(tmp_path / "labels.gpkg")
    labels = ("--labels", tmp_path / "labels.gpkg", "--label-column", "class")
    run_folder = tmp_path / "run"
    assert landmeta("adapt", "--imagery", scene, "--offset", "-0.02", *labels, "--out", run_folder).code == 0
    said = landmeta("predict", run_folder, "--imagery", scene, "--dry-run")
    assert said.code == 2
    assert "scale 0.0001 and offset -0.02" in said.err
    for offset in ("-0.02", "0"):  # other imagery may want none
        assert landmeta("predict", run_folder, "--imagery", scene, "--offset", offset, "--dry-run").code == 0


def test_a_scale_that_the_models_imagery_said_is_not_inferred_either(
    tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    bare, said_by_file = (write_raster(tmp_path / f"{name}.tif", pixels()) for name in ("bare", "tagged"))
    with rasterio.open(said_by_file, "r+") as out:
        out.scales, out.offsets = (1e-4,) * 4, (-0.01,) * 4
    polygons().to_file(tmp_path / "labels.gpkg")
    labels = ("--labels", tmp_path / "labels.gpkg", "--label-column", "class")
    assert landmeta("adapt", "--imagery", said_by_file, *labels, "--out", tmp_path / "run").code == 0
    said = landmeta("predict", tmp_path / "run", "--imagery", bare, "--out", tmp_path / "again")
    assert said.code == 2
    assert "scale 0.0001 and offset -0.01" in said.err
    assert not (tmp_path / "again").exists()


def test_imagery_with_another_offset_is_told_before_and_after(
    tmp_path: Path, landmeta: Callable[..., Said]
) -> None:
    scene = write_raster(tmp_path / "scene.tif", pixels())
    offset = write_raster(tmp_path / "offset.tif", pixels() + np.uint16(1000), nodata=1000)
    polygons().to_file(tmp_path / "labels.gpkg")
    labels = ("--labels", tmp_path / "labels.gpkg", "--label-column", "class")
    run_folder, told = tmp_path / "run", "every band is brighter than in the region of the model"
    assert landmeta("adapt", "--imagery", scene, *labels, "--out", run_folder).code == 0
    for more in (("--dry-run",), ("--out", tmp_path / "again")):
        said = landmeta("predict", run_folder, "--imagery", offset, *more)
        assert said.code == 0
        assert told in said.err
        assert "by 0.10 in reflectance" in said.err
    assert told in " ".join(json.loads((tmp_path / "again" / "report.json").read_text())["warnings"])
    assert told not in landmeta("predict", run_folder, "--imagery", scene, "--dry-run").err


@pytest.mark.parametrize(
    ("shift", "word"),
    [((0.1, 0.2), "brighter"), ((-0.06, -0.1), "darker"), ((0.1, -0.1), ""), ((0.2, 0.0), "")],
)
def test_seasons_move_bands_against_each_other_and_are_not_worth_a_warning(
    shift: tuple[float, float], word: str
) -> None:
    known = np.array([0.2, 0.3], np.float32)
    values = np.broadcast_to((known + np.array(shift, np.float32))[:, None, None], (2, 40, 40))
    found = apart(imagery_of_array(values.copy(), ["B03", "B08"]), torch.from_numpy(known))
    assert [line.split()[3] for line in found] == ([word] if word else [])
