"""What went into a run: inputs and outputs with checksums, command, versions, seed and commit."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import landmeta
from landmeta.checksums import sha256

SCHEMA = 1
_PACKAGES = ("numpy", "torch", "rasterio", "geopandas", "odc-geo", "scikit-learn", "scipy")
_SIDECARS = (".shx", ".dbf", ".prj", ".cpg")  # a shapefile is several files


def version() -> str:
    """Version of the installed landmeta."""
    return landmeta.__version__


def provenance(
    *,
    command: Iterable[str],
    inputs: Iterable[Path],
    outputs: Iterable[Path],
    folder: Path,
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a run.

    Args:
        command: The command line, word by word.
        inputs: Files and folders that were read.
        outputs: Files that were written, in `folder`.
        folder: The run folder.
        seed: Of every random draw.
        settings: What else decides the result.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "inputs": [_input(path) for path in inputs],
        "outputs": {str(p.relative_to(folder)): sha256(p) for p in sorted(outputs)},
        "seed": seed,
        "settings": dict(settings),
        "versions": versions(),
        "commit": commit(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, landmeta and the libraries that decide a result."""
    found = {"python": platform.python_version(), "landmeta": version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Commit of the landmeta checkout that runs, `-dirty` if edited; None if installed from a wheel."""
    package = Path(landmeta.__file__).resolve().parent
    # A virtual environment may lie inside some other project's checkout: only our own pyproject counts.
    project = package.parent / "pyproject.toml"
    if not (project.is_file() and 'name = "landmeta"' in project.read_text(encoding="utf-8")):
        return None
    try:
        return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _input(path: Path) -> dict[str, Any]:
    base = path if path.is_dir() else path.parent
    names = ((p.relative_to(base) if p.is_relative_to(base) else p, p) for p in _files(path))
    return {"path": str(path), "files": {str(name): sha256(p) for name, p in names}}


def _files(path: Path) -> list[Path]:
    """Files of a folder, or a file with the parts that belong to it."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    if path.suffix.lower() == ".vrt":
        from landmeta.raster import drawn_on

        return [path, *drawn_on(path)]
    parts = [path.with_suffix(s) for s in _SIDECARS] if path.suffix.lower() == ".shp" else []
    return [path, *(p for p in parts if p.is_file())]


def _git(folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip() or None
