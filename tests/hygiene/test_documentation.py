"""The documentation names every verb of the command line, and no verb that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from landmeta_cli.app import app


def commands(group: object, prefix: str = "landmeta") -> dict[str, str]:
    """Every command under `group` with its help text: `landmeta bench speed` -> help."""
    found: dict[str, str] = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        path = f"{prefix} {name}"
        if hasattr(command, "commands"):
            found |= commands(command, path)
        elif not command.hidden:
            found[path] = command.help or ""
    return found


VERBS = commands(typer.main.get_group(app))


@pytest.fixture(scope="module")
def guide(root: Path) -> str:
    """README and user guide as one text (the decision records tell of plans, so they do not count)."""
    pages = [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        *sorted((root / "docs" / "guide").glob("*.md")),
    ]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_documented_and_has_a_help_text(verb: str, guide: str) -> None:
    assert re.search(rf"\b{verb}\b", guide), f"`{verb}` stands neither in README.md nor in docs/*.md"
    assert VERBS[verb].strip()


def test_every_command_line_in_the_guide_calls_a_verb_that_exists(guide: str) -> None:
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    calls = re.findall(r"^(?:\$ )?(landmeta [a-z]+(?: [a-z0-9]+)?)", "\n".join(blocks), flags=re.MULTILINE)
    assert calls, "the guide shows no command line"
    unknown = [c for c in calls if not any(c == v or c.startswith(f"{v} ") for v in VERBS)]
    assert unknown == []
