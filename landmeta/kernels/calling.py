"""One way to call a torch.autograd.Function, for which torch has no types."""

from __future__ import annotations

from typing import Any


def call(function: Any, *inputs: Any) -> Any:
    """`function.apply(*inputs)`."""
    return function.apply(*inputs)
