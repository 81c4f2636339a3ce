"""Checkpoints: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from landmeta.bands import SENTINEL2, BandSet
from landmeta.checksums import sha256
from landmeta.ensemble import Ensemble
from landmeta.errors import CheckpointError, NetworkError, OutputError
from landmeta.heads import Heads
from landmeta.legend import LandClass, Legend
from landmeta.networks import Network, ResNet12, build_network
from landmeta.published import PublishedEnsemble
from landmeta.start import Start

FORMAT = "landmeta-start-1"


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to a temporary name in the same folder, then rename.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    packed = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            save_file(packed, name, metadata={"landmeta": json.dumps(header)})
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except (SafetensorError, OSError) as fault:  # a full disk is the former
        msg = f"{path} cannot be written: {fault}"
        raise OutputError(msg, "free some space, or write to another folder") from fault


def read_tensors(path: Path, *, as_stored: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors as float32 (or `as_stored`) and the JSON header.

    Raises:
        CheckpointError: The file is none of ours.
    """
    with _opened(path) as source:
        header = json.loads((source.metadata() or {}).get("landmeta", "null"))
        tensors = {k: source.get_tensor(k) for k in source.keys()}  # noqa: SIM118
    _checked(path, header)
    return tensors if as_stored else {k: v.float() for k, v in tensors.items()}, header


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file, whose faults are told in one line."""
    try:
        with safe_open(path, framework="pt") as source:
            yield source
    except (SafetensorError, OSError, ValueError) as fault:
        msg = f"{path} cannot be read as a checkpoint: {fault}"
        raise CheckpointError(msg, "give a .safetensors file that landmeta wrote") from fault


def _checked(path: Path, header: Any) -> dict[str, Any]:
    if not isinstance(header, dict) or "format" not in header:
        msg = f"{path} has no landmeta header"
        raise CheckpointError(msg, "give a .safetensors file that landmeta wrote")
    return header


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of any checkpoint of ours and its number of stored values; no tensor is read.

    Raises:
        CheckpointError: The file is none of ours.
    """
    with _opened(path) as source:
        header = json.loads((source.metadata() or {}).get("landmeta", "null"))
        sizes = [source.get_slice(k).get_shape() for k in source.keys()]  # noqa: SIM118
    return _checked(path, header), sum(math.prod(size) for size in sizes)


def save_start(start: Start, path: Path, training: dict[str, Any]) -> None:
    """Save a start in half precision with what is needed to rebuild and to judge it."""
    header = {
        "format": FORMAT,
        "network": {"name": "resnet12_tadam", "widths": list(start.network.widths), "norm": "in"},
        "bands": list(SENTINEL2),
        "unit": "reflectance 0..1",
        "training": training,
    }
    write_tensors(path, {k: v.half() for k, v in start.state_dict().items()}, header)


def load_start(path: Path | None = None) -> tuple[Start, dict[str, Any]]:
    """The start in `path`, or the starter that ships with the package, and its header.

    Raises:
        CheckpointError: The file is damaged, of another format, or its tensors do not fit its header.
    """
    path = starter_path() if path is None else path
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        msg = f"{path} has format {header.get('format')!r}, expected {FORMAT!r}"
        raise CheckpointError(msg, "convert or retrain the checkpoint")
    start = Start(header["network"]["widths"])
    try:
        start.load_state_dict(tensors)
    except RuntimeError as fault:
        msg = f"{path}: tensors do not fit the header ({str(fault).splitlines()[-1].strip()})"
        raise CheckpointError(msg, "the file is damaged: fetch it again") from fault
    return start.eval().requires_grad_(False), header


NETWORK_FORMAT = "landmeta-network-1"


_LEARNED = "learned."


def save_network(
    network: nn.Module,
    path: Path,
    settings: Mapping[str, Any],
    notes: Mapping[str, Any],
    learned: Mapping[str, Tensor] | None = None,
) -> str:
    """Save a network with what is needed to build it again and to judge it.

    Args:
        network: Its parameters and buffers are stored as they are, in float32.
        path: A `.safetensors` file, replaced at once.
        settings: What `landmeta.networks.build_network` takes: name, bands, norm, ...
        notes: JSON values: scaling, training, adaptation, licence, ...
        learned: What an inner rule learned besides: rates, masks.

    Returns:
        The checksum that the header holds.
    """
    tensors = network.state_dict() | {f"{_LEARNED}{k}": v.detach() for k, v in (learned or {}).items()}
    header = {"format": NETWORK_FORMAT, "network": dict(settings), **notes}
    header["sha256"] = content_checksum(tensors, header)
    write_tensors(path, tensors, header)
    return str(header["sha256"])


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network in a checkpoint, in evaluation mode, and the header.

    Raises:
        CheckpointError: The file is damaged, was changed, is of another format, or its tensors do not fit.
    """
    tensors, header = read_network_file(path)
    try:
        network = build_network(header["network"])
        network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(_LEARNED)})
    except (RuntimeError, NetworkError, KeyError, TypeError) as fault:
        msg = f"{path}: tensors do not fit the header ({str(fault).splitlines()[-1].strip()})"
        raise CheckpointError(msg, "the file is damaged: fetch it again") from fault
    return network.eval(), header


def read_network_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a network checkpoint; raises CheckpointError where the checksum is another."""
    tensors, header = read_tensors(path, as_stored=True)
    if header.get("format") != NETWORK_FORMAT:
        msg = f"{path} has format {header.get('format')!r}, expected {NETWORK_FORMAT!r}"
        raise CheckpointError(msg, "landmeta models list shows the checkpoints that are networks")
    if header.get("sha256") != content_checksum(tensors, header):
        msg = f"{path} was changed after landmeta wrote it: its checksum is another"
        raise CheckpointError(msg, "fetch or train it again; do not trust its weights")
    return tensors, header


