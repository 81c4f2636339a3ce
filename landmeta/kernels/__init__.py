"""Operations whose second derivatives cost little more than their first, put in place of torch's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landmeta.kernels.convolution import convolve as convolve
from landmeta.kernels.group_norm import normalize_groups as normalize_groups


class TwiceDifferentiable(TorchFunctionMode):
    """Within it `torch.conv2d` and `torch.group_norm` are those of this package.

    Values and derivatives agree with torch's up to rounding. Convolutions in groups or with padding given
    as a word stay torch's, and so does everything under autocast, which chooses types by torch's own names.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        del types
        if _autocast(args):
            return function(*args, **(kwargs or {}))
        if function is torch.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        if function is torch.group_norm:
            return normalize_groups(*args, **(kwargs or {}))
        if function is F.linear and args[1].dim() == 3:
            return _linear(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _autocast(args: Sequence[Any]) -> bool:
    return bool(args) and isinstance(args[0], Tensor) and torch.is_autocast_enabled(args[0].device.type)


def _linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each task's linear map (task, output, feature) of its share of the features (n, feature)."""
    return torch.baddbmm(bias[:, None], features.unflatten(0, (len(weight), -1)), weight.mT).flatten(0, 1)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    if groups != 1 or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return convolve(input, weight, bias, _pair(stride), _pair(padding), _pair(dilation))
