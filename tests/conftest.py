"""Fixtures and rules that every test shares: the data folder, the browser, time limits, missing devices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SLOW_TIMEOUT = 1200
"""Seconds that a slow test may take unless it says otherwise."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch  # late: most runs of a part of the tests need no torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, torch sees none")


@pytest.fixture(scope="session")
def root(pytestconfig: pytest.Config) -> Path:
    """The project's root: the folder of pyproject.toml."""
    return pytestconfig.rootpath


@pytest.fixture(scope="session")
def data(root: Path) -> Path:
    """The folder of real data beside the checkout (for tests marked `real`), or a skip."""
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data is absent: expected in ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that can run headless (for tests marked `browser`), or a skip."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser on the path: expected one of {', '.join(BROWSERS)}")
