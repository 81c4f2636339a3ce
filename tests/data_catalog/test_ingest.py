"""An archive becomes a store: every ground once, regions side by side, what is done is never read again."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmeta.errors import DataError, LandmetaError, OutputError
from landmeta_catalog._footprints import footprints
from landmeta_catalog._ingest_plan import Finding, Key, Plan, empty_plan, having, settled
from landmeta_catalog.archives import open_archive
from landmeta_catalog.archives.base import CROPS, Place
from landmeta_catalog.ingest import ingest, only_writer
from landmeta_catalog.store import TileStore
from landmeta_catalog.tiles import SHARD_TILES

from .fake_archive import CRS, PIXEL, SIDE, FakeArchive, many, tile_pixels, troubled


def index_of(store: Path) -> pd.DataFrame:
    """Rows of the tiles by id."""
    with TileStore.open(store) as opened:
        rows = opened.index().set_index("id")
    # Which values a column of repeated names could have does not matter.
    return rows.astype(dict.fromkeys(rows.columns[rows.dtypes == "category"], "str"))


def quarantined(store: Path) -> dict[str, str]:
    """Reason by id."""
    with TileStore.open(store) as opened:
        rows = opened.index(quarantined=True).query("status == 'quarantined'")
    return dict(zip(rows["id"], rows["reason"], strict=True))


def assert_tiles_are_the_archives(archive: FakeArchive, store: Path) -> None:
    rows = index_of(store)
    with TileStore.open(store) as opened:
        stored = opened.read("fake", "s2", rows["slot"].to_numpy())
    for row, pixels in zip(rows.itertuples(), stored, strict=True):
        name = f"{row.region}/{row.season}/{row.patch}"
        np.testing.assert_array_equal(pixels, tile_pixels(archive, name, str(row.quadrant)))


def test_patches_become_quadrants_with_class_place_and_pixels_of_their_own(tmp_path: Path) -> None:
    archive = FakeArchive({"a/spring/p1": (0, 0), "b/winter/p1": (0, 3)})
    found = ingest(archive, tmp_path / "store")
    rows = index_of(tmp_path / "store")
    assert (found.patches, found.tiles, found.written, found.same_ground) == (2, 8, 8, 0)
    assert list(rows["quadrant"]) == ["tl", "tr", "bl", "br"] * 2
    assert list(rows["slot"]) == [*range(8)]
    corner = rows.loc["fake/b/winter/p1/br"]
    half = SIDE // 2 * PIXEL
    assert (corner["x"], corner["y"]) == (500_000 + 4 * half, 5_400_000 - half)
    assert (corner["crs"], corner["pixel"], corner["side"]) == (CRS, PIXEL, SIDE // 2)
    assert corner["class_fractions"][corner["class_code"] - 1] == 1
    assert corner["block"] == "p1"
    assert corner["valid_fraction"] == 1
    assert_tiles_are_the_archives(archive, tmp_path / "store")


def test_the_footprint_of_a_tile_is_in_degrees_around_its_corner(tmp_path: Path) -> None:
    ingest(FakeArchive({"a/spring/p1": (0, 0)}), tmp_path / "store")
    with TileStore.open(tmp_path / "store") as store:
        outline = store.index(columns=["geometry"])["geometry"].iloc[0]
    # Easting 500,000 is the central meridian of the zone; 80 m are about 0.0011 degrees here.
    assert outline.bounds[0] == pytest.approx(15, abs=1e-6)
    assert outline.bounds[2] - outline.bounds[0] == pytest.approx(0.0011, abs=1e-4)


def test_a_tile_across_the_date_line_is_cut_there() -> None:
    # Zone 1 begins at 180 degrees, which lies near easting 350,000 at this northing.
    place = Place("EPSG:32601", (10.0, 0.0, 340_000.0, 0.0, -10.0, 7_000_000.0), (2048, 2048))
    across, nowhere, beside = footprints(
        [(place, (0, 0, 2048, 2048)), (None, (0, 0, 8, 8)), (place, (0, 1536, 512, 512))]
    )
    assert nowhere is None
    assert across is not None
    assert beside is not None
    assert (across.geom_type, beside.geom_type) == ("MultiPolygon", "Polygon")
    assert across.bounds[0] == -180
    assert across.bounds[2] == 180
    # 20.48 km a side: 0.4 degrees of longitude at 63 degrees north, 0.18 of latitude.
    assert across.area == pytest.approx(0.4 * 0.18, rel=0.1)


def test_ground_that_patches_share_is_stored_once_and_few_patches_are_read(tmp_path: Path) -> None:
    archive = many(192)
    found = ingest(archive, tmp_path / "store")
    rows = index_of(tmp_path / "store")
    corners = rows[["region", "season", "x", "y"]]
    assert not corners.duplicated().any()
    # Eight rows of eight patches in steps of half a patch cover 9 x 9 tiles, in each of three region-seasons.
    assert found.tiles == len(rows) == 3 * 81
    assert found.same_ground == 192 * 4 - 3 * 81
    assert len(archive.read_) < 192 / 2
    assert_tiles_are_the_archives(archive, tmp_path / "store")


def test_tiles_of_a_region_and_season_lie_side_by_side(tmp_path: Path) -> None:
    ingest(many(100), tmp_path / "store")
    rows = index_of(tmp_path / "store").sort_values("slot")
    cells = rows["region"] + rows["season"]
    assert (cells != cells.shift()).sum() == 3
    assert list(rows["slot"]) == [*range(len(rows))]


def test_tiles_without_georeference_are_all_kept(tmp_path: Path) -> None:
    archive = FakeArchive({f"//p{i}": None for i in range(5)}, quadrants=("",))
    assert ingest(archive, tmp_path / "store").tiles == 5
    with TileStore.open(tmp_path / "store") as store:
        rows = store.index(columns=["geometry", "crs", "x"])
    assert rows["geometry"].isna().all()
    assert rows["x"].isna().all()


def test_the_centre_crop_keeps_one_tile_a_patch(tmp_path: Path) -> None:
    archive = many(24, quadrants=CROPS["centre"])
    assert ingest(archive, tmp_path / "store").tiles == 24
    assert_tiles_are_the_archives(archive, tmp_path / "store")


def test_a_broken_patch_is_quarantined_and_its_ground_comes_from_its_neighbours(tmp_path: Path) -> None:
    sound = many(192)
    ingest(sound, tmp_path / "sound")
    first = "a/spring/p0"
    assert first in sound.read_
    inner = next(name for name in sound.read_ if sound.patches[name] == (2, 2))
    archive = many(192, broken=frozenset({inner, first}))
    found = ingest(archive, tmp_path / "store")
    # The outermost corner is nobody else's; the inner patch is covered by others on all sides.
    assert found.tiles == 3 * 81 - 1
    reasons = quarantined(tmp_path / "store")
    assert set(reasons) == {f"fake/{inner}/", f"fake/{first}/"}
    assert reasons[f"fake/{inner}/"] == f"{inner}.tif cannot be read: it is truncated"
    assert dict(found.quarantined) == reasons
    assert_tiles_are_the_archives(archive, tmp_path / "store")
    corners = index_of(tmp_path / "store")[["region", "season", "x", "y"]]
    assert not corners.duplicated().any()


def test_patches_broken_by_listing_header_and_pixels_are_counted_with_their_reasons(tmp_path: Path) -> None:
    archive = many(
        12,
        overlap=False,
        headless=frozenset({"a/spring/p0"}),
        broken=frozenset({"a/spring/p3"}),
        absent=frozenset({"a/spring/p6"}),
    )
    found = ingest(archive, tmp_path / "store")
    assert (found.patches, found.tiles) == (12, 36)
    assert quarantined(tmp_path / "store") == {
        "fake/a/spring/p0/": "a/spring/p0.tif is an empty file (0 bytes)",
        "fake/a/spring/p3/": "a/spring/p3.tif cannot be read: it is truncated",
        "fake/a/spring/p6/": "a/spring/p6.tif: has no s1 file beside it",
    }


def test_an_archive_without_one_sound_patch_is_an_error_and_makes_no_readable_store(tmp_path: Path) -> None:
    archive = FakeArchive({"a/spring/p1": (0, 0)}, broken=frozenset({"a/spring/p1"}))
    with pytest.raises(DataError, match=r"none of the 1 patches can be read.*p1\.tif cannot be read"):
        ingest(archive, tmp_path / "store")
    with pytest.raises(DataError, match="not finished"):
        TileStore.open(tmp_path / "store")


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


def test_headers_read_before_an_interruption_are_not_read_again(tmp_path: Path) -> None:
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


def test_progress_reaches_its_total_in_both_stages(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    ingest(many(200), tmp_path / "store", progress=lambda *step: told.append(step))
    headers = [step for step in told if step[0] == "headers"]
    tiles = [step for step in told if step[0] == "tiles"]
    assert headers[-1][1:] == (200, 200)
    assert tiles[-1][1] == tiles[-1][2] > 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_a_plan_covers_every_ground_exactly_once(origins: list[tuple[int, int]]) -> None:
    def finding(number: int, row: int, col: int) -> Finding:
        half = SIDE / 2 * PIXEL
        # A hundredth of a pixel of noise, as rounding in headers makes.
        noise = 0.1 * ((number % 3) - 1)
        transform = (PIXEL, 0.0, 300_005.0 + col * half + noise, 0.0, -PIXEL, 900_005.0 - row * half)
        return Finding(Key("r", "s", f"p{number}"), Place(CRS, transform, (SIDE, SIDE)))

    findings = [finding(i, *origin) for i, origin in enumerate(origins)]
    plan = settled(having(empty_plan(CROPS["quadrants"]), findings), [f.key for f in findings], 0)
    covered = _covered(plan)
    expected = {(row + y, col + x) for row, col in origins for y in (0, 1) for x in (0, 1)}
    assert len(covered) == len(set(covered))
    assert set(covered) == expected
    assert sorted(plan.slots[plan.slots >= 0].tolist()) == [*range(len(expected))]


def _covered(plan: Plan) -> list[tuple[int, int]]:
    half = SIDE / 2 * PIXEL
    places = plan.places(range(len(plan.slots)))
    found = []
    for row, at in np.argwhere(plan.slots >= 0).tolist():
        place = places[row]
        assert place is not None
        x, y = place.transform[2], place.transform[5]
        found.append((round((900_005 - y) / half) + at // 2, round((x - 300_005) / half) + at % 2))
    return found


def write_chips(folder: Path, count: int) -> Path:
    """Tiles of 8 px in two classes, PNG without georeference."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("forest", "water")[number % 2] / f"t{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def taken_port() -> Iterator[None]:
    """The port that Dask likes best is in use, as beside another cluster."""
    with socket.socket() as taken:
        # Where it is in use already, there is nothing left to do.
        with contextlib.suppress(OSError):
            taken.bind(("", 8787))
            taken.listen()
        yield


@pytest.mark.usefixtures("taken_port")
def test_several_processes_make_the_same_store_as_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chips = write_chips(tmp_path / "chips", 400)
    (chips / "water" / "t399.png").write_bytes(b"")
    for workers in (1, 2):
        found = ingest(open_archive("folder", chips), tmp_path / f"store{workers}", workers=workers)
        assert (found.tiles, len(found.quarantined), found.workers) == (399, 1, workers)
    assert capfd.readouterr() == ("", "")
    pd.testing.assert_frame_equal(index_of(tmp_path / "store1"), index_of(tmp_path / "store2"))


def test_only_archives_of_some_size_are_spread_over_processes(tmp_path: Path) -> None:
    assert ingest(many(12), tmp_path / "store").workers == 1
