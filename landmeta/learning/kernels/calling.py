"""One way to call a torch.autograd.Function, for which torch has no types."""

from __future__ import annotations

import inspect
from typing import Any


def call(function: Any, *inputs: Any) -> Any:
    """`function.apply(*inputs)`.

    torch asks for the signature of `forward` in every call; kept on the function, it costs no time.
    """
    forward = function.forward
    if not hasattr(forward, "__signature__"):
        forward.__signature__ = inspect.signature(forward)
    return function.apply(*inputs)
