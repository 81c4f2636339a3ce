"""Bad input gets exit code 2, one clear line with a hint, no traceback, and leaves nothing behind."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import Point

from .conftest import Said, Scene, pixels, polygons, square, write_raster

Landmeta = Callable[..., Said]
Options = dict[str, Any]


def arguments(scene: Scene, changed: Options) -> list[str]:
    """A good command line with some options changed, or left out where None."""
    out = scene.folder.parent / "runs" / "out"
    options: Options = {"imagery": scene.imagery, "labels": scene.labels, "out": out} | changed
    return [w for k, v in options.items() if v is not None for w in (f"--{k.replace('_', '-')}", str(v))]


def labels_file(scene: Scene, frame: gpd.GeoDataFrame) -> Path:
    """Write other labels beside the scene."""
    path = scene.folder / "other.gpkg"
    frame.to_file(path)
    return path


def no_crs(scene: Scene) -> Options:
    return {"imagery": write_raster(scene.folder / "bare.tif", pixels(), crs=None)}


def labels_outside(scene: Scene) -> Options:
    frame = polygons()
    return {"labels": labels_file(scene, frame.set_geometry(frame.translate(1e5)))}


def one_sample_in_a_class(scene: Scene) -> Options:
    frame = polygons()
    frame.loc[len(frame)] = ["quarry", square(5, 20, 1)]
    return {"labels": labels_file(scene, frame)}


def labels_in_a_csv(scene: Scene) -> Options:
    path = scene.folder / "labels.csv"
    path.write_text("lon,lat,class\n9.0,48.0,water\n")
    return {"labels": path}


def lines_only(scene: Scene) -> Options:
    frame = polygons()
    return {"labels": labels_file(scene, frame.set_geometry(frame.boundary))}


def degrees_called_metres(scene: Scene) -> Options:
    frame = polygons()
    degrees = frame.to_crs("EPSG:4326")
    return {"labels": labels_file(scene, degrees.set_crs(frame.crs, allow_override=True))}


def one_class(scene: Scene) -> Options:
    frame = polygons()
    return {"labels": labels_file(scene, frame[frame["class"] == "water"])}


def no_such_column(scene: Scene) -> Options:
    return {"label_column": "landuse"}


def unknown_bands(scene: Scene) -> Options:
    return {"bands": "B2,B3,purple,B8"}


def too_few_bands(scene: Scene) -> Options:
    path = write_raster(scene.folder / "nameless.tif", pixels(), names=())
    return {"imagery": path, "bands": "B2,B3,B4"}


def nameless_bands(scene: Scene) -> Options:
    return {"imagery": write_raster(scene.folder / "nameless.tif", pixels(), names=())}


def implausible_scale(scene: Scene) -> Options:
    return {"imagery": write_raster(scene.folder / "dark.tif", np.maximum(pixels() // 100, 1))}


def region_beside(scene: Scene) -> Options:
    return {"region": "-70.0,-40.0,-69.0,-39.0"}


def region_upside_down(scene: Scene) -> Options:
    return {"region": "9.0,49.0,8.0,48.0"}


def country(scene: Scene) -> Options:
    return {"region": "Kenya", "imagery": None}


def catalogue_region(scene: Scene) -> Options:
    return {"region": "dfc2020/capetown-autumn", "imagery": None}


def demo_region(scene: Scene) -> Options:
    return {"region": "demo"}


def unknown_region(scene: Scene) -> Options:
    return {"region": "atlantis"}


def truncated(scene: Scene) -> Options:
    path = scene.folder / "cut.tif"
    whole = scene.imagery.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return {"imagery": path}


def empty_file(scene: Scene) -> Options:
    path = scene.folder / "empty.tif"
    path.touch()
    return {"imagery": path}


def no_raster(scene: Scene) -> Options:
    path = scene.folder / "notes.tif"
    path.write_text("no pixels in here")
    return {"imagery": path}


def missing_imagery(scene: Scene) -> Options:
    return {"imagery": scene.folder / "absent.tif"}


def missing_labels(scene: Scene) -> Options:
    return {"labels": scene.folder / "absent.gpkg"}


def labels_not_given(scene: Scene) -> Options:
    return {"labels": None}


def nothing_given(scene: Scene) -> Options:
    return {"labels": None, "imagery": None}


def unwritable(scene: Scene) -> Options:
    return {"out": "/proc/run"}


def file_in_the_way(scene: Scene) -> Options:
    return {"out": scene.labels}


def not_empty(scene: Scene) -> Options:
    return {"out": scene.folder}


def no_checkpoint(scene: Scene) -> Options:
    return {"checkpoint": scene.labels}


def bad_effort(scene: Scene) -> Options:
    return {"effort": "heroic"}


CASES = [
    (no_crs, "CRS"),
    (labels_outside, "outside"),
    (one_sample_in_a_class, "quarry"),
    (labels_in_a_csv, r"labels\.csv holds no layer"),
    (lines_only, r"found \d+ LineString features"),
    (degrees_called_metres, "look like degrees"),
    (one_class, "one class|only.*water"),
    (no_such_column, "landuse"),
    (unknown_bands, "purple"),
    (too_few_bands, r"\b3\b.*\b4\b|\b4\b.*\b3\b"),
    (nameless_bands, "band"),
    (implausible_scale, r"99"),
    (region_beside, "region|-70"),
    (region_upside_down, "west|region|box|bounds"),
    (country, "Kenya"),
    (catalogue_region, "no imagery.*capetown"),
    (demo_region, "demo brings its own imagery"),
    (unknown_region, "atlantis"),
    (truncated, r"cut\.tif"),
    (empty_file, r"empty\.tif"),
    (no_raster, r"notes\.tif"),
    (missing_imagery, r"absent\.tif"),
    (missing_labels, r"absent\.gpkg"),
    (labels_not_given, "no labels"),
    (nothing_given, "nothing to map"),
    (unwritable, "/proc/run cannot be written"),
    (file_in_the_way, r"labels\.gpkg is a file"),
    (not_empty, "not empty"),
    (no_checkpoint, "checkpoint"),
    (bad_effort, "heroic"),
]


@pytest.mark.parametrize(("case", "words"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_bad_input_is_one_clear_line_and_writes_nothing(
    case: Callable[[Scene], Options], words: str, scene: Scene, tmp_path: Path, landmeta: Landmeta
) -> None:
    changed = case(scene)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    said = landmeta("adapt", *arguments(scene, changed))
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert said.code == 2, said.err
    assert len(errors) == 1, said.err
    assert re.search(words, errors[0], re.IGNORECASE), errors[0]
    assert "hint: " in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_debug_adds_the_traceback(scene: Scene, landmeta: Landmeta) -> None:
    said = landmeta("adapt", *arguments(scene, empty_file(scene)), "--debug")
    assert said.code == 2
    assert "Traceback" in said.err


def with_infinite_pixels(scene: Scene) -> Options:
    values = pixels().astype(np.float32) * 1e-4
    values[:, 40:44, 30:34] = np.nan
    values[1, 50, 10] = np.inf
    return {"imagery": write_raster(scene.folder / "holes.tif", values, nodata=None)}


def with_labels_on_nodata(scene: Scene) -> Options:
    values = pixels()
    values[:, 50:, :] = 0
    return {"imagery": write_raster(scene.folder / "holes.tif", values)}


def with_some_labels_outside(scene: Scene) -> Options:
    frame = polygons()
    frame.loc[len(frame)] = ["water", square(-100, 10)]
    return {"labels": labels_file(scene, frame)}


def with_labels_in_degrees(scene: Scene) -> Options:
    return {"labels": labels_file(scene, polygons().to_crs("EPSG:4326"))}


def with_classes_in_two_cases(scene: Scene) -> Options:
    frame = polygons()
    frame.loc[frame.index[frame["class"] == "water"][0], "class"] = "WATER"
    return {"labels": labels_file(scene, frame)}


def with_codes_beyond_a_map(scene: Scene) -> Options:
    frame = polygons()
    return {"labels": labels_file(scene, frame.assign(**{"class": 300 + frame["class"].factorize()[0]}))}


def with_points(scene: Scene) -> Options:
    frame = polygons()
    points = frame.set_geometry(
        [Point(g.centroid.x + 1, g.centroid.y + 1) for g in frame.geometry], crs=frame.crs
    )
    return {"labels": labels_file(scene, points)}


COUNTED = [
    (with_infinite_pixels, r"NaN|infinit|not finite|finite"),
    (with_labels_on_nodata, "nodata"),
    (with_some_labels_outside, "outside"),
    (with_labels_in_degrees, "reproject"),
    (with_classes_in_two_cases, "differ only in case: WATER, water"),
    (with_codes_beyond_a_map, "class 300 has code 1 in the map"),
    (with_points, ""),
]


@pytest.mark.parametrize(("case", "words"), COUNTED, ids=[case.__name__ for case, _ in COUNTED])
def test_what_can_be_left_out_is_counted_and_the_map_is_made(
    case: Callable[[Scene], Options], words: str, scene: Scene, tmp_path: Path, landmeta: Landmeta
) -> None:
    said = landmeta("adapt", *arguments(scene, case(scene)))
    assert said.code == 0, said.err
    warned = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert not words or any(re.search(words, line) for line in warned), said.err
    assert (tmp_path / "runs" / "out" / "landcover.tif").is_file()
    report = (tmp_path / "runs" / "out" / "report.html").read_text()
    assert not words or re.search(words, html.unescape(report))
