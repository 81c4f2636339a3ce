"""Closed-form one-vs-all heads: class-balanced ridge regression on standardized features.

One head a class separates it from all the others (METHODS 4.6); with squared loss all heads share one
linear system. Everything is differentiable, so meta-training back-propagates through the fit (as in
R2-D2, Bertinetto et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Heads:
    """Linear class models: features @ weight.T + bias; `weight` (class, feature), `bias` (class,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Float[Tensor, "n feature"]) -> Float[Tensor, "n class"]:
        """Logits of feature vectors."""
        return features @ self.weight.T + self.bias


def class_balanced_weights(target: Int[Tensor, " n"], classes: int) -> Float[Tensor, " n"]:
    """Weights that sum to one and give every class the same total, whatever its number of samples."""
    count = torch.bincount(target, minlength=classes).clamp(min=1)
    weights = 1.0 / count[target]
    return weights / weights.sum()


def fit_ridge(
    features: Float[Tensor, "n feature"],
    target: Int[Tensor, " n"],
    classes: int,
    ridge: Tensor | float,
) -> Heads:
    """Fit one-vs-all heads (target 1 for the class, 0 for the rest) with an unpenalized bias.

    Args:
        features: Support features, roughly unit scale.
        target: Class index 0..classes-1 of each sample.
        classes: Number of classes.
        ridge: Penalty on the squared weights, relative to a total sample weight of 1.

    Returns:
        Heads whose logits lie near 1 for the class and near 0 for the others.
    """
    weights = class_balanced_weights(target, classes).to(features.dtype)
    one_hot = torch.nn.functional.one_hot(target, classes).to(features.dtype)
    centre, level = weights @ features, weights @ one_hot
    root = weights.sqrt()[:, None]
    x, y = root * (features - centre), root * (one_hot - level)
    weight = _solve(x, y, torch.as_tensor(ridge, dtype=features.dtype)).T
    return Heads(weight, level - weight @ centre)


def _solve(x: Tensor, y: Tensor, ridge: Tensor) -> Tensor:
    """(x'x + ridge)^-1 x'y through the smaller of the two equivalent systems."""
    samples, features = x.shape
    if samples < features:
        gram = x @ x.T + ridge * torch.eye(samples, dtype=x.dtype, device=x.device)
        return x.T @ torch.cholesky_solve(y, torch.linalg.cholesky(gram))
    gram = x.T @ x + ridge * torch.eye(features, dtype=x.dtype, device=x.device)
    return torch.cholesky_solve(x.T @ y, torch.linalg.cholesky(gram))
