"""A region of a tile store as a run: what it starts from, and how its unlabelled tiles came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from landmeta.errors import RegionError
from landmeta_cli.inputs import Inputs
from landmeta_cli.requests import AdaptRequest

if TYPE_CHECKING:
    from landmeta_catalog.store_regions import StoreRegion, StoreScene


def read_store_inputs(request: AdaptRequest, place: StoreRegion) -> Inputs:
    """The tiles of a region-season as imagery, and as labels those given, else tiles of every class.

    Raises:
        RegionError: an option is given that a store's region does not take: it brings imagery and scale,
            and draws no tiles where labels are given.
        DataError: too few tiles or classes, tiles without place.
        LabelError: `request.labels` cannot be used.
    """
    from landmeta.labels import read_labels
    from landmeta_catalog.store_regions import open_store_imagery, open_store_scene

    _refuse_unread(request, place)
    if request.labels is None:
        scene = open_store_scene(place, shots=request.drawn_shots, seed=request.seed, bands=request.bands)
        drawn = scene.labels
        return Inputs(
            place.name, scene.imagery, scene.imagery, None, drawn, scene.imagery.paths, scene, stored=True
        )
    imagery = open_store_imagery(place, bands=request.bands)
    labels = read_labels(request.labels, imagery, column=request.label_column, seed=request.seed)
    return Inputs(place.name, imagery, imagery, None, labels, (*imagery.paths, request.labels), stored=True)


def _refuse_unread(request: AdaptRequest, place: StoreRegion) -> None:
    """Raise RegionError where an option is given that would not be read."""
    own = request.labels is not None
    unread = {
        "--imagery": (bool(request.imagery), "brings its own imagery"),
        "--scale": (request.scale is not None, "holds its own scale"),
        "--offset": (request.offset is not None, "holds its own offset"),
        "--shots": (own and request.shots is not None, "has no tiles drawn beside --labels"),
        "--label-column": (not own and request.label_column is not None, "has tiles drawn as its labels"),
    }
    for option, (given, why) in unread.items():
        if given:
            msg = f"the region {place.name} of a tile store {why}, {option} was given too"
            raise RegionError(msg, f"leave out {option}")


def score_tiles(scene: StoreScene, folder: Path) -> dict[str, Any]:
    """How the finished map in `folder` classes the unlabelled tiles: each the class of most of its pixels.

    `all` scores every other tile of the classes, neighbours of labelled ones included, as METEOR counts on
    DFC2020 (METHODS 4.6); `apart` those that keep their distance, None where there are none. `left_out` is
    the number of tiles whose class is not mapped; `with_left_out` scores `all` and these, which no map of
    other classes can get right, None where there are none.
    """
    query, apart, left_out = scene.task.query, scene.task.query[scene.apart], scene.unmapped
    truth, mapped = scene.tiles["class_code"].to_numpy(np.int64), _majority(scene, folder)
    every = np.concatenate([query, left_out])
    return {
        "shots": len(scene.task.support) // len(scene.task.classes),
        "apart": _score(truth[apart], mapped[apart]) if len(apart) else None,
        "all": _score(truth[query], mapped[query]),
        "left_out": len(left_out),
        "with_left_out": _score(truth[every], mapped[every]) if len(left_out) else None,
    }


def _majority(scene: StoreScene, folder: Path) -> Int[np.ndarray, "tile"]:
    """The most frequent class of the map on every tile."""
    import rasterio
    from rasterio.windows import Window

    side = int(scene.tiles["side"].iloc[0])
    codes = np.array(scene.labels.legend.codes, np.int64)
    found = []
    with rasterio.open(folder / "landcover.tif") as image:
        for row, col in scene.tiles[["row", "col"]].to_numpy():
            pixels = image.read(1, window=Window(int(col), int(row), side, side))
            found.append(codes[np.bincount(pixels.ravel(), minlength=256)[codes].argmax()])
    return np.array(found)


def _score(truth: Int[np.ndarray, "tile"], mapped: Int[np.ndarray, "tile"]) -> dict[str, float]:
    from landmeta.assessment import balanced_accuracy

    return {
        "n": len(truth),
        "accuracy": round(float((truth == mapped).mean()), 4),
        "balanced_accuracy": round(balanced_accuracy(truth, mapped), 4),
    }
