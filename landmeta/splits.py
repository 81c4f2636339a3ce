"""Splits that keep together what is near: whole polygons, tiles, patches or regions go to one side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from landmeta.errors import DataError

GAP = 256
"""Pixels between the nearest edges of a support and a query tile; SEN12MS patches overlap within less."""

Blocked = Literal["gap", "patch", "none"]
"""How far support and query are apart: by `GAP` on the ground, by patch (no georeference), or not."""

Part = Literal["train", "val", "holdout"]

_TOLERANCE = 1e-3  # pixels by which rounded coordinates may fall short of the gap
_CANDIDATES = 100  # tiles of a class that are tried for each support tile before a draw is given up

_REGION_IDS: dict[Part, str] = {
    "train": "3 4 6 7 9 11 14 15 19 20 24 25 27 28 29 31 33 35 37 39 41 43 44 45 47 52 53 56 57 58 59 61 62 "
    "66 68 69 71 75 77 79 80 82 84 86 87 93 94 97 100 102 104 105 112 113 114 115 116 117 120 121 124 125 "
    "127 129 131 132 133 136 137 142 143 144 146 147 149",
    "val": "1 26 30 36 40 42 55 63 64 72 76 78 83 85 88 89 106 107 109 119 128 138 139 140 148",
    "holdout": "8 17 21 22 32 49 65 73 81 90 91 95 101 103 108 110 118 122 123 126 130 134 135 141 145",
}

SEN12MS_REGIONS: dict[Part, frozenset[str]] = {p: frozenset(ids.split()) for p, ids in _REGION_IDS.items()}
"""METEOR's split of SEN12MS by region id over all seasons: 75 to train, 25 to validate, 25 held out."""

SEN12MS_HOLDOUT_SCENES: frozenset[tuple[str, str]] = frozenset(
    (season, region)
    for season, regions in {
        "spring": "15 17 63 97 124 146",
        "summer": "15 19 43 72 79 104 131",
        "fall": "30 35 39 47 61 120 141 144",
        "winter": "32 64 107 135 146",
    }.items()
    for region in regions.split()
)
"""The official hold-out of SEN12MS as (season, region): 26 scenes with 18,106 of the 180,662 patches.

From splits/SEN12MS_holdOutScenes.txt of the SEN12MS toolbox; its list of test patches has the same scenes.
"""


def region_part(season: str, region: str) -> Part | None:
    """Part of a SEN12MS region under METEOR's split by id, the same in every season; None if unknown."""
    return next((part for part, ids in SEN12MS_REGIONS.items() if region in ids), None)


def scene_part(season: str, region: str) -> Part:
    """Part of a SEN12MS scene under the official split: `holdout` if listed, else `train`."""
    return "holdout" if (season, region) in SEN12MS_HOLDOUT_SCENES else "train"


def check_disjoint(parts: Mapping[str, Collection[object]]) -> None:
    """Make sure that no unit (region, scene, block) lies in two parts of a split.

    Raises:
        DataError: some do; the first few are named.
    """
    for (one, left), (other, right) in combinations(parts.items(), 2):
        shared = sorted(map(str, set(left) & set(right)))
        if shared:
            names = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
            msg = f"the parts {one} and {other} share {len(shared)} units ({names}): expected none"
            raise DataError(msg, "list each unit in one part of the split only")


