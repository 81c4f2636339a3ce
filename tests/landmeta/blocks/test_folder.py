"""Finished blocks are kept whole, told apart from other runs, and taken instead of mapping again."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from landmeta.adaptation import Adapted, adapt_region
from landmeta.blocks.folder import BlockFolder
from landmeta.blocks.plan import plan_blocks
from landmeta.classmap import MapBlock
from landmeta.errors import OutputError
from landmeta.prediction import map_blocks

PLAN = {"model": "abc", "block": 64}


@pytest.fixture(scope="module")
def adapted(stripes) -> Adapted:
    return adapt_region(stripes[0], stripes[1])


def block(row: int = 64, col: int = 0) -> MapBlock:
    rng = np.random.default_rng(row)
    shape = (5, 7)
    return MapBlock(
        row,
        col,
        rng.integers(0, 9, shape, dtype=np.uint8),
        rng.integers(0, 10_000, (2, *shape), dtype=np.uint16),
        rng.integers(0, 10_000, shape, dtype=np.uint16),
    )


def same(a: MapBlock | None, b: MapBlock | None) -> bool:
    if a is None or b is None:
        return a is b
    return (a.row, a.col) == (b.row, b.col) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("codes", "probabilities", "confidence")
    )


def test_blocks_come_back_as_they_were_put_also_to_another_run(tmp_path: Path) -> None:
    folder = BlockFolder(tmp_path, PLAN)
    folder.put((64, 0), block())
    folder.put((64, 512), None)
    again = BlockFolder(tmp_path, PLAN)
    assert (64, 0) in again
    assert (0, 0) not in again
    assert same(again.get((64, 0)), block())
    assert again.get((64, 512)) is None


def test_the_blocks_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    BlockFolder(tmp_path, PLAN)
    with pytest.raises(OutputError, match="another one: model differ") as error:
        BlockFolder(tmp_path, PLAN | {"model": "xyz"})
    assert "as many CPU threads" in error.value.hint  # the one thing that no argument shows
    assert "--overwrite" in error.value.hint
    with pytest.raises(OutputError) as error:
        BlockFolder(tmp_path, PLAN | {"model": "xyz", "files": []})
    assert "threads" not in error.value.hint


@pytest.mark.parametrize("content", ["", '{"model": "a', "[]"])
def test_a_damaged_plan_says_that_only_a_new_start_helps(tmp_path: Path, content: str) -> None:
    BlockFolder(tmp_path, PLAN)
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(OutputError, match=r"plan\.json is damaged") as error:
        BlockFolder(tmp_path, PLAN)
    assert "--overwrite starts anew" in error.value.hint
    assert "make room" not in error.value.hint


def test_a_block_cut_short_counts_as_missing(tmp_path: Path) -> None:
    folder = BlockFolder(tmp_path, PLAN)
    folder.put((64, 0), block())
    path = next(tmp_path.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(KeyError):
        folder.get((64, 0))


def test_a_full_disk_is_one_line_and_leaves_no_half_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BlockFolder(tmp_path, PLAN)

    def full(*_arguments: object, **_arrays: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match="No space left") as error:
        folder.put((64, 0), block())
    assert "--resume" in error.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_a_map_goes_on_where_it_stopped_with_the_same_blocks(
    stripes, adapted: Adapted, tmp_path: Path, finished: int
) -> None:
    expected = list(map_blocks(adapted.ensemble, stripes[0], block=96))
    folder = BlockFolder(tmp_path, PLAN)
    first = map_blocks(adapted.ensemble, stripes[0], block=96, folder=folder)
    for _ in range(min(finished, len(expected))):
        next(first)
    first.close()
    kept = len(list(tmp_path.glob("*.npz")))
    again = list(map_blocks(adapted.ensemble, stripes[0], block=96, folder=BlockFolder(tmp_path, PLAN)))
    assert kept >= min(finished, len(expected))
    assert all(same(a, b) for a, b in zip(again, expected, strict=True))


def test_what_is_finished_is_not_computed_again(stripes, adapted: Adapted, tmp_path: Path) -> None:
    class Untouchable:
        legend, stride, align, context = adapted.ensemble.legend, 1, 8, adapted.ensemble.context
        overlap = 0

        def prepare(self) -> object:
            raise AssertionError

        def logits(self, window: object, state: object) -> object:
            raise AssertionError

    folder = BlockFolder(tmp_path, PLAN)
    expected = list(map_blocks(adapted.ensemble, stripes[0], block=96, folder=folder))
    again = list(map_blocks(Untouchable(), stripes[0], block=96, folder=folder))  # type: ignore[arg-type]
    assert all(same(a, b) for a, b in zip(again, expected, strict=True))
    assert len(plan_blocks(stripes[0], align=8, context=48, block=96)) >= len(expected)


def test_a_map_whose_blocks_are_all_there_mends_the_damaged_ones(stripes, adapted, tmp_path: Path) -> None:
    folder = BlockFolder(tmp_path, PLAN)
    whole = list(map_blocks(adapted.ensemble, stripes[0], folder=folder, block=32))
    cut, empty, *_ = sorted(tmp_path.glob("*.npz"))
    cut.write_bytes(cut.read_bytes()[:100])
    empty.write_bytes(b"")
    again = list(map_blocks(adapted.ensemble, stripes[0], folder=folder, block=32))
    assert len(again) == len(whole)
    assert all(same(a, b) for a, b in zip(again, whole, strict=True))
    assert same(folder.get((whole[0].row, whole[0].col)), whole[0])
