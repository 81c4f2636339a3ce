from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from shapely.geometry import box

from landmeta.bench.acceptance import TASKS, AcceptanceRow, Classifiers, run_acceptance
from landmeta.errors import DataError
from landmeta.rivals import random_forest, tile_statistics

CLASSES = (10, 40, 80)
NORTH_UP = Affine(10, 0, 0, 0, -10, 0)


# --- a tiny folder of the benchmark's layout -------------------------------------------------------


def _write(path: Path, image: np.ndarray, **profile: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = image.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=image.dtype, **profile
        ) as target:
            target.write(image)


def _index(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _chip(rng: np.random.Generator, classes: tuple[int, ...]) -> np.ndarray:
    """Horizontal stripes of classes, 40 rows high, on noise twice as large as what tells them apart."""
    labels = np.full((128, 128), classes[-1])
    for i, k in enumerate(classes[:-1]):
        labels[40 * i : 40 * (i + 1)] = k
    bands = rng.normal(2000, 300, (7, 128, 128)) + 150 * np.searchsorted(CLASSES, labels)
    return np.concatenate([bands, labels[None]]).astype(np.int16)


def _write_hls(folder: Path, rng: np.random.Generator) -> None:
    chips = {
        "a.tif": ("7", CLASSES),
        "b.tif": ("7", (10,)),
        "c.tif": ("8", (10,)),
        "d.tif": ("9", CLASSES[1:]),
    }
    rows: list[dict[str, object]] = []
    for i, (name, (cluster, classes)) in enumerate(chips.items()):
        _write(folder / name, _chip(rng, classes))
        rows.append({"path": name, "chip": i, "footprint": i, "cluster": cluster})
    _index(folder / "index.csv", rows[::-1])  # the first chip is the first by name, not the first listed


def _write_eurosat(folder: Path, rng: np.random.Generator) -> None:
    rows: list[dict[str, object]] = []
    for k, name in enumerate(("Forest", "Pasture", "River")):
        for i in range(8):
            chip = rng.normal(1500 + 10 * k, 100, (13, 8, 8)).astype(np.uint16)
            _write(folder / name / f"{name}_{i}.tif", chip, crs="EPSG:32631", transform=NORTH_UP)
            rows.append({"path": f"{name}/{name}_{i}.tif", "class_name": name})
    _index(folder / "index.csv", rows)


def _write_sen12ms(folder: Path, rng: np.random.Generator) -> None:
    rows: list[dict[str, object]] = []
    for season, region, counts in (
        ("fall", "91", {"Forests": 9, "Water": 10, "Barren": 8}),
        ("fall", "110", {"Forests": 9, "Water": 9}),
        ("spring", "122", {"Forests": 9, "Water": 9}),
    ):
        for k, (name, count) in enumerate(counts.items()):
            (folder / f"{season}_{region}" / name).mkdir(parents=True)
            for i in range(count):
                path = f"{season}_{region}/{name}/p{i}tl.webp"
                tile = np.clip(rng.normal(100 + 4 * k, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(tile).save(folder / path, lossless=True)
                rows.append({"path": path, "season": season, "region": region, "class_name": name})
    _index(folder / "index.csv", rows)


def _write_aberystwyth(folder: Path, rng: np.random.Generator) -> None:
    image = rng.normal(100, 20, (10, 60, 60))
    polygons, names = [], []
    for i in range(12):
        x, y = 5 + 15 * (i % 4), 5 + 15 * (i // 4)
        image[:, y : y + 8, x : x + 8] += 15 * (i % 2)
        polygons.append(box(x * 10, -(y + 8) * 10, (x + 8) * 10, -y * 10))
        names.append(("water", "forest")[i % 2])
    _write(folder / "s2_20210527.tif", image.astype(np.uint16), crs="EPSG:27700", transform=NORTH_UP)
    frame = gpd.GeoDataFrame({"class": names}, geometry=polygons, crs="EPSG:27700")
    frame.to_file(folder / "labels.gpkg", driver="GPKG")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four data sets, a few kB each: 2 of 3 hls clusters and 2 of 3 region-seasons are test units."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    _write_hls(folder / "hls_worldcover", rng)
    _write_eurosat(folder / "eurosat_ms", rng)
    _write_sen12ms(folder / "sen12ms_rgb", rng)
    _write_aberystwyth(folder / "aberystwyth", rng)
    splits = {
        "hls_worldcover": {"unit": "cluster", "train": ["9"], "val": [], "test": ["7", "8"]},
        "sen12ms_rgb": {"bench_train": ["122"], "bench_test": ["91", "110"]},
    }
    (folder / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    return folder


# --- classifiers to put against the forest ---------------------------------------------------------


@dataclass
class Calls:
    """What the benchmark asked for."""

    prepared: list[tuple[tuple[int, ...], tuple[str, ...]]] = field(default_factory=list)
    reflectances: list[float] = field(default_factory=list)
    groups: list[np.ndarray | None] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    tiles: list[tuple[int, int, tuple[str, ...]]] = field(default_factory=list)


@dataclass(frozen=True)
class PreparedPixels:
    pixels: np.ndarray
    trees: int
    calls: Calls

    def classify(
        self,
        train_index: np.ndarray,
        train_codes: np.ndarray,
        query_index: np.ndarray,
        seed: int,
        groups: np.ndarray | None = None,
    ) -> np.ndarray:
        self.calls.groups.append(groups)
        self.calls.seeds.append(seed)
        forest = random_forest(self.pixels[train_index], train_codes, seed, self.trees)
        return forest.predict(self.pixels[query_index])


@dataclass(frozen=True)
class ForestOnPixels:
    """The rival itself, reached through the interface of ours; fewer trees make it another method."""

    trees: int
    calls: Calls

    def prepare(self, image: np.ndarray, band_names: tuple[str, ...]) -> PreparedPixels:
        self.calls.prepared.append((image.shape, band_names))
        self.calls.reflectances.append(float(image.mean()))
        scale = 1e-3 if len(band_names) == 10 else 1e-4
        numbers = np.rint(image.reshape(len(image), -1).T / scale)  # the file's values: the forest's input
        return PreparedPixels(numbers, self.trees, self.calls)


@dataclass(frozen=True)
class ForestOnTiles:
    trees: int
    calls: Calls

    def __call__(
        self,
        support: np.ndarray,
        codes: np.ndarray,
        query: np.ndarray,
        band_names: tuple[str, ...],
        seed: int,
    ) -> np.ndarray:
        self.calls.tiles.append((len(support), len(query), band_names))
        known, asked = (np.stack([tile_statistics(tile) for tile in tiles]) for tiles in (support, query))
        return random_forest(known, codes, seed, self.trees).predict(asked)


def _forests(pixel_trees: int = 200, tile_trees: int = 300, trained_on: tuple[str, ...] = ()) -> Classifiers:
    calls = Calls()
    return Classifiers(ForestOnPixels(pixel_trees, calls), ForestOnTiles(tile_trees, calls), trained_on)


def _calls(classify: Classifiers) -> Calls:
    assert isinstance(classify.pixels, ForestOnPixels)
    return classify.pixels.calls


def _reference(script: Path, data: Path, seeds: int) -> dict[str, dict[str, object]]:
    """Rows of the published reference script, by task."""
    if not script.is_file():
        pytest.skip(f"the reference script is absent: expected {script.name} in ../shared/acceptance")
    command = [sys.executable, str(script), str(data), "--part", "test", "--seeds", str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {row["task"]: row for row in map(json.loads, done.stdout.splitlines())}


def _assert_equal_forests(rows: list[AcceptanceRow], reference: dict[str, dict[str, object]]) -> None:
    assert [row.task for row in rows] == list(reference)
    for row in rows:
        assert row.as_row()["random_forest"] == pytest.approx(reference[row.task]["random_forest"], abs=1e-4)
        forest = {name: score for name, (_, score) in row.by_unit.items()}
        assert forest == pytest.approx(reference[row.task]["by_unit"], abs=1e-4)


# --- tests -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def equal(tiny: Path) -> tuple[list[AcceptanceRow], Calls]:
    classify = _forests()
    return run_acceptance(tiny, "test", classify=classify, seeds=2), _calls(classify)


def test_the_same_method_on_both_sides_differs_nowhere(equal: tuple[list[AcceptanceRow], Calls]) -> None:
    rows, _ = equal
    assert [row.task for row in rows] == list(TASKS)
    for row in rows:
        assert row.diff == 0
        assert row.diff_ci95 == (0, 0)
        assert 0.2 < row.ours == row.random_forest < 1


def test_rows_have_exactly_the_fields_of_the_schema_and_survive_json(
    equal: tuple[list[AcceptanceRow], Calls],
) -> None:
    schema = ["task", "units", "n", "seeds", "metric", "ours", "random_forest", "diff", "diff_ci95", "seen"]
    for row in equal[0]:
        printed = json.loads(json.dumps(row.as_row()))
        assert list(printed) == schema
        assert printed["metric"] == "balanced accuracy"


def test_units_and_query_samples_are_those_of_the_protocols(equal: tuple[list[AcceptanceRow], Calls]) -> None:
    found = {row.task: (tuple(row.by_unit), row.n, row.seeds) for row in equal[0]}
    assert found == {
        "hls-5px": (("7",), 128 * 56, 2),  # 8 has one class, 9 is no test cluster
        "hls-20px": (("7",), 128 * 56, 2),
        "eurosat-ms-5shot": (("all",), 3 * (8 - 5), 2),
        "sen12ms-rgb-5shot": (
            ("fall_110", "fall_91"),
            2 * 4 + 4 + 5,
            1,
        ),  # half the seeds; Barren has 8 tiles
        "aberystwyth": (("five folds",), 12 * 64, 1),
    }


def test_ours_gets_reflectances_band_names_and_what_it_may_share(
    equal: tuple[list[AcceptanceRow], Calls],
) -> None:
    calls = equal[1]
    hls = ((7, 128, 128), ("B01", "B02", "B03", "B04", "B8A", "B11", "B12"))
    assert calls.prepared[:2] == [hls, hls]  # once a chip and task, not once a seed
    assert calls.prepared[2][0] == (10, 60, 60)
    assert calls.reflectances == pytest.approx([0.216, 0.216, 0.105], abs=0.01)
    assert calls.seeds == [0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert calls.groups[:4] == [None] * 4
    # Six polygons a class: one a class is left out in folds 1 to 4, two in fold 0.
    assert [len(np.unique(groups)) for groups in calls.groups[4:] if groups is not None] == [
        8,
        10,
        10,
        10,
        10,
    ]
    eurosat, sen12ms = calls.tiles[0], calls.tiles[-1]
    assert eurosat[:2] == (15, 9)
    assert eurosat[2][-2:] == ("B12", "B8A")
    assert sen12ms == (10, 9, ("B04", "B03", "B02"))


def test_a_worse_method_shows_as_a_negative_difference_inside_its_interval(tiny: Path) -> None:
    rows = run_acceptance(tiny, "all", classify=_forests(1, 1), seeds=1, tasks=["hls-20px", "aberystwyth"])
    hls, aberystwyth = rows
    assert hls.units == 2  # without a part the train cluster counts too
    for row in rows:
        assert row.diff == pytest.approx(row.ours - row.random_forest)
        assert row.diff_ci95[0] <= row.diff <= row.diff_ci95[1] < 0
    assert aberystwyth.diff_ci95[0] > -0.5


def test_a_method_trained_on_nothing_has_seen_nothing(equal: tuple[list[AcceptanceRow], Calls]) -> None:
    assert [row.seen for row in equal[0]] == [
        "clusters not seen",
        "clusters not seen",
        "chips not seen",
        "regions not seen",
        "scene not seen",
    ]


def test_seen_tells_which_clusters_the_checkpoint_was_trained_on(tiny: Path, tmp_path: Path) -> None:
    def seen(data: Path, part: str, *trained_on: str) -> str:
        classify = _forests(1, 1, trained_on)
        return run_acceptance(data, part, classify=classify, seeds=1, tasks=["hls-5px"])[0].seen

    text = "checkpoint trained on hls_worldcover train clusters"
    assert seen(tiny, "test", "hls_worldcover") == f"clusters not seen; {text}"
    assert seen(tiny, "all", "hls_worldcover") == f"1 of 2 clusters seen; {text}"
    (tmp_path / "hls_worldcover").symlink_to(tiny / "hls_worldcover")
    assert seen(tmp_path, "test", "hls_worldcover").startswith("clusters not seen (no splits.json)")


def test_tasks_without_data_are_skipped_and_named_and_the_others_run(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "aberystwyth").symlink_to(tiny / "aberystwyth")
    (tmp_path / "eurosat_ms").mkdir()
    (tmp_path / "eurosat_ms" / "index.csv").write_text("path,class_name\nForest/gone.tif,Forest\n")
    skipped: dict[str, str] = {}
    told: list[tuple[str, int, int]] = []
    rows = run_acceptance(
        tmp_path,
        classify=_forests(1, 1),
        seeds=1,
        progress=lambda task, done, total: told.append((task, done, total)),
        skipped=lambda task, reason: skipped.update({task: reason}),
    )
    assert [row.task for row in rows] == ["aberystwyth"]
    assert list(skipped) == ["hls-5px", "hls-20px", "eurosat-ms-5shot", "sen12ms-rgb-5shot"]
    assert "gone.tif" in skipped["eurosat-ms-5shot"]
    assert told == [("aberystwyth", 1, 1)]


def test_a_folder_without_any_task_an_unknown_task_or_part_and_no_seed_are_errors_with_a_cure(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no acceptance task can run") as nothing:
        run_acceptance(tmp_path, classify=_forests(), seeds=1)
    assert "hls_worldcover" in nothing.value.hint
    with pytest.raises(DataError, match="unknown acceptance task 'hls'") as unknown:
        run_acceptance(tiny, classify=_forests(), seeds=1, tasks=["hls"])
    assert "hls-5px" in unknown.value.hint
    with pytest.raises(DataError, match="0 support draws"):
        run_acceptance(tiny, classify=_forests(), seeds=0)
    with pytest.raises(DataError, match="unknown part 'tset'") as part:
        run_acceptance(tiny, "tset", classify=_forests(), seeds=1)
    assert "test, val, train, all" in part.value.hint
    with pytest.raises(DataError, match="no acceptance task can run"):  # it has no such part
        run_acceptance(tiny, "val", classify=_forests(), seeds=1, tasks=["sen12ms-rgb-5shot"])


def test_an_error_of_the_method_itself_is_not_taken_for_missing_data(tiny: Path) -> None:
    class Broken:
        def prepare(self, image: np.ndarray, band_names: tuple[str, ...]) -> PreparedPixels:
            msg = "no checkpoint"
            raise FileNotFoundError(msg)

    classify = Classifiers(Broken(), _forests().tiles, ())
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        run_acceptance(tiny, classify=classify, seeds=1)


@pytest.mark.real
def test_the_forest_equals_the_reference_script_on_a_tiny_folder(
    equal: tuple[list[AcceptanceRow], Calls], tiny: Path, data: Path
) -> None:
    _assert_equal_forests(equal[0], _reference(data.parent / "acceptance" / "rivals.py", tiny, seeds=2))


@pytest.mark.real
@pytest.mark.slow
def test_the_forest_equals_the_reference_script_on_real_data(data: Path) -> None:
    reference = _reference(data.parent / "acceptance" / "rivals.py", data, seeds=2)
    _assert_equal_forests(run_acceptance(data, "test", classify=_forests(1, 1), seeds=2), reference)
