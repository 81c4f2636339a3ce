"""Work is counted as it is done, and useful work as the map's pixels take it without halo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from landmeta.bench.work import mapping_work
from landmeta.legend import LandClass, Legend
from landmeta.raster import imagery_of_array


@dataclass(frozen=True)
class OneProduct:
    """Two classes by a product of 3 bands at every pixel but those of a rim, 12 operations each."""

    legend: Legend = Legend((LandClass(1, "low", "#000000"), LandClass(2, "high", "#ffffff")))
    stride: int = 1
    align: int = 8
    context: int = 16
    overlap: int = 0
    rim: int = 4

    def prepare(self) -> None:
        """No state."""

    def logits(self, window: Tensor, state: Any) -> Tensor:
        del state
        inner = np.s_[..., self.rim : -self.rim, self.rim : -self.rim]
        logits = torch.zeros(2, *window.shape[1:])
        logits[inner] = torch.conv2d(window[inner][None], torch.ones(2, 3, 1, 1))[0]
        return logits


def test_useful_work_is_that_of_the_pixels_without_halo() -> None:
    imagery = imagery_of_array(np.zeros((3, 520, 100), np.float32), ("B02", "B03", "B04"))
    work = mapping_work(OneProduct(), imagery)
    assert work.useful == pytest.approx(520 * 100 * 12 / 1e9)
    read = (512 + 2 * 16 - 2 * 4) * (104 + 2 * 16 - 2 * 4) + (8 + 2 * 16 - 2 * 4) * (104 + 2 * 16 - 2 * 4)
    assert work.gflop == pytest.approx(read * 12 / 1e9)
