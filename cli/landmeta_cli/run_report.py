"""The report of a run as plain values: what `report.json` holds, `report.html` shows and `--json` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from landmeta_maps.areas import class_areas_ha

if TYPE_CHECKING:
    from landmeta.labels import Labels

    from landmeta.assessment import Holdout
    from landmeta.classmap import ClassMap

SCHEMA = 1
_CLEAR = 0.01  # a smaller lead of the forest is no reason to distrust the map


def build_report(
    *,
    region: str,
    class_map: ClassMap,
    labels: Labels,
    holdout: Holdout | None,
    forest: Holdout | None,
    timing_s: Mapping[str, float],
    warnings: Iterable[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The report, schema 1 (adding a field is fine, renaming one is not)."""
    return {
        "schema": SCHEMA,
        "region": region,
        "classes": _classes(class_map, labels, holdout),
        "holdout": _score(holdout),
        "random_forest": _score(forest),
        "stability": None,
        "timing_s": {stage: round(seconds, 2) for stage, seconds in timing_s.items()},
        "warnings": list(warnings),
        "settings": dict(settings),
    }


def verdict(holdout: Holdout | None, forest: Holdout | None) -> str | None:
    """A warning where the forest beats the map on the user's own labels, None otherwise."""
    if holdout is None or forest is None or forest.value <= holdout.value + _CLEAR:
        return None
    return (
        f"a random forest on the pixels' reflectances is better on the same folds: "
        f"{forest.value:.3f} against {holdout.value:.3f} {holdout.metric}"
    )


def _classes(class_map: ClassMap, labels: Labels, holdout: Holdout | None) -> list[dict[str, Any]]:
    areas = dict(zip(class_map.legend.codes, class_areas_ha(class_map), strict=True))
    recall = holdout.recall if holdout else {}
    return [
        {
            "code": c.code,
            "name": c.name,
            "color": c.color,
            "area_ha": round(areas[c.code], 4),
            "support": int((labels.codes == c.code).sum()),
            "recall": round(recall[c.code], 4) if c.code in recall else None,
        }
        for c in class_map.legend
    ]


def _score(holdout: Holdout | None) -> dict[str, Any] | None:
    if holdout is None:
        return None
    recall = {str(code): round(value, 4) for code, value in holdout.recall.items()}
    confusion = {"codes": list(holdout.codes), "counts": holdout.confusion.tolist()}
    return {**holdout.as_report(), "recall": recall, "confusion": confusion}
