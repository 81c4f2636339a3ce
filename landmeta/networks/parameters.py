"""Which parameters an inner loop moves, by name (METHODS 1.2, 3.4, 3.5)."""

from __future__ import annotations

from torch import nn

from landmeta.norms import Norm

_AFFINE = ("weight", "bias")


def adaptable(network: nn.Module, affine: bool | None = None) -> tuple[str, ...]:
    """Names of the parameters that the inner loop moves: all but those of norms that stay fixed.

    Args:
        network: A network of this package.
        affine: Whether gain and offset of the norms move; None: as in the main paper's code, which moves
            those of batch norms only. TaskNorm's pooling parameters never move.
    """
    fixed = {
        f"{path}.{name}"
        for path, layer in network.named_modules()
        if isinstance(layer, Norm)
        for name, _ in layer.named_parameters(recurse=False)
        if name not in _AFFINE or not (layer.adapts_affine if affine is None else affine)
    }
    return tuple(name for name, _ in network.named_parameters() if name not in fixed)


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Names of the classifier's parameters, all that ANIL's inner loop moves."""
    return tuple(name for name, _ in network.named_parameters() if name.startswith("classifier."))


def body_names(network: nn.Module) -> tuple[str, ...]:
    """Names of all other parameters, norms included; BOIL's inner loop moves the adaptable ones of them."""
    head = head_names(network)
    return tuple(name for name, _ in network.named_parameters() if name not in head)
