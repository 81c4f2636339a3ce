"""`landmeta bench` says what it cannot score and prints one row a task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from landmeta_cli.bench import acceptance_table

from .conftest import Said

Landmeta = Callable[..., Said]
ROW = {
    "task": "hls-5px",
    "units": 17,
    "ours": 0.5561,
    "random_forest": 0.5391,
    "diff": 0.017,
    "diff_ci95": [-0.004, 0.038],
    "seen": "clusters not seen",
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "no acceptance task can run"), (("--task", "mars-5px"), "mars-5px"), (("--seeds", "0"), "seeds")],
)
def test_a_folder_or_task_that_cannot_be_scored_is_one_error_line(
    arguments: tuple[str, ...], words: str, tmp_path: Path, landmeta: Landmeta
) -> None:
    said = landmeta("bench", "acceptance", "--data", tmp_path, *arguments)
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert (said.code, said.out, len(errors)) == (2, "", 1)
    assert words in errors[0]


def test_the_table_shows_the_paired_difference_with_its_sign() -> None:
    lines = acceptance_table([ROW]).splitlines()
    assert lines[1].split() == ["hls-5px", "17", "0.556", "0.539", "+0.017", "-0.004..+0.038"]
    assert lines[-1] == "hls-5px: clusters not seen"


@pytest.mark.real
def test_a_task_on_real_data_is_one_json_row_with_the_fields_of_the_protocol(
    data: Path, landmeta: Landmeta
) -> None:
    said = landmeta("bench", "acceptance", "--data", data, "--task", "hls-5px", "--seeds", 1, "--json")
    assert said.code == 0, said.err
    (row,) = json.loads(said.out)
    fields = "task units n seeds metric ours random_forest diff diff_ci95 seen"
    assert set(row) == set(fields.split())
    assert (row["task"], row["units"]) == ("hls-5px", 17)
