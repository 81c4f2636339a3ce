"""Run folders of text files."""

from __future__ import annotations

import json
from pathlib import Path

from landmeta_cli.run_folder import MARK, check_target, staged


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write the text files of a run into a folder, and its provenance."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / MARK).write_text(json.dumps({"outputs": dict.fromkeys(files, "")}))


def write_run(out: Path, files: dict[str, str]) -> None:
    """Make a run of text files in `out`."""
    with staged(out) as folder:
        write_files(folder, files)


def again(out: Path, files: dict[str, str], *, overwrite: bool = False, resume: bool = False) -> None:
    """Check `out` and write a run to it."""
    check_target(out, overwrite=overwrite, resume=resume)
    with staged(out, resume=resume) as folder:
        left = {p.relative_to(folder).parts[0] for p in folder.rglob("*")}
        assert left <= {"blocks", ".owner"}
        write_files(folder, files)


def content(out: Path) -> dict[str, str]:
    """Text of every file under `out`, without its provenance."""
    return {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file() and p.name != MARK}
