"""The schemes of moments that `seams.py` compares, and which of them it averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from landmeta.bench.seams import Scheme

PRODUCT = "frozen, region, mirrored edge, 2 phases"
"""The scheme of `landmeta adapt`, but for the features' scales, which are measured here on both phases.

The others are compared with it. In `results/seams.json` that is so on the parts half0 and half1; runs on
other parts are older, with the product of then: "frozen, region, mirrored edge, 2 phases in the map only".
"""

_TWO = ((0, 0), (5, 5))


_WHOLE = 1024  # pixels of a block that holds a whole scene


def schemes(core: int, halo: int, probe: int, wider: Sequence[int] = ()) -> tuple[Scheme, ...]:
    """The schemes for blocks of `core`; frozen ones with `halo`, moments of a part from `probe` pixels.

    Neighbourhoods of `wider` pixels are looked at besides, in blocks that hold the whole scene.
    """
    wide = 2 * core

    def frozen(name: str, moments: Any = "region", **more: Any) -> Scheme:
        return Scheme(name, moments, wide, halo, **({"edge": "reflect", "probe": probe} | more))

    def own(name: str, halo: int = 0, moments: Any = "own", **more: Any) -> Scheme:
        return Scheme(f"own {core}{name}", moments, core, halo, edge="reflect", **more)

    return (
        frozen("frozen, region", edge="fill"),
        frozen("frozen, region, mirrored edge"),
        frozen("frozen, region, mirrored edge, 2 phases", phases=_TWO),
        frozen("frozen, region, mirrored edge, 2 phases in the map only", phases=_TWO, one_phase_fit=True),
        frozen("frozen, sample of blocks", "sample"),
        frozen("frozen, class-balanced support", "support"),
        own(", cut"),
        own(", logits blended", blended=True),
        own(", probabilities blended", blended=True, space="probabilities"),
        own(f" with context {wide}, logits blended", core // 2, blended=True),
        *(
            own(
                f" with context {wide}, mixed {share:g} into frozen",
                core // 2,
                moments="region",
                blended=True,
                own_share=share,
            )
            for share in (0.25, 0.5)
        ),
        Scheme(f"own {wide} about each pixel", "own", wide, core + halo, edge="reflect", neighbourhood=wide),
        *(
            Scheme(
                f"own {side} about each pixel in the last two blocks",
                "region",
                wide if side == wide else _WHOLE,
                core + halo if side == wide else 64,
                edge="reflect",
                phases=_TWO,
                one_phase_fit=True,
                neighbourhood=side,
                local_from=2,
            )
            for side in (wide, *wider)
        ),
    )


SCHEMES = {"chips": schemes(64, 16, 32), "scene": schemes(128, 48, 128, wider=(512, 896))}


@dataclass(frozen=True)
class Average:
    """Scores of two schemes averaged, each with class models of its own; `share` is that of `other`."""

    name: str
    scheme: str
    other: str
    share: float


def averages(known: Sequence[Scheme]) -> tuple[Average, ...]:
    """The product averaged with own moments, of windows with context or of each pixel's neighbourhood."""
    others = [s.name for s in known if s.neighbourhood or ("with context" in s.name and not s.own_share)]
    return tuple(
        Average(f"product averaged with {share:g} of {other}", PRODUCT, other, share)
        for other in others
        for share in (0.25, 0.5)
    )
