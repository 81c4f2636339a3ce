"""Normalization layers whose source of moments is an argument, never hidden state (METHODS 2).

A network calls `normalize(layer, images)` for each of its norm layers. The callable decides where the
moments come from: `NormPass` follows each layer's own rule and hands its state on, `PooledMoments` measures
the moments of many windows at once, and `FrozenMoments` applies what was measured.

A new norm is one short file with a subclass of `Norm`, and one line in `NORMS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType, UnionType
from typing import Any

from landmeta.errors import NetworkError
from landmeta.norms.base import EPS as EPS
from landmeta.norms.base import Mode as Mode
from landmeta.norms.base import Norm as Norm
from landmeta.norms.base import Normalize as Normalize
from landmeta.norms.base import NormPass as NormPass
from landmeta.norms.base import NormState as NormState
from landmeta.norms.base import State as State
from landmeta.norms.base import initial_state as initial_state
from landmeta.norms.base import keep_state as keep_state
from landmeta.norms.base import next_task_state as next_task_state
from landmeta.norms.base import norm_layers as norm_layers
from landmeta.norms.conventional_batch import ConventionalBatchNorm as ConventionalBatchNorm
from landmeta.norms.group import GroupNorm as GroupNorm
from landmeta.norms.group import LayerNorm as LayerNorm
from landmeta.norms.instance import InstanceNorm as InstanceNorm
from landmeta.norms.moments import FrozenMoments as FrozenMoments
from landmeta.norms.moments import Moments as Moments
from landmeta.norms.moments import PooledMoments as PooledMoments
from landmeta.norms.moments import own_moments as own_moments
from landmeta.norms.none import NoNorm as NoNorm
from landmeta.norms.tasknorm import TaskNormI as TaskNormI
from landmeta.norms.tasknorm import TaskNormL as TaskNormL
from landmeta.norms.transductive_batch import TransductiveBatchNorm as TransductiveBatchNorm

NORMS: Mapping[str, type[Norm]] = MappingProxyType(
    {
        "tbn": TransductiveBatchNorm,
        "cbn": ConventionalBatchNorm,
        "tasknorm_i": TaskNormI,
        "tasknorm_l": TaskNormL,
        "in": InstanceNorm,
        "gn": GroupNorm,
        "ln": LayerNorm,
        "none": NoNorm,
    }
)
"""Every norm by the name that settings and the benchmark's tables use."""

_VALUES: Mapping[str, tuple[type | UnionType, str]] = MappingProxyType(
    {
        "groups": (int, "a whole number"),
        "state": (str, "a word"),
        "momentum": (int | float, "a number"),
        "unbiased": (bool, "true or false"),
    }
)
"""What the options of norms are, as settings give them: `"no"` is not false, and `"8"` no number."""


def norm_options(kind: str) -> tuple[str, ...]:
    """Names of the options that a norm takes besides its channels and name.

    Raises:
        NetworkError: No norm has this name.
    """
    if kind not in NORMS:
        msg = f"norm {kind!r} is unknown"
        raise NetworkError(msg, f"norm = one of {', '.join(NORMS)}")
    return tuple(inspect.signature(NORMS[kind]).parameters)[2:]


def make_norm(kind: str, channels: int, name: str, **options: Any) -> Norm:
    """One norm layer of a kind listed in `NORMS`.

    Raises:
        NetworkError: The norm, one of its options, or an option's value is unknown.
    """
    known = norm_options(kind)
    if foreign := sorted(set(options) - set(known)):
        msg = f"norm {kind!r} has no option {foreign[0]!r}"
        raise NetworkError(msg, f"options of {kind!r}: {', '.join(known) or 'none'}")
    for option, value in options.items():
        wanted, words = _VALUES[option]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            msg = f"norm {kind!r} has {option} = {value!r}, expected {words}"
            raise NetworkError(msg, f"norm_options = {{{option} = ...}} with {words}")
    return NORMS[kind](channels, name, **options)
