"""The model of a run on other imagery: other dates, bands in another order, another zone; on workers too."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import Polygon

from landmeta import cluster, prediction
from landmeta_maps import polygons as polygons_module

from .conftest import LEFT, TOP, Said, Scene, pixels, write_raster

RASTERS = ("landcover.tif", "probabilities.tif", "confidence.tif")
BANDS = ("B02", "B03", "B04", "B08")


def sums(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RASTERS]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "BLOCK", 32)


def test_the_same_imagery_gives_the_same_map(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "BLOCK", 512)
    scene, out = adapted.parent / "scene.tif", tmp_path / "again"
    said = landmeta("predict", adapted, "--imagery", scene, "--scale", "1e-4", "--out", out)
    assert said.code == 0, said.err
    assert sums(out) == sums(adapted)
    report = json.loads((out / "report.json").read_text())
    assert report["holdout"] is None
    assert report["model_from"]["holdout"]["value"] > 0.8
    assert {p.name for p in out.iterdir()} == {p.name for p in adapted.iterdir()}
    assert cog_validate(out / "landcover.tif", strict=True, quiet=True)[0]


def test_bands_may_come_in_another_order_and_with_others_among_them(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    values = pixels()
    more = np.stack([values[3], values[0] * 0 + 7, values[1], values[0], values[2]])
    other = write_raster(tmp_path / "other.tif", more, names=("B08", "B11", "B03", "B02", "B04"))
    same = adapted.parent / "scene.tif"
    for name, path in (("a", same), ("b", other)):
        said = landmeta("predict", adapted, "--imagery", path, "--scale", "1e-4", "--out", tmp_path / name)
        assert said.code == 0, said.err
    assert sums(tmp_path / "a") == sums(tmp_path / "b")


def test_another_zone_is_mapped_where_it_lies(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    other = write_raster(tmp_path / "zone.tif", pixels()[:, :40, ::-1].copy(), crs="EPSG:32633")
    said = landmeta("predict", adapted, "--imagery", other, "--scale", "1e-4", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    with rasterio.open(tmp_path / "run" / "landcover.tif") as image:
        assert image.crs.to_epsg() == 32633
        assert image.shape == (40, 64)
        codes = image.read(1)
    with rasterio.open(adapted / "landcover.tif") as image:
        assert (codes == image.read(1)[:40, ::-1]).mean() > 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ("B02", "B03", "B04", "B05")}, "needs B08"),
        ({"pixel": 30.0}, "pixels of 30 m"),
    ],
)
def test_imagery_that_does_not_fit_is_refused(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = write_raster(tmp_path / "other.tif", pixels(), names=change.get("names", BANDS))  # type: ignore[arg-type]
    if "pixel" in change:
        with rasterio.open(path, "r+") as image:
            at = image.transform
            image.transform = rasterio.Affine(30, 0, at.c, 0, -30, at.f)
    said = landmeta("predict", adapted, "--imagery", path, "--scale", "1e-4", "--out", tmp_path / "run")
    assert said.code == 2
    assert words in said.err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_model_is_refused(
    scene: Scene, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    said = landmeta("predict", tmp_path, "--imagery", scene.imagery, "--out", tmp_path / "run")
    assert said.code == 2
    assert "holds no adapted model" in said.err


@pytest.mark.parametrize(
    ("options", "line"),
    [((), "torch sees no CUDA device"), (("--workers", "2"), "workers of a cluster compute on their CPUs")],
)
def test_a_gpu_that_cannot_be_taken_is_one_line(
    adapted: Path,
    landmeta: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    scene, out = adapted.parent / "scene.tif", tmp_path / "out"
    said = landmeta("predict", adapted, "--imagery", scene, "--device", "cuda", *options, "--out", out)
    assert said.code == 2
    assert line in said.err
    assert not out.exists()


def test_a_dry_run_estimates_and_writes_nothing(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    scene = adapted.parent / "scene.tif"
    said = landmeta(
        "predict",
        adapted,
        "--imagery",
        scene,
        "--scale",
        "1e-4",
        "--out",
        tmp_path / "run",
        "--dry-run",
        "--json",
    )
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["blocks"], found["pixels"]) == (4, 64 * 64)
    assert found["seconds"] > 0
    assert found["memory_mb"] > 50
    assert not (tmp_path / "run").exists()


def test_a_dry_run_without_data_in_the_blocks_looked_at_says_what_its_time_assumes(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    blank = write_raster(tmp_path / "blank.tif", pixels() * np.uint16(0))
    said = landmeta("predict", adapted, "--imagery", blank, "--scale", "1e-4", "--dry-run")
    assert said.code == 0, said.err
    assert "The 4 blocks looked at have no data: the time is that of a map full of data" in said.out


def test_a_dry_run_takes_the_memory_of_polygons_into_account(
    adapted: Path, landmeta: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygons_module, "BYTES", 2**30)
    scene = adapted.parent / "scene.tif"
    command = ("predict", adapted, "--imagery", scene, "--scale", "1e-4", "--dry-run", "--json")
    found = [json.loads(landmeta(*command, *more).out)["memory_mb"] for more in ((), ("--min-area", 1))]
    assert found[0] < 2**10 * 64 * 64 == found[1]


def test_a_dry_run_finds_data_far_from_the_middle(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "BLOCK", 8)
    values = pixels()
    values[:, :, :-8] = 0
    corner = write_raster(tmp_path / "corner.tif", values)
    said = landmeta("predict", adapted, "--imagery", corner, "--scale", "1e-4", "--dry-run", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["found_data"]
    assert 1 < found["looked_at"] <= found["blocks"] == 64


def test_a_dry_run_finds_what_would_stop_the_run(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    scene = adapted.parent / "scene.tif"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    said = landmeta("predict", adapted, "--imagery", scene, "--out", tmp_path / "full", "--dry-run")
    assert said.code == 2
    assert "is not empty" in said.err


def test_a_run_is_not_replaced_by_a_map_of_its_own_model(
    adapted: Path, landmeta: Callable[..., Said]
) -> None:
    scene, before = adapted.parent / "scene.tif", sums(adapted)
    for run_folder in (adapted, adapted / "model"):
        said = landmeta(
            *("predict", run_folder, "--imagery", scene, "--scale", "1e-4"),
            *("--out", adapted, "--overwrite"),
        )
        assert said.code == 2
        assert "model.safetensors is an input and would be replaced" in said.err
    assert sums(adapted) == before


@pytest.mark.parametrize("content", [None, "{ cut"])
def test_the_model_is_read_from_its_file_and_not_from_what_people_read(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, content: str | None
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes((adapted / "model" / "model.safetensors").read_bytes())
    if content is not None:
        (model / "model.json").write_text(content)
    scene, out = adapted.parent / "scene.tif", tmp_path / "out"
    said = landmeta("predict", model, "--imagery", scene, "--scale", "1e-4", "--out", out)
    assert said.code == 0, said.err
    notes = [json.loads((run / "model" / "model.json").read_text()) for run in (out, adapted)]
    assert notes[0] == notes[1]


def test_a_scheduler_and_workers_at_once_are_refused(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    scene = adapted.parent / "scene.tif"
    said = landmeta(
        *("predict", adapted, "--imagery", scene, "--out", tmp_path / "r"),
        *("--scheduler", "tcp://127.0.0.1:1", "--workers", 2),
    )
    assert said.code == 2
    assert "--scheduler or --workers, not both" in said.err
    assert len(said.err.splitlines()) == 2


@pytest.fixture
def stopped(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[object, ...]:
    """The command line of a run that was stopped after two of its four blocks."""
    scene, whole, seen = tmp_path / "scene.tif", prediction.map_window, []
    scene.write_bytes((adapted.parent / "scene.tif").read_bytes())

    def failing(*given: Any) -> object:
        seen.append(1)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return whole(*given)

    command = ("predict", adapted, "--imagery", scene, "--scale", "1e-4", "--out", tmp_path / "run")
    monkeypatch.setattr(prediction, "map_window", failing)
    assert landmeta(*command).code == 130
    monkeypatch.setattr(prediction, "map_window", whole)
    return command


def test_a_run_goes_on_with_a_new_copy_of_its_imagery(
    stopped: tuple[object, ...], landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    os.utime(tmp_path / "scene.tif", (0, 0))
    said = landmeta(*stopped, "--resume")
    assert said.code == 0, said.err


def test_a_run_does_not_go_on_with_other_pixels(
    stopped: tuple[object, ...], landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    write_raster(tmp_path / "scene.tif", pixels()[:, ::-1].copy())
    said = landmeta(*stopped, "--resume")
    assert said.code == 2
    assert "files differ" in said.err


def test_a_run_does_not_go_on_with_blocks_of_another_side(
    stopped: tuple[object, ...], landmeta: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "BLOCK", 64)
    said = landmeta(*stopped, "--resume")
    assert said.code == 2
    assert "blocks differ" in said.err


def test_a_pixel_of_fill_that_no_file_declares_spoils_nothing_around_it(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    values = pixels().astype(np.float32)
    for name, fill in (("told", np.nan), ("untold", -3.4028235e38)):
        values[1, 20, 30] = fill
        path = write_raster(tmp_path / f"{name}.tif", values, nodata=None)
        said = landmeta("predict", adapted, "--imagery", path, "--scale", "1e-4", "--out", tmp_path / name)
        assert said.code == 0, said.err
        assert "1 pixels are NaN, infinite or no possible measurement" in said.err
    assert sums(tmp_path / "told") == sums(tmp_path / "untold")
    with rasterio.open(tmp_path / "untold" / "landcover.tif") as image:
        assert np.argwhere(image.read(1) == 255).tolist() == [[20, 30]]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense"])
def test_a_scheduler_that_does_not_answer_is_one_line(
    adapted: Path,
    landmeta: Callable[..., Said],
    tmp_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    scene = adapted.parent / "scene.tif"
    said = landmeta(
        *("predict", adapted, "--imagery", scene, "--scale", "1e-4"),
        *("--scheduler", address, "--out", tmp_path / "r"),
    )
    assert said.code == 2
    assert f"answers at {address}" in said.err
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_local_workers_give_the_bytes_of_one_process(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    scene = adapted.parent / "scene.tif"
    for name, extra in (("one", ()), ("two", ("--workers", 2))):
        said = landmeta(
            "predict", adapted, "--imagery", scene, "--scale", "1e-4", *extra, "--out", tmp_path / name
        )
        assert said.code == 0, said.err
    assert sums(tmp_path / "one") == sums(tmp_path / "two")


def test_blocks_outside_the_region_are_not_mapped(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "BLOCK", 16)
    triangle = Polygon([(LEFT, TOP), (LEFT + 640, TOP), (LEFT, TOP - 640)])
    gpd.GeoDataFrame(geometry=[triangle], crs="EPSG:32632").to_file(tmp_path / "region.gpkg")
    seen, real = [], prediction.map_window
    monkeypatch.setattr(
        prediction, "map_window", lambda *given: (seen.append(given[3].corner), real(*given))[1]
    )
    scene = adapted.parent / "scene.tif"
    said = landmeta(
        *("predict", adapted, "--imagery", scene, "--scale", "1e-4", "--stability-blocks", 0),
        *("--region", tmp_path / "region.gpkg", "--out", tmp_path / "part"),
    )
    assert said.code == 0, said.err
    assert (0, 0) in seen
    assert (48, 48) not in seen
    with (
        rasterio.open(tmp_path / "part" / "landcover.tif") as part,
        rasterio.open(adapted / "landcover.tif") as whole,
    ):
        codes = part.read(1)
        place = np.add.outer(np.arange(64), np.arange(64))  # 63 on the border itself
        assert (codes[place < 63] == whole.read(1)[place < 63]).all()
        assert (codes[place > 63] == 255).all()


def test_stability_is_measured_only_where_the_outline_is_mapped(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    triangle = Polygon([(LEFT, TOP), (LEFT + 640, TOP), (LEFT, TOP - 640)])
    gpd.GeoDataFrame(geometry=[triangle], crs="EPSG:32632").to_file(tmp_path / "region.gpkg")
    scene, out = adapted.parent / "scene.tif", tmp_path / "part"
    said = landmeta(
        *("predict", adapted, "--imagery", scene, "--scale", "1e-4"),
        *("--region", tmp_path / "region.gpkg", "--out", out),
    )
    assert said.code == 0, said.err
    with rasterio.open(out / "stability.tif") as shares, rasterio.open(out / "landcover.tif") as cover:
        assert ((shares.read(1) != 65535) == (cover.read(1) != 255)).all()


def test_stability_that_was_not_measured_is_told(
    adapted: Path, landmeta: Callable[..., Said], tmp_path: Path
) -> None:
    blank = write_raster(tmp_path / "blank.tif", pixels() * np.uint16(0))
    said = landmeta("predict", adapted, "--imagery", blank, "--scale", "1e-4", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "stability was not measured: none of the blocks drawn, 68 at most, has data" in said.err
    assert not (tmp_path / "run" / "stability.tif").exists()


def test_more_workers_than_a_machine_can_hold_are_refused(
    adapted: Path, landmeta: Callable[..., Said]
) -> None:
    said = landmeta("predict", adapted, "--imagery", adapted.parent / "scene.tif", "--workers", "100000")
    assert said.code == 2
    assert "100,000 workers are too many" in said.err
    assert "hint: --workers " in said.err
