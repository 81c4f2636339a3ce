"""The model of a run on other imagery: other dates, bands in another order, another zone; on workers too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from rio_cogeo.cogeo import cog_validate

from landmeta import cluster, prediction
from landmeta_cli.app import run

from .conftest import Said, Scene, pixels, polygons, write_raster

RASTERS = ("landcover.tif", "probabilities.tif", "confidence.tif")
BANDS = ("B02", "B03", "B04", "B08")


def sums(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RASTERS]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the scene."""
    folder = tmp_path_factory.mktemp("adapted")
    write_raster(folder / "scene.tif", pixels())
    polygons().to_file(folder / "labels.gpkg")
    code = run(
        ["adapt", "--imagery", str(folder / "scene.tif"), "--scale", "1e-4", "--out", str(folder / "run")]
        + ["--labels", str(folder / "labels.gpkg"), "--label-column", "class"]
    )
    assert code == 0
    return folder / "run"


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
    from shapely.geometry import Polygon

    from .conftest import LEFT, TOP

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
