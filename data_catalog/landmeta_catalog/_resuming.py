"""A downloader for pooch that goes on where an earlier one broke off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pooch

from landmeta.errors import DataError

Progress = Callable[[str, int, int], None]

_CHUNK = 1 << 16
_TIMEOUT_S = 60
_MEGABYTE = 1_000_000
_PARTIAL, _NO_SUCH_RANGE = 206, 416


class ResumingDownloader:
    """Keeps what has arrived in `part` and asks for the rest by an HTTP range.

    A server that sends the whole file instead is taken at its word. `part` becomes the file that pooch
    verifies once all of `size` bytes are there, so bytes with a wrong checksum are never kept.
    """

    def __init__(self, part: Path, size: int, progress: Progress) -> None:
        self.part, self.size, self.progress = part, size, progress

    def __call__(self, url: str, output_file: str, registry: object) -> None:
        """Fill `output_file` from `url`; the third argument is what pooch gives and not used.

        Raises:
            DataError: the file at `url` has another size.
            OSError: the network or the server fails, or the disk is full.
        """
        del registry
        if self.arrived > self.size:
            self.part.unlink()
        if self.arrived < self.size:
            self._receive(url)
        if self.arrived < self.size:
            msg = f"{url} ended early"
            raise ConnectionError(msg)
        if self.arrived > self.size:
            raise self._another_size(url)
        self.part.replace(output_file)

    @property
    def arrived(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str) -> None:
        begun = self.arrived
        bar = _Bar(self.progress, begun)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
        with ExitStack() as opened:
            file = opened.enter_context(self.part.open("ab"))

            def answered(response: Any, *_: object, **__: object) -> None:
                opened.callback(response.close)  # pooch leaves one that breaks off open
                if response.status_code == _NO_SUCH_RANGE:
                    raise self._another_size(url)
                here = response.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
                if response.ok and not (response.status_code == _PARTIAL and here):
                    file.truncate(0)
                    bar.begun = 0

            download = pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=_CHUNK,
                headers=headers,
                hooks={"response": answered},
                timeout=_TIMEOUT_S,
            )
            download(url, file, None)

    def _another_size(self, url: str) -> DataError:
        self.part.write_bytes(b"")
        msg = f"{url} is not of the published size, {self.size:,} bytes"
        return DataError(msg, "the file may have been replaced at its source: look at the landing page")


class _Bar:
    """pooch's progress bar as our progress, in megabytes; `begun` bytes were there before."""

    def __init__(self, progress: Progress, begun: int) -> None:
        self.progress, self.begun = progress, begun
        self.total = self.arrived = 0

    def update(self, count: int) -> None:
        """Count bytes; pooch counts whole chunks, also where the last one is shorter."""
        self.arrived += count
        if self.total:
            whole = self.begun + self.total
            done = min(self.begun + self.arrived, whole)
            self.progress("download, MB", done // _MEGABYTE, whole // _MEGABYTE)

    def reset(self) -> None:
        """Count anew."""
        self.arrived = 0

    def close(self) -> None:
        """Nothing to close: whoever gave the progress ends it."""
