"""Tune blocks of the network to a region by gradient steps through the closed-form heads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.features import (
    PHASE,
    FoldedNetwork,
    Standardization,
    blocks_of,
    fold,
    fold_block,
    second_pass,
)
from landmeta.networks import ResNet12, pool_before
from landmeta.sampling import Region, RegionFeatures, Window, depths_of_both_passes, in_order, sample_depths
from landmeta.start import Start, balanced_cross_entropy

TUNED_BLOCKS = {"standard": 3, "full": 0}
"""First block that an effort tunes; the blocks before it are computed once."""

OUT = -2
"""Fold of a sample that takes no part in tuning."""

_STEPS = {"standard": 6, "full": 12}
# Of its norm that each weight tensor moves in a step. On the validation clusters 0.003 neither helped nor
# harmed, 0.01 lost accuracy; so did Adam, which moves all weights alike however small their gradient.
_RATE = 0.003
_MOMENTUM = 0.9
_STEP_PIXELS = 2**18  # pixels of the windows that a step looks at

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tail:
    """The last blocks of a region's network and what enters them, computed once for all steps and folds.

    The moments stay those of the start: with them the norms are part of the convolutions, and a few small
    steps hardly move them.

    Attributes:
        region: Network and windows.
        features: Feature vectors before tuning.
        first: Index of the first block of the tail.
        windows: What enters that block for each label window, (1, channel, v, u).
        again: The same in the second pass of the map; none where the tail holds the first block.
        blocks: What enters it for each unlabelled window.
    """

    region: Region
    features: RegionFeatures
    first: int
    windows: list[Tensor]
    again: list[Tensor]
    blocks: list[Tensor]

    def vectors(self, network: FoldedNetwork, index: int) -> Float[Tensor, "n feature"]:
        """Feature vectors of the labelled pixels of one window: the depths of the tail by `network`.

        These depths are those of the first pass alone, for the steps: the second would cost as much again.
        What comes before them is the mean of both.
        """
        window = self.region.windows[index]
        return _renewed(self._depths(network, window, self.windows[index]), window, self.features.labelled)

    def renewed(self, network: ResNet12) -> RegionFeatures:
        """All feature vectors, the depths of the tail by `network`."""
        with torch.inference_mode():
            folded = fold(network, self.features.moments, self.first)
            labelled = [
                _renewed(self._of_both_passes(folded, i), window, self.features.labelled)
                for i, window in enumerate(self.region.windows)
            ]
            sample = [
                _renewed(self._depths(folded, block, x), block, self.features.sample)
                for block, x in zip(self.region.blocks, self.blocks, strict=True)
            ]
        return replace(
            self.features, sample=torch.cat(sample), labelled=in_order(labelled, self.region.windows)
        )

    def _of_both_passes(self, network: FoldedNetwork, index: int) -> Float[Tensor, "n feature"]:
        window, x = self.region.windows[index], self.windows[index]
        if self.first == 0:
            return depths_of_both_passes(network, x, window.rows, window.cols)
        later = replace(window, rows=window.rows - PHASE, cols=window.cols - PHASE)
        return (self._depths(network, window, x) + self._depths(network, later, self.again[index])) / 2

    def _depths(self, network: FoldedNetwork, window: Window, x: Tensor) -> Tensor:
        return sample_depths(network.features(x), window.rows, window.cols, self.first)


def _renewed(depths: Tensor, window: Window, before: Tensor) -> Tensor:
    """The feature vectors of a window, of which `depths` are the last part, with the first part as it was."""
    return torch.cat([before[window.order, : before.shape[1] - depths.shape[1]], depths], dim=1)


def tail_of(region: Region, features: RegionFeatures, effort: str) -> Tail:
    """Compute what enters the blocks that `effort` tunes."""
    first = TUNED_BLOCKS[effort]
    folded = fold(region.network, features.moments, stop=first)

    def enter(window: Window, passes: int) -> list[Tensor]:
        image = region.image(window)
        if first == 0:
            return [image]
        outputs = folded.features(image)
        seen = [outputs, second_pass(folded, outputs[0])] if passes == 2 else [outputs]
        return [pool_before(x[-1], first) for x in seen]

    with torch.no_grad():
        entered = [enter(window, 2) for window in region.windows]
        blocks = [enter(block, 1)[0] for block in region.blocks]
    return Tail(region, features, first, [x[0] for x in entered], [x[1] for x in entered if x[1:]], blocks)


def tune(
    start: Start,
    tail: Tail,
    target: Int[Tensor, " sample"],
    folds: Int[np.ndarray, " sample"],
    effort: str,
    rng: np.random.Generator,
    tell: Progress,
) -> ResNet12:
    """A copy of the region's network with its tail tuned; norm affine parameters stay fixed (METHODS 1.2).

    Each step fits the heads on all folds but one and descends on the loss of the fold left out: what is
    learned is to separate groups (polygons, tiles) that the heads have not seen. It looks at as many windows
    as `_STEP_PIXELS` allows.

    Args:
        start: Heads and their scales.
        tail: What is tuned.
        target: Class index of every sample.
        folds: Fold of every sample; one of fold -1 is never left out, one of fold `OUT` takes no part.
        effort: `standard` or `full`.
        rng: Draws the windows of each step.
        tell: Progress.
    """
    tuned = copy.deepcopy(tail.region.network)
    blocks = blocks_of(tuned)[tail.first :]
    weights = [p.requires_grad_(True) for b in blocks for p in b.parameters() if p.dim() > 1]
    velocity = [torch.zeros_like(w) for w in weights]
    scaled = start.standardization(tail.features.sample, tail.region.fill.shape[0])
    fold_of = torch.from_numpy(np.asarray(folds)).to(target.device)
    choices = fold_of[fold_of >= 0].unique().tolist()
    for step in range(_STEPS[effort] if choices else 0):
        tell("tuning", step, _STEPS[effort])
        network = FoldedNetwork(tuple(fold_block(b, tail.features.moments) for b in blocks), tail.first)
        chosen = _draw_windows(tail, fold_of, rng)
        loss = _step_loss(start, tail, network, scaled, chosen, target, fold_of, choices[step % len(choices)])
        if loss is not None:
            _descend(weights, velocity, torch.autograd.grad(loss, weights))
    return tuned.requires_grad_(False)


def _draw_windows(tail: Tail, fold_of: Tensor, rng: np.random.Generator) -> list[int]:
    """Random windows with samples that take part, as many as the pixels of a step allow, at least two."""
    windows = tail.region.windows
    chosen: list[int] = []
    pixels = 0
    for i in rng.permutation(len(windows)).tolist():
        pixels += windows[i].image[0].numel()
        if len(chosen) > 1 and pixels > _STEP_PIXELS:
            break
        if (fold_of[windows[i].order] != OUT).any():
            chosen.append(i)
    return chosen


def _step_loss(
    start: Start,
    tail: Tail,
    network: FoldedNetwork,
    scaled: Standardization,
    chosen: list[int],
    target: Tensor,
    fold_of: Tensor,
    left_out: int,
) -> Tensor | None:
    """Loss of one fold under heads fitted on the others; None where the drawn windows lack one of both."""
    order = torch.cat([tail.region.windows[i].order for i in chosen])
    fold, truth = fold_of[order], target[order]
    train = (fold != OUT) & (fold != left_out)
    known = truth[train].unique()
    held = (fold == left_out) & torch.isin(truth, known)
    if len(known) < 2 or not held.any():
        return None
    points = scaled(torch.cat([tail.vectors(network, i) for i in chosen]))
    heads = start.fit_heads(points[train], torch.searchsorted(known, truth[train]), len(known))
    return balanced_cross_entropy(heads(points[held]), torch.searchsorted(known, truth[held]))


@torch.no_grad()
def _descend(weights: list[Tensor], velocity: list[Tensor], gradients: tuple[Tensor, ...]) -> None:
    """One step with momentum; its length is a share of the tensor's norm, whatever that of the gradient."""
    for weight, v, gradient in zip(weights, velocity, gradients, strict=True):
        v.mul_(_MOMENTUM).add_(gradient)
        length = v.norm()
        if length > 0:
            weight.sub_(v, alpha=float(_RATE * weight.norm() / length))
