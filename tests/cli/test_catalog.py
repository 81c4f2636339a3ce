"""`landmeta catalog` tells what there is, brings what can be brought, and its regions can be mapped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine

from landmeta.classmap import MapBlock
from landmeta.errors import RegionError
from landmeta.legend import DFC2020, EUROSAT, Legend
from landmeta.raster import open_imagery
from landmeta_catalog.simulated_archives import simulate_dfc2020
from landmeta_cli.app import run
from landmeta_cli.catalog_pages import class_page, size_text
from landmeta_cli.inputs import clip, outline_of, read_inputs, resolved
from landmeta_cli.mapping import keep_inside
from landmeta_cli.requests import AdaptRequest

from .conftest import Said, Scene, write_raster

Landmeta = Callable[..., Said]
NARROW, WIDE = 80, 120


def counts(keys: list[tuple[str, str]], legend: Legend, rows: list[dict[str, int]]) -> pd.DataFrame:
    """A class table as `TileStore.regions` gives it."""
    index = pd.MultiIndex.from_tuples(keys, names=["region", "season"])
    return pd.DataFrame(rows, index=index, columns=list(legend.names)).fillna(0).astype(np.int64)


def one_error(said: Said) -> tuple[str, str]:
    """The one error line and its hint; nothing stood on stdout."""
    assert (said.code, said.out) == (2, "")
    error, hint = said.err.splitlines()
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        *(
            ("show", name)
            for name in ("sen12ms", "dfc2020", "eurosat", "eurosat-rgb", "folder", "simulated-sen12ms")
        ),
        ("show", "Kenya"),
        ("show", "demo"),
        ("show", "sen12ms/fall-122"),
    ],
)
def test_pages_fit_the_terminal(
    arguments: tuple[str, ...], width: int, landmeta: Landmeta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = landmeta("catalog", *arguments)
    assert (said.code, said.err) == (0, "")
    # An address is not broken: it would no longer be one.
    assert [line for line in said.out.splitlines() if len(line) > width and "https://" not in line] == []
    assert "None" not in said.out
    assert "{" not in said.out or arguments == ("show", "sen12ms")


def test_the_list_has_every_dataset_and_kind_of_region(landmeta: Landmeta) -> None:
    lines = landmeta("catalog", "list").out.splitlines()
    assert next(line for line in lines if line.startswith("sen12ms ")).split()[1:] == [
        *("SEN12MS", "510", "GB", "CC-BY-4.0", "by", "hand"),
    ]
    for word in ("simulated-dfc2020", "dfc2020/capetown-autumn", "251 more scenes", "253 more countries"):
        assert any(word in line for line in lines), word


def test_all_regions_are_one_line_each(landmeta: Landmeta) -> None:
    lines = landmeta("catalog", "list", "--regions").out.splitlines()
    assert len(lines) == 1 + 7 + 252 + 254
    assert sum(line.startswith("sen12ms/") for line in lines) == 252
    rows = json.loads(landmeta("catalog", "list", "--regions", "--json").out)
    assert rows[0]["name"] == "dfc2020/bandaranzali-autumn"
    assert {row["kind"] for row in rows} == {"catalogue", "country"}


def test_json_gives_the_stac_records(landmeta: Landmeta) -> None:
    records = json.loads(landmeta("catalog", "list", "--json").out)
    assert {record["type"] for record in records} == {"Collection"}
    record = json.loads(landmeta("catalog", "show", "EuroSAT", "--json").out)
    assert record in records
    assert record["assets"]["archive"]["file:size"] == 2_065_402_329


def test_a_dataset_shows_licence_bands_classes_splits_and_steps(landmeta: Landmeta) -> None:
    page = landmeta("catalog", "show", "sen12ms").out
    for word in (
        "CC-BY-4.0",
        "10.14459/2019mp1474000",
        "B8A",
        "864.8",
        "17 Water bodies",
        "train 162,555, test 18,106",
        "landmeta ingest sen12ms",
    ):
        assert word in page, word


def test_a_region_shows_its_place_and_parts(landmeta: Landmeta) -> None:
    page = landmeta("catalog", "show", "sen12ms/fall-122").out
    assert "Australia, 33.72 S 151.34 E" in page
    assert "train of official, holdout of regions" in page
    assert "--region KE" not in landmeta("catalog", "show", "ke").out.replace("--region Kenya", "")
    kenya = json.loads(landmeta("catalog", "show", "ke", "--json").out)
    assert (kenya["name"], kenya["codes"]) == ("Kenya", ["KE", "KEN"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Kenia", "did you mean Kenya?"),
        ("sen12", "did you mean sen12ms?"),
        ("dfc2020/cape", "did you mean dfc2020/capetown-autumn?"),
        ("?!", "there are dfc2020, eurosat"),
    ],
)
def test_an_unknown_name_is_one_line_with_what_may_be_meant(
    name: str, meant: str, landmeta: Landmeta
) -> None:
    error, hint = one_error(landmeta("catalog", "show", name))
    assert repr(name) in error
    assert meant in hint


def test_fetch_by_hand_is_one_line_with_page_and_folder(landmeta: Landmeta, tmp_path: Path) -> None:
    error, hint = one_error(landmeta("catalog", "fetch", "sen12ms", "--out", tmp_path / "here"))
    assert error.startswith("SEN12MS (510 GB) has to be downloaded by hand from https://mediatum.ub.tum.de")
    assert error.endswith(f"into {tmp_path / 'here'}")
    assert "landmeta catalog show sen12ms" in hint
    assert not (tmp_path / "here").exists()


def test_fetch_goes_to_the_cache_folder_by_default(
    landmeta: Landmeta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANDMETA_CACHE", str(tmp_path))
    error, _ = one_error(landmeta("catalog", "fetch", "dfc2020"))
    assert error.endswith(f"into {tmp_path / 'dfc2020'}")


def test_numbers_for_a_simulation_are_refused_elsewhere(landmeta: Landmeta) -> None:
    error, _ = one_error(landmeta("catalog", "fetch", "eurosat", "--patches", 3))
    assert "not simulated" in error


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a simulated DFC2020, one patch a region."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_dfc2020(folder / "archive", 1, patches=1)
    assert run(["ingest", "dfc2020", str(folder / "archive"), "--out", str(folder / "store")]) == 0
    return folder / "store"


def test_fetch_simulates_and_says_what_comes_next(landmeta: Landmeta, tmp_path: Path) -> None:
    out = tmp_path / "made"
    said = landmeta("catalog", "fetch", "simulated-dfc2020", "--patches", 1, "--seed", 1, "--out", out)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == f"Next: landmeta ingest dfc2020 {out} --out STORE"
    found = json.loads(
        landmeta(
            *("catalog", "fetch", "simulated-dfc2020", "--patches", 1, "--seed", 1, "--out", out, "--json")
        ).out
    )
    assert (found["dataset"], found["folder"]) == ("simulated-dfc2020", str(out))
    assert len(list(out.glob("ROIs0000_*/dfc_*/*.tif"))) == 7


def test_a_store_shows_its_classes_by_region(store: Path, landmeta: Landmeta) -> None:
    lines = landmeta("catalog", "show", store).out.splitlines()
    assert lines[0].startswith(f"dfc2020 in {store}: 28 tiles, ")
    assert lines[0].endswith("7 region-seasons")
    assert lines[2].split()[:4] == ["region", "season", "tiles", "max"]
    assert lines[3].split()[:3] == ["BandarAnzali", "autumn", "4"]
    assert lines[10].split()[:2] == ["all", "28"]
    assert landmeta("catalog", "show", store / "dfc2020").out.splitlines() == lines
    found = json.loads(landmeta("catalog", "show", store, "--json").out)["datasets"][0]
    assert (found["dataset"], found["tiles"], len(found["regions"])) == ("dfc2020", 28, 7)
    for row in found["regions"]:
        assert sum(row["classes"].values()) == row["tiles"] == 4


def test_a_dataset_that_the_store_lacks_is_one_line(store: Path, landmeta: Landmeta) -> None:
    error, hint = one_error(landmeta("catalog", "show", store / "eurosat"))
    assert "no finished dataset 'eurosat'" in error
    assert hint == "its datasets are dfc2020"


def test_few_regions_stand_in_columns_with_shares() -> None:
    table = counts([("", "")], EUROSAT, [{"Forest": 75, "River": 25}])
    assert class_page("toy in store", table, EUROSAT).splitlines() == [
        "toy in store: 100 tiles, 2 of 10 classes",
        "",
        "class   tiles  share",
        "Forest     75   75 %",
        "River      25   25 %",
        "all       100",
    ]


def test_many_regions_stand_in_rows_as_wide_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"Forest": 12_345 * (i + 1), "Snow/Ice": i, "Water": 1_000} for i in range(6)]
    table = counts([(f"Somewhere{i}", "autumn") for i in range(6)], DFC2020, rows)
    table += 1_000
    heads = {}
    for width in (NARROW, WIDE):
        monkeypatch.setenv("COLUMNS", str(width))
        page = class_page("toy", table, DFC2020).splitlines()
        assert max(map(len, page)) <= width
        heads[width] = page[2].split()
    codes = [str(code) for code in DFC2020.codes]
    assert heads[NARROW] == ["region", "season", "tiles", *codes]
    assert heads[WIDE] == ["region", "season", "tiles", "max", *codes]
    few = table[["Forest", "Water"]].reindex(columns=table.columns, fill_value=0)
    assert class_page("toy", few, DFC2020).splitlines()[2].split() == [
        *("region", "season", "tiles", "max", "Forest", "Water")
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (12, "12 B"),
        (94_658_721, "95 MB"),
        (2_065_402_329, "2.1 GB"),
        (510_000_000_000, "510 GB"),
    ],
)
def test_sizes_read_well(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_a_country_that_the_imagery_lies_in_is_mapped_whole(scene: Scene) -> None:
    inputs = read_inputs(AdaptRequest(region="de", imagery=(scene.imagery,), scale=1e-4, labels=scene.labels))
    assert inputs.region == "Germany"
    assert inputs.mapped.grid == inputs.imagery.grid
    assert inputs.outline is not None


def test_a_country_that_the_imagery_misses_is_refused(scene: Scene) -> None:
    request = AdaptRequest(region="Kenya", imagery=(scene.imagery,), scale=1e-4, labels=scene.labels)
    with pytest.raises(RegionError, match="misses the imagery"):
        read_inputs(request)


def test_imagery_across_a_border_is_clipped_to_the_country(scene: Scene, tmp_path: Path) -> None:
    """A square of 40 km around the bridge from Strasbourg to Kehl, in UTM zone 32."""
    path = tmp_path / "rhine.tif"
    write_raster(path, np.full((4, 64, 64), 800, np.uint16))
    with rasterio.open(path, "r+") as file:
        file.transform = Affine(625, 0, 391_000, 0, -625, 5_401_000)
    imagery = open_imagery([path], scale=1e-4)
    shares = {}
    for name in ("France", "DE"):
        region = resolved(name)
        mapped, outline = clip(imagery, region), outline_of(region)
        assert outline is not None
        rows, cols = mapped.shape
        empty = np.zeros((rows, cols), np.uint16)
        block = MapBlock(0, 0, np.ones((rows, cols), np.uint8), empty[None], empty)
        (inside,) = keep_inside([block], outline, mapped.grid)
        shares[name] = (inside.codes == 1).sum() / 64**2
    assert 0.2 < shares["France"] < 0.8
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
