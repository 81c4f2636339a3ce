"""Operations whose second derivatives cost little more than their first, put in place of torch's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landmeta.learning.kernels.convolution import convolve as convolve
from landmeta.learning.kernels.group_norm import normalize_groups as normalize_groups


class TwiceDifferentiable(TorchFunctionMode):
    """Within it torch's conv2d and group_norm, and linear maps of several tasks, are those of this package.

    Values and derivatives agree with torch's up to rounding, and so do types under autocast: convolutions
    and linear maps in the low precision, norms in float32. Convolutions in groups or with padding given as a
    word stay torch's.
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
        if function is torch.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        if function is torch.group_norm or function is F.group_norm:
            return _group_norm(*args, **(kwargs or {}))
        if function is F.linear and args[1].dim() == 3:
            return _linear(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


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
    input, weight, bias = _as_autocast(input, weight, bias)
    return convolve(input, weight, bias, _pair(stride), _pair(padding), _pair(dilation))


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    del cudnn_enabled
    if torch.is_autocast_enabled(input.device.type) and input.dtype != torch.float64:
        input = input.float()
    return normalize_groups(input, num_groups, weight, bias, eps)


def _linear(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each task's linear map (task, output, feature) of its share of the features (n, feature)."""
    input, weight, bias = _as_autocast(input, weight, bias)
    return torch.baddbmm(bias[:, None], input.unflatten(0, (len(weight), -1)), weight.mT).flatten(0, 1)


def _as_autocast(first: Tensor, *others: Any) -> Any:
    """The tensors in the type that autocast would give them; None stays."""
    if not torch.is_autocast_enabled(first.device.type) or first.dtype == torch.float64:
        return first, *others
    dtype = torch.get_autocast_dtype(first.device.type)
    return first.to(dtype), *(None if t is None else t.to(dtype) for t in others)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
