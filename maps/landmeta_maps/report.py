"""The report of a run: `report.json` for programs, `report.html` for people, of the same values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from landmeta_maps._atomic import write_text
from landmeta_maps._report_words import (
    citing_words,
    describe_rival,
    estimate_words,
    origin_words,
    setting_rows,
)
from landmeta_maps.areas import share_text
from landmeta_maps.color import class_table, ink, true_color
from landmeta_maps.picture import palette_png, rgba_png, true_color_overview
from landmeta_maps.summary import MapSummary
from landmeta_maps.tile_scores import tile_rows, tile_words

if TYPE_CHECKING:
    from landmeta.raster import Imagery

SCHEMA = 1
REQUIRED = ("region", "classes", "holdout", "random_forest", "stability", "timing_s", "warnings")
"""Fields that a report must have; `holdout`, `random_forest` and `stability` may be None."""

_CLASS_FIELDS = ("code", "name", "color", "area_ha", "support", "recall")
_SCORE_FIELDS = ("metric", "value", "ci95", "block", "folds", "n")
_THUMBNAIL = 900


def write_report(
    report: Mapping[str, Any],
    path: Path,
    *,
    summary: MapSummary | None = None,
    imagery: Imagery | None = None,
) -> None:
    """Write the page to `path` (report.html) and the values beside it (same name, `.json`).

    `report` has the fields of `REQUIRED`, each as in the run folder's schema 1: `classes` a list of
    {code, name, color, area_ha, support, recall}, `holdout` and `random_forest` each {metric, value, ci95,
    block, folds, n}, `stability` a mapping of names to shares 0..1, `timing_s` of stages to seconds.
    Understood besides: `title`, `date`, `version`, `command`, `settings` (mapping), `imagery` {bands, scale,
    offset, scale_from} as it was read, `confusion` (rows are labels, columns the map, in the order of
    `classes`), `unlabelled_tiles` {shots, apart, all, left_out, with_left_out} with n, accuracy and
    balanced_accuracy in each but `shots` and the number `left_out`, `model_from` {region, holdout} where the
    model was adapted in another run, `paired` {diff, ci95} (ours less the forest), `citation`.
    Numbers that are not finite become null. The pictures need `summary` and `imagery`. Everything is
    inside the page: it opens anywhere and prints.

    Raises:
        ValueError: a field is missing.
        OutputError: the files cannot be written.
    """
    values = _plain({"schema": SCHEMA} | dict(report))
    _check(values)
    write_text(path.with_suffix(".json"), json.dumps(values, indent=2, allow_nan=False) + "\n")
    write_text(path, _render(values, _pictures(summary, imagery)))


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: numpy and tuples become Python's own, NaN and infinity None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _check(values: Mapping[str, Any]) -> None:
    missing = [name for name in REQUIRED if name not in values]
    for item in values.get("classes", ()):
        missing += [f"classes[].{name}" for name in _CLASS_FIELDS if name not in item]
    for score in ("holdout", "random_forest"):
        missing += [
            f"{score}.{name}" for name in _SCORE_FIELDS if name not in (values.get(score) or _SCORE_FIELDS)
        ]
    if missing:
        msg = f"the report lacks {', '.join(sorted(set(missing)))}"
        raise ValueError(msg)


def _pictures(summary: MapSummary | None, imagery: Imagery | None) -> list[dict[str, str]]:
    pictures = []
    if summary is not None:
        step = max(1, math.ceil(max(summary.codes.shape) / _THUMBNAIL))
        small = np.ascontiguousarray(summary.codes[step // 2 :: step, step // 2 :: step])
        pictures.append({"title": "Land cover", "uri": palette_png(small, class_table(summary.legend))})
    if imagery is not None:
        overview, _ = true_color_overview(imagery, _THUMBNAIL)
        pictures.append({"title": "True colour", "uri": rgba_png(true_color(overview))})
    return pictures


def _render(values: dict[str, Any], pictures: list[dict[str, str]]) -> str:
    loader = PackageLoader("landmeta_maps")
    templates = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    templates.filters |= {"number": _number, "percent": _percent, "label": _label}
    total = sum(item["area_ha"] or 0.0 for item in values["classes"])
    unlabelled = values.get("unlabelled_tiles")
    return templates.get_template("report.html.j2").render(
        report=_OPTIONAL | values,
        pictures=pictures,
        total_ha=total,
        shares=[share_text((item["area_ha"] or 0.0) / total if total else 0.0) for item in values["classes"]],
        origin=origin_words(values["model_from"]) if values.get("model_from") else None,
        estimate=estimate_words(values["holdout"]),
        rival=describe_rival(values["holdout"], values["random_forest"], values.get("paired")),
        settings=setting_rows(values.get("settings", {}), values.get("imagery")),
        advice=citing_words(values["holdout"], values.get("model_from")),
        labelled=any(item["support"] is not None for item in values["classes"]),
        tested=bool(values["holdout"]) and all("tested" in item for item in values["classes"]),
        tiles=tile_rows(unlabelled) if unlabelled else [],
        tiles_said=tile_words(unlabelled) if unlabelled else "",
        confusion=_confusion(values.get("confusion")),
    )


_OPTIONAL: dict[str, Any] = {
    "title": None,
    "date": None,
    "version": None,
    "command": None,
    "citation": None,
    "unlabelled_tiles": None,
}


def _confusion(counts: list[list[int]] | None) -> list[list[dict[str, Any]]]:
    """Cells with count, share of the row, and a background that grows with the share."""
    if not counts:
        return []
    return [[_cell(count, sum(row), i == j) for j, count in enumerate(row)] for i, row in enumerate(counts)]


def _cell(count: int, of: int, right: bool) -> dict[str, Any]:
    share = count / of if of else 0.0
    target = (11, 92, 173) if right else (180, 60, 20)
    color = "#" + bytes(round(255 - (255 - c) * share) for c in target).hex()
    return {"count": count, "share": share, "color": color, "ink": ink(color)}


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _label(name: str) -> str:
    """A key such as `origin_shift` as words."""
    return name.replace("_", " ").strip().capitalize()
