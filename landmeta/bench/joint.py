"""A rival that is trained jointly: one classifier of all classes of the training regions, then fine-tuned.

It sees as many images as a meta-training of the same size, without episodes, and is adapted to a task the
ordinary way: a new classifier on top, and some steps of Adam on the whole network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.func import functional_call

from landmeta.bench.evaluation import Answers
from landmeta.bench.presets import QUERIES, SHOTS, WAYS, Preset
from landmeta.networks import ResNet12
from landmeta.networks.resnet12 import WIDTHS
from landmeta.tasks import TileSource
from landmeta.tile_table import TileTable

TUNING_STEPS, TUNING_RATE = 20, 1e-3
"""Steps of Adam on a task's support, and their rate."""

_AT_ONCE = 64  # images of a pass

Told = Callable[[int, int], None]
"""Called with steps done and steps in all."""


def images_of(size: Preset) -> int:
    """Images that an outer step of meta-training sees: support and query of its tasks."""
    return size.tasks * WAYS * (SHOTS + QUERIES)


def train_jointly(
    tiles: TileSource,
    table: TileTable,
    bands: int,
    size: Preset,
    seed: int,
    told: Told = lambda _done, _all: None,
) -> tuple[ResNet12, list[float]]:
    """Train an instance-norm ResNet-12 on all classes of the training regions at once.

    Classes are drawn alike, whatever their share, with as many steps and images as meta-training has.

    Args:
        tiles: Reads tiles by row.
        table: Those of the training regions.
        bands: Inputs of the network.
        size: Widths, steps, rate and tasks a step.
        seed: Of initial weights and draws.
        told: Told of the steps.

    Returns:
        The network and the loss of every step.
    """
    classes, target = np.unique(table.code, return_inverse=True)
    members = [table.row[target == k] for k in range(len(classes))]
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng((4, seed))
    network = ResNet12(bands, size.widths or WIDTHS, len(classes), generator=generator)
    optimizer = torch.optim.Adam(network.parameters(), size.rate)
    losses = []
    for step in range(size.steps):
        drawn = rng.integers(len(classes), size=images_of(size))
        rows = np.array([rng.choice(members[k]) for k in drawn])
        loss = F.cross_entropy(network(torch.from_numpy(tiles.read(rows))), torch.from_numpy(drawn))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        told(step + 1, size.steps)
    return network.requires_grad_(False), losses


@dataclass(frozen=True, slots=True)
class JointlyTrained:
    """A jointly trained network as a contender (see `landmeta.bench.evaluation.Contender`)."""

    network: ResNet12
    depends_on_batch: bool = False

    def learn(
        self, images: Float32[np.ndarray, "support band y x"], positions: Int[np.ndarray, "support"]
    ) -> Answers:
        """Fine-tune to the support; a query's logits are log odds of its class against all others."""
        tuned = self._tuned(torch.from_numpy(images), torch.from_numpy(positions))

        def answer(
            query: Float32[np.ndarray, "query band y x"], batches: Sequence[Int[np.ndarray, "_"]]
        ) -> Float[np.ndarray, "query class"]:
            del batches
            with torch.no_grad():
                parts = [self._logits(tuned, part) for part in torch.from_numpy(query).split(_AT_ONCE)]
            return log_odds(torch.cat(parts)).numpy()

        return answer

    def _tuned(self, images: Tensor, target: Tensor) -> dict[str, Tensor]:
        """All parameters after fine-tuning, with a classifier of as many outputs as the task has classes."""
        classes = int(target.max()) + 1
        params = {name: value.clone() for name, value in self.network.named_parameters()}
        params["classifier.weight"] = params["classifier.weight"].new_zeros(classes, self.network.widths[-1])
        params["classifier.bias"] = params["classifier.bias"].new_zeros(classes)
        for value in params.values():
            value.requires_grad_()
        optimizer = torch.optim.Adam(params.values(), TUNING_RATE)
        for _ in range(TUNING_STEPS):
            optimizer.zero_grad()
            F.cross_entropy(self._logits(params, images), target).backward()
            optimizer.step()
        return {name: value.detach() for name, value in params.items()}

    def _logits(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.network, dict(params), (images,))
        return logits


def log_odds(logits: Float[Tensor, "n class"]) -> Float[Tensor, "n class"]:
    """Softmax logits as the logit of each class against all others together."""
    rest = [torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1) for k in range(logits.shape[1])]
    return torch.stack([logits[:, k] - rest[k].logsumexp(dim=1) for k in range(logits.shape[1])], dim=1)
