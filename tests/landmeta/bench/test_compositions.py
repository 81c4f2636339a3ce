"""Query batches of the four compositions."""

from __future__ import annotations

import numpy as np
import pytest

from landmeta.bench.compositions import COMPOSITIONS, query_batches, sweep_shares

TRUTH = np.array([1, 0, 1, 0, 2, 2, 1, 0, 2])


@pytest.mark.parametrize("name", list(COMPOSITIONS))
def test_every_query_is_in_one_batch(name: str) -> None:
    composition = next(c for c in COMPOSITIONS if c == name)
    batches = query_batches(TRUTH, composition, 3, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(9))
    expected = {"class_sorted": 3, "shuffled": 3, "whole": 9, "single": 1}[name]
    assert {len(batch) for batch in batches} == {expected}


def test_class_sorted_batches_are_of_one_class() -> None:
    batches = query_batches(TRUTH, "class_sorted", 3, np.random.default_rng(0))
    assert [set(TRUTH[batch]) for batch in batches] == [{0}, {1}, {2}]


def test_the_sweep_goes_from_balanced_to_95_percent() -> None:
    shares = {"0.4": 0.4, "0.55": 0.55, "0.7": 0.7, "0.85": 0.85, "0.95": 0.95}
    assert sweep_shares(4) == {"balanced": 0.25, **shares}
    assert list(sweep_shares(2)) == ["balanced", "0.55", "0.7", "0.85", "0.95"]
