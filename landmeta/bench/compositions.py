"""How queries are put into batches, and how unevenly classes occur in them (METHODS 4.6).

A norm that takes its moments from the query batch answers differently with each composition; the others
must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int

Composition: TypeAlias = Literal["class_sorted", "shuffled", "whole", "single"]

COMPOSITIONS: Mapping[Composition, str] = MappingProxyType(
    {
        "class_sorted": "small batches in the order of the classes, as the released evaluator predicts",
        "shuffled": "small batches in random order",
        "whole": "all queries in one batch",
        "single": "one image at a time",
    }
)
"""The four compositions, in words."""

SHARES = (0.4, 0.55, 0.7, 0.85, 0.95)
"""Mean shares of the dominant class in a sweep of imbalance, beside balanced."""


def query_batches(
    truth: Int[np.ndarray, "query"],
    composition: Composition,
    size: int,
    rng: np.random.Generator,
) -> list[Int[np.ndarray, "_"]]:
    """Places of the queries of every batch; each query is in one batch.

    Args:
        truth: position of the true class of each query.
        composition: one of `COMPOSITIONS`.
        size: queries of a small batch.
        rng: source of the random order; used by `shuffled` only.

    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        msg = f"a batch holds one query at least, found {size}"
        raise ValueError(msg)
    places = np.arange(len(truth))
    if composition == "whole":
        return [places]
    if composition == "single":
        return list(places[:, None])
    order = rng.permutation(places) if composition == "shuffled" else np.argsort(truth, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def sweep_shares(classes: int) -> dict[str, float]:
    """Shares of the dominant class by name: `balanced`, which is 1 / `classes`, to 0.95."""
    shares = {f"{share:g}": share for share in SHARES if share > 1 / classes + 0.02}
    return {"balanced": 1 / classes, **shares}
