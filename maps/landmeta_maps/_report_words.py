"""Words of the report: what the accuracy estimates, who wins against the random forest, how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def origin_words(origin: Mapping[str, Any]) -> str:
    """What is known of a map whose model was adapted elsewhere: `region` and `holdout` of its own run."""
    there = f"to {origin['region']}" if origin.get("region") else "elsewhere"
    text = f"This map was made with a model adapted {there}. No accuracy was measured on this imagery."
    if holdout := origin.get("holdout"):
        low, high = holdout["ci95"]
        text += (
            f" Where it was adapted, its hold-out {holdout['metric']} was {100 * holdout['value']:.1f} % "
            f"({100 * low:.1f} to {100 * high:.1f} %): in another place or season expect less."
        )
    return text


def estimate_words(holdout: Mapping[str, Any] | None) -> str:
    """What the hold-out figure is, in a few sentences that claim no more than was measured."""
    if holdout is None:
        return (
            "No accuracy could be measured: these labels cannot be held out in blocks. "
            "More polygons, patches or tiles in every class would allow it."
        )
    block, folds = holdout["block"], holdout["folds"]
    blocks = "patches" if block == "patch" else f"{block}s"
    how = f"one blocked split by {block}" if folds == 1 else f"{folds} folds by {block}"
    return (
        f"Measured on {holdout['n']:,} labelled samples, held out in {how}: the samples of one {block} are "
        "never in training and in the test at once. The figure says how well the map agrees with labels like "
        f"yours in a {block} that it has not seen; the interval comes from resampling the {blocks}. "
        "The labels are not a probability sample of the map. The figure is therefore no estimate of the "
        "share of the map that is right, and the areas below are counted pixels without correction or error. "
        "For design-based areas and accuracies, collect a probability sample of the map."
    )


def citing_words(holdout: Mapping[str, Any] | None, origin: Mapping[str, Any] | None) -> str:
    """What to tell of the accuracy where the map is used."""
    if origin:
        where = " The figure of the place where its model was adapted is not the accuracy of this map."
        return f"State that no accuracy was measured on this map.{where if origin.get('holdout') else ''}"
    if holdout is None:
        return "State that the accuracy of this map is not known."
    return "State the accuracy together with its interval and that it is a blocked hold-out."


def describe_rival(
    ours: Mapping[str, Any] | None, forest: Mapping[str, Any] | None, paired: Mapping[str, Any] | None
) -> dict[str, str]:
    """The verdict on the same folds: `tone` (good, even, bad, none) and `text`, a sentence or two."""
    if ours is None or forest is None:
        return {"tone": "none", "text": "The random forest was not run on these folds."}
    difference = paired["diff"] if paired else _minus(ours["value"], forest["value"])
    if difference is None:
        return {"tone": "none", "text": "The two cannot be compared: one of the figures is missing."}
    points = f"{abs(100 * difference):.1f} points"
    if _undecided(ours, forest, paired):
        return {"tone": "even", "text": _undecided_words(difference, points, paired)}
    if difference > 0:
        return {"tone": "good", "text": f"The adapted model is ahead of the random forest by {points}."}
    return {
        "tone": "bad",
        "text": f"The random forest is ahead by {points}: on these labels it is the better choice.",
    }


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _undecided(ours: Mapping[str, Any], forest: Mapping[str, Any], paired: Mapping[str, Any] | None) -> bool:
    """Whether the interval of the difference holds 0; without one, whether the two intervals overlap."""
    pairs = [paired["ci95"]] if paired else [ours["ci95"], forest["ci95"]]
    if any(ci is None or None in ci for ci in pairs):
        return True
    if paired:
        return bool(pairs[0][0] <= 0 <= pairs[0][1])
    return bool(max(ci[0] for ci in pairs) <= min(ci[1] for ci in pairs))


def _undecided_words(difference: float, points: str, paired: Mapping[str, Any] | None) -> str:
    who = "The two score the same"
    if abs(difference) >= 0.0005:
        leader = "adapted model" if difference > 0 else "random forest"
        who = f"The {leader} is ahead by {points}"
    why = "the interval of the difference includes zero" if paired else "the intervals overlap"
    return f"{who}, but {why}: these labels do not tell which of them is better."


_UNITS = {"min_area": "ha"}
_READ = ("bands", "scale", "offset")
_SOURCES = {"given": "given", "file": "from the file"}


def setting_rows(settings: Mapping[str, Any], imagery: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Names and values of the settings that played a part, with how the imagery was read for what was asked.

    `imagery` has `bands`, `scale`, `offset` and `scale_from` (given, file, inferred, store); None where that
    is not known. A setting that is None was not given, or was not needed.
    """
    asked = {name: value for name, value in settings.items() if imagery is None or name not in _READ}
    rows = [(name, _setting(name, value)) for name, value in asked.items() if value is not None]
    if imagery is None:
        return rows
    read = [("bands", ", ".join(imagery["bands"])), ("scale", _scale_words(imagery))]
    if imagery["scale_from"] != "store":
        read.append(("offset", _offset_words(imagery, settings.get("offset"))))
    return read + rows


def _setting(name: str, value: Any) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{words} {_UNITS[name]}" if name in _UNITS else words


def _scale_words(imagery: Mapping[str, Any]) -> str:
    if imagery["scale_from"] == "store":
        return "reflectance, from the tile store"
    kind = "integers" if imagery["scale"] != 1 else "decimal numbers"
    return f"{_figure(imagery['scale'])}, {_SOURCES.get(imagery['scale_from'], f'inferred from {kind}')}"


def _offset_words(imagery: Mapping[str, Any], asked: float | None) -> str:
    if asked is not None:
        return f"{_figure(imagery['offset'])}, given"
    source = "from the file" if imagery["scale_from"] == "file" else "none was given"
    return f"{_figure(imagery['offset'])}, {source}"


def _figure(value: float) -> str:
    """The number as people write scales: 0.01, 1e-4, 2.75e-5."""
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:g}"
    digits, power = f"{value:e}".split("e")
    return f"{float(digits):g}e{int(power)}"
