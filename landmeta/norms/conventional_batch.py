"""`cbn`: conventional batch norm with a running state (METHODS 2.2)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from landmeta.errors import NetworkError
from landmeta.norms.base import Mode, Norm, NormState, apply_moments, batch_moments

_STATES = ("per_task", "global")


@final
class ConventionalBatchNorm(Norm):
    """Moments of the batch in mode `context`, running moments in mode `query`.

    The running moments carry no gradient and hold the unbiased variance, as in torch.

    Args:
        channels: Channels of the images.
        name: Key of the layer's state.
        state: `per_task`: every task or class model starts from the state that the network keeps; `global`:
            from what the one before it left, as the main paper's code does.
        momentum: Weight of the new batch in the running moments, 0 to 1.
    """

    adapts_affine = True

    def __init__(self, channels: int, name: str, *, state: str = "per_task", momentum: float = 0.1) -> None:
        super().__init__(channels, name)
        if state not in _STATES:
            msg = f"norm 'cbn' has no state {state!r}"
            raise NetworkError(msg, f"state = one of {', '.join(_STATES)}")
        if not 0 <= momentum <= 1:
            msg = f"norm 'cbn' has no momentum {momentum}"
            raise NetworkError(msg, "momentum = a share from 0 to 1, such as 0.1")
        self.shares_state = state == "global"
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def transform(self, images: Tensor, state: NormState, mode: Mode) -> tuple[Tensor, NormState]:
        """See `Norm.transform`; the state moves in mode `context` only."""
        if mode == "query":
            return apply_moments(self, images, state["running_mean"], state["running_var"]), state
        mean, variance = batch_moments(images, (0, 2, 3))
        count = images.shape[0] * images.shape[2] * images.shape[3]
        latest = {"running_mean": mean, "running_var": variance * (count / max(count - 1, 1))}
        updated = {
            key: torch.lerp(old, latest[key].detach().to(old.dtype), self.momentum)
            for key, old in state.items()
        }
        return apply_moments(self, images, mean, variance), updated
