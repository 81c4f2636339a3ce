"""Splits that keep together what is near: whole polygons or tiles go to one fold."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def group_folds(
    codes: Int[np.ndarray, "sample"], groups: Int[np.ndarray, "sample"], folds: int = 5
) -> Int[np.ndarray, "sample"]:
    """Deal the groups (polygons, tiles) of every class round robin onto folds, so that none is split.

    Group i of a class, in the order of ids, comes into fold i mod `folds`. A group with several classes is
    dealt with its most frequent one.

    Returns:
        The fold of every sample; -1 where a sample is never held out, because its group is the only one
        that has some class, and without it the class could not be trained.
    """
    classes, class_of = np.unique(codes, return_inverse=True)
    ids, group_of = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(ids), len(classes)), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    main = counts.argmax(1) if len(ids) else np.zeros(0, np.int64)
    alone = ((counts > 0) & ((counts > 0).sum(0) == 1)).any(1)
    fold = np.full(len(ids), -1, np.int64)
    for k in range(len(classes)):
        members = np.flatnonzero((main == k) & ~alone)
        fold[members] = np.arange(len(members)) % folds
    return fold[group_of]
