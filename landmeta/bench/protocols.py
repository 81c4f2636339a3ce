"""Adapting one class model a class and asking it, under two protocols (METHODS 2.2, 2.3, 4.6).

`fair` treats every norm alike: whole support in each step, rate and loss of training, a state of its own for
every class model, for TaskNorm one pass of the support through the adapted model as context, then queries in
mode `query`. `meteor_compat` does as the code released with the main paper: balanced tasks never leave mode
`context`, as its training script tests them; in regions, as in its evaluator, the steps take minibatches and
all class models end with the state that the last one left. In which batches queries come is another matter
(`landmeta.bench.compositions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from landmeta.norms import (
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Mode,
    NoNorm,
    State,
    TaskNormI,
    TaskNormL,
    norm_layers,
)

Params: TypeAlias = dict[str, Tensor]

_OWN_MOMENTS = (InstanceNorm, GroupNorm, LayerNorm, NoNorm)
"""Norms under which an image's logits never depend on the other images of its batch."""

_CHUNK = 64  # images in a pass where batches do not matter


@runtime_checkable
class ClassLearner(Protocol):
    """A meta-learned start and the inner step that belongs to it."""

    network: nn.Module
    params: Params
    state: State

    def steps(
        self, params: Params, state: State, images: Tensor, targets: Tensor, recipe: Recipe
    ) -> tuple[list[Params], State]:
        """One inner step on images (n, band, y, x) for each row of targets (class, n) in {0, 1}.

        All start from `params`; inputs stay as they are.
        """
        ...

    def logits(self, params: Params, state: State, images: Tensor, mode: Mode) -> tuple[Tensor, State]:
        """Logits (n,) without gradient, and the state after this pass."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How class models are adapted and asked.

    Attributes:
        steps: Inner steps a class.
        rate: Their rate, where the learner has not learned its own.
        pos_weight: Weight of positives in their loss.
        minibatch: Support images a step, drawn with replacement; 0 takes the whole support.
        mode: Mode of the norms when queries are asked.
        context: Whether TaskNorm takes its context from the support under the adapted model.
        last_state: Whether the state goes on from class to class, and all ask with what the last one left.
    """

    steps: int
    rate: float
    pos_weight: float
    minibatch: int = 0
    mode: Mode = "query"
    context: bool = True
    last_state: bool = False

    def in_effect(self, network: nn.Module) -> Recipe:
        """The recipe without what this network does not notice; of equal ones the answers are the same."""
        minds_mode = any(not (isinstance(x, _OWN_MOMENTS) or x.transductive) for x in norm_layers(network))
        return replace(
            self,
            mode=self.mode if minds_mode else "query",
            context=self.context and _takes_context(network),
        )


def fair(*, steps: int, rate: float, pos_weight: float) -> Recipe:
    """The protocol under which norms can be compared: rate and weight of positives are those of training."""
    return Recipe(steps, rate, pos_weight)


def compat_tasks(*, steps: int, rate: float, pos_weight: float) -> Recipe:
    """Balanced tasks as the released training code tests them: in train mode, all else as in training."""
    return Recipe(steps, rate, pos_weight, mode="context", context=False)


def compat_regions(*, steps: int, rate: float) -> Recipe:
    """Whole regions as the released evaluator fits and predicts them; its loss does not weigh positives."""
    return Recipe(steps, rate, 1.0, minibatch=8, context=False, last_state=True)


@dataclass(frozen=True, slots=True)
class ClassModel:
    """A class model after adaptation: parameters and the state of its norms."""

    params: Params
    state: State


