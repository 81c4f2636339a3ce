from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from landmeta.splits import group_folds


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    folds=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_folds_never_split_a_group_and_always_leave_every_class_trainable(
    sizes: list[int], folds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    code_of = np.repeat(np.arange(len(sizes)), sizes)
    groups = rng.integers(0, len(code_of), 200)
    codes = code_of[groups]
    fold = group_folds(codes, groups, folds)
    for g in np.unique(groups):
        assert len(np.unique(fold[groups == g])) == 1
    for k in range(folds):
        assert set(codes[fold != k]) == set(codes)


def test_groups_of_a_class_are_dealt_round_robin_in_the_order_of_ids() -> None:
    groups = np.array([30, 10, 20, 20, 5, 7])
    codes = np.array([1, 1, 1, 1, 2, 2])
    assert group_folds(codes, groups, folds=2).tolist() == [0, 0, 1, 1, 0, 1]


def test_the_only_group_of_a_class_is_never_held_out() -> None:
    assert group_folds(np.array([1, 1, 2, 2]), np.array([0, 1, 2, 2])).tolist() == [0, 1, -1, -1]


def test_a_group_that_alone_holds_a_minor_class_is_never_held_out_either() -> None:
    codes, groups = np.array([1, 1, 1, 9, 1, 1]), np.array([0, 0, 1, 1, 1, 2])
    assert group_folds(codes, groups, folds=2).tolist() == [0, 0, -1, -1, -1, 1]
