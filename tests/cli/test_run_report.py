"""What a report says of the figures beside them."""

from __future__ import annotations

import numpy as np
import pytest

from landmeta.assessment import Comparison, Holdout
from landmeta.legend import LandClass, Legend
from landmeta_cli.run_report import unheld, verdict


def holdout(value: float) -> Holdout:
    """A score of classes 1 and 2, 50 samples of each."""
    return Holdout(
        metric="balanced accuracy",
        value=value,
        ci95=(value - 0.1, value + 0.1),
        block="polygon",
        folds=5,
        n=100,
        recall={1: value, 2: value},
        support={1: 50, 2: 50},
        confusion=np.full((2, 2), 25),
        codes=(1, 2),
    )


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.15, -0.05), "is better on the same folds: 0.900 against 0.800 balanced accuracy"),
        ((-0.25, 0.05), "these labels do not tell which of them is better"),
    ],
)
def test_the_forest_is_called_better_only_where_the_interval_says_so(
    interval: tuple[float, float], said: str
) -> None:
    warning = verdict(Comparison(holdout(0.8), holdout(0.9), -0.1, interval)) or ""
    assert warning.endswith(said)
    assert ("scored higher" in warning) == (interval[1] > 0)


def test_a_forest_that_is_hardly_ahead_is_no_warning() -> None:
    assert verdict(Comparison(holdout(0.9), holdout(0.905), -0.005, (-0.009, -0.001))) is None


def test_classes_that_were_not_held_out_are_named() -> None:
    tested = [LandClass(1, "forest", "#007700"), LandClass(2, "water", "#0000ff")]
    assert unheld(Legend(tuple(tested)), holdout(0.9)) == []
    (warning,) = unheld(Legend((*tested, LandClass(3, "grass", "#00ff00"))), holdout(0.9))
    assert warning.startswith("no accuracy for 'grass': ")
