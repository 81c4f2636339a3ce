import pytest

from landmeta.errors import NetworkError
from landmeta.networks import BIG_WIDTHS, WIDTHS, Conv4, ResNet12, build_network

RGB = ["B04", "B03", "B02"]
NARROW = [4, 4, 4, 4]


def refused(**settings):
    with pytest.raises(NetworkError) as caught:
        build_network(settings)
    assert caught.value.hint
    return f"{caught.value} / {caught.value.hint}"


def test_what_is_left_out_is_as_published():
    small, big = (build_network({"name": name, "bands": RGB}) for name in ("resnet12", "resnet12_big"))
    assert (small.widths, big.widths) == (WIDTHS, BIG_WIDTHS)
    assert (small.bands, small.classifier.out_features, small.norm) == (3, 1, "in")
    assert build_network({"name": "conv4", "bands": RGB}).classifier.in_features == 64


def test_every_setting_reaches_the_network():
    settings = {"bands": RGB, "widths": NARROW, "norm": "gn", "norm_options": {"groups": 2}, "out": 5}
    network = build_network({"name": "resnet12", **settings})
    assert isinstance(network, ResNet12)
    assert network.classifier.out_features == 5
    assert network.blocks[3].norm_shortcut.groups == 2
    network = build_network({"name": "conv4", "side": 84, **settings})
    assert isinstance(network, Conv4)
    assert network.classifier.in_features == 4 * 25


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "network None is unknown / name = one of resnet12, resnet12_big, conv4"),
        ({"name": "resnet18"}, "network 'resnet18' is unknown"),
        ({"name": "resnet12"}, "the network's settings name no bands"),
        ({"name": "resnet12", "bands": []}, r"bands are []"),
        ({"name": "resnet12", "bands": "B02"}, "bands are 'B02', expected a list"),
        ({"name": "resnet12", "bands": RGB, "out": 0}, "out is 0"),
        (
            {"name": "resnet12", "bands": RGB, "widths": [8, 8]},
            "widths are [8, 8], expected the channels of 4",
        ),
        ({"name": "resnet12", "bands": RGB, "width": NARROW}, "no setting 'width' / did you mean widths?"),
        ({"name": "resnet12", "bands": RGB, "side": 84}, "network 'resnet12' has no setting 'side'"),
        ({"name": "resnet12_big", "bands": RGB, "widths": NARROW}, "has no setting 'widths'"),
        (
            {"name": "resnet12", "bands": RGB, "norm": "batch"},
            "norm 'batch' is unknown / norm = one of tbn, cbn",
        ),
        (
            {"name": "conv4", "bands": RGB, "widths": [48] * 4, "norm": "gn"},
            "48 channels of norm1 do not divide",
        ),
        (
            {"name": "conv4", "bands": RGB, "side": 8},
            "images of 8 pixels a side leave no cell behind the four pools / side = 16",
        ),
        ({"name": "conv4", "bands": RGB, "norm_options": {"eps": 1}}, "norm 'tbn' has no option 'eps'"),
    ],
)
def test_settings_that_cannot_be_built_say_why_and_what_would_do(settings, said):
    assert said in refused(**settings)
