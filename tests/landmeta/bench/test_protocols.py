"""The ordering effect of transductive batch norm, and what the two protocols do with state and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from landmeta.bench.compositions import COMPOSITIONS
from landmeta.bench.evaluation import (
    SWEEP_DRAWS,
    Answers,
    NetworkContender,
    Trial,
    column_results,
    score_balanced,
    score_regions,
)
from landmeta.bench.protocols import (
    Params,
    Recipe,
    compat_regions,
    compat_tasks,
    depends_on_batch,
    fair,
    fit_classes,
)
from landmeta.norms import Mode, NormPass, State, initial_state, make_norm
from landmeta.tasks import Task

CLASSES = 3
LEVEL = 2.0


class Levels(nn.Module):
    """One norm, then a linear function of its mean and spread: all that tells the classes apart is level."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm1 = make_norm(norm, 2, "norm1")
        self.classifier = nn.Linear(4, 1)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor, normalize: NormPass) -> Tensor:
        normed = normalize(self.norm1, images)
        found: Tensor = self.classifier(torch.cat([normed.mean((2, 3)), normed.square().mean((2, 3))], 1))
        return found[:, 0]


class Learner:
    """Gradient steps on the classifier alone."""

    def __init__(self, norm: str) -> None:
        self.network: nn.Module = Levels(norm)
        self.params: Params = dict(self.network.named_parameters())
        self.state: State = initial_state(self.network)
        self.passes: list[int] = []

    def steps(
        self, params: Params, state: State, images: Tensor, targets: Tensor, recipe: Recipe
    ) -> tuple[list[Params], State]:
        moved = []
        for target in targets:
            held = {k: v.detach().requires_grad_() for k, v in params.items()}
            norms = NormPass(state, "context")
            logits = functional_call(self.network, held, (images, norms))
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits, target, pos_weight=torch.tensor(recipe.pos_weight)
            )
            names = [name for name in held if name.startswith("classifier")]
            grads = torch.autograd.grad(loss, [held[name] for name in names])
            steps = {name: held[name] - recipe.rate * grad for name, grad in zip(names, grads, strict=True)}
            moved.append({**held, **steps})
        return moved, norms.updated

    @torch.no_grad()
    def logits(self, params: Params, state: State, images: Tensor, mode: Mode) -> tuple[Tensor, State]:
        self.passes.append(len(images))
        norms = NormPass(state, mode)
        return functional_call(self.network, params, (images, norms)), norms.updated


class Tiles:
    """Tiles whose level is their class."""

    def __init__(self, codes: Sequence[int]) -> None:
        rng = np.random.default_rng(0)
        levels = LEVEL * np.array([(0, 0), (1, 0), (0, 1)], np.float32)[np.asarray(codes)]
        noise = rng.normal(0, 0.5, (len(codes), 2, 4, 4))
        self.images = (levels[:, :, None, None] + noise).astype(np.float32)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.images[rows]


def trial(queries: int = 16) -> Trial:
    """One task: 5 support tiles and `queries` query tiles a class, in class order."""
    codes = np.concatenate([np.repeat(range(CLASSES), 5), np.repeat(range(CLASSES), queries)])
    rows = np.arange(len(codes))
    support = 5 * CLASSES
    task = Task(
        "here", "", (0, 1, 2), None, rows[:support], rows[support:], codes[:support], codes[support:], "none"
    )
    return Trial(Tiles(codes.tolist()), [task], batch=queries)


def accuracies(norm: str, recipe: Recipe) -> dict[str, float]:
    contender = NetworkContender(Learner(norm), recipe)
    columns = score_balanced(contender, trial())
    kept = {name: columns[found.get("same_as", name)] for name, found in columns.items()}
    return {name: column_results(found)[0].scores["accuracy"] for name, found in kept.items()}


RECIPE = fair(steps=60, rate=1.0, pos_weight=1.0)


def test_the_ordering_effect_of_tbn_appears_with_class_sorted_batches_and_vanishes_with_shuffled_ones() -> (
    None
):
    found = accuracies("tbn", RECIPE)
    assert found["shuffled"] > 0.9
    assert found["whole"] > 0.9
    assert found["class_sorted"] < 0.5
    assert found["single"] < 0.6


@pytest.mark.parametrize("norm", ["cbn", "none", "tasknorm_i"])
def test_norms_with_a_context_of_support_do_not_depend_on_the_composition(norm: str) -> None:
    found = accuracies(norm, RECIPE)
    assert len(set(found.values())) == 1
    assert found["single"] > 0.9


def test_cbn_and_tasknorm_show_the_effect_where_the_evaluator_never_leaves_train_mode() -> None:
    recipe = compat_tasks(steps=60, rate=1.0, pos_weight=1.0)
    found = accuracies("cbn", recipe)
    assert found["shuffled"] > 0.9
    assert found["class_sorted"] < 0.5


def test_recipes_are_the_same_in_effect_for_norms_that_mind_neither_mode_nor_context() -> None:
    one = fair(steps=1, rate=0.1, pos_weight=1.0)
    other = compat_tasks(steps=1, rate=0.1, pos_weight=1.0)
    options = {norm: Levels(norm) for norm in ("tbn", "cbn", "tasknorm_i", "in", "gn", "ln", "none")}
    alike = [n for n, network in options.items() if one.in_effect(network) == other.in_effect(network)]
    assert alike == ["tbn", "in", "gn", "ln", "none"]
    assert one.in_effect(options["in"]) != compat_regions(steps=1, rate=0.1).in_effect(options["in"])


@pytest.mark.parametrize("norm", ["tbn", "in"])
def test_recipes_that_are_the_same_in_effect_give_the_same_answers(norm: str) -> None:
    assert accuracies(norm, fair(steps=3, rate=1.0, pos_weight=1.0)) == accuracies(
        norm, compat_tasks(steps=3, rate=1.0, pos_weight=1.0)
    )


