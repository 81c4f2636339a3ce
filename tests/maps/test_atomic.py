from __future__ import annotations

from pathlib import Path

import pytest

from landmeta.errors import OutputError
from landmeta_maps._atomic import replacing, write_text


def _die_while_writing(path: Path) -> None:
    with replacing(path) as part:
        part.write_text("half")
        msg = "killed"
        raise RuntimeError(msg)


def test_a_write_that_dies_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "map.html"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="killed"):
        _die_while_writing(path)
    assert [p.name for p in tmp_path.iterdir()] == ["map.html"]
    assert path.read_text() == "old"


def test_the_temporary_file_lies_in_the_same_folder_so_that_the_rename_is_atomic(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.tif") as part:
        part.touch()
        assert part.parent == tmp_path
        assert not (tmp_path / "a.tif").exists()
    assert (tmp_path / "a.tif").exists()


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write") as caught:
        write_text(tmp_path / "missing" / "map.html", "text")
    assert "--out" in caught.value.hint
