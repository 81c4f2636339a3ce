"""Flips and quarter turns of tiles: the eight symmetries of a square."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from torch import Tensor

    _Tiles = TypeVar("_Tiles", np.ndarray, Tensor)
else:
    _Tiles = TypeVar("_Tiles")

SYMMETRIES = 8
"""Number of symmetries; 0 leaves a tile as it is, 1 to 3 are quarter turns, 4 to 7 the same after a flip."""


def draw_symmetries(tiles: int, rng: np.random.Generator) -> Int[np.ndarray, "tile"]:
    """A symmetry for each tile, all eight equally likely.

    METEOR's two flips of probability 1/2 and uniform number of quarter turns, used in training and test,
    amount to the same.
    """
    return rng.integers(SYMMETRIES, size=tiles)


def turned(tiles: _Tiles, symmetries: Int[np.ndarray, "tile"]) -> _Tiles:
    """A copy of square tiles or label maps, each under its symmetry.

    Args:
        tiles: (tile, ..., y, x) of any type, a NumPy array or a torch tensor on any device.
        symmetries: number 0 to 7 of each tile; the same for a tile's image and labels.

    Raises:
        ValueError: tiles that are not square, or a wrong number of symmetries.
    """
    if tiles.shape[-1] != tiles.shape[-2] or len(tiles) != len(symmetries):
        msg = f"tiles of shape {tuple(tiles.shape)} do not fit {len(symmetries)} symmetries of a square"
        raise ValueError(msg)
    source: Any = tiles
    out: Any = np.empty_like(source) if isinstance(source, np.ndarray) else source.new_empty(source.shape)
    for i, symmetry in enumerate(symmetries.tolist()):
        out[i] = _turn(source[i], symmetry)
    result: _Tiles = out
    return result


def _turn(tile: Any, symmetry: int) -> Any:
    """Flip upside down if `symmetry` is 4 or more, then turn counterclockwise by its rest by 4."""
    turns = symmetry % 4
    if symmetry >= 4:
        tile = _flip(tile, -2)
    if turns == 2:
        return _flip(_flip(tile, -1), -2)
    if turns:
        return _flip(tile.swapaxes(-1, -2), -2 if turns == 1 else -1)
    return tile


def _flip(tile: Any, axis: int) -> Any:
    return np.flip(tile, axis) if isinstance(tile, np.ndarray) else tile.flip(axis)
