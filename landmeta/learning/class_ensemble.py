"""Class models adapted from one start and asked together: one-vs-all and one-vs-one (METHODS 4.6).

All models of one-vs-all see the same images, so that what they share is computed once: the first step's
network pass if they are adapted at once, the first convolutions of a prediction if they are asked at once.
A CPU gains nothing from it beyond that and takes one model after the other, in the memory of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from landmeta.errors import LabelError
from landmeta.learning.inner import Inner, adapt, constant, functional_gradient, inner_step
from landmeta.learning.learner import Batch, Learner, Params
from landmeta.norms import State


@dataclass(frozen=True, slots=True)
class ClassEnsemble:
    """Adapted class models of one network with one logit.

    Attributes:
        learner: The function that was adapted.
        shared: Parameters that all models have in common.
        adapted: Parameters (model, ...) of each.
        states: State of the norms (model, ...) to predict with.
        classes: Number of classes.
        pairs: For one-vs-one the classes (a, b) of each model, whose logit speaks for a; empty for
            one-vs-all, where model k speaks for class k.
    """

    learner: Learner
    shared: Params
    adapted: Params
    states: State
    classes: int
    pairs: tuple[tuple[int, int], ...] = ()

    @torch.no_grad()
    def logits(
        self, images: Float[Tensor, "n band y x"], *, batch: int = 16, at_once: bool | None = None
    ) -> Float[Tensor, "n model"]:
        """Logits of every model.

        Args:
            images: Queries.
            batch: Images of a pass. Matters to the result for transductive norms only, as does the order.
            at_once: Whether to ask all models in one pass; by default on a GPU.
        """
        together = images.is_cuda if at_once is None else at_once
        ask = self._ask_together if together else self._ask_in_turn
        return torch.cat([ask(part) for part in images.split(batch)])

    def scores(self, logits: Float[Tensor, "n model"]) -> Float[Tensor, "n class"]:
        """How much speaks for each class: the logit itself, or the sum of the pairs' probabilities for it."""
        if not self.pairs:
            return logits
        scores = logits.new_zeros(len(logits), self.classes)
        for (first, second), logit in zip(self.pairs, logits.T, strict=True):
            scores[:, first] += torch.sigmoid(logit)
            scores[:, second] += torch.sigmoid(-logit)
        return scores

    def predict(self, images: Float[Tensor, "n band y x"], *, batch: int = 16) -> Int[Tensor, " n"]:
        """Class of each image: the one for which most speaks."""
        return self.scores(self.logits(images, batch=batch)).argmax(dim=1)

    def _ask_in_turn(self, images: Tensor) -> Tensor:
        count = len(next(iter(self.adapted.values())))
        columns = [
            self.learner.predict({**self.shared, **_model(self.adapted, i)}, _state(self.states, i), images)
            for i in range(count)
        ]
        return torch.cat(columns, dim=1)

    def _ask_together(self, images: Tensor) -> Tensor:
        def ask(adapted: Params, state: State) -> Tensor:
            return self.learner.predict({**self.shared, **adapted}, state, images)[:, 0]

        logits: Tensor = torch.vmap(ask, out_dims=1)(self.adapted, self.states)
        return logits


def fit_one_vs_all(
    learner: Learner,
    inner: Inner,
    theta: Mapping[str, Tensor],
    learned: Mapping[str, Tensor],
    support: Batch,
    *,
    minibatch: int | None = None,
    seed: int = 0,
    at_once: bool | None = None,
) -> ClassEnsemble:
    """Adapt a model of each class against all others.

    Args:
        learner: The function to adapt; its network has one logit.
        inner: Settings; always of first order here.
        theta: Parameters to start from.
        learned: What the rule learned.
        support: With class indices as targets.
        minibatch: Images a step, drawn with replacement from the whole support, the same for every class as
            METEOR draws them; by default the whole support.
        seed: Of those draws.
        at_once: Whether to adapt all models in one pass; by default on a GPU.

    Raises:
        LabelError: The support holds fewer than two classes.
    """
    classes = _classes(support)
    inner, theta = replace(inner, order=1), dict(theta)
    batches = _draws(support, inner.steps, minibatch, seed)
    together = support.images.is_cuda if at_once is None else at_once
    fit = _fit_together if together else _fit_in_turn
    with torch.no_grad():
        adapted, states = fit(learner, inner, theta, dict(learned), support, batches, classes)
    return _ensemble(learner, inner, theta, adapted, states, classes)


