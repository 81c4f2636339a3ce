"""`in`: instance norm, the norm of the main paper's best network (METHODS 1.2, 2.4)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from landmeta.norms.base import EPS, Mode, Norm, NormState


@final
class InstanceNorm(Norm):
    """Moments over (y, x) of each image and channel, biased variance; a map of one cell becomes `bias`."""

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; no state, the same in both modes."""
        del mode
        # As many groups as channels is instance norm. Not F.group_norm: it refuses one image of one cell.
        return torch.group_norm(images, self.channels, self.weight, self.bias, EPS), state
