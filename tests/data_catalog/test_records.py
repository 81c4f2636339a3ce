"""The records are valid STAC Collections and agree with what the library knows of bands and legends."""

from __future__ import annotations

import json
from typing import Any

import pystac
import pytest
from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from landmeta.bands import KNOWN, SENTINEL2, BandSet
from landmeta.errors import DataError
from landmeta.legend import DFC2020, EUROSAT, IGBP_TO_DFC2020, Legend
from landmeta_catalog.archives import KINDS
from landmeta_catalog.records import checksum, read_record, record_names

CORE = "https://schemas.stacspec.org/v1.1.0/collection-spec/json-schema/collection.json"
NAMES = record_names()
EXTENSIONS = {
    "eo": "eo:",
    "raster": "raster:",
    "classification": "classification:",
    "scientific": "sci:",
    "file": "file:",
}
DATASETS = {
    "dfc2020",
    "eurosat",
    "eurosat-rgb",
    "folder",
    "sen12ms",
    "simulated-dfc2020",
    "simulated-sen12ms",
}


def validator() -> Draft7Validator:
    schemas = get_local_schema_cache()
    known = Registry().with_resources([(uri, Resource.from_contents(s)) for uri, s in schemas.items()])
    return Draft7Validator(schemas[CORE], registry=known)


def keys(value: Any) -> set[str]:
    """Every key of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys(item)}
    return {key for item in value for key in keys(item)} if isinstance(value, list) else set()


def classes(asset: dict[str, Any]) -> list[tuple[int, str, str]]:
    return [(c["value"], c["title"], f"#{c['color_hint'].lower()}") for c in asset["classification:classes"]]


def rows(legend: Legend) -> list[tuple[int, str, str]]:
    return [(c.code, c.name, c.color) for c in legend]


def test_the_catalogue_has_its_seven_datasets() -> None:
    assert set(NAMES) == DATASETS


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_a_valid_stac_collection_without_a_network(name: str) -> None:
    record = read_record(name)
    assert list(validator().iter_errors(record.stac)) == []
    collection = pystac.Collection.from_dict(dict(record.stac))
    assert collection.id == name
    assert collection.to_dict(include_self_link=False)["landmeta:obtain"] == record.stac["landmeta:obtain"]


def test_the_schema_check_can_fail() -> None:
    broken = dict(read_record("eurosat").stac) | {"license": 3}
    assert list(validator().iter_errors(broken))


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_extensions_and_extensions_go_together(name: str) -> None:
    stac = dict(read_record(name).stac)
    declared = {url.split("/")[3] for url in stac["stac_extensions"]}
    used = {ext for ext, prefix in EXTENSIONS.items() if any(key.startswith(prefix) for key in keys(stac))}
    assert declared == used
    prefixed = {key.partition(":")[0] for key in keys(stac) if ":" in key}
    assert prefixed <= {prefix.rstrip(":") for prefix in EXTENSIONS.values()} | {"landmeta"}


@pytest.mark.parametrize("name", NAMES)
def test_bands_are_canonical_with_the_wavelengths_that_the_library_has(name: str) -> None:
    for asset in read_record(name).stac["item_assets"].values():
        bands = [band for band in asset.get("bands", []) if band["name"] in KNOWN]
        names = BandSet(tuple(band["name"] for band in bands))
        for band, wavelength in zip(bands, names.wavelengths, strict=True):
            assert band.get("eo:center_wavelength") == (wavelength and pytest.approx(wavelength / 1000))


def test_sentinel2_bands_stand_in_the_order_of_the_files() -> None:
    for name in ("sen12ms", "dfc2020", "simulated-sen12ms", "simulated-dfc2020"):
        s2 = read_record(name).stac["item_assets"]["s2"]
        assert [band["name"] for band in s2["bands"]] == list(SENTINEL2)
        assert (s2["raster:scale"], s2["data_type"]) == (1e-4, "uint16")
    last = read_record("eurosat").stac["item_assets"]["image"]["bands"]
    assert [band["name"] for band in last] == [*(b for b in SENTINEL2 if b != "B8A"), "B8A"]


def test_legends_are_those_of_the_library() -> None:
    dfc = read_record("dfc2020").stac["item_assets"]
    assert classes(dfc["dfc"]) == rows(DFC2020)
    assert classes(read_record("eurosat").stac["item_assets"]["class"]) == rows(EUROSAT)
    igbp = classes(dfc["lc"])
    assert [code for code, *_ in igbp] == list(range(1, len(IGBP_TO_DFC2020)))
    colors = {c.code: c.color for c in DFC2020}
    shared = [code for code, _, color in igbp if color == colors[IGBP_TO_DFC2020[code]]]
    assert len(shared) == len(DFC2020), "the contest took one colour of IGBP for each of its classes"


@pytest.mark.parametrize("name", NAMES)
def test_a_record_tells_licence_size_citation_and_how_to_have_it(name: str) -> None:
    record = read_record(name)
    assert record.license in {"CC-BY-4.0", "MIT", "other"}
    assert record.steps
    assert record.archive in KINDS
    assert record.needs
    if record.how in {"download", "manual"}:
        assert record.size
        assert record.page.startswith("https://")
        assert record.stac["sci:citation"]
        assert record.stac["sci:doi"].startswith("10.")


def test_what_can_be_downloaded_has_size_and_checksum() -> None:
    download = read_record("eurosat").download
    assert download is not None
    assert (download.name, download.size) == ("EuroSAT_MS.zip", 2_065_402_329)
    assert download.checksum == "md5:091174add3c8e680a49244acf185b9f0"
    assert read_record("sen12ms").download is None


def test_checksums_are_multihashes() -> None:
    assert checksum("d50110" + "0" * 32) == "md5:" + "0" * 32
    assert checksum("1220" + "f" * 64) == "sha256:" + "f" * 64
    with pytest.raises(ValueError, match="neither MD5 nor SHA-256"):
        checksum("1114" + "0" * 40)
    archives = read_record("sen12ms").stac["assets"]
    assert len(archives) == 12
    for asset in archives.values():
        kind, _, digest = checksum(asset["file:checksum"]).partition(":")
        assert (kind, len(digest)) == ("md5", 32)


def test_counts_and_splits_add_up() -> None:
    sen12ms = read_record("sen12ms").stac
    official, regions = sen12ms["landmeta:splits"]
    # One of the 180,662 patches is in neither part: its radar is damaged.
    assert sum(official["parts"].values()) == sen12ms["landmeta:tiles"]["count"] - 1
    assert sum(regions["parts"].values()) == 125
    dfc = read_record("dfc2020").stac
    assert sum(dfc["landmeta:splits"][0]["parts"].values()) == dfc["landmeta:tiles"]["count"]
    tiles = read_record("eurosat").stac["landmeta:tiles"]
    assert sum(tiles["by_class"].values()) == tiles["count"]


def test_an_unknown_dataset_has_a_hint() -> None:
    with pytest.raises(DataError, match="'eurosta' is no dataset") as caught:
        read_record("eurosta")
    assert caught.value.hint == "did you mean eurosat?"
    with pytest.raises(DataError) as caught:
        read_record("imagenet-21k")
    assert all(name in caught.value.hint for name in NAMES)


def test_the_case_of_a_name_does_not_count() -> None:
    assert read_record("SEN12MS").name == "sen12ms"


def test_a_file_is_named_after_the_record_in_it() -> None:
    from importlib.resources import files

    for name in NAMES:
        text = (files("landmeta_catalog") / "records" / f"{name}.json").read_text(encoding="utf-8")
        assert json.loads(text)["id"] == name