def fit_one_vs_one(
    learner: Learner,
    inner: Inner,
    theta: Mapping[str, Tensor],
    learned: Mapping[str, Tensor],
    support: Batch,
    *,
    minibatch: int | None = None,
    seed: int = 0,
) -> ClassEnsemble:
    """Adapt a model of each pair of classes on their images alone; arguments as for `fit_one_vs_all`.

    Raises:
        LabelError: The support holds fewer than two classes.
    """
    classes = _classes(support)
    pairs = tuple(combinations(range(classes), 2))
    inner, theta = replace(inner, order=1), dict(theta)
    models = []
    with torch.no_grad():
        for first, second in pairs:
            rows = (support.targets == first) | (support.targets == second)
            part = Batch(support.images[rows], support.targets[rows])
            batches = _draws(part, inner.steps, minibatch, seed)
            models.append(_fit(learner, inner, theta, dict(learned), part, batches, first))
    adapted, states = _stack(models)
    return replace(_ensemble(learner, inner, theta, adapted, states, classes), pairs=pairs)


def _classes(support: Batch) -> int:
    found = torch.unique(support.targets)
    if len(found) < 2 or not torch.equal(found, torch.arange(len(found)).to(found)):
        msg = f"support tiles have classes {found.tolist()}, expected 0, 1, ... without gaps, two at least"
        raise LabelError(msg, "label tiles of every class, or leave out classes without tiles")
    return len(found)


def _draws(support: Batch, steps: int, minibatch: int | None, seed: int) -> list[Batch]:
    """The batch of each step, targets still as class indices."""
    if minibatch is None:
        return [support] * steps
    generator, count = torch.Generator().manual_seed(seed), len(support.targets)
    rows = torch.randint(count, (steps, minibatch), generator=generator).to(support.targets.device)
    return [Batch(support.images[row], support.targets[row]) for row in rows]


def _fit(
    learner: Learner,
    inner: Inner,
    theta: Params,
    learned: Params,
    support: Batch,
    batches: Sequence[Batch],
    positive: int,
) -> tuple[Params, State]:
    """The adapted tensors of one model, and the state to predict with."""
    steps = [Batch(b.images, (b.targets == positive).to(b.images.dtype)) for b in batches]
    phi, state = adapt(learner, inner, theta, learned, learner.initial_state(), steps)
    return {name: phi[name] for name in inner.adapted}, learner.ready(phi, state, support.images)


def _fit_in_turn(
    learner: Learner,
    inner: Inner,
    theta: Params,
    learned: Params,
    support: Batch,
    batches: Sequence[Batch],
    classes: int,
) -> tuple[Params, State]:
    models = [_fit(learner, inner, theta, learned, support, batches, k) for k in range(classes)]
    return _stack(models)


def _fit_together(
    learner: Learner,
    inner: Inner,
    theta: Params,
    learned: Params,
    support: Batch,
    batches: Sequence[Batch],
    classes: int,
) -> tuple[Params, State]:
    """All models in one pass; until the first step has parted them they are one."""
    moving: Params = {name: theta[name] for name in inner.adapted}
    state, axis = learner.initial_state(), None
    for batch in batches:
        targets = torch.stack([(batch.targets == k).to(batch.images.dtype) for k in range(classes)])

        def step(moving: Params, state: State, targets: Tensor, images: Tensor = batch.images) -> Any:
            part = Batch(images, targets)
            params = {**theta, **moving}
            phi, after = inner_step(learner, inner, params, learned, state, part, functional_gradient)
            return {name: phi[name] for name in inner.adapted}, after

        moving, state = torch.vmap(step, in_dims=(axis, axis, 0))(moving, state, targets)
        axis = 0

    def ready(moving: Params, state: State) -> State:
        return learner.ready({**theta, **moving}, state, support.images)

    if axis is None:  # no step has parted them
        return _stack([(moving, ready(moving, state))] * classes)
    return moving, constant(torch.vmap(ready)(moving, state))


def _ensemble(
    learner: Learner, inner: Inner, theta: Params, adapted: Params, states: State, classes: int
) -> ClassEnsemble:
    shared = {name: value for name, value in theta.items() if name not in inner.adapted}
    return ClassEnsemble(learner, shared, adapted, states, classes)


def _stack(models: Sequence[tuple[Params, State]]) -> tuple[Params, State]:
    params, states = zip(*models, strict=True)
    adapted = {name: torch.stack([p[name] for p in params]) for name in params[0]}
    return adapted, {
        layer: {key: torch.stack([s[layer][key] for s in states]) for key in values}
        for layer, values in states[0].items()
    }


def _model(adapted: Params, index: int) -> Params:
    return {name: value[index] for name, value in adapted.items()}


def _state(states: State, index: int) -> State:
    return {layer: {key: v[index] for key, v in values.items()} for layer, values in states.items()}
