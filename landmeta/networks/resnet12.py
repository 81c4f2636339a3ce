"""The ResNet-12 of the main paper, with its features at every depth (METHODS 1.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from landmeta.networks.initial import draw_initial
from landmeta.norms import Normalize, make_norm, own_moments

WIDTHS = (64, 128, 256, 512)
"""Channels of the four blocks as published."""

BIG_WIDTHS = (64, 160, 320, 640)
"""Channels of the big variant."""

STRIDES = (1, 2, 4, 8)
"""Pixels per cell of the block outputs before their pooling."""

ALIGN = 8
"""Window sides must be multiples of this."""

CONTEXT = 48
"""Pixels of halo that a block-4 cell can see: 3 + 3*2 + 3*4 + 3*8, rounded up to `ALIGN`."""

SLOPE = 0.01
"""LeakyReLU slope of the published network (B, MO use 0.1)."""


class Block(nn.Module):
    """Three 3x3 convolutions with norms, and a projected shortcut; no pooling."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        name: str,
        norm: str = "in",
        norm_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = norm_options or {}
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm1 = make_norm(norm, channels, f"{name}.norm1", **options)
        self.norm2 = make_norm(norm, channels, f"{name}.norm2", **options)
        self.norm3 = make_norm(norm, channels, f"{name}.norm3", **options)
        self.norm_shortcut = make_norm(norm, channels, f"{name}.norm_shortcut", **options)

    def forward(self, x: Tensor, normalize: Normalize = own_moments) -> Tensor:
        """(n, channel_in, y, x) -> (n, channel, y, x)."""
        y = F.leaky_relu(normalize(self.norm1, self.conv1(x)), SLOPE, inplace=True)
        y = F.leaky_relu(normalize(self.norm2, self.conv2(y)), SLOPE, inplace=True)
        y = normalize(self.norm3, self.conv3(y))
        return F.leaky_relu(y + normalize(self.norm_shortcut, self.shortcut(x)), SLOPE, inplace=True)


class ResNet12(nn.Module):
    """`resnet12_tadam`: four blocks, pools 2, 2, 2 (padding 1), none, and a linear classifier (METHODS 1.1).

    Args:
        bands: Input bands.
        widths: Channels of the four blocks; `WIDTHS` is the published size.
        outputs: Logits an image; 1 for a one-vs-all class model.
        norm: Name of the norm of all 16 norm layers, one of `landmeta.norms.NORMS`.
        norm_options: What that norm takes besides.
        generator: Source of the Xavier-uniform initial weights.
    """

    def __init__(
        self,
        bands: int,
        widths: Sequence[int] = WIDTHS,
        outputs: int = 1,
        *,
        norm: str = "in",
        norm_options: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.norm_options = dict(norm_options or {})
        inputs = (bands, *widths[:3])
        self.blocks = nn.ModuleList(
            Block(cin, cout, f"block{i + 1}", norm, norm_options)
            for i, (cin, cout) in enumerate(zip(inputs, widths, strict=True))
        )
        self.classifier = nn.Linear(widths[-1], outputs)
        draw_initial(self, generator)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the block outputs, shallow to deep."""
        return tuple(block.conv3.out_channels for block in self._blocks())

    @property
    def bands(self) -> int:
        """Input bands."""
        return self._blocks()[0].conv1.in_channels

    def _blocks(self) -> list[Block]:
        return [b for b in self.blocks if isinstance(b, Block)]

    def features(
        self, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
    ) -> list[Float[Tensor, "n channel v u"]]:
        """Block outputs before pooling, at strides 1, 2, 4, 8.

        The pool after block 3 is padded by one, so block 4 has one more row and column than y / 8, and its
        cell j is centred at pixel 8 j - 0.5; cells of blocks 1 to 3 are centred at s j + (s - 1) / 2.
        """
        outputs: list[Tensor] = []
        x = images
        for i, block in enumerate(self._blocks()):
            x = block(pool_before(x, i), normalize)
            outputs.append(x)
        return outputs

    def forward(
        self, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
    ) -> Float[Tensor, "n output"]:
        """Logits of whole images: global mean of block 4, then the linear classifier."""
        logits: Tensor = self.classifier(self.features(images, normalize)[-1].mean(dim=(2, 3)))
        return logits

    def dense(
        self, images: Float[Tensor, "n band y x"], normalize: Normalize = own_moments
    ) -> Float[Tensor, "n output v u"]:
        """Logits of every block-4 cell by the same weights; their mean over the cells is `forward`.

        `upsample(logits, STRIDES[-1])` brings them to the pixel grid.
        """
        weight = self.classifier.weight[:, :, None, None]
        return F.conv2d(self.features(images, normalize)[-1], weight, self.classifier.bias)

    def select_bands(self, indices: Sequence[int]) -> ResNet12:
        """The network for some of its bands: the first convolutions keep those columns (METHODS 1.1)."""
        subset = ResNet12(
            len(indices),
            self.widths,
            self.classifier.out_features,
            norm=self.norm,
            norm_options=self.norm_options,
        )
        state = {k: v.detach().clone() for k, v in self.state_dict().items()}
        for name in ("blocks.0.conv1.weight", "blocks.0.shortcut.weight"):
            state[name] = state[name][:, list(indices)]
        subset.load_state_dict(state)
        return subset.to(self.classifier.weight.device).requires_grad_(False)


def pool_before(x: Float[Tensor, "n channel y x"], block: int) -> Float[Tensor, "n channel v u"]:
    """The max pool before a block (0 to 3): none before the first, padded before the last."""
    return F.max_pool2d(x, 2, 2, padding=1 if block == 3 else 0) if block else x


def upsample(maps: Float[Tensor, "n channel v u"], stride: int) -> Float[Tensor, "n channel y x"]:
    """Bring block outputs to the pixel grid by bilinear resampling between the cells' true centres."""
    if stride == 1:
        return maps
    fine = F.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)
    if stride == STRIDES[-1]:
        # interpolate() takes cell j as centred at 8 j + 3.5; it lies at 8 j - 0.5: four pixels earlier.
        return fine[..., 4:-4, 4:-4]
    return fine
