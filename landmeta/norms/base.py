"""What every norm layer is: a pure map of images and explicit state, in one of two modes (METHODS 2).

Norms are written with primitive operations or `torch.group_norm`. The native batch, instance and layer norm
give silently wrong second-order gradients when the outer gradient is taken outside a vmap over tasks
(METHODS 9.2): their batched backward takes the saved moments as constants.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

EPS = 1e-5

NormState: TypeAlias = dict[str, Tensor]
"""State of one layer, e.g. running moments; empty where the layer has none."""

State: TypeAlias = dict[str, NormState]
"""State of all layers by their names."""

Mode: TypeAlias = Literal["context", "query"]
"""`context`: this batch gives the moments (support, training); `query`: the stored or own moments do."""


class Norm(nn.Module, ABC):
    """One norm layer: gain `weight` and offset `bias` of shape (channel,), unless it has no affine part.

    A leaf defines `transform` and registers its running state, if any, as buffers; `landmeta.norms.NORMS`
    lists it.

    Args:
        channels: Channels of the images.
        name: Key of the layer's state and moments; unique within its network.
    """

    has_affine: ClassVar[bool] = True
    adapts_affine: ClassVar[bool] = False
    """Whether the inner loop of the main paper's code moves `weight` and `bias` (METHODS 1.2)."""
    transductive: ClassVar[bool] = False
    """Whether a query image's output depends on the other query images even in mode `query`."""
    shares_state = False
    """Whether a task starts from the state that the task before it left."""

    def __init__(self, channels: int, name: str) -> None:
        super().__init__()
        self.channels = channels
        self.name = name
        if self.has_affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def initial_state(self) -> NormState:
        """The running state that the layer keeps in its buffers, not a copy; empty where it keeps none."""
        return dict(self.named_buffers(recurse=False))

    @abstractmethod
    def transform(
        self, images: Float[Tensor, "n channel y x"], state: NormState, mode: Mode
    ) -> tuple[Float[Tensor, "n channel y x"], NormState]:
        """Normalize `images`; returns them and the state after this batch, in new tensors.

        Pure: neither the layer nor `state` is changed, so it runs under every transform of torch.func.
        """

    def forward(self, images: Float[Tensor, "n channel y x"]) -> Float[Tensor, "n channel y x"]:
        """Normalize a batch that is its own context, from the initial state."""
        return self.transform(images, self.initial_state(), "context")[0]


Normalize: TypeAlias = Callable[[Norm, Tensor], Tensor]
"""How a network calls its norm layers; images (n, channel, y, x) to images of the same shape."""


@dataclass(slots=True)
class NormPass:
    """The `Normalize` of one pass through a network: reads `state`, collects the new one in `updated`.

    A layer that `state` does not name starts from its initial state.
    """

    state: Mapping[str, NormState]
    mode: Mode = "context"
    updated: State = field(default_factory=dict)

    def __call__(self, layer: Norm, images: Tensor) -> Tensor:
        """Normalize by the layer's own rule; `state` itself is left as it was."""
        before = self.state[layer.name] if layer.name in self.state else layer.initial_state()
        images, self.updated[layer.name] = layer.transform(images, before, self.mode)
        return images


def norm_layers(network: nn.Module) -> Iterator[Norm]:
    """The norm layers of a network, in the order of their registration."""
    return (module for module in network.modules() if isinstance(module, Norm))


def initial_state(network: nn.Module) -> State:
    """The state from which every norm layer starts: what the network keeps."""
    return {layer.name: layer.initial_state() for layer in norm_layers(network)}


def next_task_state(network: nn.Module, initial: State, left: State) -> State:
    """The state from which the next task starts: `initial`, or `left` by the last task where it is shared."""
    return {
        layer.name: (left if layer.shares_state else initial)[layer.name] for layer in norm_layers(network)
    }


@torch.no_grad()
def keep_state(network: nn.Module, state: State) -> None:
    """Write a running state into the network's buffers: after an outer step, never within one."""
    for layer in norm_layers(network):
        for key, buffer in layer.named_buffers(recurse=False):
            buffer.copy_(state[layer.name][key])


def batch_moments(
    images: Float[Tensor, "n channel y x"], dims: tuple[int, ...], *, unbiased: bool = False
) -> tuple[Tensor, Tensor]:
    """Mean and variance over some axes, shaped as the others; the variance of a single value is zero.

    Of half-precision images they are taken, and applied, in single precision.
    """
    if images.dtype in (torch.bfloat16, torch.float16):
        images = images.float()
    count = 1
    for dim in dims:
        count *= images.shape[dim]
    # Not torch.var_mean, which takes fifty times as long as a sum on maps whose channels lie side by side.
    mean = images.mean(dim=dims, keepdim=True)
    centred = images - mean
    squares = centred.square() if torch.is_grad_enabled() else centred.mul_(centred)
    return mean.squeeze(dims), squares.sum(dim=dims) / (count - int(unbiased and count > 1))


def gain_and_shift(layer: Norm, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Subtracting the mean, dividing by the deviation, gain and offset: all as one gain and one shift."""
    gain = layer.weight / torch.sqrt(variance + EPS)
    return gain, layer.bias - mean * gain


def apply_moments(layer: Norm, images: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Normalize by moments of shape (channel,), or (n, channel) or (n, 1) where each image has its own."""
    gain, shift = gain_and_shift(layer, mean, variance)
    return torch.addcmul(shift[..., None, None], images, gain[..., None, None]).to(images.dtype)
