"""What an import costs, what it exports, and who may import whom."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import landmeta

HEAVY = {"torch", "rasterio", "geopandas", "sklearn", "xarray"}

HELP = """
import sys
from landmeta_cli.app import main
sys.argv = ["landmeta", "--help"]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
"""
LOADED = "\nimport json, sys\nprint('\\n' + json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))\n"


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after it ran `code`."""
    command = [sys.executable, "-c", code + LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def typed_exports() -> dict[str, str]:
    """Exports that `landmeta/__init__.py` shows to type checkers: name -> module."""
    tree = ast.parse(Path(landmeta.__file__).read_text(encoding="utf-8"))
    guarded = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: (statement.module or "").removeprefix("landmeta.")
        for block in guarded
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


@pytest.mark.parametrize("code", ["import landmeta", HELP], ids=["import landmeta", "landmeta --help"])
def test_the_front_door_loads_no_heavy_library(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_a_lazy_export_loads_its_module_on_first_use() -> None:
    assert "sklearn" in loaded_by("import sklearn"), "the probe itself sees what is loaded"
    assert loaded_by("import landmeta; landmeta.Legend") & HEAVY == set()


def test_type_checkers_see_the_exports_that_run_time_has() -> None:
    assert typed_exports() == landmeta._HOMES


@pytest.mark.parametrize("name", sorted(landmeta._HOMES))
def test_an_export_is_there(name: str) -> None:
    assert getattr(landmeta, name).__module__ == f"landmeta.{landmeta._HOMES[name]}"
    assert name in dir(landmeta)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'adpat_region'"):
        landmeta.adpat_region  # noqa: B018


def test_no_export_shares_the_name_of_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(landmeta.__path__)}
    assert set(landmeta._HOMES) & modules == set()


def test_the_layers_are_kept(root: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