def test_which_norms_depend_on_the_batch() -> None:
    norms = ("tbn", "cbn", "tasknorm_i", "in", "gn", "ln", "none")
    options = {norm: Levels(norm) for norm in norms}
    assert [n for n in norms if depends_on_batch(options[n], "query")] == ["tbn"]
    assert [n for n in norms if depends_on_batch(options[n], "context")] == ["tbn", "cbn", "tasknorm_i"]


def test_answers_that_do_not_depend_on_batches_are_the_same_one_by_one() -> None:
    learner = Learner("cbn")
    answer = NetworkContender(learner, RECIPE).learn(Tiles([0, 1, 2]).images, np.array([0, 1, 2]))
    images = Tiles([0, 1, 2, 2]).images
    whole = answer(images, [np.arange(4)])
    alone = np.concatenate([answer(images[i : i + 1], [np.zeros(1, np.int64)]) for i in range(4)])
    np.testing.assert_allclose(whole, alone, atol=1e-6)


def test_the_context_of_tasknorm_is_the_whole_support_under_the_adapted_model() -> None:
    learner, tiles = Learner("tasknorm_i"), Tiles([0, 0, 1, 1, 2, 2])
    recipe = replace(fair(steps=2, rate=1.0, pos_weight=1.0), minibatch=2)
    images = torch.from_numpy(tiles.images)
    models = fit_classes(learner, images, np.array([0, 0, 1, 1, 2, 2]), recipe)
    assert learner.passes == [6] * CLASSES
    assert [float(model.state["norm1"]["size"]) for model in models] == [6.0] * CLASSES
    for model in models:
        state = learner.logits(model.params, learner.state, images, "context")[1]
        assert torch.equal(model.state["norm1"]["mean"], state["norm1"]["mean"])


def test_the_released_evaluator_steps_on_eight_draws_with_replacement_the_same_for_every_class() -> None:
    class Noting(Learner):
        def steps(self, params, state, images, targets, recipe):
            noted.append(images)
            return super().steps(params, state, images, targets, recipe)

    noted: list[Tensor] = []
    images = torch.from_numpy(Tiles([0, 0, 1, 1, 2, 2]).images)
    fit_classes(Noting("in"), images, np.array([0, 0, 1, 1, 2, 2]), compat_regions(steps=2, rate=0.4))
    assert [len(drawn) for drawn in noted] == [8] * 2 * CLASSES
    assert not torch.equal(noted[0], noted[1])
    assert all(torch.equal(noted[k], noted[k % 2]) for k in range(len(noted)))


def test_the_released_evaluator_asks_all_class_models_with_the_state_of_the_last() -> None:
    tiles = Tiles([0, 0, 1, 1, 2, 2])
    images, positions = torch.from_numpy(tiles.images), np.array([0, 0, 1, 1, 2, 2])
    shared = fit_classes(Learner("cbn"), images, positions, compat_regions(steps=3, rate=0.4))
    own = fit_classes(Learner("cbn"), images, positions, fair(steps=3, rate=0.4, pos_weight=1.0))
    assert all(model.state is shared[-1].state for model in shared)
    # All class models see the same images, so the shared state has only been updated more often.
    moved = float(shared[0].state["norm1"]["running_mean"].abs().sum())
    assert moved > float(own[0].state["norm1"]["running_mean"].abs().sum())


class Asked:
    """A contender that notes the queries it is asked, batch by batch, and knows nothing."""

    depends_on_batch = True

    def __init__(self) -> None:
        self.queries: list[bytes] = []

    def learn(self, images: np.ndarray, positions: np.ndarray) -> Answers:
        def answer(query: np.ndarray, batches: Sequence[np.ndarray]) -> np.ndarray:
            self.queries.append(query.tobytes())
            return np.zeros((len(query), CLASSES), np.float32)

        return answer


def test_every_draw_of_a_sweep_has_queries_of_its_own() -> None:
    contender = Asked()
    score_regions(contender, trial(40))
    swept = contender.queries[len(COMPOSITIONS) :]
    assert len(set(swept)) == len(swept) == 6 * SWEEP_DRAWS


def test_the_sweep_draws_from_all_queries_where_fewer_are_asked_of_a_region() -> None:
    everything, asked = trial(40), Asked()
    (task,) = everything.tasks
    few = replace(task, query=task.query[::10], query_codes=task.query_codes[::10])
    score_regions(asked, replace(everything, tasks=[few], whole=[task]))
    swept, size = asked.queries[len(COMPOSITIONS) :], everything.tiles.read(task.query[:1]).nbytes
    drawn = {query[i : i + size] for query in swept for i in range(0, len(query), size)}
    assert {len(query) // size for query in swept} == {48}
    assert len(drawn) > 2 * len(few.query)


def test_the_sweep_has_a_column_for_every_share_and_all_metrics() -> None:
    contender = NetworkContender(Learner("none"), RECIPE)
    found = score_regions(contender, trial(40))
    assert list(found["sweep"]) == ["balanced", "0.4", "0.55", "0.7", "0.85", "0.95"]
    realised = {name: column["share"] for name, column in found["sweep"].items()}
    assert realised["balanced"] < 0.45
    assert realised["0.95"] > 0.88
    assert found["sweep"]["0.7"]["answers"] == [SWEEP_DRAWS * 48 * 3]
    assert set(found["compositions"]) == set(COMPOSITIONS)
    assert found["compositions"]["single"] == {"same_as": "shuffled"}
    assert found["regions"] == ["here"]
    assert column_results(found["sweep"]["0.95"])[0].scores["accuracy"] > 0.8
