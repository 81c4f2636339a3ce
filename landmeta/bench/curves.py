"""Training curves of benchmark cells, and whether a training came to anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHANCE = 0.5
"""Balanced accuracy of a one-vs-all task answered at random."""


def training_curve(log: Path) -> list[dict[str, Any]]:
    """Validations in the log of a training run: step, loss, balanced accuracy and half its interval."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    names = ("loss", "balanced_accuracy", "ci95")
    return [
        {"step": entry["step"], **{name: entry["validation"][name] for name in names}}
        for entry in entries
        if "validation" in entry
    ]


def convergence(curve: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Whether the last validation is better than chance and no worse than before training, and why.

    A training without validation, or one that came out no better than chance, bears no conclusion.
    """
    if len(curve) < 2:
        return False, "no validation after training"
    first, last = curve[0], curve[-1]
    score, spread = last["balanced_accuracy"], last["ci95"]
    if score is None or spread is None:
        return False, "the last validation is no number"
    told = f"balanced accuracy {score:.3f} +- {spread:.3f} in validation"
    if score - spread <= CHANCE:
        return False, f"{told} is not above chance"
    if last["loss"] is None or (first["loss"] is not None and last["loss"] > first["loss"]):
        return False, f"validation loss rose from {first['loss']:.3f} to {last['loss']:.3f}"
    return True, told
