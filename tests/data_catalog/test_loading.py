from __future__ import annotations

import multiprocessing
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from landmeta.augmentation import draw_symmetries, turned
from landmeta.bands import SENTINEL2
from landmeta.errors import DataError
from landmeta.legend import DFC2020
from landmeta.tasks import Task, TaskSampler
from landmeta.tile_table import TileTable
from landmeta_catalog import loading
from landmeta_catalog._shards import shard_path
from landmeta_catalog.loading import TaskBatch, TaskLoader
from landmeta_catalog.store import TileStore
from landmeta_catalog.store_writer import create_dataset, finish_dataset, write_shard
from landmeta_catalog.tile_inputs import BASELINE, METEOR, PHYSICAL, TileInputs
from landmeta_catalog.tiles import ArraySpec, index_frame

SIDE, TILES, CLASSES = 8, 60, 5
S2 = ArraySpec("s2", SENTINEL2, "uint16", 1e-4, nodata=0, side=SIDE)
S1 = ArraySpec("s1", ("VV", "VH"), "int16", 1e-2, nodata=-32768, side=SIDE)
LABELS = ArraySpec("labels", ("labels",), "uint8", side=SIDE)


def make(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "s2": rng.integers(0, 14000, (TILES, *S2.shape)).astype(np.uint16),
        "s1": rng.integers(-3500, 500, (TILES, *S1.shape)).astype(np.int16),
        "labels": rng.integers(1, 5, (TILES, *LABELS.shape)).astype(np.uint8),
    }
    arrays["s1"][:, 0, 2, 1] = -32768
    rows = [
        {"region": str(i // 30), "season": "fall", "patch": f"p{i}", "side": SIDE,
         "class_code": i % CLASSES + 1, "class_name": DFC2020.names[i % CLASSES]}
        for i in range(TILES)
    ]  # fmt: skip
    create_dataset(path, "sim", (S2, S1, LABELS), DFC2020, TILES, settings={})
    write_shard(path, "sim", 0, arrays, index_frame(rows).drop(columns="slot"))
    finish_dataset(path, "sim", index_frame([]))
    return arrays


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("tiles") / "store"
    return path, make(path)


def inputs(path: Path, **options: object) -> TileInputs:
    return TileInputs(TileStore.open(path), "sim", np.arange(TILES), **options)  # type: ignore[arg-type]


def sampler(path: Path) -> TaskSampler:
    with TileStore.open(path) as store:
        return TaskSampler(TileTable.from_frame(store.index()), ways=4, shots=1, queries=1, seed=5)


class Five:
    """The first five tasks of a sampler."""

    def __init__(self, path: Path) -> None:
        self._sampler = sampler(path)

    def task(self, number: int) -> Task:
        if number >= 5:
            raise IndexError(number)
        return self._sampler.task(number)


# --- inputs ----------------------------------------------------------------------------------------


def test_all_bands_are_stacked_radar_first_without_labels(made) -> None:
    path, arrays = made
    tiles = inputs(path, scaling=METEOR)
    assert tiles.bands == ("VV", "VH", *SENTINEL2)
    found = tiles.read(np.array([7, 3]))
    assert found.dtype == np.float32
    expected = np.where(arrays["s1"] == -32768, 0, arrays["s1"] * 1e-2 * 1e-2)
    np.testing.assert_allclose(found[:, :2], expected[[7, 3]], rtol=1e-6)
    np.testing.assert_allclose(found[:, 2:], arrays["s2"][[7, 3]] * 1e-4, rtol=1e-6)


def test_the_scaling_of_the_baselines_clips_and_takes_no_data_in_db_as_zero(made) -> None:
    path, arrays = made
    found = inputs(path, scaling=BASELINE).read(np.arange(TILES))
    decibels = np.nan_to_num(np.where(arrays["s1"] == -32768, np.nan, arrays["s1"] * 0.01))
    np.testing.assert_allclose(found[:, :2], np.clip(decibels, -25, 0) / 25 + 1, atol=1e-6)
    np.testing.assert_allclose(found[:, 2:], np.clip(arrays["s2"], 0, 10000) / 10000, atol=1e-6)


def test_physical_values_are_those_of_the_store_and_no_data_is_nan(made) -> None:
    path, _ = made
    tiles = inputs(path, scaling=PHYSICAL)
    found = tiles.read(np.array([4]))
    with TileStore.open(path) as store:
        np.testing.assert_array_equal(found[:, :2], store.read_scaled("sim", "s1", [4]))
        np.testing.assert_array_equal(found[:, 2:], store.read_scaled("sim", "s2", [4]))
    assert np.isnan(found[0, 0, 2, 1])


def test_bands_are_chosen_across_arrays_in_the_order_given(made) -> None:
    path, arrays = made
    tiles = inputs(path, bands=("B04", "VH", "VV", "B8A"), scaling=METEOR)
    found = tiles.read(np.array([9]))[0]
    np.testing.assert_allclose(found[0], arrays["s2"][9, SENTINEL2.index("B04")] * 1e-4, rtol=1e-6)
    np.testing.assert_allclose(found[1], arrays["s1"][9, 1] * 1e-4, rtol=1e-6)
    np.testing.assert_allclose(found[3], arrays["s2"][9, SENTINEL2.index("B8A")] * 1e-4, rtol=1e-6)


@pytest.mark.parametrize(("bands", "words"), [(("B04", "B99"), "no band B99"), ((), "no band is chosen")])
def test_bands_that_are_not_there_are_named(made, bands: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        inputs(made[0], bands=bands)
    assert "VV, VH, B01" in error.value.hint


def test_bands_of_tiles_of_different_sides_are_not_stacked(tmp_path: Path) -> None:
    small = ArraySpec("s1", ("VV",), "int16", 1e-2, side=4)
    create_dataset(tmp_path, "sim", (S2, small), DFC2020, 1, settings={})
    arrays = {"s2": np.zeros((1, *S2.shape), np.uint16), "s1": np.zeros((1, *small.shape), np.int16)}
    write_shard(tmp_path, "sim", 0, arrays, index_frame([{"patch": "p"}]).drop(columns="slot"))
    finish_dataset(tmp_path, "sim", index_frame([]))
    with pytest.raises(DataError, match=r"\[4, 8\] px cannot be stacked"):
        inputs(tmp_path)


# --- tasks -----------------------------------------------------------------------------------------


def test_a_batch_holds_the_task_of_its_number_support_first(made) -> None:
    path, arrays = made
    source = sampler(path)
    batches = list(TaskLoader(inputs(path, scaling=METEOR), source, stop=3, workers=0))
    assert [batch.number for batch in batches] == [0, 1, 2]
    for batch in batches:
        task = source.task(batch.number)
        np.testing.assert_array_equal(batch.support_codes, task.support_codes)
        np.testing.assert_array_equal(batch.query_codes, task.query_codes)
        np.testing.assert_array_equal(batch.support_targets, task.support_targets)
        np.testing.assert_array_equal(batch.query_targets, task.query_targets)
        np.testing.assert_allclose(batch.support[:, 2:], arrays["s2"][task.support] * 1e-4, rtol=1e-6)
        np.testing.assert_allclose(batch.query[:, 2:], arrays["s2"][task.query] * 1e-4, rtol=1e-6)
        assert batch.to("cpu").images.equal(batch.images)


def test_a_run_resumes_at_its_position_with_the_same_tasks_and_draws(made) -> None:
    path, _ = made
    whole = list(TaskLoader(inputs(path), sampler(path), stop=6, augment=True, seed=3, workers=0))
    loader = TaskLoader(inputs(path), sampler(path), augment=True, seed=3, workers=0)
    first = list(islice(loader, 2))
    assert loader.position == 2
    resumed = TaskLoader(
        inputs(path), sampler(path), start=loader.position, stop=6, augment=True, seed=3, workers=0
    )
    for one, other in zip(whole, [*first, *resumed], strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=0, atol=0, equal_nan=True)


def test_augmentation_turns_each_tile_by_its_own_symmetry(made) -> None:
    path, _ = made
    plain, turns = (
        next(iter(TaskLoader(inputs(path), sampler(path), augment=augment, seed=1, workers=0)))
        for augment in (False, True)
    )
    symmetries = draw_symmetries(8, np.random.default_rng((loading._AUGMENTATION, 1, 0)))
    np.testing.assert_array_equal(turns.images.numpy(), turned(plain.images.numpy(), symmetries))
    other = next(iter(TaskLoader(inputs(path), sampler(path), augment=True, seed=2, workers=0)))
    assert not other.images.nan_to_num().equal(turns.images.nan_to_num())


def test_a_finite_source_ends_the_loader(made) -> None:
    loader = TaskLoader(inputs(made[0]), Five(made[0]), workers=0)
    assert len(list(loader)) == 5
    assert loader.position == 5
    assert list(loader) == []


def test_inputs_pickle_with_the_path_of_their_store(made) -> None:
    tiles = inputs(made[0], bands=("B04",), scaling=METEOR)
    copy = pickle.loads(pickle.dumps(tiles))
    np.testing.assert_array_equal(copy.read(np.array([2])), tiles.read(np.array([2])))


def test_worker_processes_give_the_same_batches_and_stop_when_left(made) -> None:
    path, _ = made
    alone = list(TaskLoader(inputs(path), sampler(path), stop=9, augment=True, workers=0))
    loader = TaskLoader(inputs(path), sampler(path), augment=True, workers=2, ahead=2)
    together: list[TaskBatch] = []
    for batch in loader:
        together.append(batch)
        if len(together) == 9:  # more than fit into the ring, so that its places are used again
            break
    for one, other in zip(alone, together, strict=True):
        assert one.number == other.number
        torch.testing.assert_close(one.images, other.images, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(one.codes, other.codes)


def test_a_damaged_shard_is_named_in_one_line_by_workers_and_without(tmp_path: Path) -> None:
    make(tmp_path)
    source, tiles = sampler(tmp_path), inputs(tmp_path)
    path = shard_path(tmp_path / "sim" / "s2", 0)
    path.write_bytes(path.read_bytes()[:-100])
    for workers in (0, 1):
        with pytest.raises(DataError, match="truncated or damaged") as error:
            list(TaskLoader(tiles, source, stop=2, workers=workers))
        assert "\n" not in str(error.value)
        assert "landmeta ingest" in error.value.hint


@pytest.mark.slow
def test_a_killed_worker_is_told_in_one_line(made) -> None:
    batches = iter(TaskLoader(inputs(made[0]), sampler(made[0]), workers=1, ahead=1))
    next(batches)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(DataError, match="was killed") as error:
        list(islice(batches, 5))
    assert "\n" not in str(error.value)
    assert "workers" in error.value.hint


@pytest.mark.slow
def test_tasks_too_large_for_the_ring_come_all_the_same(made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_RING_PLACE", 0)
    path, _ = made
    (one,) = TaskLoader(inputs(path), sampler(path), stop=1, workers=0)
    (other,) = TaskLoader(inputs(path), sampler(path), stop=1, workers=1)
    torch.testing.assert_close(one.images, other.images, rtol=0, atol=0, equal_nan=True)


@pytest.mark.gpu
def test_batches_are_pinned_and_copied_to_the_gpu(made) -> None:
    path, _ = made
    (batch,) = TaskLoader(inputs(path, scaling=METEOR), sampler(path), stop=1, workers=1)
    assert batch.images.is_pinned()
    there = batch.to("cuda")
    torch.cuda.synchronize()
    assert there.images.device.type == "cuda"
    assert there.images.cpu().equal(batch.images)
    assert there.support_targets.device.type == "cuda"
