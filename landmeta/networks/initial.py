"""Initial weights, drawn from an explicit generator."""

from __future__ import annotations

import torch
from torch import nn


def draw_initial(network: nn.Module, generator: torch.Generator | None) -> None:
    """Xavier-uniform convolutions and linear weights, zero biases (METHODS 1.1).

    A zero bias is SM's choice; torch's default would draw it from the global generator.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