def fit_classes(
    learner: ClassLearner,
    images: Float[Tensor, "support band y x"],
    positions: Int[np.ndarray, "support"],
    recipe: Recipe,
) -> list[ClassModel]:
    """One adapted model for each class position that occurs in the support.

    Every class sees the same minibatches, as the released code draws them from one seed.
    """
    classes = np.arange(int(positions.max()) + 1)
    targets = torch.from_numpy((positions == classes[:, None]).astype(np.float32)).to(images.device)
    batches = list(_support_batches(len(positions), recipe))
    if recipe.last_state:
        return _one_state(learner, images, targets, batches, recipe)
    # Until the first step has parted them, all class models are one.
    starts, started = [learner.params] * len(classes), learner.state
    for picks in batches[:1]:
        starts, started = learner.steps(learner.params, started, images[picks], targets[:, picks], recipe)
    return [
        _adapted(learner, ClassModel(params, started), images, target, batches[1:], recipe)
        for params, target in zip(starts, targets, strict=True)
    ]


def _one_state(
    learner: ClassLearner, images: Tensor, targets: Tensor, batches: Sequence[Tensor], recipe: Recipe
) -> list[ClassModel]:
    """Class models whose state goes on from one to the next; all end with what the last one left."""
    models, state = [], learner.state
    for target in targets:
        start = ClassModel(learner.params, state)
        models.append(_adapted(learner, start, images, target, batches, recipe))
        state = models[-1].state
    return [replace(model, state=state) for model in models]


def _adapted(
    learner: ClassLearner,
    model: ClassModel,
    images: Tensor,
    target: Tensor,
    batches: Sequence[Tensor],
    recipe: Recipe,
) -> ClassModel:
    """The class model after a step on each of the batches, with its context."""
    for picks in batches:
        [params], state = learner.steps(model.params, model.state, images[picks], target[None, picks], recipe)
        model = ClassModel(params, state)
    if recipe.context and _takes_context(learner.network):
        return replace(model, state=learner.logits(model.params, model.state, images, "context")[1])
    return model


def _takes_context(network: nn.Module) -> bool:
    return any(isinstance(layer, TaskNormI | TaskNormL) for layer in norm_layers(network))


def _support_batches(count: int, recipe: Recipe) -> Iterator[Tensor]:
    rng = np.random.default_rng(0)
    for _ in range(recipe.steps):
        whole = np.arange(count)
        picks = rng.integers(count, size=recipe.minibatch) if recipe.minibatch else whole
        yield torch.from_numpy(picks)


def depends_on_batch(network: nn.Module, mode: Mode) -> bool:
    """Whether the logits of a query depend on the other queries of its batch in this mode."""
    layers = list(norm_layers(network))
    if mode == "context":
        return any(not isinstance(layer, _OWN_MOMENTS) for layer in layers)
    return any(layer.transductive for layer in layers)


def ask(
    learner: ClassLearner,
    models: Sequence[ClassModel],
    images: Float[Tensor, "query band y x"],
    batches: Sequence[Int[np.ndarray, "_"]],
    mode: Mode,
) -> Float[np.ndarray, "query class"]:
    """Logits of every class model for every query, asked in these batches.

    Where batches do not matter they are replaced by larger ones: the logits are the same. Else those of one
    size are asked side by side, each by its own moments.
    """
    if not depends_on_batch(learner.network, mode):
        batches = np.array_split(np.arange(len(images)), -(-len(images) // _CHUNK))
    logits = np.empty((len(images), len(models)), np.float32)
    for picks in _side_by_side(batches):
        asked = images[torch.from_numpy(picks)]
        for k, model in enumerate(models):

            def one(batch: Tensor, model: ClassModel = model) -> Tensor:
                return learner.logits(model.params, model.state, batch, mode)[0]

            found = torch.vmap(one)(asked) if len(picks) > 1 else one(asked[0])[None]
            logits[picks, k] = found.cpu().numpy()
    return logits


def _side_by_side(batches: Sequence[Int[np.ndarray, "_"]]) -> Iterator[Int[np.ndarray, "batch image"]]:
    """Batches of one size together, as many as make a pass of at most `_CHUNK` images."""
    by_size: dict[int, list[Int[np.ndarray, "_"]]] = {}
    for batch in batches:
        by_size.setdefault(len(batch), []).append(batch)
    for size, alike in by_size.items():
        at_once = max(1, _CHUNK // size)
        for start in range(0, len(alike), at_once):
            yield np.stack(alike[start : start + at_once])
