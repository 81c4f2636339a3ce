"""State goes in and comes out; nothing is changed in place (METHODS 2.2, 9.2)."""

import pytest
import torch
from torch import nn
from torch.func import vmap

from landmeta.norms import (
    NORMS,
    NormPass,
    initial_state,
    keep_state,
    make_norm,
    next_task_state,
    norm_layers,
)

from .conftest import CHANNELS, images, make_layer


class TwoNorms(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.first = make_norm(kind, CHANNELS, "one", **options).double()
        self.second = make_norm(kind, CHANNELS, "two", **options).double()

    def forward(self, x, normalize):
        return normalize(self.second, normalize(self.first, x) + 1)


def after(network, x, state, mode="context"):
    normalize = NormPass(state, mode)
    network(x, normalize)
    return normalize.updated


@pytest.mark.parametrize("mode", ["context", "query"])
@pytest.mark.parametrize("kind", NORMS)
def test_a_pass_changes_neither_images_nor_state_nor_layer(kind, mode):
    layer = make_layer(kind)
    state = layer.transform(images(seed=50), layer.initial_state(), "context")[1]
    kept = [v.clone() for v in (*state.values(), *layer.state_dict().values())]
    x = images()
    layer.transform(x, state, mode)
    assert torch.equal(x, images())
    assert all(
        torch.equal(a, b) for a, b in zip(kept, (*state.values(), *layer.state_dict().values()), strict=True)
    )


@pytest.mark.parametrize("kind", NORMS)
def test_a_pass_collects_the_state_of_every_layer_by_name(kind):
    network = TwoNorms(kind)
    updated = after(network, images(), initial_state(network))
    assert list(updated) == ["one", "two"] == [layer.name for layer in norm_layers(network)]
    assert bool(updated["one"]) == (kind in ("cbn", "tasknorm_i", "tasknorm_l"))


def test_a_pass_without_a_state_starts_from_the_initial_one():
    network = TwoNorms("cbn")
    torch.testing.assert_close(after(network, images(), {}), after(network, images(), initial_state(network)))


def test_the_running_state_moves_with_the_context_and_not_with_queries():
    network = TwoNorms("cbn")
    state = after(network, images(), initial_state(network))
    assert not torch.equal(state["one"]["running_mean"], network.first.running_mean)
    torch.testing.assert_close(after(network, images(seed=9), state, "query"), state, rtol=0, atol=0)


def test_a_kept_state_is_the_next_initial_one_and_part_of_the_state_dict():
    network = TwoNorms("cbn")
    state = after(network, images(), initial_state(network))
    keep_state(network, state)
    torch.testing.assert_close(initial_state(network), state)
    torch.testing.assert_close(network.state_dict()["second.running_var"], state["two"]["running_var"])


@pytest.mark.parametrize(("option", "shared"), [("per_task", False), ("global", True)])
def test_the_next_task_starts_from_what_was_left_only_where_the_state_is_global(option, shared):
    network = TwoNorms("cbn", state=option)
    initial = initial_state(network)
    left = after(network, images(), initial)
    expected = left if shared else initial
    assert next_task_state(network, initial, left)["one"] is expected["one"]


def test_running_moments_carry_no_gradient_and_the_context_of_tasknorm_does():
    x = images().requires_grad_(True)
    for kind, carries in (("cbn", False), ("tasknorm_i", True)):
        layer = make_layer(kind)
        state = layer.transform(x, layer.initial_state(), "context")[1]
        assert any(v.requires_grad for v in state.values()) == carries


@pytest.mark.parametrize("kind", NORMS)
def test_states_of_tasks_under_vmap_equal_those_one_by_one(kind):
    layer = make_layer(kind)
    tasks = torch.stack([images(seed=seed) for seed in range(3)])

    def support_then_query(x):
        state = layer.transform(x, layer.initial_state(), "context")[1]
        return layer.transform(x + 1, state, "query")

    batched = vmap(support_then_query)(tasks)
    for i, x in enumerate(tasks):
        output, state = support_then_query(x)
        torch.testing.assert_close(batched[0][i], output)
        torch.testing.assert_close({key: v[i] for key, v in batched[1].items()}, state)


@pytest.mark.parametrize("kind", NORMS)
def test_half_precision_rounds_images_and_outputs_and_not_the_moments(kind):
    """The images lie far from zero: moments in half precision would miss by more than the deviation."""
    rough, exact = make_layer(kind).bfloat16(), make_layer(kind).bfloat16().double()
    x = (images() + 30).bfloat16()
    found = rough(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact(x.double()), rtol=2**-8, atol=0.01)


@pytest.mark.parametrize("kind", NORMS)
def test_a_convolution_and_norm_run_and_learn_under_autocast(kind):
    layer, convolution = make_norm(kind, CHANNELS, "layer"), nn.Conv2d(CHANNELS, CHANNELS, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = layer.transform(convolution(images().float()), layer.initial_state(), "context")
        layer.transform(output, state, "query")[0].square().mean().backward()
    assert all(v.dtype == torch.float32 for v in state.values())
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)
