"""`tbn`: transductive batch norm, the usual choice of meta-learning code (METHODS 2.1)."""

from __future__ import annotations

from typing import final

from torch import Tensor

from landmeta.norms.base import Mode, Norm, NormState, apply_moments, batch_moments


@final
class TransductiveBatchNorm(Norm):
    """Moments of the batch at hand over (n, y, x), always: the images of a query see each other."""

    adapts_affine = True
    transductive = True

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; no state, the same in both modes."""
        del mode
        return apply_moments(self, images, *batch_moments(images, (0, 2, 3))), state
