"""Stability is 1 for a model that sees single pixels, less for one that sees a grid of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from landmeta.adaptation import adapt_region
from landmeta.legend import LandClass, Legend
from landmeta.raster import Imagery, imagery_of_array
from landmeta.stability import stability


@dataclass(frozen=True)
class Threshold:
    """Two classes by the sign of the first band, pooled over cells of `cell` pixels."""

    cell: int
    legend: Legend = Legend((LandClass(1, "low", "#000000"), LandClass(2, "high", "#ffffff")))
    stride: int = 1
    align: int = 8
    context: int = 8
    overlap: int = 0

    def prepare(self) -> None:
        """No state."""

    def logits(self, window: Tensor, state: Any) -> Tensor:
        del state
        band = window.nan_to_num()[:1]
        if self.cell > 1:
            band = F.interpolate(F.avg_pool2d(band, self.cell)[None], scale_factor=self.cell, mode="nearest")[
                0
            ]
        return torch.cat([-band, band])


@pytest.fixture
def noise() -> Imagery:
    values = np.random.default_rng(0).normal(size=(1, 500, 400)).astype(np.float32)
    values[:, :30] = np.nan
    return imagery_of_array(values, ("B02",))


def test_a_classifier_of_single_pixels_is_perfectly_stable(noise: Imagery) -> None:
    assert stability(Threshold(1), noise) == {"origin_shift": 1.0, "block_shift": 1.0}


def test_cells_move_with_the_origin_but_not_with_aligned_blocks(noise: Imagery) -> None:
    found = stability(Threshold(8), noise)
    assert found is not None
    assert found["block_shift"] == 1.0
    assert 0.4 < found["origin_shift"] < 0.9


def test_the_shares_of_every_pixel_are_given_with_nodata_where_there_is_none(noise: Imagery) -> None:
    whole = np.zeros(noise.shape, np.uint16)

    def put(row: int, col: int, shares: np.ndarray) -> None:
        rows, cols = shares.shape
        whole[row : row + rows, col : col + cols] = shares

    found = stability(Threshold(8), noise, blocks=100, put=put)
    assert found is not None
    blank = np.isnan(noise.read(0, 0, *noise.shape)[0])
    assert (whole[blank] == 65535).all()
    assert set(np.unique(whole[~blank])) == {0, 5000, 10_000}
    assert whole[~blank].mean() * 1e-4 == pytest.approx(found["origin_shift"], abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_for_a_block_without_data_another_is_drawn(seed: int) -> None:
    values = np.full((1, 512, 512), np.nan, np.float32)
    values[:, 130:200, 260:330] = np.random.default_rng(0).normal(size=(70, 70))
    measured: list[tuple[int, int]] = []
    found = stability(
        Threshold(8),
        imagery_of_array(values, ("B02",)),
        blocks=1,
        seed=seed,
        put=lambda row, col, shares: measured.append((row, col)),
    )
    assert found is not None
    assert measured == [(128, 256)]


def test_without_data_there_is_no_figure() -> None:
    empty = imagery_of_array(np.full((1, 64, 64), np.nan, np.float32), ("B02",))
    assert stability(Threshold(1), empty) is None


def test_an_adapted_model_keeps_nearly_all_classes(stripes) -> None:
    imagery, labels, _ = stripes
    found = stability(adapt_region(imagery, labels).ensemble, imagery, blocks=2)
    assert found is not None
    assert found["block_shift"] > 0.999
    assert found["origin_shift"] > 0.95


def test_only_blocks_that_are_wanted_are_drawn_and_only_pixels_inside_count(noise: Imagery) -> None:
    whole, inside = np.full(noise.shape, 65535, np.uint16), np.zeros(noise.shape, bool)
    inside[140:170, 10:300] = True

    def put(row: int, col: int, shares: np.ndarray) -> None:
        rows, cols = shares.shape
        whole[row : row + rows, col : col + cols] = shares

    found = stability(
        Threshold(8),
        noise,
        blocks=100,
        put=put,
        wanted=lambda w: w.row == 128,
        inside=lambda w: inside[w.row : w.row + w.height, w.col : w.col + w.width],
    )
    assert found is not None
    assert ((whole != 65535) == inside).all()
    assert whole[inside].mean() * 1e-4 == pytest.approx(found["origin_shift"], abs=1e-4)


def test_with_no_pixel_inside_there_is_no_figure(noise: Imagery) -> None:
    assert stability(Threshold(1), noise, inside=lambda w: np.zeros((w.height, w.width), bool)) is None
    assert stability(Threshold(1), noise, wanted=lambda w: False) is None
