from __future__ import annotations

import sys

import pytest

from landmeta_catalog.ingest_speed import InventedArchive, ingest_speed

# Seconds of a run this small say nothing; memory does: it must not follow the archive.


def test_an_invented_archive_has_the_patches_asked_for_each_with_a_place_of_its_own() -> None:
    archive = InventedArchive(1000)
    patches, broken = archive.scan()
    assert (len(patches), broken) == (1000, [])
    names = {(patch.region, patch.season, patch.patch) for patch in patches}
    assert len(names) == 1000
    places = {(patch.region, patch.season, archive.locate(patch)) for patch in patches}
    assert len(places) == 1000
    assert patches[0].files["s1"].name == "ROIs0000_fall_s1_1_p0.tif"


def test_an_ingest_is_timed_and_watched_to_its_end() -> None:
    found = ingest_speed(3, workers=1)
    assert (found.patches, found.tiles, found.workers) == (3, 12, 1)
    assert found.seconds > 0
    if sys.platform == "linux":
        assert found.peak_mb is not None
        assert 50 < found.peak_mb < 500


@pytest.mark.slow
def test_memory_does_not_follow_the_archive() -> None:
    small, large = ingest_speed(100), ingest_speed(400)
    whole = ingest_speed(20_000, shards=4)
    if small.peak_mb is None or large.peak_mb is None or whole.peak_mb is None:
        pytest.skip("this system does not tell the memory of processes")
    # 300 patches more are 640 MB of pixels; whether both workers peak at once is a tenth of the sum.
    assert large.peak_mb < 1.3 * small.peak_mb
    assert whole.peak_mb < 1.3 * small.peak_mb
    assert whole.peak_mb < 1000
