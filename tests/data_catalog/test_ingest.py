"""An archive becomes a store: every ground once, regions side by side, broken patches set aside."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmeta.errors import DataError
from landmeta_catalog._footprints import footprints
from landmeta_catalog._ingest_plan import Finding, Key, Plan, empty_plan, having, settled
from landmeta_catalog.archives import open_archive
from landmeta_catalog.archives.base import CROPS, Place
from landmeta_catalog.ingest import ingest
from landmeta_catalog.store import TileStore

from .fake_archive import CRS, PIXEL, SIDE, FakeArchive, many
from .ingested import assert_tiles_are_the_archives, index_of, quarantined


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
