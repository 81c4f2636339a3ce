"""Datasets brought into a folder: downloaded and verified, simulated, or found where a person put them."""

from __future__ import annotations

import re
import shutil
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from landmeta.errors import DataError, LandmetaError, OutputError
from landmeta_catalog._resuming import Progress, ResumingDownloader
from landmeta_catalog.records import Download, Record

_WORK = ".download"
"""Folder, inside the one fetched to, of what is not complete yet."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """How much to simulate, from which seed; None takes the simulator's own number."""

    seed: int = 0
    patches: int | None = None
    regions: int | None = None


def fetch(
    record: Record,
    folder: Path,
    *,
    simulation: Simulation | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Path:
    """Bring a dataset into `folder` and return the folder that `landmeta ingest` reads.

    What is there already is not fetched again. A download goes on where an earlier one broke off, is
    compared with the published checksum, moved into place and unpacked; a killed process leaves nothing that
    could be taken for complete.

    Raises:
        DataError: the dataset has to be downloaded by hand, the server does not have it, cannot be reached
            or broke off, or the file is not the published one.
        OutputError: the folder cannot be written or the disk is full.
    """
    if record.how == "simulate":
        return _simulate(record, folder, simulation or Simulation(), progress)
    if record.how == "own":
        msg = f"{record.title} is your own data: there is nothing to fetch"
        raise DataError(msg, record.steps[0])
    if is_there(record, folder):
        return folder / record.unpacked
    if record.download is None:
        raise _by_hand(record, folder)
    return _download(record, record.download, folder, progress)


def is_there(record: Record, folder: Path) -> bool:
    """Whether the folder holds the files by which the dataset is known, and not simulated ones like them."""
    from landmeta_catalog.simulated_archives import is_simulated

    if record.how != "simulate" and is_simulated(folder / record.unpacked):
        return False
    return next(iter((folder / record.unpacked).glob(record.needs)), None) is not None


def _download(record: Record, download: Download, folder: Path, progress: Progress) -> Path:
    target = folder / record.unpacked
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _unpack(fetch_file(download, folder, progress=progress), target, progress)
    except LandmetaError:
        raise
    except OSError as error:
        msg = f"cannot write {folder}: {error.strerror or error}"
        hint = "make room or choose another folder with --out; what has arrived is kept"
        raise OutputError(msg, hint) from error
    return target


def fetch_file(
    download: Download, folder: Path, *, progress: Progress = lambda stage, done, total: None
) -> Path:
    """Download one file into `folder`, or find it there with the right checksum; returns its path.

    Raises:
        DataError: no such file, no network, the connection broke off, or another checksum.
        OSError: the folder cannot be written.
    """
    path = folder / download.name
    if path.is_file() and pooch.file_hash(path, alg=_algorithm(download)) == _digest(download):
        return path
    work = folder / _WORK
    work.mkdir(exist_ok=True)
    downloader = ResumingDownloader(work / f"{download.name}.part", download.size, progress)
    _check_space(download, downloader.arrived, folder)
    pooch.get_logger().setLevel("WARNING")  # what it would say is said by `progress`
    try:
        done = pooch.retrieve(
            download.url, download.checksum, fname=download.name, path=work, downloader=downloader
        )
        return Path(done).replace(path)
    except LandmetaError:
        raise
    except ValueError as error:
        raise _mismatch(download, error) from error
    except OSError as error:
        if error.errno is not None:  # of a file; those of the network carry no number
            raise
        raise _network_error(download, downloader.arrived, folder, error) from error
    finally:
        _tidy(work)


def _algorithm(download: Download) -> str:
    return download.checksum.partition(":")[0]


def _digest(download: Download) -> str:
    return download.checksum.partition(":")[2]


def _check_space(download: Download, arrived: int, folder: Path) -> None:
    needed, free = download.size - arrived, shutil.disk_usage(folder).free
    if needed > free:
        msg = f"{download.name} needs {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free"
        raise OutputError(msg, "make room or choose another folder with --out")


def _tidy(work: Path) -> None:
    """Remove the work folder, but for what has arrived of a download."""
    for path in list(work.iterdir()):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".part" or not path.stat().st_size:
            path.unlink()
    with suppress(OSError):
        work.rmdir()


def _mismatch(download: Download, error: ValueError) -> DataError:
    found = re.search(r"but got (\w+)", str(error))
    got = f", found {found[1]}" if found else ""
    msg = f"{download.url} does not have its published checksum {download.checksum}{got}; it was deleted"
    return DataError(msg, "fetch again; if it stays so, the file was replaced at its source")


def _network_error(download: Download, arrived: int, folder: Path, error: OSError) -> DataError:
    response = getattr(error, "response", None)
    if response is not None:
        msg = f"{download.url} answers {response.status_code} {response.reason}"
        return DataError(msg, f"find it from the landing page and put it into {folder}")
    host = urlsplit(download.url).netloc
    if arrived:
        sizes = f"{arrived / 1e6:,.1f} of {download.size / 1e6:,.1f} MB"
        msg = f"the download of {download.name} from {host} broke off after {sizes}"
        return DataError(msg, "run the same command again: it goes on from there")
    msg = f"{host} cannot be reached, so {download.name} cannot be downloaded"
    return DataError(msg, f"check the network, or download {download.url} elsewhere and put it into {folder}")


def _unpack(archive: Path, target: Path, progress: Progress) -> None:
    """Unpack a zip file whose one folder is named like `target`; `target` appears when all is in it."""
    staging = archive.parent / _WORK / "unpacked"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as source:
            members = source.infolist()
            for done, member in enumerate(members):
                if done % 100 == 0:
                    progress("unpack", done, len(members))
                source.extract(member, staging)
    except zipfile.BadZipFile as error:
        msg = f"{archive} is no zip file"
        raise DataError(msg, "delete it and fetch again") from error
    inner = staging / target.name
    if not inner.is_dir():
        msg = f"{archive} holds no folder {target.name}"
        raise DataError(msg, "unpack it yourself, and report that its layout has changed")
    inner.replace(target)
    _tidy(staging.parent)


def _by_hand(record: Record, folder: Path) -> DataError:
    size = f" ({record.size / 1e9:.0f} GB)" if record.size else ""
    msg = f"{record.title}{size} has to be downloaded by hand from {record.page} into {folder}"
    return DataError(msg, f"landmeta catalog show {record.name} has the steps")


def _simulate(record: Record, folder: Path, simulation: Simulation, progress: Progress) -> Path:
    from landmeta_catalog.simulated_archives import simulate_dfc2020, simulate_sen12ms

    numbers = {"patches": simulation.patches, "regions": simulation.regions}
    chosen: dict[str, Any] = {name: number for name, number in numbers.items() if number is not None}
    if record.archive == "sen12ms":
        return simulate_sen12ms(folder, simulation.seed, progress=progress, **chosen)
    if "regions" in chosen:
        msg = f"{record.name} always has the seven regions of DFC2020"
        raise DataError(msg, "leave out --regions")
    return simulate_dfc2020(folder, simulation.seed, progress=progress, **chosen)
