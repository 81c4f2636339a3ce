"""`landmeta predict` on imagery that does not say its scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    assert "--scale 0.001 --offset 0" in said.err
    assert not out.exists()
    assert landmeta("predict", run_folder, "--imagery", bright, "--scale", "2e-4", "--out", out).code == 0
    told = landmeta("predict", out, "--imagery", bright, "--out", tmp_path / "third")
    assert "--scale 0.001" in told.err  # the model's own, also from a run that only maps
