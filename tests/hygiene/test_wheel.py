"""What the wheel holds: the four packages, all their files, nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = {
    "landmeta": "landmeta",
    "landmeta_cli": "cli/landmeta_cli",
    "landmeta_catalog": "data_catalog/landmeta_catalog",
    "landmeta_maps": "maps/landmeta_maps",
}
SOURCE_ROOTS = ("cli", "data_catalog", "maps")
BUILD_FILES = ("pyproject.toml", ".gitignore", "README.md", "LICENSE")
# One of every kind of file that a package may ship, in places where a careless ignore line would hit.
PLANTED = (
    "landmeta/planted.safetensors",
    "landmeta/checkpoints/planted.safetensors",
    "landmeta/data/planted.json",
    "landmeta/runs/planted.csv",
    "landmeta_catalog/build/planted.toml",
    "landmeta_catalog/planted.tif",
    "landmeta_maps/templates/planted.html.j2",
    "landmeta_maps/dist/planted.js",
)


def on_disk(name: str) -> Path:
    """Path, relative to the root, of the file that the wheel holds as `name`."""
    package, _, rest = name.partition("/")
    return Path(PACKAGES[package], rest)


def shipped(root: Path) -> set[str]:
    """Names that the wheel should hold for the package files under `root`, caches left out."""
    return {
        f"{package}/{path.relative_to(root / folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the build reads, with a planted file of every kind."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in BUILD_FILES:
        shutil.copy(root / name, copy / name)
    for folder in PACKAGES.values():
        shutil.copytree(root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in PLANTED:
        path = copy / on_disk(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("planted")
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel built from the copy with the installed hatchling: no network, no isolation."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.Path(path)


def names(wheel: zipfile.Path) -> set[str]:
    """Files of the packages in the wheel (its metadata left out)."""
    return {name for name in wheel.root.namelist() if ".dist-info/" not in name}


def test_the_top_level_of_the_wheel_is_exactly_the_four_packages(wheel: zipfile.Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == set(PACKAGES)


def test_every_file_of_a_package_reaches_the_wheel(checkout: Path, wheel: zipfile.Path) -> None:
    assert shipped(checkout) - names(wheel) == set()


def test_a_planted_checkpoint_reaches_the_wheel(wheel: zipfile.Path) -> None:
    assert set(PLANTED) <= names(wheel)


def test_the_wheel_marks_every_package_as_typed(wheel: zipfile.Path) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= names(wheel)


def test_the_wheel_installs_the_command_and_the_licence(wheel: zipfile.Path) -> None:
    (info,) = (path for path in wheel.iterdir() if path.name.endswith(".dist-info"))
    assert "landmeta = landmeta_cli.app:main" in (info / "entry_points.txt").read_text()
    assert (info / "licenses" / "LICENSE").is_file()


@pytest.mark.parametrize("folder", SOURCE_ROOTS)
def test_a_source_root_is_no_package(root: Path, folder: str) -> None:
    assert not (root / folder / "__init__.py").exists()
    assert [p.name for p in (root / folder).glob("*.py")] == []