def load_learned(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """What the inner rule of a checkpoint learned, by name, on a device.

    Raises:
        CheckpointError: As `load_network`.
    """
    learned = _part(read_network_file(path)[0], _LEARNED)
    return {name: value.to(device) for name, value in learned.items()}


def content_checksum(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 over every tensor (name, type, shape, bytes) and the header without its entry `sha256`."""
    told = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def starter_path() -> Path:
    """Where the shipped starter lies."""
    return Path(str(resources.files("landmeta").joinpath("starter.safetensors")))


ENSEMBLE_FORMAT = "landmeta-ensemble-1"
PUBLISHED_FORMAT = "landmeta-published-1"


def save_ensemble(
    ensemble: Ensemble | PublishedEnsemble, folder: Path, notes: dict[str, Any] | None = None
) -> None:
    """Write `model.safetensors` and, beside it for people, its header as `model.json`.

    The adapted model is self-contained: network for the region's bands, frozen moments, heads, fill.
    """
    if isinstance(ensemble, PublishedEnsemble):
        _save_published(ensemble, folder, notes or {})
        return
    tensors = {f"network.{k}": v for k, v in ensemble.network.state_dict().items()}
    for name, (mean, variance) in ensemble.moments.items():
        tensors |= {f"moments.{name}.mean": mean, f"moments.{name}.variance": variance}
    tensors |= {
        "heads.weight": ensemble.heads.weight,
        "heads.bias": ensemble.heads.bias,
        "fill": ensemble.fill,
    }
    header = {
        "format": ENSEMBLE_FORMAT,
        "network": _network_entry(ensemble, "in, frozen moments"),
        **_imagery_entries(ensemble),
        **(notes or {}),
    }
    _write_model(folder, tensors, header)


def _save_published(ensemble: PublishedEnsemble, folder: Path, notes: dict[str, Any]) -> None:
    """The start's network once, and the adapted tensors of each class."""
    tensors = {f"network.{k}": v for k, v in ensemble.network.state_dict().items()}
    for i, model in enumerate(ensemble.class_models):
        tensors |= {f"class{i}.{k}": v for k, v in model.items()}
    header = {
        "format": PUBLISHED_FORMAT,
        "network": _network_entry(ensemble, "in"),
        **_imagery_entries(ensemble),
        **notes,
    }
    _write_model(folder, tensors | {"fill": ensemble.fill}, header)


def _network_entry(ensemble: Ensemble | PublishedEnsemble, norm: str) -> dict[str, Any]:
    return {"name": "resnet12_tadam", "widths": list(ensemble.network.widths), "norm": norm}


def _imagery_entries(ensemble: Ensemble | PublishedEnsemble) -> dict[str, Any]:
    bands = ensemble.bands
    return {
        "bands": {"names": list(bands.names), "scale": bands.scale, "offset": bands.offset},
        "unit": "reflectance 0..1",
        "legend": [{"code": c.code, "name": c.name, "color": c.color} for c in ensemble.legend],
        "start_sha256": sha256(starter_path()),
    }


def _write_model(folder: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    write_tensors(folder / "model.safetensors", tensors, header)
    # For people: what is read again is the header itself.
    text = folder / "model.json.part"
    text.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    text.replace(folder / "model.json")


def load_ensemble(folder: Path) -> Ensemble | PublishedEnsemble:
    """The ensemble of a run's `model/` folder.

    Raises:
        CheckpointError: The file is damaged, of another format, or its tensors do not fit its header.
    """
    path = folder / "model.safetensors"
    tensors, header = read_tensors(path)
    if header.get("format") not in (ENSEMBLE_FORMAT, PUBLISHED_FORMAT):
        msg = f"{path} has format {header.get('format')!r}, expected {ENSEMBLE_FORMAT!r}"
        raise CheckpointError(msg, "give the model folder of a landmeta run")
    try:
        return _ensemble_of(tensors, header)
    except (RuntimeError, KeyError, TypeError, ValueError) as fault:
        told = str(fault).splitlines()[-1].strip() if str(fault) else type(fault).__name__
        msg = f"{path}: tensors do not fit the header ({told})"
        raise CheckpointError(msg, "the file is damaged: copy it again or adapt anew") from fault


def _ensemble_of(tensors: dict[str, Tensor], header: dict[str, Any]) -> Ensemble | PublishedEnsemble:
    bands = BandSet(tuple(header["bands"]["names"]), header["bands"]["scale"], header["bands"]["offset"])
    network = ResNet12(len(bands.names), header["network"]["widths"]).eval().requires_grad_(False)
    network.load_state_dict(_part(tensors, "network."))
    legend, fill = Legend(tuple(LandClass(**c) for c in header["legend"])), tensors["fill"]
    if fill.shape != (len(bands),):
        msg = f"{len(bands)} bands, fill values of shape {tuple(fill.shape)}"
        raise ValueError(msg)
    if header["format"] == PUBLISHED_FORMAT:
        models = tuple(_part(tensors, f"class{i}.") for i in range(len(legend)))
        return PublishedEnsemble(network, models, fill, legend, bands)
    stored = _part(tensors, "moments.")
    names = {k.rsplit(".", 1)[0] for k in stored}
    moments = {n: (stored[f"{n}.mean"], stored[f"{n}.variance"]) for n in names}
    heads = Heads(tensors["heads.weight"], tensors["heads.bias"])
    if len(heads.weight) != len(legend) or len(heads.bias) != len(legend):
        msg = f"{len(legend)} classes, {len(heads.weight)} heads"
        raise ValueError(msg)
    found = Ensemble(network, moments, heads, fill, legend, bands)
    found.prepare()  # a layer without moments shows here, not at the first block of a map
    return found


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
