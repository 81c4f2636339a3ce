"""Training curves of benchmark cells, and whether a training came to anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANCE = 0.5
"""Area under the ROC curve of a one-vs-all task answered at random."""

FALL = 0.03
"""A last AUROC further below the first than this, and than half of its `auroc_ci95`, is clearly worse.

All validations of a training are on the same tasks, so their difference varies less than either of them.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training, as its curve tells.

    Attributes:
        converged: See `convergence`.
        worse: Whether its last validation is clearly worse than that of the network it started from.
        why: What was seen.
    """

    converged: bool
    worse: bool
    why: str

    @property
    def sound(self) -> bool:
        """Whether it bears conclusions about meta-training."""
        return self.converged and not self.worse


def outcome(curve: Sequence[Mapping[str, Any]]) -> Outcome:
    """Whether a training converged, and whether it made a start that was already good worse.

    A network that was trained jointly before is above chance at step 0: that it still is at the end says
    nothing of meta-training.
    """
    converged, why = convergence(curve)
    worse = converged and _fell(curve)
    if worse:
        why = f"AUROC in validation fell from {curve[0]['auroc']:.3f} to {curve[-1]['auroc']:.3f}"
    return Outcome(converged, worse, why)


def _fell(curve: Sequence[Mapping[str, Any]]) -> bool:
    first, last = curve[0], curve[-1]
    if first["auroc"] is None:
        return False
    return bool(first["auroc"] - last["auroc"] > max(FALL, last["auroc_ci95"] / 2))


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
