"""What decides the bytes of finished blocks: a run goes on only where all of it is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from landmeta.checkpoints import load_ensemble
from landmeta.raster import Imagery, open_imagery
from landmeta_cli.mapping import map_plan


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda i: replace(i, bands=replace(i.bands, scale=2e-4)), {"bands"}),
        (lambda i: replace(i, bands=replace(i.bands, offset=-0.1)), {"bands"}),
        (lambda i: i.pick(("B03", "B02", "B04", "B08")), {"bands"}),
        (lambda i: replace(i, origin=(8, 0)), {"origin"}),
        (lambda i: replace(i, grid=i.grid.pad(8)), {"grid"}),
    ],
)
def test_imagery_read_otherwise_makes_another_plan(
    adapted: Path, change: Callable[[Imagery], Imagery], named: set[str]
) -> None:
    model = load_ensemble(adapted / "model")
    imagery = open_imagery(adapted.parent / "scene.tif", scale=1e-4)
    before, after = (map_plan(model, adapted / "model", i, "cpu") for i in (imagery, change(imagery)))
    assert {key for key in before if before[key] != after[key]} == named
