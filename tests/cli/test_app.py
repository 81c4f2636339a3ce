"""The front door: help, version, wrong use."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import landmeta as library

from .conftest import Said

Landmeta = Callable[..., Said]


def test_version_is_that_of_the_library(landmeta: Landmeta) -> None:
    assert landmeta("--version") == Said(0, f"landmeta {library.__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("bench",), ("adapt", "--help")])
def test_help_is_a_result_on_stdout(arguments: tuple[str, ...], landmeta: Landmeta) -> None:
    said = landmeta(*arguments)
    assert (said.code, said.err) == (0, "")
    assert "Usage: landmeta" in said.out


@pytest.mark.parametrize("verb", [("adapt",), ("bench", "acceptance"), ("bench", "speed")])
def test_the_help_of_a_verb_has_an_example_to_copy(verb: tuple[str, ...], landmeta: Landmeta) -> None:
    assert f"Example: landmeta {' '.join(verb)} --" in landmeta(*verb, "--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("frob",), "frob"),
        (("adapt", "--frob"), "--frob"),
        (("adapt", "--seed", "-1"), "seed"),
        (("adapt", "--scale", "tiny"), "scale"),
        (("adapt", "--effort", "fast"), "'--effort': 'fast' is not one of 'quick', 'standard'"),
        (("adapt", "--region"), "region"),
        (("bench", "acceptance"), "data"),
    ],
)
def test_wrong_use_is_one_line_and_says_where_help_is(
    arguments: tuple[str, ...], words: str, landmeta: Landmeta
) -> None:
    said = landmeta(*arguments)
    assert (said.code, said.out) == (2, "")
    error, hint = said.err.splitlines()
    assert re.match(rf"error: .*{words}", error)
    assert re.match(r"hint: landmeta.* --help", hint)


@pytest.mark.parametrize("verb", [("adapt",), ("bench", "acceptance"), ("bench",)])
def test_the_help_of_a_verb_loads_no_heavy_library(verb: tuple[str, ...]) -> None:
    code = (
        f"import sys; from landmeta_cli.app import run; run({[*verb, '--help']!r});"
        "sys.exit(bool({'torch', 'rasterio', 'geopandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
