"""The figure of a benchmark report: accuracy against imbalance, one line a norm, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from landmeta.bench.metrics import Estimate

_COLORS = ("#0b5cad", "#b42318", "#1a7f37", "#b7791f", "#6f42c1", "#0e7490", "#57606a", "#9d174d", "#4d7c0f")
_STYLE = 'role="img" aria-label="Accuracy against imbalance" font-family="sans-serif" font-size="13"'
_WIDTH, _HEIGHT = 720, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 16, 190, 52


@dataclass(frozen=True, slots=True)
class Line:
    """A norm's accuracy at each share of the largest class; dashed where it did not converge."""

    label: str
    points: Sequence[tuple[float, Estimate]]
    dashed: bool = False


def imbalance_figure(lines: Sequence[Line]) -> str:
    """An SVG of shares 0..1 (x) and accuracies 0..1 (y) with the 95 % intervals as bars."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_STYLE}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        *_axes(),
    ]
    for number, line in enumerate(lines):
        parts += _drawn(line, _COLORS[number % len(_COLORS)], number, len(lines))
    return "\n".join([*parts, "</svg>"])


def _x(share: float) -> float:
    return round(_LEFT + (share - 0.2) / 0.8 * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(score: float) -> float:
    return round(_TOP + (1 - score) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes() -> list[str]:
    parts = []
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#57606a">{tenth / 10:.1f}</text>'
        )
    for tenth in range(2, 11, 2):
        x = _x(tenth / 10)
        parts.append(f'<path d="M{x} {_y(0)}v5" stroke="#57606a"/>')
        parts.append(
            f'<text x="{x}" y="{_y(0) + 20}" text-anchor="middle" fill="#57606a">{10 * tenth} %</text>'
        )
    across, up = _x(0.6), _y(0.5)
    told = "share of the largest class in the query"
    parts.append(f'<text x="{across}" y="{_HEIGHT - 10}" text-anchor="middle">{told}</text>')
    turned = f'text-anchor="middle" transform="rotate(-90 16 {up})"'
    parts.append(f'<text x="16" y="{up}" {turned}>accuracy</text>')
    return parts


def _drawn(line: Line, color: str, number: int, count: int) -> list[str]:
    aside = 3 * (number - (count - 1) / 2)  # intervals of several lines would hide each other
    places = [(_x(share) + aside, found) for share, found in line.points]
    path = " ".join(f"{x:.1f},{_y(found.value)}" for x, found in places)
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    parts = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>']
    for x, found in places:
        low, high = found.ci95
        parts.append(f'<path d="M{x:.1f} {_y(low)}V{_y(high)}" stroke="{color}" stroke-opacity=".45"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{_y(found.value)}" r="3" fill="{color}"/>')
    y = _TOP + 14 + 20 * number
    x = _WIDTH - _RIGHT + 16
    parts.append(f'<path d="M{x} {y - 4}h22" stroke="{color}" stroke-width="2"{dash}/>')
    parts.append(f'<text x="{x + 28}" y="{y}">{escape(line.label)}</text>')
    return parts
