"""Small networks and tasks in float64, labels included, and one thread: engines are compared to 1e-9."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from landmeta.learning.learner import Batch, TaskTensors
from landmeta.networks import Conv4, ResNet12

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Maps are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_network() -> Callable[..., ResNet12]:
    def make(norm: str = "in", *, outputs: int = 1, seed: int = 0, **options: object) -> ResNet12:
        generator = torch.Generator().manual_seed(seed)
        network = ResNet12(3, (3, 4, 4, 6), outputs, norm=norm, norm_options=options, generator=generator)
        return network.double()

    return make


@pytest.fixture
def make_conv4() -> Callable[..., Conv4]:
    def make(norm: str = "in", *, outputs: int = 1, seed: int = 0) -> Conv4:
        generator = torch.Generator().manual_seed(seed)
        return Conv4(3, (4, 4, 4, 4), outputs, norm=norm, generator=generator).double()

    return make


def draw_batch(generator: torch.Generator, images: int, side: int) -> Batch:
    values = torch.rand(images, 3, side, side, generator=generator, dtype=DOUBLE)
    return Batch(values, (torch.arange(images) % 3 == 0).to(DOUBLE))


@pytest.fixture
def make_tasks() -> Callable[..., list[TaskTensors]]:
    def make(count: int = 3, *, images: int = 4, side: int = 16, seed: int = 0) -> list[TaskTensors]:
        generator = torch.Generator().manual_seed(seed)
        return [
            TaskTensors(draw_batch(generator, images, side), draw_batch(generator, images, side))
            for _ in range(count)
        ]

    return make