@dataclass(frozen=True, slots=True)
class Places:
    """Where tiles lie: centre `x`, `y`, `half` a side and `pixel`, all in units of the CRS.

    `x` and `y` are NaN and `crs` is -1 where a tile has no georeference; tiles of one `block` (patch,
    cluster) are never apart.
    """

    x: Float[np.ndarray, "tile"]
    y: Float[np.ndarray, "tile"]
    half: Float[np.ndarray, "tile"]
    pixel: Float[np.ndarray, "tile"]
    crs: Int[np.ndarray, "tile"]
    block: Int[np.ndarray, "tile"]

    def near(self, tile: int, gap: int = GAP) -> Bool[np.ndarray, "tile"]:
        """Tiles (itself included) of the block of `tile`, or within `gap` pixels of it in both directions."""
        reach = (gap - _TOLERANCE) * self.pixel[tile] + self.half[tile]
        limit = self.half + reach
        close: Bool[np.ndarray, "tile"] = np.abs(self.x - self.x[tile]) < limit
        close &= np.abs(self.y - self.y[tile]) < limit
        close &= self.crs == self.crs[tile]
        close |= self.block == self.block[tile]
        return close

    def part(self, start: int, stop: int) -> Places:
        """The places of tiles `start` to `stop`, as views."""
        names = ("x", "y", "half", "pixel", "crs", "block")
        return Places(*(getattr(self, name)[start:stop] for name in names))

    def blocked(self) -> Blocked:
        """What `near` can vouch for: the gap only where every tile has a place in one and the same CRS."""
        placed = len(self.crs) > 0 and self.crs[0] >= 0 and bool((self.crs == self.crs[0]).all())
        return "gap" if placed and np.isfinite(self.x).all() and np.isfinite(self.y).all() else "patch"

    def separable(self, first: int, second: int, gap: int = GAP) -> bool:
        """Whether `first` and `second` of these tiles can be chosen so that none is near one of the others.

        Exact by blocks. On the ground it is sufficient: some cut in x or y has enough tiles on both sides.
        """
        if len(self.x) < first + second:
            return False
        if self.blocked() == "patch":
            return _blocks_part(np.unique(self.block, return_counts=True)[1], first, second)
        reach = (gap - _TOLERANCE) * self.pixel.max()
        for centre in (self.x, self.y):
            low, high = np.sort(centre - self.half), np.sort(centre + self.half)
            if any(high[a - 1] + reach <= low[-b] for a, b in ((first, second), (second, first))):
                return True
        return False


def _blocks_part(sizes: Int[np.ndarray, "block"], first: int, second: int) -> bool:
    """Whether whole blocks can be dealt onto two sides with at least `first` and `second` tiles."""
    total = int(sizes.sum())
    room = total - second - first + 1
    if sizes.max() <= room:  # filling one side block by block cannot jump over the window of right sums
        return True
    sums = 1  # bit s is set if some blocks hold s tiles together
    for size in sizes.tolist():
        sums |= sums << size
    return sums >> first & ((1 << room) - 1) != 0


def support_apart(
    places: Places,
    members: Sequence[Int[np.ndarray, "_"]],
    shots: int,
    queries: int,
    rng: np.random.Generator,
    gap: int = GAP,
) -> tuple[list[Int[np.ndarray, "shot"]], list[Int[np.ndarray, "_"]]] | None:
    """Draw `shots` support tiles of each class such that each class keeps `queries` tiles apart from all.

    Args:
        places: of the tiles that `members` number.
        members: tiles of each class.
        shots: support tiles a class, drawn one after the other, uniformly among those that leave enough.
        queries: tiles a class that must remain apart from every support tile.
        rng: source of the draw.
        gap: pixels, see `GAP`.

    Returns:
        The support of each class and all tiles of each class that are apart from it; None if the draw
        led nowhere (another may succeed).
    """
    free = np.ones(len(places.x), bool)
    chosen: list[Int[np.ndarray, "shot"]] = [np.empty(0, np.int64)] * len(members)
    for k in sorted(range(len(members)), key=lambda k: len(members[k])):  # the rarest class is the hardest
        picks: list[int] = []
        for tile in rng.permutation(members[k])[: _CANDIDATES * shots].tolist():
            left = free & ~places.near(tile, gap)
            if all(np.count_nonzero(left[tiles]) >= queries for tiles in members):
                free = left
                picks.append(tile)
                if len(picks) == shots:
                    break
        if len(picks) < shots:
            return None
        chosen[k] = np.array(picks, np.int64)
    return chosen, [tiles[free[tiles]] for tiles in members]


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
