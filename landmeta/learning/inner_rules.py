"""Update rules of the inner loop: plain, with learned rates, with learned masks (METHODS 3.1, 3.6, 3.7).

What a rule learns has the name of the parameter it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from landmeta.learning.learner import Params


def _moved(params: Mapping[str, Tensor], grads: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> Params:
    moved = {name: params[name] - rates[name] * gradient for name, gradient in grads.items()}
    return {**params, **moved}


def _straight_through(value: Tensor, source: Tensor) -> Tensor:
    """`value` whose gradient goes to `source` unchanged."""
    return value.detach() + (source - source.detach())


@dataclass(frozen=True, slots=True)
class Sgd:
    """phi - rate * gradient: MAML and its first-order variant, ANIL, BOIL."""

    rate: float

    def initial(self, theta: Mapping[str, Tensor], adapted: Iterable[str], seed: int = 0) -> Params:
        """Nothing is learned."""
        del theta, adapted, seed
        return {}

    def update(
        self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], learned: Mapping[str, Tensor]
    ) -> Params:
        """All parameters after one step."""
        del learned
        moved = {name: torch.sub(params[name], g, alpha=self.rate) for name, g in grads.items()}
        return {**params, **moved}


@dataclass(frozen=True, slots=True)
class MetaSgd:
    """phi - r o gradient with learned rates r, free in sign (METHODS 3.7).

    Attributes:
        rate: Initial rate, or the range (low, high) from which initial rates are drawn.
        per: A rate for each `weight`, or one for each `tensor`.
    """

    rate: float | tuple[float, float]
    per: Literal["weight", "tensor"] = "weight"

    def initial(self, theta: Mapping[str, Tensor], adapted: Iterable[str], seed: int = 0) -> Params:
        """The rates."""
        generator = torch.Generator().manual_seed(seed)
        low, high = self.rate if isinstance(self.rate, tuple) else (self.rate, self.rate)
        rates = {}
        for name in adapted:
            shape = theta[name].shape if self.per == "weight" else torch.Size(())
            drawn = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
            rates[name] = drawn.to(theta[name])
        return rates

    def update(
        self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], learned: Mapping[str, Tensor]
    ) -> Params:
        """All parameters after one step."""
        return _moved(params, grads, learned)


@dataclass(frozen=True, slots=True)
class SparseMask:
    """phi - rate * m o gradient; m is 1 where the learned s >= 0, else 0, and its gradient goes to s (3.6).

    Attributes:
        rate: Inner rate.
        draw: Initial s before its tensor's mean is taken off: `uniform` in -0.5 .. 0.5, or `kaiming`:
            Kaiming-uniform for tensors of more than one axis, else `uniform`.
        shift: Added to the initial s.
    """

    rate: float
    draw: Literal["uniform", "kaiming"] = "uniform"
    shift: float = 0.0

    def initial(self, theta: Mapping[str, Tensor], adapted: Iterable[str], seed: int = 0) -> Params:
        """The scores s, about half of them below zero."""
        generator = torch.Generator().manual_seed(seed)
        scores = {}
        for name in adapted:
            shape = theta[name].shape
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
            if self.draw == "kaiming" and len(shape) > 1:
                drawn *= 2 * math.sqrt(6 / math.prod(shape[1:]))
            scores[name] = (drawn - drawn.mean() + self.shift).to(theta[name])
        return scores

    def update(
        self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], learned: Mapping[str, Tensor]
    ) -> Params:
        """All parameters after one step."""
        rates = {name: self.rate * _straight_through(_mask(learned[name]), learned[name]) for name in grads}
        return _moved(params, grads, rates)


@dataclass(frozen=True, slots=True)
class SparseRelu:
    """phi - r o gradient with r = max(s, 0) and learned s, so that rates can fall to exactly zero (3.6).

    Attributes:
        rate: Initial s of every weight.
        straight: Whether the gradient of r goes to s where s < 0 too, as published.
    """

    rate: float
    straight: bool = True

    def initial(self, theta: Mapping[str, Tensor], adapted: Iterable[str], seed: int = 0) -> Params:
        """The scores s."""
        del seed
        return {name: torch.full_like(theta[name], self.rate) for name in adapted}

    def update(
        self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor], learned: Mapping[str, Tensor]
    ) -> Params:
        """All parameters after one step."""
        rates = {name: torch.relu(learned[name]) for name in grads}
        if self.straight:
            rates = {name: _straight_through(rate, learned[name]) for name, rate in rates.items()}
        return _moved(params, grads, rates)


def _mask(scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return (scores >= 0).to(scores.dtype)


def mask_sparsity(learned: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of weights that a learned mask or rate (`SparseMask`, `SparseRelu`) keeps still.

    By tensor, and over all of them under the empty name. A rate of zero counts as still under `SparseRelu`
    and as moving under `SparseMask`; only exact zeros differ.
    """
    still = {name: int((scores < 0).sum()) for name, scores in learned.items()}
    shares = {name: count / learned[name].numel() for name, count in still.items()}
    total = sum(scores.numel() for scores in learned.values())
    return {**shares, "": sum(still.values()) / total if total else 0.0}
