"""Drawing from more labelled pixels than memory holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]


class Draw:
    """At most `most` of a stream of pixels, each as likely as any other.

    Attributes:
        seen: How many there were.
    """

    def __init__(self, most: int, rng: np.random.Generator) -> None:
        self.seen = 0
        self._most, self._rng = most, rng
        # Each pixel has a lot, and the lowest are kept: no other is looked at twice.
        self._lots: list[NDArray[np.float64]] = []
        self._items: list[_Ints] = []
        self._highest = 1.0

    def add(self, *items: _Ints) -> None:
        """Take pixels into the stream: arrays of one length that say which they are."""
        self.seen += len(items[0])
        lots = self._rng.random(len(items[0]))
        low = lots < self._highest
        self._lots.append(lots[low])
        self._items.append(np.stack([values[low] for values in items]))
        if sum(map(len, self._lots)) > 2 * self._most:
            self._cut()

    def _cut(self) -> None:
        lots, items = np.concatenate(self._lots), np.concatenate(self._items, axis=1)
        if len(lots) > self._most:
            lowest = np.argpartition(lots, self._most)
            self._highest = float(lots[lowest[self._most]])
            kept = np.sort(lowest[: self._most])
            lots, items = lots[kept], items[:, kept]
        self._lots, self._items = [lots], [items]

    def kept(self) -> _Ints:
        """What was given for the pixels kept, (array, pixel), in the order in which they came."""
        self._cut()
        return self._items[0]
