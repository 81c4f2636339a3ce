"""Limits and identities (METHODS 2.11, 4 and 5), against torch's own layers and by hand."""

import pytest
import torch
import torch.nn.functional as F

from landmeta.errors import NetworkError
from landmeta.norms import EPS, NORMS, make_norm

from .conftest import CHANNELS, images, make_layer, uniform


def exact(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def context_of(layer, support):
    return layer.transform(support, layer.initial_state(), "context")[1]


def with_pooling(kind, b, **options):
    """TaskNorm whose alpha is sigmoid(b), whatever the size of the context."""
    layer = make_layer(kind, **options)
    layer.a.zero_()
    layer.b.fill_(b)
    return layer


@pytest.mark.parametrize("n", [1, 5])
def test_in_equals_the_instance_norm_of_torch(n):
    layer, x = make_layer("in"), images(n)
    exact(layer(x), F.instance_norm(x, weight=layer.weight, bias=layer.bias, eps=EPS))


def test_in_equals_gn_of_one_channel_a_group_and_ln_equals_gn_of_one_group():
    x = images()
    exact(make_layer("gn", groups=CHANNELS)(x), make_layer("in")(x))
    exact(make_layer("gn", groups=1)(x), make_layer("ln")(x))


def test_ln_has_one_gain_a_channel_and_not_an_element():
    layer, x = make_layer("ln"), images()
    plain = F.layer_norm(x, x.shape[1:], eps=EPS)
    exact(layer(x), plain * layer.weight[:, None, None] + layer.bias[:, None, None])


def test_tbn_and_cbn_of_a_batch_equal_the_batch_norm_of_torch():
    x = images()
    for kind in ("tbn", "cbn"):
        layer = make_layer(kind)
        exact(layer(x), F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=EPS))


def test_cbn_keeps_the_running_moments_that_torch_keeps():
    layer, theirs = make_layer("cbn"), torch.nn.BatchNorm2d(CHANNELS, affine=False).double()
    state = layer.initial_state()
    for seed in range(3):
        state = layer.transform(images(seed=seed), state, "context")[1]
        theirs(images(seed=seed))
    exact(state["running_mean"], theirs.running_mean)
    exact(state["running_var"], theirs.running_var)
    exact(
        layer.transform(images(), state, "query")[0],
        F.batch_norm(images(), theirs.running_mean, theirs.running_var, layer.weight, layer.bias, eps=EPS),
    )


def test_one_image_makes_tbn_equal_in():
    exact(make_layer("tbn")(images(1)), make_layer("in")(images(1)))


def test_without_the_context_tasknorm_i_is_instance_norm_with_unbiased_variance():
    layer, query = with_pooling("tasknorm_i", -60.0), images()
    variance, mean = torch.var_mean(query, dim=(2, 3), keepdim=True)
    plain = (query - mean) / torch.sqrt(variance + EPS)
    expected = plain * layer.weight[:, None, None] + layer.bias[:, None, None]
    exact(layer.transform(query, context_of(layer, images(seed=50)), "query")[0], expected)


@pytest.mark.parametrize(("kind", "twin"), [("tasknorm_i", "in"), ("tasknorm_l", "ln")])
def test_without_the_context_and_biased_tasknorm_is_instance_or_layer_norm(kind, twin):
    layer = with_pooling(kind, -60.0, unbiased=False)
    output = layer.transform(images(), context_of(layer, images(seed=50)), "query")[0]
    exact(output, make_layer(twin)(images()))


@pytest.mark.parametrize("kind", ["tasknorm_i", "tasknorm_l"])
def test_with_the_context_alone_tasknorm_is_batch_norm_with_the_moments_of_the_support(kind):
    layer, support = with_pooling(kind, 60.0), images(seed=50)
    variance, mean = torch.var_mean(support, dim=(0, 2, 3))
    expected = F.batch_norm(images(), mean, variance, layer.weight, layer.bias, eps=EPS)
    exact(layer.transform(images(), context_of(layer, support), "query")[0], expected)


