"""Networks for other programs: ONNX, and a plain safetensors state dict."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from landmeta.errors import CheckpointError
from landmeta.networks import Network
from landmeta.norms import NormPass, initial_state, norm_layers
from landmeta.norms.tasknorm import TaskNorm

_LEAST_SIDE = 16
"""Pixels of the smallest image that the exported network takes."""


def export_state_dict(network: nn.Module, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the network's tensors by their own names, readable by any program that reads safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with _renamed_at_last(path) as part:
        save_file(tensors, part, metadata=dict(notes or {}))


def export_onnx(network: Network, path: Path, header: Mapping[str, Any], *, dense: bool = False) -> None:
    """Write the network as an ONNX model: `images` (tile, band, y, x) float32 to `logits`.

    The numbers of tiles, rows and columns are free, unless the network was made for one size. Band names and
    scaling go into the model's metadata.

    Args:
        network: Batch norm with a running state is exported with that state.
        path: File to write.
        header: The checkpoint's header.
        dense: `logits` are (tile, output, v, u), one for every cell of 8 px, instead of (tile, output).

    Raises:
        CheckpointError: The packages for ONNX are not installed, or the network needs a support set.
    """
    if lacking := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        msg = f"export to ONNX needs the package {' and '.join(lacking)}"
        raise CheckpointError(msg, "pip install 'landmeta[onnx]'")
    bare = _Bare(network.eval(), dense)
    side = header["network"].get("side")
    example = torch.zeros(2, len(header["network"]["bands"]), side or 64, side or 64)
    sizes = {0: torch.export.Dim("tile")}
    if side is None:
        sizes |= {2: torch.export.Dim("y", min=_LEAST_SIDE), 3: torch.export.Dim("x", min=_LEAST_SIDE)}
    with _quiet():
        program = torch.onnx.export(
            bare,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": sizes},
        )
    if program is None:
        msg = f"torch made no ONNX model of network {header['network']['name']!r}"
        raise CheckpointError(msg, "export a .safetensors file instead")
    for key in ("network", "scaling", "sha256"):
        if key in header:
            program.model.metadata_props[f"landmeta.{key}"] = json.dumps(header[key])
    with _renamed_at_last(path) as part:
        program.save(str(part), external_data=False)


class _Bare(nn.Module):
    """The network with the running state of its norms, images to logits."""

    def __init__(self, network: Network, dense: bool) -> None:
        super().__init__()
        if any(isinstance(layer, TaskNorm) for layer in norm_layers(network)):
            msg = "a network with TaskNorm has no logits without a support set"
            raise CheckpointError(msg, "export a network with another norm")
        self.network, self.dense = network, dense

    def forward(self, images: Float[Tensor, "tile band y x"]) -> Tensor:
        normalize = NormPass(initial_state(self.network), "query")
        return (self.network.dense if self.dense else self.network)(images, normalize)


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch tells its exporter's developers about deprecations of its own and packages that it misses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _renamed_at_last(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of `path`, which takes its name at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
