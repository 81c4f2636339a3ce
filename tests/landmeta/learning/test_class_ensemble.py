import pytest
import torch

from landmeta.errors import LabelError
from landmeta.learning.algorithms import inner_settings
from landmeta.learning.class_ensemble import fit_one_vs_all, fit_one_vs_one
from landmeta.learning.inner import SparseMask, adapt
from landmeta.learning.learner import Batch, Learner
from landmeta.norms import NORMS

DOUBLE = torch.float64


def make_scene(classes=3, shots=2, seed=0):
    """Images whose brightness pattern over the bands tells their class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(classes).repeat_interleave(shots)
    signal = torch.nn.functional.one_hot(targets, 3).to(DOUBLE)[:, :, None, None]
    stripes = (torch.arange(16) // 2 % 2).to(DOUBLE)
    noise = torch.rand(len(targets), 3, 16, 16, generator=generator, dtype=DOUBLE)
    return Batch(signal * stripes + 0.3 * noise, targets)


def fit(network, fit_models=fit_one_vs_all, steps=3, rule=None, **options):
    learner = Learner(network)
    inner = inner_settings("maml", network, rate=0.3, steps=steps, rule=rule)
    theta = learner.parameters()
    learned = inner.rule.initial(theta, inner.adapted)
    return fit_models(learner, inner, theta, learned, make_scene(), **options)


@pytest.mark.parametrize("norm", NORMS)
def test_models_adapted_at_once_are_those_adapted_in_turn(norm, make_conv4):
    in_turn, at_once = (fit(make_conv4(norm), at_once=flag) for flag in (False, True))
    torch.testing.assert_close(at_once.adapted, in_turn.adapted, rtol=1e-9, atol=1e-9)
    images = make_scene(seed=1).images
    expected = in_turn.logits(images, at_once=False)
    torch.testing.assert_close(at_once.logits(images, at_once=True), expected, rtol=1e-9, atol=1e-9)


def test_each_model_is_the_network_adapted_to_its_class(make_network):
    network = make_network()
    ensemble, support, images = fit(network, minibatch=None), make_scene(), make_scene(seed=1).images
    learner = ensemble.learner
    inner = inner_settings("fomaml", network, rate=0.3, steps=3)
    for k in range(3):
        batch = Batch(support.images, (support.targets == k).to(DOUBLE))
        phi, state = adapt(learner, inner, learner.parameters(), {}, learner.initial_state(), batch)
        expected = learner.predict(phi, state, images, support.images)[:, 0]
        torch.testing.assert_close(ensemble.logits(images)[:, k], expected)


@pytest.mark.parametrize("norm", [name for name in NORMS if name != "tbn"])
@pytest.mark.parametrize("at_once", [False, True])
def test_predictions_depend_neither_on_the_order_of_queries_nor_on_the_batch(norm, at_once, make_conv4):
    ensemble, images = fit(make_conv4(norm)), make_scene(shots=3, seed=1).images  # sorted by class
    expected = ensemble.logits(images, at_once=at_once)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for batch in (1, 2, 16):
        shuffled = ensemble.logits(images[order], batch=batch, at_once=at_once)
        torch.testing.assert_close(shuffled, expected[order], rtol=1e-9, atol=1e-9)


def test_transductive_batch_norm_does_depend_on_the_batch(make_conv4):
    ensemble, images = fit(make_conv4("tbn")), make_scene(shots=3, seed=1).images
    assert not torch.allclose(ensemble.logits(images, batch=2), ensemble.logits(images, batch=16), atol=1e-3)


@pytest.mark.parametrize("fit_models", [fit_one_vs_all, fit_one_vs_one])
def test_classes_that_differ_are_told_apart(fit_models, make_network):
    ensemble, queries = fit(make_network(), fit_models, steps=25), make_scene(shots=4, seed=1)
    assert torch.equal(ensemble.predict(queries.images), queries.targets)


def test_pairs_speak_for_both_of_their_classes(make_network):
    ensemble = fit(make_network(), fit_one_vs_one, steps=1)
    assert ensemble.pairs == ((0, 1), (0, 2), (1, 2))
    logits = torch.tensor([[0.0, 30.0, -30.0]], dtype=DOUBLE)
    expected = torch.tensor([[1.5, 0.5, 1.0]], dtype=DOUBLE)
    torch.testing.assert_close(ensemble.scores(logits), expected)


def test_minibatches_are_the_same_for_all_classes_and_hang_on_the_seed(make_conv4):
    first, again, other = (fit(make_conv4(), minibatch=4, seed=s) for s in (0, 0, 1))
    name = "convolutions.0.weight"
    assert torch.equal(first.adapted[name], again.adapted[name])
    assert not torch.equal(first.adapted[name], other.adapted[name])


@pytest.mark.parametrize("at_once", [False, True])
def test_learned_masks_hold_for_every_model(at_once, make_conv4):
    ensemble = fit(make_conv4(), rule=SparseMask(0.3), at_once=at_once)
    start = ensemble.learner.parameters()
    scores = SparseMask(0.3).initial(start, ensemble.adapted)
    for name, models in ensemble.adapted.items():
        still = scores[name] < 0
        assert torch.equal(models[:, still], start[name][still].expand(3, -1))


@pytest.mark.parametrize("targets", [[0, 0, 0], [0, 1, 3]])
def test_classes_without_tiles_are_refused(targets, make_conv4):
    learner = Learner(make_conv4())
    inner = inner_settings("maml", learner.network, rate=0.1)
    images = torch.zeros(3, 3, 16, 16, dtype=DOUBLE)
    with pytest.raises(LabelError, match="two at least") as error:
        fit_one_vs_all(learner, inner, learner.parameters(), {}, Batch(images, torch.tensor(targets)))
    assert "label" in error.value.hint
