"""METEOR's published adaptation: the whole network, once per class (METHODS 4.6).

Kept as `--effort paper` and as the naive reference that `bench speed` measures against: 60 SGD steps of
rate 0.4 from the start for every class, minibatches of 8 drawn with replacement from all support tiles,
binary cross entropy one-vs-all, first order, norm affine parameters fixed (METHODS 1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from landmeta.bands import BandSet
from landmeta.features import by_pixel, fill_nodata
from landmeta.legend import Legend
from landmeta.networks import ALIGN, CONTEXT, STRIDES, ResNet12, upsample

STEPS, RATE, MINIBATCH = 60, 0.4, 8
TILE = 128
"""Side of a support tile in pixels."""

OVERLAP = 64
"""Pixels by which blocks reach into each other: they have moments of their own, and disagree."""


def adapted_parameters(network: ResNet12) -> dict[str, Tensor]:
    """What the inner loop moves: convolutions and classifier, not the norms' gain and bias."""
    return {k: v for k, v in network.named_parameters() if "norm" not in k}


def adapt_class(
    network: ResNet12,
    tiles: Float[Tensor, "n band y x"],
    positive: Int[Tensor, " n"],
    generator: torch.Generator,
    steps: int = STEPS,
) -> dict[str, Tensor]:
    """Adapt one class model from the start; returns its tensors, the network is left untouched."""
    fast = {k: v.detach().clone().requires_grad_(True) for k, v in adapted_parameters(network).items()}
    for _ in range(steps):
        drawn = torch.randint(len(tiles), (MINIBATCH,), generator=generator)
        batch, count = drawn.unique(return_counts=True)  # a tile drawn twice is computed once
        logits = functional_call(network, fast, (tiles[batch],))[:, 0]
        loss = F.binary_cross_entropy_with_logits(
            logits, positive[batch].float(), count.to(logits) / MINIBATCH, reduction="sum"
        )
        grads = torch.autograd.grad(loss, list(fast.values()))
        fast = {
            k: (v - RATE * g).detach().requires_grad_(True)
            for (k, v), g in zip(fast.items(), grads, strict=True)
        }
    return {k: v.detach() for k, v in fast.items()}


@dataclass(frozen=True)
class PublishedEnsemble:
    """One whole network a class, as a mapping model: dense logits at stride 8, moments of each window."""

    network: ResNet12 = field(repr=False)
    class_models: tuple[dict[str, Tensor], ...] = field(repr=False)
    fill: Tensor = field(repr=False)
    legend: Legend
    bands: BandSet

    stride = 1
    align = ALIGN
    context = CONTEXT
    overlap = OVERLAP

    def to(self, device: torch.device | str) -> PublishedEnsemble:
        """The same model with its tensors on another device."""
        models = tuple({k: v.to(device) for k, v in model.items()} for model in self.class_models)
        return replace(
            self, network=deepcopy(self.network).to(device), class_models=models, fill=self.fill.to(device)
        )

    def prepare(self) -> None:
        """No state: every window brings its own moments, and blocks are blended where they overlap."""

    @torch.inference_mode()
    def logits(self, window: Float[Tensor, "band y x"], state: None = None) -> Float[Tensor, "class y x"]:
        """The classifier on every block-4 cell, brought to the pixel grid by the cells' true centres."""
        del state
        image = fill_nodata(window[None].to(self.fill.device), self.fill)
        rows = []
        for model in self.class_models:
            with _ShortcutsByPixel():
                deep = functional_call(
                    _Deep(self.network), {f"network.{k}": v for k, v in model.items()}, (image,)
                )
            weight, bias = model["classifier.weight"], model["classifier.bias"]
            rows.append(upsample(by_pixel(deep, weight) + bias, STRIDES[-1])[0, 0])
        return torch.stack(rows)

    @torch.inference_mode()
    def tile_logits(self, tiles: Float[Tensor, "n band y x"]) -> Float[Tensor, "n class"]:
        """Logits of whole tiles by every class model."""
        images = fill_nodata(tiles.to(self.fill.device), self.fill)
        columns = [functional_call(self.network, model, (images,)) for model in self.class_models]
        return torch.cat(columns, dim=1)


class _ShortcutsByPixel(TorchFunctionMode):
    """Within it 1 x 1 convolutions of one image are products by pixel: the same bits whatever the threads."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        del types
        if function is torch.conv2d and args[1].shape[2:] == (1, 1):
            return by_pixel(args[0], args[1][:, :, 0, 0])
        return function(*args, **(kwargs or {}))


class _Deep(torch.nn.Module):
    """The network's block 4 as the output, so that `functional_call` reaches it."""

    def __init__(self, network: ResNet12) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(n, band, y, x) -> block 4 (n, channel, v, u)."""
        return self.network.features(images)[-1]


def adapt_published(
    network: ResNet12,
    tiles: Float[Tensor, "n band y x"],
    target: Int[Tensor, " n"],
    fill: Float[Tensor, " band"],
    legend: Legend,
    bands: BandSet,
    *,
    seed: int = 0,
    steps: int = STEPS,
    tell: Callable[[str, int, int], None] | None = None,
) -> PublishedEnsemble:
    """Adapt all class models, one after the other, on tiles labelled with class indices.

    The classifier starts at zero, since the shipped start has none of its own.
    """
    images, target = fill_nodata(tiles.to(fill.device), fill), target.to(fill.device)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
    models = []
    for k in range(len(legend)):
        if tell is not None:
            tell("adapt", k, len(legend))
        generator = torch.Generator().manual_seed(seed)
        models.append(adapt_class(network, images, (target == k).long(), generator, steps))
    return PublishedEnsemble(network, tuple(models), fill, legend, bands)
