import pytest

from landmeta.networks import adaptable, body_names, build_network, head_names


def make(name="resnet12", norm="in"):
    return build_network({"name": name, "bands": ["B02"], "widths": [4, 4, 4, 4], "norm": norm})


def names(network):
    return tuple(name for name, _ in network.named_parameters())


@pytest.mark.parametrize("name", ["resnet12", "conv4"])
def test_head_and_body_are_disjoint_and_all_there_is(name):
    network = make(name)
    assert head_names(network) == ("classifier.weight", "classifier.bias")
    assert body_names(network) + head_names(network) == names(network)


@pytest.mark.parametrize(("norm", "moves"), [("in", False), ("gn", False), ("tbn", True), ("cbn", True)])
def test_gain_and_offset_move_as_published_unless_told_otherwise(norm, moves):
    network = make(norm=norm)
    affine = {n for n in names(network) if "norm" in n}
    assert set(adaptable(network)) == set(names(network)) - (set() if moves else affine)
    assert adaptable(network, affine=True) == names(network)
    assert set(adaptable(network, affine=False)) == set(names(network)) - affine


def test_the_pooling_of_tasknorm_never_moves():
    network = make(norm="tasknorm_i")
    pooling = {n for n in names(network) if n.endswith((".a", ".b"))}
    assert len(pooling) == 32
    assert set(adaptable(network, affine=True)) == set(names(network)) - pooling
