"""The report of a run as plain values: what `report.json` holds, `report.html` shows and `--json` prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from landmeta_cli.provenance import version

if TYPE_CHECKING:
    from landmeta.assessment import Comparison, Holdout
    from landmeta.labels import Labels
    from landmeta.legend import Legend
    from landmeta.raster import Imagery
    from landmeta_maps.summary import MapSummary

SCHEMA = 1
_CLEAR = 0.01  # a smaller lead of the forest is no reason to distrust the map


def build_report(
    *,
    region: str,
    command: Iterable[str],
    summary: MapSummary,
    labels: Labels | None,
    comparison: Comparison | None,
    stability: Mapping[str, float] | None,
    timing_s: Mapping[str, float],
    warnings: Iterable[str],
    settings: Mapping[str, Any],
    imagery: Mapping[str, Any],
) -> dict[str, Any]:
    """The report, schema 1 (adding a field is fine, renaming one is not)."""
    holdout = comparison.ours if comparison else None
    return {
        "schema": SCHEMA,
        "region": region,
        "date": datetime.now(UTC).date().isoformat(),
        "version": version(),
        "command": shlex.join(command) or None,
        "classes": _classes(summary, labels, holdout),
        "holdout": holdout.as_report() if holdout else None,
        "random_forest": comparison.rival.as_report() if comparison else None,
        "paired": comparison.as_report() if comparison else None,
        "confusion": _confusion(summary.legend.codes, holdout),
        "stability": {name: round(v, 4) for name, v in stability.items()} if stability else None,
        "timing_s": {stage: round(seconds, 2) for stage, seconds in timing_s.items()},
        "warnings": list(warnings),
        "settings": dict(settings),
        "imagery": dict(imagery),
    }


def imagery_used(imagery: Imagery, *, stored: bool = False) -> dict[str, Any]:
    """How the imagery was read: bands by name, scale, offset and where the scale is from.

    The tiles of a store (`stored`) come as reflectance: no scale and offset were applied to them.
    """
    bands = imagery.bands
    if stored:
        return {"bands": list(bands.names), "scale": None, "offset": None, "scale_from": "store"}
    return {
        "bands": list(bands.names),
        "scale": bands.scale,
        "offset": bands.offset,
        "scale_from": imagery.scale_from,
    }


def verdict(comparison: Comparison) -> str | None:
    """A warning where the forest beats the map on the user's own labels, None otherwise."""
    if comparison.diff >= -_CLEAR:
        return None
    ours, forest = comparison.ours, comparison.rival
    sure = comparison.diff_ci95[1] < 0
    return (
        f"a random forest on the pixels' reflectances {'is better' if sure else 'scored higher'} on the same "
        f"folds: {forest.value:.3f} against {ours.value:.3f} {ours.metric}"
        f"{'' if sure else ', but these labels do not tell which of them is better'}"
    )


def unheld(legend: Legend, holdout: Holdout) -> list[str]:
    """A warning of the classes of which the accuracy says nothing; none where all were held out."""
    names = [entry.name for entry in legend if not holdout.support.get(entry.code)]
    if not names:
        return []
    listed = ", ".join(map(repr, names))
    return [f"no accuracy for {listed}: it takes two polygons, patches or tiles of a class to hold one out"]


def _classes(summary: MapSummary, labels: Labels | None, holdout: Holdout | None) -> list[dict[str, Any]]:
    areas = dict(zip(summary.legend.codes, summary.areas_ha, strict=True))
    recall = holdout.recall if holdout else {}
    return [
        {
            "code": c.code,
            "name": c.name,
            "color": c.color,
            "area_ha": round(areas[c.code], 4),
            "support": int((labels.codes == c.code).sum()) if labels else None,
            "tested": holdout.support.get(c.code, 0) if holdout else 0,
            "recall": round(recall[c.code], 4) if c.code in recall else None,
        }
        for c in summary.legend
    ]


def _confusion(codes: Sequence[int], holdout: Holdout | None) -> list[list[int]] | None:
    """Counts by label (row) and map (column) in the order of the legend."""
    if holdout is None:
        return None
    counts = np.zeros((len(codes), len(codes)), np.int64)
    at = [codes.index(code) for code in holdout.codes]
    counts[np.ix_(at, at)] = holdout.confusion
    found: list[list[int]] = counts.tolist()
    return found
