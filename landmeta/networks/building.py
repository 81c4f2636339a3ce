"""Networks from plain settings, as a training configuration or a checkpoint's header holds them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

from landmeta.errors import NetworkError
from landmeta.networks.conv4 import Conv4
from landmeta.networks.resnet12 import BIG_WIDTHS, ResNet12

Network: TypeAlias = ResNet12 | Conv4
"""What `build_network` builds; all have `forward`, `dense`, `features` and a linear `classifier`."""

_EVERY = ("name", "bands", "out", "norm", "norm_options")
_BLOCKS = 4

NETWORKS: Mapping[str, tuple[Callable[..., Network], tuple[str, ...]]] = MappingProxyType(
    {
        "resnet12": (ResNet12, ("widths",)),
        "resnet12_big": (partial(ResNet12, widths=BIG_WIDTHS), ()),
        "conv4": (Conv4, ("widths", "side")),
    }
)
"""How to build each network, and its settings besides those that every network has."""


def build_network(settings: Mapping[str, Any], *, generator: torch.Generator | None = None) -> Network:
    """Build a network from settings; what is left out is as published for that network.

    Args:
        settings: `name` (one of `NETWORKS`), `bands` (their names, in order), `out` (logits), `norm`,
            `norm_options`; `widths` of the four blocks for `resnet12` and `conv4`, `side` for `conv4`.
        generator: Source of the initial weights.

    Raises:
        NetworkError: A setting is missing, unknown or impossible.
    """
    make, own = _recipe(settings)
    _check_keys(settings, (*_EVERY, *own))
    bands, widths, out = settings["bands"], settings.get("widths"), settings.get("out", 1)
    if isinstance(bands, str) or not bands:
        msg = f"bands are {bands!r}, expected a list of band names"
        raise NetworkError(msg, 'for example bands = ["B02", "B03", "B04", "B08"]')
    if out < 1:
        msg = f"out is {out}, expected the number of logits"
        raise NetworkError(msg, "out = 1 for one-vs-all, the number of classes for n-way")
    if widths is not None and (len(widths) != _BLOCKS or min(widths) < 1):
        msg = f"widths are {list(widths)}, expected the channels of {_BLOCKS} blocks"
        raise NetworkError(msg, "for example widths = [64, 128, 256, 512]")
    chosen = {key: settings[key] for key in ("norm", "norm_options", *own) if key in settings}
    return make(len(bands), outputs=out, generator=generator, **chosen)


def _recipe(settings: Mapping[str, Any]) -> tuple[Callable[..., Network], tuple[str, ...]]:
    name = settings.get("name")
    if not isinstance(name, str) or name not in NETWORKS:
        msg = f"network {name!r} is unknown"
        raise NetworkError(msg, f"name = one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _check_keys(settings: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if "bands" not in settings:
        msg = "the network's settings name no bands"
        raise NetworkError(msg, 'for example bands = ["B02", "B03", "B04", "B08"]')
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"settings: {', '.join(known)}"
            msg = f"network {settings['name']!r} has no setting {key!r}"
            raise NetworkError(msg, hint)
