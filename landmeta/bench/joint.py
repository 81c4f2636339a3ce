"""Joint training: one classifier of all classes of the training regions, without episodes.

It gives meta-training a warm start, and a rival: a network that goes on jointly until it has seen as many
images as a meta-training of the same size, and that is adapted to a task the ordinary way: a new classifier
on top, and some steps of Adam on the whole network.
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

from landmeta.augmentation import draw_symmetries, turned
from landmeta.bench.evaluation import Answers, Trial, class_positions
from landmeta.bench.presets import QUERIES, SHOTS, WAYS, Preset
from landmeta.networks import ResNet12
from landmeta.networks.resnet12 import WIDTHS
from landmeta.norms import NormPass, initial_state, keep_state
from landmeta.tasks import Task, TileSource
from landmeta.tile_table import TileTable

TUNING_STEPS, TUNING_RATES = 20, (1e-3, 3e-3, 1e-2)
"""Steps of Adam on a task's support, and the rates of which the best on training tasks is taken."""

IMAGES, RATE = 32, 3e-3
"""Of a step of joint training, and the highest rate of Adam."""

_AT_ONCE = 64  # images of a pass

Told = Callable[[int, int], None]
"""Called with steps done and steps in all."""


def rival_steps(size: Preset) -> int:
    """Steps after which the rival has seen the images of a whole meta-training: warm-up, support, queries."""
    return size.warm_up + size.steps * size.tasks * WAYS * (SHOTS + QUERIES) // IMAGES


def train_jointly(
    tiles: TileSource,
    table: TileTable,
    network: ResNet12,
    steps: int,
    seed: int,
    told: Told = lambda _done, _all: None,
) -> list[float]:
    """Train a network on all classes of the training regions at once.

    Classes are drawn alike, whatever their share, and every tile flipped and turned at random. The rate of
    Adam rises to `RATE` and falls again (one cycle).

    Args:
        tiles: Reads tiles by row.
        table: Those of the training regions.
        network: With a logit for each of their classes, in ascending order; changed in place.
        steps: Of `IMAGES` tiles each.
        seed: Of all draws.
        told: Told of the steps.

    Returns:
        The loss of every step.
    """
    device = network.classifier.weight.device
    classes, target = np.unique(table.code, return_inverse=True)
    members = [table.row[target == k] for k in range(len(classes))]
    rng = np.random.default_rng((4, seed))
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    losses = []
    for step in range(steps):
        drawn = rng.integers(len(classes), size=IMAGES)
        rows = np.array([rng.choice(members[k]) for k in drawn])
        images = turned(torch.from_numpy(tiles.read(rows)), draw_symmetries(IMAGES, rng)).to(device)
        norms = NormPass(initial_state(network))
        loss = F.cross_entropy(network(images, norms), torch.from_numpy(drawn).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        keep_state(network, norms.updated)  # running moments, where the norm has them
        schedule.step()
        losses.append(float(loss.detach()))
        told(step + 1, steps)
    return losses


def classifier_of(
    table: TileTable, bands: int, widths: Sequence[int], *, norm: str = "in", seed: int
) -> ResNet12:
    """A network with random weights and a logit for every class of the table."""
    generator = torch.Generator().manual_seed(seed)
    classes = len(np.unique(table.code))
    return ResNet12(bands, widths or WIDTHS, classes, norm=norm, generator=generator)


def class_model_of(network: ResNet12) -> ResNet12:
    """The same features under a single logit, whose weights are zero: a start for meta-training."""
    single = ResNet12(network.bands, network.widths, norm=network.norm)
    head = {name: torch.zeros_like(value) for name, value in single.classifier.named_parameters("classifier")}
    single.load_state_dict({**network.state_dict(), **head})
    return single


@dataclass(frozen=True, slots=True)
class JointlyTrained:
    """A jointly trained network as a contender (see `landmeta.bench.evaluation.Contender`).

    Attributes:
        network: Trained; its classifier is replaced for each task.
        rate: Of the steps of Adam on the support.
        depends_on_batch: It does not.
    """

    network: ResNet12
    rate: float
    depends_on_batch: bool = False

    def learn(
        self, images: Float32[np.ndarray, "support band y x"], positions: Int[np.ndarray, "support"]
    ) -> Answers:
        """Fine-tune to the support; a query's logits are log odds of its class against all others."""
        device = self.network.classifier.weight.device
        tuned = self._tuned(torch.from_numpy(images).to(device), torch.from_numpy(positions).to(device))

        def answer(
            query: Float32[np.ndarray, "query band y x"], batches: Sequence[Int[np.ndarray, "_"]]
        ) -> Float[np.ndarray, "query class"]:
            del batches
            with torch.no_grad():
                asked = torch.from_numpy(query).split(_AT_ONCE)
                parts = [self._logits(tuned, part.to(device)) for part in asked]
            return log_odds(torch.cat(parts)).cpu().numpy()

        return answer

    def _tuned(self, images: Tensor, target: Tensor) -> dict[str, Tensor]:
        """All parameters after fine-tuning, with a classifier of as many outputs as the task has classes."""
        classes = int(target.max()) + 1
        params = {name: value.clone() for name, value in self.network.named_parameters()}
        params["classifier.weight"] = params["classifier.weight"].new_zeros(classes, self.network.widths[-1])
        params["classifier.bias"] = params["classifier.bias"].new_zeros(classes)
        for value in params.values():
            value.requires_grad_()
        optimizer = torch.optim.Adam(params.values(), self.rate)
        for _ in range(TUNING_STEPS):
            optimizer.zero_grad()
            F.cross_entropy(self._logits(params, images), target).backward()
            optimizer.step()
        return {name: value.detach() for name, value in params.items()}

    def _logits(self, params: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.network, dict(params), (images,))
        return logits


def losses_by_rate(network: ResNet12, trial: Trial) -> dict[float, float]:
    """Mean cross-entropy of the queries of tasks after fine-tuning at each of `TUNING_RATES`."""
    losses = {}
    for rate in TUNING_RATES:
        contender = JointlyTrained(network, rate)
        losses[rate] = float(np.mean([_query_loss(contender, task, trial.tiles) for task in trial.tasks]))
    return losses


def _query_loss(contender: JointlyTrained, task: Task, tiles: TileSource) -> float:
    answer = contender.learn(tiles.read(task.support), class_positions(task, task.support_codes))
    truth = class_positions(task, task.query_codes)
    odds = torch.from_numpy(answer(tiles.read(task.query), []))[np.arange(len(truth)), truth]
    return float(F.softplus(-odds).mean())


def log_odds(logits: Float[Tensor, "n class"]) -> Float[Tensor, "n class"]:
    """Softmax logits as the logit of each class against all others together."""
    rest = [torch.cat([logits[:, :k], logits[:, k + 1 :]], dim=1) for k in range(logits.shape[1])]
    return torch.stack([logits[:, k] - rest[k].logsumexp(dim=1) for k in range(logits.shape[1])], dim=1)
