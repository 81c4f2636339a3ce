"""An ingest goes on where it stopped, adds what is new, and refuses a store that it would spoil."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from landmeta.errors import DataError, LandmetaError, OutputError
from landmeta_catalog.ingest import ingest, only_writer
from landmeta_catalog.store import TileStore
from landmeta_catalog.tiles import SHARD_TILES

from .fake_archive import FakeArchive, many, troubled
from .ingested import assert_tiles_are_the_archives, index_of, quarantined


class Interrupting(FakeArchive):
    """Ctrl-C at the nth patch."""

    at = 40

    def read(self, patch):  # type: ignore[no-untyped-def]
        if len(self.read_) == self.at:
            raise KeyboardInterrupt
        return super().read(patch)

    def locate(self, patch):  # type: ignore[no-untyped-def]
        if len(self.looked) == self.at * 3:
            raise KeyboardInterrupt
        return super().locate(patch)


def test_an_interrupted_ingest_goes_on_without_reading_again_what_is_stored(tmp_path: Path) -> None:
    whole = many(100, overlap=False)
    ingest(whole, tmp_path / "undisturbed")
    first = Interrupting(whole.patches)
    with pytest.raises(KeyboardInterrupt):
        ingest(first, tmp_path / "store")
    stored = len(first.read_) * 4 // SHARD_TILES * (SHARD_TILES // 4)
    assert stored > 0
    second = many(100, overlap=False)
    found = ingest(second, tmp_path / "store")
    assert second.looked == []  # headers are in the plan
    # One patch is read a second time: to see that this is the same archive.
    assert set(first.read_[1:stored]).isdisjoint(second.read_)
    assert found.written == 400 - stored * 4
    pd.testing.assert_frame_equal(index_of(tmp_path / "store"), index_of(tmp_path / "undisturbed"))


def test_headers_read_before_an_interruption_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmeta_catalog.ingest._HEADERS_A_JOB", 64)
    whole = many(200, overlap=False)
    first = Interrupting(whole.patches)
    with pytest.raises(KeyboardInterrupt):
        ingest(first, tmp_path / "store")
    second = many(200, overlap=False)
    ingest(second, tmp_path / "store")
    assert len(second.looked) < 200
    ingest(whole, tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(index_of(tmp_path / "store"), index_of(tmp_path / "undisturbed"))


def test_a_finished_store_is_left_as_it_is(tmp_path: Path) -> None:
    ingest(troubled(60), tmp_path / "store")
    before = index_of(tmp_path / "store")
    again = troubled(60)
    found = ingest(again, tmp_path / "store")
    assert (found.written, found.tiles) == (0, len(before))
    tried_again = again.headless | again.broken
    assert set(again.looked) <= tried_again
    assert len(set(again.read_) - tried_again) <= 1
    pd.testing.assert_frame_equal(index_of(tmp_path / "store"), before)


def test_new_patches_are_added_and_stored_tiles_keep_their_slots(tmp_path: Path) -> None:
    names = [*many(90).patches]
    part = FakeArchive({name: many(90).patches[name] for name in names[::2]})
    ingest(part, tmp_path / "store")
    before = index_of(tmp_path / "store")
    archive = many(90)
    ingest(archive, tmp_path / "store")
    after = index_of(tmp_path / "store")
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    assert set(archive.looked) == set(names[1::2])
    assert not after[["region", "season", "x", "y"]].duplicated().any()
    ingest(many(90), tmp_path / "at_once")
    corners = ["region", "season", "x", "y", "checksum"]
    at_once = index_of(tmp_path / "at_once")[corners]
    assert set(map(tuple, after[corners].to_numpy())) == set(map(tuple, at_once.to_numpy()))


def test_a_mended_patch_joins_the_store_with_the_ground_that_is_missing(tmp_path: Path) -> None:
    bad = many(192, broken=frozenset({"a/spring/p0", "a/spring/p54"}), headless=frozenset({"b/spring/p2"}))
    ingest(bad, tmp_path / "store")
    before = index_of(tmp_path / "store")
    assert len(quarantined(tmp_path / "store")) == 3
    found = ingest(many(192), tmp_path / "store")
    after = index_of(tmp_path / "store")
    assert (found.tiles, found.quarantined) == (3 * 81, ())
    assert quarantined(tmp_path / "store") == {}
    assert not after[["region", "season", "x", "y"]].duplicated().any()
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    assert_tiles_are_the_archives(many(192), tmp_path / "store")


def test_a_patch_that_goes_away_between_two_calls_is_quarantined(tmp_path: Path) -> None:
    whole = many(100, overlap=False)
    with pytest.raises(KeyboardInterrupt):
        ingest(Interrupting(whole.patches), tmp_path / "store")
    last = max(whole.patches)
    rest = {name: at for name, at in whole.patches.items() if name != last}
    found = ingest(FakeArchive(rest), tmp_path / "store")
    assert found.tiles == 396
    assert [*quarantined(tmp_path / "store").values()] == [
        f"{last.split('/')[-1]} is no longer in the archive"
    ]


def test_a_damaged_shard_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    ingest(troubled(200), tmp_path / "store")
    before = index_of(tmp_path / "store")
    shard = tmp_path / "store" / "fake" / "s2" / "c.1.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-100])
    archive = troubled(200)
    found = ingest(archive, tmp_path / "store")
    assert 0 < found.written <= SHARD_TILES
    pd.testing.assert_frame_equal(index_of(tmp_path / "store"), before)


def test_another_archive_of_the_same_name_is_refused(tmp_path: Path) -> None:
    ingest(many(10), tmp_path / "store")
    with pytest.raises(DataError, match="is not what dataset fake of .* holds under this name"):
        ingest(many(10, seed=1), tmp_path / "store")
    ingest(many(10, seed=1, dataset="other"), tmp_path / "store")
    with TileStore.open(tmp_path / "store") as store:
        assert sorted(store.datasets) == ["fake", "other"]


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    ingest(many(10), tmp_path / "store", settings={"majority": "published"})
    with pytest.raises(DataError, match="majority 'published', now 'simplified'"):
        ingest(many(10), tmp_path / "store", settings={"majority": "simplified"})


def test_a_store_whose_plan_was_deleted_is_refused(tmp_path: Path) -> None:
    ingest(many(10), tmp_path / "store")
    (tmp_path / "store" / "fake" / "plan.parquet").unlink()
    with pytest.raises(DataError, match=r"plan\.parquet is missing"):
        ingest(many(10), tmp_path / "store")


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    ingest(many(10), tmp_path / "store")
    (tmp_path / "store" / "fake" / "plan.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as the plan"):
        ingest(many(10), tmp_path / "store")


def test_a_folder_that_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LandmetaError, match="no tile store"):
        ingest(many(10), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_name_that_cannot_be_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be a folder"):
        ingest(many(10, dataset="a/b"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_file_in_the_place_of_the_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(OutputError, match="cannot write to the store"):
        ingest(many(10), tmp_path / "store")


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    ingest(many(10), tmp_path)
    manifest = tmp_path / "store.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(DataError, match="has format 99"):
        ingest(many(10), tmp_path)


def test_two_ingests_into_one_store_do_not_meet(tmp_path: Path) -> None:
    code = f"import sys; from pathlib import Path; from landmeta_catalog.ingest import only_writer\n\
with only_writer(Path({str(tmp_path)!r})): print('in', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(OutputError, match="another ingest is writing"):
            ingest(many(10), tmp_path)
        other.kill()
    ingest(many(10), tmp_path)  # the lock went with the process
    with only_writer(tmp_path):
        pass
