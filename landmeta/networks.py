"""The instance-norm ResNet-12 of the main paper, with its features at every depth (METHODS 1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from landmeta.norms import InstanceNorm, Normalize, own_moments

STRIDES = (1, 2, 4, 8)
"""Pixels per cell of the block outputs before their pooling."""

ALIGN = 8
"""Window sides must be multiples of this."""

CONTEXT = 48
"""Pixels of halo that a block-4 cell can see: 3 + 3*2 + 3*4 + 3*8, rounded up to `ALIGN`."""

_SLOPE = 0.01  # LeakyReLU slope of the published network (B, MO use 0.1)


class Block(nn.Module):
    """Three 3x3 convolutions with norms, and a projected shortcut; no pooling."""

    def __init__(self, channels_in: int, channels: int, name: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm1 = InstanceNorm(channels, f"{name}.norm1")
        self.norm2 = InstanceNorm(channels, f"{name}.norm2")
        self.norm3 = InstanceNorm(channels, f"{name}.norm3")
        self.norm_shortcut = InstanceNorm(channels, f"{name}.norm_shortcut")

    def forward(self, x: Tensor, normalize: Normalize = own_moments) -> Tensor:
        """(n, channel_in, y, x) -> (n, channel, y, x)."""
        y = F.leaky_relu(normalize(self.norm1, self.conv1(x)), _SLOPE, inplace=True)
        y = F.leaky_relu(normalize(self.norm2, self.conv2(y)), _SLOPE, inplace=True)
        y = normalize(self.norm3, self.conv3(y))
        return F.leaky_relu(y + normalize(self.norm_shortcut, self.shortcut(x)), _SLOPE, inplace=True)


class ResNet12(nn.Module):
    """`resnet12_tadam` with instance norm: four blocks, pools 2, 2, 2 (padding 1), none (METHODS 1.1).

    Args:
        bands: Input bands.
        widths: Channels of the four blocks; (64, 128, 256, 512) is the published size.
        outputs: Logits an image; 1 for a one-vs-all class model.
        generator: Source of the Xavier-uniform initial weights.
    """

    def __init__(
        self,
        bands: int,
        widths: Sequence[int] = (64, 128, 256, 512),
        outputs: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        inputs = (bands, *widths[:3])
        self.blocks = nn.ModuleList(
            Block(cin, cout, f"block{i + 1}")
            for i, (cin, cout) in enumerate(zip(inputs, widths, strict=True))
        )
        self.classifier = nn.Linear(widths[-1], outputs)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight, generator=generator)
        nn.init.zeros_(self.classifier.bias)  # as SM; torch's default would draw from the global generator

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

    def forward(self, images: Float[Tensor, "n band y x"]) -> Float[Tensor, "n output"]:
        """Logits of whole images: global mean of block 4, then the linear classifier."""
        logits: Tensor = self.classifier(self.features(images)[-1].mean(dim=(2, 3)))
        return logits

    def select_bands(self, indices: Sequence[int]) -> ResNet12:
        """The network for some of its bands: the first convolutions keep those columns (METHODS 1.1)."""
        subset = ResNet12(len(indices), self.widths, self.classifier.out_features)
        state = {k: v.detach().clone() for k, v in self.state_dict().items()}
        for name in ("blocks.0.conv1.weight", "blocks.0.shortcut.weight"):
            state[name] = state[name][:, list(indices)]
        subset.load_state_dict(state)
        return subset.requires_grad_(False)


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
