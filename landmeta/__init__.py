"""Land-cover maps from satellite imagery and a handful of labels.

Arrays and paths in, arrays and values out: no network, no HTML, no printing. The names below are
imported on first use, so that `import landmeta` costs milliseconds and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers; tests/hygiene holds the two lists together
    from landmeta.adaptation import Adapted as Adapted
    from landmeta.adaptation import adapt_region as adapt_region
    from landmeta.assessment import Holdout as Holdout
    from landmeta.assessment import balanced_accuracy as balanced_accuracy
    from landmeta.assessment import holdout_score as holdout_score
    from landmeta.bands import BandSet as BandSet
    from landmeta.bands import parse_bands as parse_bands
    from landmeta.checkpoints import load_ensemble as load_ensemble
    from landmeta.checkpoints import save_ensemble as save_ensemble
    from landmeta.classmap import ClassMap as ClassMap
    from landmeta.ensemble import Ensemble as Ensemble
    from landmeta.errors import LandmetaError as LandmetaError
    from landmeta.labels import Labels as Labels
    from landmeta.labels import read_labels as read_labels
    from landmeta.legend import LandClass as LandClass
    from landmeta.legend import Legend as Legend
    from landmeta.prediction import predict as predict
    from landmeta.raster import Imagery as Imagery
    from landmeta.raster import open_imagery as open_imagery
    from landmeta.splits import group_folds as group_folds

__version__ = version("landmeta")

_HOMES = {
    "Adapted": "adaptation",
    "BandSet": "bands",
    "ClassMap": "classmap",
    "Ensemble": "ensemble",
    "Holdout": "assessment",
    "Imagery": "raster",
    "Labels": "labels",
    "LandClass": "legend",
    "LandmetaError": "errors",
    "Legend": "legend",
    "adapt_region": "adaptation",
    "balanced_accuracy": "assessment",
    "group_folds": "splits",
    "holdout_score": "assessment",
    "load_ensemble": "checkpoints",
    "open_imagery": "raster",
    "parse_bands": "bands",
    "predict": "prediction",
    "read_labels": "labels",
    "save_ensemble": "checkpoints",
}
"""Exported name -> module that defines it."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"landmeta.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
