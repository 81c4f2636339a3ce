"""ResNet-12 as METHODS 1.1 counts and measures it, with every norm."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from landmeta.networks import BIG_WIDTHS, STRIDES, WIDTHS, ResNet12, adaptable, pool_before
from landmeta.norms import NORMS, NormPass, initial_state

NARROW = (4, 4, 6, 8)
COUNTS = {3: 7_997_313, 12: 8_003_073, 13: 8_003_713, 15: 8_004_993}
"""Parameters of the affine norms with one logit, by the number of bands."""

AFFINE, POOLING = 7_680, 32


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def narrow(norm="in", bands=3, outputs=1, **options):
    if norm == "gn":
        options = {"groups": 2, **options}
    return ResNet12(bands, NARROW, outputs, norm=norm, norm_options=options, generator=seeded())


def without_memory(bands, widths, norm):
    """The full network on torch's meta device: shapes and counts only."""
    with torch.device("meta"):
        return ResNet12(bands, widths, norm=norm)


def total(network):
    return sum(p.numel() for p in network.parameters())


def images(n=4, bands=3, side=32, seed=1):
    return torch.rand(n, bands, side, side, generator=seeded(seed))


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bands", "count"), COUNTS.items())
@pytest.mark.parametrize("norm", NORMS)
def test_parameter_counts_are_those_of_the_published_network(norm, bands, count):
    expected = count + {"none": -AFFINE, "tasknorm_i": POOLING, "tasknorm_l": POOLING}.get(norm, 0)
    assert total(without_memory(bands, WIDTHS, norm)) == expected


@pytest.mark.parametrize(("bands", "count"), [(12, 12_430_721), (13, 12_431_361), (15, 12_432_641)])
def test_parameter_counts_of_the_big_network(bands, count):
    assert total(without_memory(bands, BIG_WIDTHS, "in")) == count


@pytest.mark.parametrize(
    ("norm", "fixed"),
    [
        *((norm, AFFINE) for norm in ("in", "ln", "gn")),
        *((norm, AFFINE + POOLING) for norm in ("tasknorm_i", "tasknorm_l")),
        *((norm, 0) for norm in ("tbn", "cbn", "none")),
    ],
)
def test_the_inner_loop_leaves_as_many_parameters_alone_as_published(norm, fixed):
    network = without_memory(13, WIDTHS, norm)
    adapted = set(adaptable(network))
    assert sum(p.numel() for name, p in network.named_parameters() if name not in adapted) == fixed


def test_in_has_fifty_tensors_of_which_eighteen_are_adapted():
    network = narrow()
    assert len(list(network.parameters())) == 50
    assert len(adaptable(network)) == 18


@pytest.mark.parametrize(
    ("side", "cells"),
    [
        (128, (64, 32, 17, 17)),
        (84, (42, 21, 11, 11)),
        (256, (128, 64, 33, 33)),
        (32, (16, 8, 5, 5)),
    ],
)
def test_sizes_behind_the_pools_are_those_published_and_the_third_pads_one_cell(side, cells):
    with torch.no_grad():
        outputs = narrow().features(images(1, side=side))
    pooled = [pool_before(x, block) for block, x in enumerate(outputs[:3], start=1)]
    assert tuple(x.shape[-1] for x in (*pooled, outputs[-1])) == cells
    assert [x.shape[1] for x in outputs] == list(NARROW)


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("bands", [1, 15])
def test_any_number_of_bands_gives_as_many_logits_as_asked_for(bands, outputs):
    assert narrow(bands=bands, outputs=outputs)(images(2, bands)).shape == (2, outputs)


# --- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_initial_weights_depend_on_the_generator_and_not_on_the_norm(norm):
    expected, found = narrow().state_dict(), narrow(norm).state_dict()
    assert all(torch.equal(v, found[k]) for k, v in expected.items() if k in found)
    assert not found["classifier.bias"].any()