@pytest.mark.parametrize(("kind", "axes"), [("tasknorm_i", (2, 3)), ("tasknorm_l", (1, 2, 3))])
def test_tasknorm_takes_the_moments_of_the_mixture_of_context_and_image(kind, axes):
    """The variance from the mixture's second moment; alpha by hand for a context of five images."""
    layer, support, query = make_layer(kind), images(seed=50), images()
    alpha = 1 / (1 + torch.exp(-(5 * layer.a + layer.b)))
    variances, means = zip(
        torch.var_mean(support, dim=(0, 2, 3), keepdim=True),
        torch.var_mean(query, dim=axes, keepdim=True),
        strict=True,
    )
    mean = alpha * means[0] + (1 - alpha) * means[1]
    second = alpha * (variances[0] + means[0] ** 2) + (1 - alpha) * (variances[1] + means[1] ** 2)
    plain = (query - mean) / torch.sqrt(second - mean**2 + EPS)
    expected = plain * layer.weight[:, None, None] + layer.bias[:, None, None]
    exact(layer.transform(query, context_of(layer, support), "query")[0], expected)


@pytest.mark.parametrize("kind", ["tasknorm_i", "tasknorm_l"])
def test_tasknorm_of_a_context_of_one_image_that_is_its_own_query_needs_no_pooling(kind):
    """Whatever alpha: tasknorm_i pools equal moments."""
    outputs = [with_pooling(kind, b)(images(1)) for b in (-1.0, 2.0)]
    assert torch.allclose(*outputs, rtol=0, atol=1e-12) == (kind == "tasknorm_i")


def test_the_size_of_the_context_moves_alpha():
    layer, query = make_layer("tasknorm_i"), images()
    twice = torch.cat([images(seed=50)] * 2)
    states = [context_of(make_layer("tasknorm_i", unbiased=False), s) for s in (images(seed=50), twice)]
    exact(states[0]["mean"], states[1]["mean"])
    outputs = [layer.transform(query, state, "query")[0] for state in states]
    assert not torch.allclose(*outputs, rtol=0, atol=1e-6)


def test_none_is_the_identity_and_has_no_parameters():
    layer = make_layer("none")
    assert torch.equal(layer(images()), images())
    assert not list(layer.parameters())


@pytest.mark.parametrize("kind", [k for k in NORMS if k not in ("none", "ln", "gn")])
def test_maps_of_one_cell_stay_finite(kind):
    layer = make_layer(kind)
    for n in (1, 3):
        x = uniform(n, CHANNELS, 1, 1)
        output, state = layer.transform(x, layer.initial_state(), "context")
        assert output.isfinite().all()
        assert layer.transform(x, state, "query")[0].isfinite().all()


def test_in_turns_a_map_of_one_cell_into_the_offset():
    layer = make_layer("in")
    exact(layer(uniform(1, CHANNELS, 1, 1)), layer.bias[None, :, None, None])


def test_a_fresh_layer_has_gain_one_and_offset_zero():
    for kind in NORMS:
        parameters = dict(make_norm(kind, CHANNELS, "layer").named_parameters())
        assert all((p == (1 if name == "weight" else 0)).all() for name, p in parameters.items())


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("batch", {}, "norm 'batch' is unknown"),
        ("in", {"groups": 2}, "norm 'in' has no option 'groups'"),
        ("gn", {"groups": 3}, "4 channels of layer do not divide into 3 groups"),
        ("gn", {"groups": 0}, "4 channels of layer do not divide into 0 groups"),
        ("gn", {"groups": "2"}, "norm 'gn' has groups = '2', expected a whole number"),
        ("gn", {"groups": True}, "norm 'gn' has groups = True, expected a whole number"),
        ("gn", {"groups": 2.0}, "norm 'gn' has groups = 2.0, expected a whole number"),
        ("cbn", {"state": "shared"}, "norm 'cbn' has no state 'shared'"),
        ("cbn", {"momentum": "0.1"}, "norm 'cbn' has momentum = '0.1', expected a number"),
        ("cbn", {"momentum": 10.0}, "norm 'cbn' has no momentum 10.0"),
        ("tasknorm_i", {"unbiased": "no"}, "norm 'tasknorm_i' has unbiased = 'no', expected true or false"),
    ],
)
def test_a_norm_that_cannot_be_made_says_why_and_what_would_do(kind, options, said):
    with pytest.raises(NetworkError, match=said) as caught:
        make_norm(kind, CHANNELS, "layer", **options)
    assert caught.value.hint


def test_a_tasknorm_query_without_a_context_is_refused():
    layer = make_layer("tasknorm_i")
    with pytest.raises(NetworkError, match="layer has no context"):
        layer.transform(images(), layer.initial_state(), "query")
