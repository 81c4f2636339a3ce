"""`none`: no normalization, as the control of the main paper (METHODS 2.10)."""

from __future__ import annotations

from typing import final

from torch import Tensor

from landmeta.norms.base import Mode, Norm, NormState


@final
class NoNorm(Norm):
    """The identity, without parameters; the convolutions keep to have no bias."""

    has_affine = False

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; nothing happens."""
        del mode
        return images, state
