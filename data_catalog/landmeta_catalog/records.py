"""What datasets exist: one record each, a STAC Collection in `records/NAME.json`.

Fields with the prefix `landmeta:` are our own: `tiles` (count, unit, side in pixels, classes), `size` (bytes,
and of what), `splits`, `checksums`, and `obtain`, which says how the data is had (`download`, `manual`,
`simulate` or `own`), by which name `landmeta ingest` reads it (`archive`), which files show that it is there
(`needs`) and what a person has to do (`steps`). `unverified` names what could not be checked at its source.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from landmeta.errors import DataError

How = Literal["download", "manual", "simulate", "own"]

_HASHES = {"d50110": "md5", "1220": "sha256"}
"""Multihash prefixes (code and length, hexadecimal), as `file:checksum` has them."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file to fetch: its size in bytes and its checksum, `md5:...` or `sha256:...`."""

    url: str
    name: str
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Record:
    """A dataset of the catalogue; `stac` is the whole record, the properties what is needed most."""

    name: str
    stac: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def title(self) -> str:
        """Name as people write it."""
        return str(self.stac["title"])

    @property
    def license(self) -> str:
        """SPDX identifier, or `other`."""
        return str(self.stac["license"])

    @property
    def size(self) -> int | None:
        """Bytes to download, None where nothing is."""
        size: int | None = self.stac["landmeta:size"]["bytes"]
        return size

    @property
    def how(self) -> How:
        """How the data is had."""
        how: How = self.stac["landmeta:obtain"]["how"]
        return how

    @property
    def archive(self) -> str:
        """What `landmeta ingest` calls its layout."""
        return str(self.stac["landmeta:obtain"]["archive"])

    @property
    def needs(self) -> str:
        """Pattern of files, relative to the dataset's folder, by which one sees that it is there."""
        return str(self.stac["landmeta:obtain"]["needs"])

    @property
    def steps(self) -> tuple[str, ...]:
        """What to do to have the data, in sentences."""
        return tuple(self.stac["landmeta:obtain"]["steps"])

    @property
    def unpacked(self) -> str:
        """Folder that a downloaded archive unpacks to; "" where nothing is downloaded."""
        return str(self.stac["landmeta:obtain"].get("folder", ""))

    @property
    def download(self) -> Download | None:
        """The file that `landmeta catalog fetch` downloads, None where there is none."""
        key = self.stac["landmeta:obtain"].get("asset")
        if key is None:
            return None
        asset = self.stac["assets"][key]
        return Download(asset["href"], asset["title"], asset["file:size"], checksum(asset["file:checksum"]))

    @property
    def page(self) -> str:
        """Address of the landing page, "" where there is none."""
        return next((str(link["href"]) for link in self.stac["links"] if link["rel"] == "about"), "")


def record_names() -> tuple[str, ...]:
    """Names of all datasets, in alphabetical order."""
    folder = files(__package__) / "records"
    found = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in found if name.endswith(".json")))


@cache
def read_record(name: str) -> Record:
    """The record of a dataset; case does not count.

    Raises:
        DataError: there is no such dataset; the hint has similar names.
    """
    wanted, names = name.strip().lower(), record_names()
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, cutoff=0.5)
        msg = f"{name!r} is no dataset of the catalogue"
        raise DataError(msg, f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}")
    text = (files(__package__) / "records" / f"{wanted}.json").read_text(encoding="utf-8")
    return Record(wanted, json.loads(text))


def checksum(multihash: str) -> str:
    """`md5:...` or `sha256:...` of a hexadecimal multihash.

    Raises:
        ValueError: another kind of hash.
    """
    for prefix, kind in _HASHES.items():
        if multihash.startswith(prefix):
            return f"{kind}:{multihash.removeprefix(prefix)}"
    msg = f"the multihash {multihash!r} is neither MD5 nor SHA-256"
    raise ValueError(msg)
