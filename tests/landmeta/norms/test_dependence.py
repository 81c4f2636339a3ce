"""Who depends on whom (METHODS 2.11, 1 to 3): images of a query, their order, the support."""

import pytest
import torch

from landmeta.norms import NORMS

from .conftest import images, make_layer

ALL = sorted(NORMS)
BY_CONTEXT = ["cbn", "tasknorm_i", "tasknorm_l"]
"""Norms that keep something of the support for the query."""


def context_state(layer, support):
    return layer.transform(support, layer.initial_state(), "context")[1]


def run(layer, query, mode, support=None):
    state = context_state(layer, images(seed=50) if support is None else support)
    return layer.transform(query, state, mode)[0]


def with_other_neighbours(query):
    return torch.cat([query[:1], images(len(query) - 1, seed=20) * 2])


@pytest.mark.parametrize("kind", [k for k in ALL if not NORMS[k].transductive])
def test_a_query_image_does_not_see_the_other_query_images(kind):
    layer, query = make_layer(kind), images()
    alone = run(layer, query[:1], "query")
    torch.testing.assert_close(
        run(layer, with_other_neighbours(query), "query")[:1], alone, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(run(layer, query, "query")[:1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "mode"), [("tbn", "query"), ("tbn", "context"), *((kind, "context") for kind in BY_CONTEXT)]
)
def test_an_image_of_a_batch_that_gives_the_moments_sees_the_others(kind, mode):
    layer, query = make_layer(kind), images()
    change = run(layer, with_other_neighbours(query), mode)[:1] - run(layer, query, mode)[:1]
    assert change.abs().max() > 1e-2


@pytest.mark.parametrize("mode", ["context", "query"])
@pytest.mark.parametrize("kind", ALL)
def test_the_order_of_a_batch_does_not_matter(kind, mode):
    layer, query, order = make_layer(kind), images(), torch.tensor([3, 0, 4, 2, 1])
    expected = run(layer, query, mode)[order]
    torch.testing.assert_close(run(layer, query[order], mode), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ALL)
def test_only_norms_with_a_context_let_the_query_see_the_support(kind):
    layer, query = make_layer(kind), images()
    outputs = [run(layer, query, "query", support) for support in (images(seed=50), images(seed=60) * 2)]
    assert torch.equal(*outputs) == (kind not in BY_CONTEXT)


@pytest.mark.parametrize("kind", BY_CONTEXT)
def test_the_order_of_the_support_does_not_matter(kind):
    layer, query, support = make_layer(kind), images(), images(seed=50)
    expected = run(layer, query, "query", support)
    torch.testing.assert_close(run(layer, query, "query", support.flip(0)), expected, rtol=0, atol=1e-12)
