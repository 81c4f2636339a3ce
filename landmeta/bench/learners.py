"""A meta-learned network as the protocols of the benchmark adapt it: one step at a time, at their rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from landmeta.bench.protocols import Params, Recipe
from landmeta.learning.inner import Inner, InnerRule, Sgd, SparseMask, parting_steps
from landmeta.learning.learner import BinaryLoss, Learner
from landmeta.norms import Mode, State


@dataclass(slots=True)
class MetaLearned:
    """A trained network with its inner loop (see `landmeta.bench.protocols.ClassLearner`).

    Attributes:
        network: Trained.
        inner: Rule and adapted parameters; its steps and order do not matter here.
        learned: What the rule learned.
    """

    network: nn.Module
    inner: Inner
    learned: Mapping[str, Tensor]
    params: Params = field(init=False)
    state: State = field(init=False)

    def __post_init__(self) -> None:
        learner = self._learner()
        self.params, self.state = learner.parameters(), learner.initial_state()

    def _learner(self, pos_weight: float = 1.0) -> Learner:
        return Learner(self.network, BinaryLoss(pos_weight))

    def steps(
        self, params: Params, state: State, images: Tensor, targets: Tensor, recipe: Recipe
    ) -> tuple[list[Params], State]:
        """First-order inner steps at the recipe's rate, or at the rates that the rule learned."""
        inner = replace(self.inner, rule=_at_rate(self.inner.rule, recipe.rate), order=1)
        learner = self._learner(recipe.pos_weight)
        return parting_steps(learner, inner, params, dict(self.learned), state, images, targets)

    @torch.no_grad()
    def logits(self, params: Params, state: State, images: Tensor, mode: Mode) -> tuple[Tensor, State]:
        """Logits (n,) of one class model."""
        logits, state = self._learner()(params, state, images, mode)
        return logits[:, 0], state


def _at_rate(rule: InnerRule, rate: float) -> InnerRule:
    """The rule at another rate, where the rate is a setting and no initial value of what is learned."""
    return replace(rule, rate=rate) if isinstance(rule, Sgd | SparseMask) else rule
