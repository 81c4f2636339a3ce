"""METEOR's published weights as a network of ours: names mapped, checked, nothing in the file executed."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landmeta.bands import RADAR, SENTINEL2
from landmeta.errors import CheckpointError
from landmeta.networks import Network, build_network

METEOR_BANDS: tuple[str, ...] = RADAR + SENTINEL2
"""Inputs of the released network in their order: VV and VH, then the 13 bands of Sentinel-2."""

_LAYERS = {
    "conv1": "conv1",
    "conv2": "conv2",
    "conv3": "conv3",
    "bn1": "norm1",
    "bn2": "norm2",
    "bn3": "norm3",
    "downsample.0": "shortcut",
    "downsample.1": "norm_shortcut",
}
_NAME = re.compile(r"layer([1-4])\.0\.(conv[123]|bn[123]|downsample\.[01])\.(\w+)")
_NOT_KEPT = ("num_batches_tracked", "context_batch_mean", "context_batch_var", "context_size")
"""Bookkeeping of its norms that no forward pass of ours reads."""


def import_meteor(
    path: Path, bands: Sequence[str] | None = None, *, norm: str | None = None
) -> tuple[Network, dict[str, Any]]:
    """METEOR's network from a file of `torch.save`, and the settings for `build_network`.

    Args:
        path: A state dict with names such as `layer1.0.conv1.weight`, by itself or under `state_dict`.
        bands: Canonical names of the bands to keep, in the order wanted: the first convolutions keep those
            columns. By default all that the file has: 15 are `METEOR_BANDS`, 13 those of Sentinel-2.
        norm: Norm of the network. Instance, layer, group and batch norm without running state have the same
            names in the file, so `in` is taken unless the file shows another.

    Raises:
        CheckpointError: The file is damaged, holds anything but tensors, or lacks tensors of that network.
    """
    found = _state_dict(path)
    kind = norm or _norm_of(found)
    names = _band_names(path, found)
    chosen = tuple(names if bands is None else bands)
    if missing := [band for band in chosen if band not in names]:
        msg = f"{path} has no band {', '.join(missing)}: it was trained on {', '.join(names)}"
        raise CheckpointError(msg, "--bands names some of those, in the order of your imagery")
    settings = _settings(path, found, kind, chosen)
    tensors = {_our_name(path, key): value for key, value in found.items()}
    columns = [names.index(band) for band in chosen]
    for name in ("blocks.0.conv1.weight", "blocks.0.shortcut.weight"):
        if name in tensors and tensors[name].shape[1:2] == (len(names),):  # else it is told below
            tensors[name] = tensors[name][:, columns]
    return _filled(path, settings, tensors), settings


def _state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of the file by METEOR's names, as float32."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages of old files: they load all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        msg = f"{path} holds pickled code or is damaged, so it is not loaded ({_reason(fault)})"
        raise CheckpointError(msg, "give a state dict: torch.save(model.state_dict(), FILE)") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as fault:
        msg = f"{path} cannot be read as a file of torch.save: {_reason(fault)}"
        raise CheckpointError(msg, "fetch it again: it is damaged or of another kind") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values())
    if not tensors or "layer1.0.conv1.weight" not in content:
        msg = f"{path} is no state dict of METEOR: it has no tensor layer1.0.conv1.weight"
        raise CheckpointError(msg, "give the state dict of METEOR's ResNet-12, as published")
    named = {str(key): value for key, value in content.items() if not str(key).endswith(_NOT_KEPT)}
    if bad := [key for key, value in named.items() if not torch.isfinite(value.float()).all()]:
        msg = f"{path}: {bad[0]} holds numbers that are not finite"
        raise CheckpointError(msg, "fetch it again: it is damaged, or its training failed")
    return {key: value.detach().float() for key, value in named.items()}


def _reason(fault: Exception) -> str:
    """What matters of torch's long words: the global that the file asks for, else the first line."""
    text = str(fault)
    asked = re.search(r"(?:Unsupported global: GLOBAL|GLOBAL) ([\w.]+)", text)
    if asked:
        return f"it asks for {asked[1]}"
    return (text.strip().splitlines() or [type(fault).__name__])[0][:120]


def _norm_of(found: Mapping[str, Tensor]) -> str:
    if "layer1.0.bn1.running_mean" in found:
        return "cbn"
    if "layer1.0.bn1.a" in found:
        return "tasknorm_i"
    return "in" if "layer1.0.bn1.weight" in found else "none"


def _band_names(path: Path, found: Mapping[str, Tensor]) -> tuple[str, ...]:
    known = {len(bands): bands for bands in (METEOR_BANDS, SENTINEL2)}
    shape = found["layer1.0.conv1.weight"].shape
    if len(shape) != 4 or shape[1] not in known:
        msg = f"{path}: layer1.0.conv1.weight has the shape {tuple(shape)}, expected 15 or 13 inputs"
        raise CheckpointError(msg, "give METEOR's network for Sentinel-1 and 2, or Sentinel-2 alone")
    return known[shape[1]]


def _settings(path: Path, found: Mapping[str, Tensor], norm: str, bands: tuple[str, ...]) -> dict[str, Any]:
    head, blocks = found.get("classifier.weight"), range(1, 5)
    convolutions = [found.get(f"layer{i}.0.conv3.weight") for i in blocks]
    if head is None or any(weight is None for weight in convolutions):
        msg = f"{path} lacks the classifier or a block of METEOR's ResNet-12"
        raise CheckpointError(msg, "give its whole state dict")
    widths = [len(weight) for weight in convolutions if weight is not None]
    return {"name": "resnet12", "bands": list(bands), "widths": widths, "norm": norm, "out": len(head)}


def _our_name(path: Path, name: str) -> str:
    """`layer1.0.downsample.1.bias` is `blocks.0.norm_shortcut.bias`."""
    if name.startswith("classifier."):
        return name
    match = _NAME.fullmatch(name)
    if match is None:
        msg = f"{path} has a tensor {name}, which METEOR's ResNet-12 has not"
        raise CheckpointError(msg, "give the state dict of METEOR's ResNet-12, as published")
    return f"blocks.{int(match[1]) - 1}.{_LAYERS[match[2]]}.{match[3]}"


def _filled(path: Path, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> Network:
    network = build_network(settings)
    if (
        tensors["classifier.weight"].dim() == 4
    ):  # its segmentation head: the same weights as a 1x1 convolution
        tensors["classifier.weight"] = tensors["classifier.weight"][:, :, 0, 0]
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    faults = [f"no {name}" for name in wanted if name not in tensors]
    faults += [f"{name} besides" for name in tensors if name not in wanted]
    faults += [
        f"{name} of shape {tuple(tensors[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        told = f"{'; '.join(faults[:3])}{more}"
        msg = f"{path} does not fit METEOR's network with norm {settings['norm']!r}: {told}"
        raise CheckpointError(msg, "--norm names the norm it was trained with, if another")
    network.load_state_dict(tensors)
    return network.eval()
