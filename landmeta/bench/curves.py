"""Training curves of benchmark cells, and whether a training came to anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHANCE = 0.5
"""Area under the ROC curve of a one-vs-all task answered at random."""


def training_curve(log: Path) -> list[dict[str, Any]]:
    """Validations in the log of a training run, with the mean training loss of the steps since the last."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    names = ("loss", "balanced_accuracy", "ci95", "auroc", "auroc_ci95")
    curve: list[dict[str, Any]] = []
    losses: list[float] = []
    for entry in entries:
        if "loss" in entry:
            losses.append(entry["loss"])
        if "validation" in entry:
            scores = {name: entry["validation"][name] for name in names}
            curve.append({"step": entry["step"], "training_loss": _mean(losses), **scores})
            losses = []
    return curve


def _mean(losses: Sequence[float]) -> float | None:
    return sum(losses) / len(losses) if losses else None


def convergence(curve: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Whether the last validation is better than chance and training reached a lower loss, and why.

    A training that came out no better than chance in other regions, or that learned nothing in its own, bears
    no conclusion. What is judged is the order of logits (AUROC): in an ensemble the largest wins, wherever
    zero lies among them.
    """
    if len(curve) < 2:
        return False, "no validation after training"
    last = curve[-1]
    score, spread = last["auroc"], last["auroc_ci95"]
    if score is None or spread is None:
        return False, "the last validation is no number"
    told = f"AUROC {score:.3f} +- {spread:.3f} in validation"
    if score - spread <= CHANCE:
        return False, f"{told} is not above chance"
    losses = [point["training_loss"] for point in curve if point["training_loss"] is not None]
    if len(losses) > 1 and losses[-1] > losses[0]:
        return False, f"training loss rose from {losses[0]:.3f} to {losses[-1]:.3f}"
    return True, told
