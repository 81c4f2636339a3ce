"""Every table and figure of the five papers is a suite that says whether it can be run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from landmeta.bench.registry import RUNNABLE, papers, runnable_suite, suite, suites
from landmeta.errors import BenchError
from landmeta.norms import NORMS


def test_every_suite_belongs_to_a_paper_and_says_what_it_lacks() -> None:
    names = [entry.name for entry in suites()]
    assert len(set(names)) == len(names) == 46
    assert {name[:3] for name in names} == {paper.name for paper in papers()}
    assert [entry.name for entry in suites() if entry.runnable] == ["000/table1a", "000/table1b"]
    assert all(entry.state for entry in suites())


def test_the_printed_numbers_of_the_main_tables() -> None:
    table = suite("000/table1a")
    assert table.printed("transd. BN", "dfc2020") == 0.26
    assert table.printed("instancen. (IN)", "dfc2020") == 0.8
    assert table.printed("no normalization", "sen12ms") is None
    assert suite("004/table6").printed("1-shot", "IN") == 52.17


def test_the_rows_to_run_name_norms_that_exist() -> None:
    methods = [method for entry in suites() if entry.runnable for method in entry.methods]
    assert len(methods) == 10
    assert {method.norm for method in methods} <= set(NORMS)


@pytest.mark.parametrize(
    ("name", "words"), [("000/table1", "000/table1"), ("002/table1", "EfficientLab"), ("000/fig1", "picture")]
)
def test_a_suite_that_cannot_be_run_says_why(name: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        runnable_suite(name)


@pytest.mark.parametrize("name", ["000/fig", "000/fig1", "table1b", "000/Table1B", "004/table7", "x"])
def test_a_hint_names_suites_that_can_be_run(name: str) -> None:
    with pytest.raises(BenchError) as caught:
        runnable_suite(name)
    named = set(re.findall(r"\d{3}/\w+", caught.value.hint))
    assert named == set(RUNNABLE)
    if name.casefold().endswith("1b"):
        assert "did you mean 000/table1b?" in caught.value.hint


@pytest.mark.real
def test_the_registry_holds_every_table_and_figure_listed(data: Path) -> None:
    lines = (data.parent / "paper_tables.yaml").read_text(encoding="utf-8").splitlines()
    listed = sum(line.startswith("  - id: ") for line in lines)
    assert len(suites()) == listed
