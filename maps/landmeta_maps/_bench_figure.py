"""The figures of a benchmark report, one line a row: scores against imbalance or steps, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from landmeta.bench.metrics import Estimate

STYLES = (
    ("#0072b2", "circle"), ("#d55e00", "circle"), ("#009e73", "circle"), ("#cc79a7", "circle"),
    ("#e69f00", "circle"), ("#000000", "circle"), ("#56b4e9", "square"), ("#882255", "square"),
    ("#777777", "square"), ("#6b6b00", "square"),
)  # fmt: skip
"""Colour and marker of the rows in their order; told apart by the colour-blind too."""

_WIDTH, _HEIGHT = 900, 460
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 16, 190, 52


@dataclass(frozen=True, slots=True)
class Line:
    """Scores of a row at places along x; dashed where it bears no conclusion.

    `place` is that of the row in its suite, which has the same style in all figures.
    """

    label: str
    place: int
    points: Sequence[tuple[float, Estimate]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Axes:
    """What x and y mean; y runs from `floor` to 1.

    Attributes:
        across: Words under the x axis.
        up: Words beside the y axis.
        ticks: Places along x with their words; the first and last are the ends.
        floor: Lower end of y.
    """

    across: str
    up: str
    ticks: Sequence[tuple[float, str]]
    floor: float = 0.0

    def x(self, value: float) -> float:
        """Pixels from the left."""
        first, last = self.ticks[0][0], self.ticks[-1][0]
        return round(_LEFT + (value - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, score: float) -> float:
        """Pixels from the top; a score below the floor stands on it."""
        share = (max(score, self.floor) - self.floor) / (1 - self.floor)
        return round(_TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM), 1)


def imbalance_figure(lines: Sequence[Line]) -> str:
    """An SVG of accuracies 0..1 against shares of the largest class, with 95 % intervals as bars."""
    ticks = [(tenth / 10, f"{10 * tenth} %") for tenth in range(0, 11, 2)]
    return _figure(lines, Axes("share that the largest class has in the query", "accuracy", ticks))


def curves_figure(lines: Sequence[Line]) -> str:
    """An SVG of the AUROC 0.4..1 in validation against outer steps, with 95 % intervals as bars."""
    last = max(step for line in lines for step, _ in line.points)
    ticks = [(last * k / 4, f"{last * k / 4:,.0f}") for k in range(5)]
    return _figure(lines, Axes("outer steps", "AUROC in validation", ticks, floor=0.4))


def _figure(lines: Sequence[Line], axes: Axes) -> str:
    what = escape(f"{axes.up} against {axes.across}")
    style = f'role="img" aria-label="{what}" font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {style}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        *_drawn_axes(axes),
    ]
    for number, line in enumerate(lines):
        parts += _drawn(line, axes, number, len(lines))
    return "\n".join([*parts, "</svg>"])


def _drawn_axes(axes: Axes) -> list[str]:
    parts = []
    for tenth in range(round(10 * axes.floor), 11, 2):
        y = axes.y(tenth / 10)
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#57606a">{tenth / 10:.1f}</text>'
        )
    foot = axes.y(axes.floor)
    for place, words in axes.ticks:
        x = axes.x(place)
        parts.append(f'<path d="M{x} {foot}v5" stroke="#57606a"/>')
        parts.append(f'<text x="{x}" y="{foot + 20}" text-anchor="middle" fill="#57606a">{words}</text>')
    middle, height = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + foot) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(axes.across)}</text>')
    turned = f'text-anchor="middle" transform="rotate(-90 16 {height})"'
    parts.append(f'<text x="16" y="{height}" {turned}>{escape(axes.up)}</text>')
    return parts


def _drawn(line: Line, axes: Axes, number: int, count: int) -> list[str]:
    color, marker = STYLES[line.place % len(STYLES)]
    aside = 3.5 * (number - (count - 1) / 2)  # intervals of several lines would hide each other
    places = [(axes.x(at) + aside, found) for at, found in line.points]
    path = " ".join(f"{x:.1f},{axes.y(found.value)}" for x, found in places)
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    parts = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dash}/>']
    for x, found in places:
        low, high = found.ci95
        parts.append(
            f'<path d="M{x:.1f} {axes.y(low)}V{axes.y(high)}" stroke="{color}" stroke-opacity=".35"/>'
        )
        parts.append(_marked(x, axes.y(found.value), color, marker))
    y = _TOP + 14 + 20 * number
    x = _WIDTH - _RIGHT + 24
    parts.append(f'<path d="M{x} {y - 4}h22" stroke="{color}" stroke-width="1.5"{dash}/>')
    parts.append(_marked(x + 11, y - 4, color, marker))
    parts.append(f'<text x="{x + 28}" y="{y}">{escape(line.label)}</text>')
    return parts


def _marked(x: float, y: float, color: str, marker: str) -> str:
    if marker == "square":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="{color}"/>'
    return f'<circle cx="{x:.1f}" cy="{y}" r="3" fill="{color}"/>'
