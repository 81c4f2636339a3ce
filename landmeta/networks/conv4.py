"""Conv4, the small network of papers 001 and 003, Reptile and ANIL (METHODS 1.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from landmeta.errors import NetworkError
from landmeta.networks.initial import draw_initial
from landmeta.norms import Normalize, make_norm, norm_layers, own_moments

_STRIDE = 16  # pixels per cell behind the four pools


class Conv4(nn.Module):
    """Four times 3x3 convolution, norm, ReLU and 2x2 max pool, then a linear classifier.

    Args:
        bands: Input bands.
        widths: Filters of the convolutions: 64 each in MAML and paper 001, 32 in Finn's miniImageNet net.
        outputs: Logits an image.
        norm: Name of the norm, one of `landmeta.norms.NORMS`.
        norm_options: What that norm takes besides.
        side: Side of the images in pixels, for the published classifier on the flattened cells. Without it
            the classifier sees the mean of the cells, and images of any size will do.
        generator: Source of the Xavier-uniform initial weights.
    """

    def __init__(
        self,
        bands: int,
        widths: Sequence[int] = (64, 64, 64, 64),
        outputs: int = 1,
        *,
        norm: str = "tbn",
        norm_options: Mapping[str, Any] | None = None,
        side: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if side is not None and side < _STRIDE:
            msg = f"images of {side} pixels a side leave no cell behind the four pools"
            raise NetworkError(msg, f"side = {_STRIDE} or more, or build the network without side")
        self.side = side
        options = norm_options or {}
        inputs = (bands, *widths[:3])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(cin, cout, 3, padding=1) for cin, cout in zip(inputs, widths, strict=True)
        )
        self.norms = nn.ModuleList(
            make_norm(norm, width, f"norm{i + 1}", **options) for i, width in enumerate(widths)
        )
        self.classifier = nn.Linear(widths[-1] * self._cells**2, outputs)
        draw_initial(self, generator)

    @property
    def _cells(self) -> int:
        """Cells a side that one logit sees."""
        return 1 if self.side is None else self.side // _STRIDE

    def features(
        self, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
    ) -> list[Float[Tensor, "n channel v u"]]:
        """Outputs of the four blocks after their pooling, at strides 2, 4, 8, 16."""
        outputs: list[Tensor] = []
        x = images
        for convolution, norm in zip(self.convolutions, norm_layers(self), strict=True):
            x = F.max_pool2d(F.relu(normalize(norm, convolution(x)), inplace=True), 2)
            outputs.append(x)
        return outputs

    def forward(
        self, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
    ) -> Float[Tensor, "n output"]:
        """Logits of whole images.

        Raises:
            NetworkError: The images are not of the size that the classifier was made for.
        """
        if self.side is not None and tuple(images.shape[2:]) != (self.side, self.side):
            found = f"{images.shape[2]} x {images.shape[3]}"
            msg = f"images of {found} pixels, expected {self.side} x {self.side}"
            raise NetworkError(msg, "give images of that size, or build the network without side")
        deep = self.features(images, normalize)[-1]
        logits: Tensor = self.classifier(deep.mean(dim=(2, 3)) if self.side is None else deep.flatten(1))
        return logits

    def dense(
        self, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
    ) -> Float[Tensor, "n output v u"]:
        """Logits by the same weights of every cell, or of every window of `side` pixels, at stride 16."""
        weight = self.classifier.weight.unflatten(1, (-1, self._cells, self._cells))
        return F.conv2d(self.features(images, normalize)[-1], weight, self.classifier.bias)