def test_initial_weights_are_spread_as_xavier_uniform():
    weight = ResNet12(3, (64, 128, 8, 8), generator=seeded()).blocks[1].conv1.weight
    bound = (6 / (9 * (64 + 128))) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize("norm", NORMS)
def test_selecting_bands_keeps_the_norm_and_equals_zeros_in_the_bands_left_out(norm):
    network, x, kept = narrow(norm, bands=5), images(bands=5), [3, 0, 4]
    blanked = torch.zeros_like(x)
    blanked[:, kept] = x[:, kept]
    subset = network.select_bands(kept)
    assert subset.norm == norm
    torch.testing.assert_close(subset(x[:, kept]), network(blanked), rtol=1e-4, atol=1e-5)


# --- use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_has_the_mean_of_the_logits_of_its_cells(norm):
    network = narrow(norm, outputs=3)
    dense = network.dense(images())
    assert dense.shape == (4, 3, 5, 5)
    torch.testing.assert_close(dense.mean(dim=(2, 3)), network(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use", ["features", "dense", "forward"])
def test_every_use_takes_the_source_of_moments(use):
    network, x, context = narrow("cbn"), images(), NormPass({})
    network(images(seed=9), context)
    own, stored = (getattr(network, use)(x, n) for n in (NormPass({}), NormPass(context.updated, "query")))
    pairs = zip(own, stored, strict=True)
    assert all(not torch.allclose(a, b) for a, b in pairs)


def test_strides_are_the_ratios_of_pixels_to_cells():
    cells = [x.shape[-1] for x in narrow().features(images(1, side=64))]
    assert [64 // c for c in (*cells[:3], cells[3] - 1)] == list(STRIDES)


@pytest.mark.parametrize("norm", sorted(set(NORMS) - {"tbn"}))
def test_predictions_of_a_sorted_and_a_shuffled_query_list_agree(norm):
    """In minibatches, as an evaluator runs them (METHODS 2.11, 8)."""
    found, expected = _predictions_of_two_orders(norm)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_predictions_of_a_transductive_norm_follow_the_order_of_the_query():
    found, expected = _predictions_of_two_orders("tbn")
    assert (found - expected).abs().max() > 0.05


@torch.no_grad()
def _predictions_of_two_orders(norm):
    network = narrow(norm)
    support = NormPass(initial_state(network), "context")
    network(images(6, seed=5), support)
    dark, bright = images(6), images(6, seed=2) + 1
    query, order = torch.cat([dark, bright]), torch.randperm(12, generator=seeded())

    def predict(x):
        return torch.cat([network(part, NormPass(support.updated, "query")) for part in x.split(4)])

    restored = torch.empty(12, 1)
    restored[order] = predict(query[order])
    return restored, predict(query)


@pytest.mark.parametrize("norm", NORMS)
def test_outer_gradients_of_the_whole_network_agree_in_the_loop_and_under_vmap(norm):
    """Second order, affine parameters adapted, every operation of the network (METHODS 9.2)."""
    network = narrow(norm, bands=2).double()
    theta, tasks = (
        dict(network.named_parameters()),
        images(2 * 2 * 4, 2, 16).double().reshape(2, 2, 4, 2, 16, 16),
    )
    targets = torch.tensor([[0.0], [1.0], [0.0], [1.0]], dtype=torch.float64)

    def loss(params, x):
        normalize = NormPass(initial_state(network), "context")
        logits = functional_call(network, params, (x, normalize))
        return F.binary_cross_entropy_with_logits(logits, targets)

    def outer(params, task):
        inner = grad(loss)(params, task[0])
        return loss({k: p - 0.1 * inner[k] for k, p in params.items()}, task[1])

    expected = grad(lambda p: torch.stack([outer(p, task) for task in tasks]).mean())(theta)
    outside = grad(lambda p: vmap(outer, in_dims=(None, 0))(p, tasks).mean())(theta)
    inside = vmap(grad(outer), in_dims=(None, 0))(theta, tasks)
    torch.testing.assert_close(outside, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close({k: g.mean(0) for k, g in inside.items()}, expected, rtol=1e-9, atol=1e-11)
