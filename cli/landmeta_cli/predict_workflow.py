"""A saved regional model on other imagery: the whole of `landmeta predict`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta.checksums import sha256
from landmeta.devices import DeviceName
from landmeta.errors import CheckpointError, ClusterError, DeviceError
from landmeta.memory import peak_memory
from landmeta_cli.console import Progress
from landmeta_cli.fitting import apart, check_scale, fitting
from landmeta_cli.inputs import clip, file_of, outline_of, resolved
from landmeta_cli.mapping import Cluster, Products, Region, device_for, meets, unmeasured, write_products
from landmeta_cli.requests import PredictRequest
from landmeta_cli.run_folder import check_target, staged
from landmeta_cli.run_report import build_report, imagery_used
from landmeta_cli.runs import RunResult, Watch, silent, write_records

if TYPE_CHECKING:
    from odc.geo.geom import Geometry

    from landmeta.blocks.plan import BlockWindow
    from landmeta.ensemble import Ensemble
    from landmeta.published import PublishedEnsemble
    from landmeta.raster import Imagery
    from landmeta_maps.summary import MapSummary

MODEL = "model.safetensors"
_TRIED = 64  # blocks that are looked at for one with data, all over the map
_WORKERS_A_CPU = 16  # more take memory and time to begin, and the machine with them


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a prediction starts from, read and validated: nothing is written yet.

    `notes` are those of the model that a map keeps; `region_file` is the region's vector file, if it has one.
    """

    model: Ensemble | PublishedEnsemble
    folder: Path
    notes: dict[str, Any]
    device: DeviceName
    imagery: Imagery
    outline: Geometry | None
    region: str
    region_file: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a map would take, from one of its blocks: seconds and megabytes, without the pages.

    `looked_at` blocks were read to find one with data; without any (`found_data`) the model's own fill values
    were mapped, so the time is that of a map that has data everywhere. `warnings` are those of the imagery.
    """

    blocks: int
    pixels: int
    seconds: float
    memory_mb: float
    disk_mb: float
    looked_at: int
    found_data: bool
    warnings: tuple[str, ...]


def predict_run(request: PredictRequest, *, progress: Progress = silent) -> RunResult:
    """Map other imagery with the model of a run, and write a run folder without hold-out.

    Raises:
        LandmetaError: The leaf says what is wrong: model, imagery, region, cluster or output folder.
    """
    watch, out = Watch(progress), _out(request)
    _check_out(request)
    with watch.stage("read"):
        prepared = prepare(request)
    paths = (*prepared.imagery.paths, *prepared.region_file, prepared.folder)
    _check_out(request, prepared)
    from landmeta.checkpoints import save_ensemble
    from landmeta_maps.report import write_report
    from landmeta_maps.stac import Model

    region = Region(prepared.imagery, prepared.outline, prepared.region)
    wanted = Products(
        device=prepared.device,
        stability_blocks=request.stability_blocks,
        seed=0,
        min_area=request.min_area,
        cluster=Cluster(request.scheduler, request.workers),
    )
    with staged(out, resume=request.resume) as folder:
        save_ensemble(prepared.model, folder / "model", prepared.notes)
        summary, stable = write_products(prepared.model, region, folder, wanted, watch)
        report = _report(request, prepared, summary, stable, watch.timing_s)
        write_report(report, folder / "report.html", summary=summary, imagery=prepared.imagery)
        write_records(
            folder,
            summary,
            region=prepared.region,
            model=Model(
                "landmeta adapted model", prepared.model.bands.names, pretrained_source="landmeta run"
            ),
            inputs=paths,
            command=request.command,
            seed=0,
            settings=_settings(request, prepared),
        )
    return RunResult(out, report)


def prepare(request: PredictRequest) -> Prepared:
    """Load the model, open the imagery and see that they fit.

    Raises:
        ClusterError: Both a scheduler and workers of this machine are asked for, or far too many of these.
        DeviceError: CUDA is asked for where there is none, or for a cluster.
        CheckpointError: There is no model in the run, or it is damaged.
        ImageryError: The imagery cannot be understood, lacks a band of the model, has pixels of quite
            another size than those the model was adapted on, or a scale that was only inferred where the
            model's was not and differs.
        RegionError: The region is unknown, misses the imagery or has its own.
    """
    from landmeta.checkpoints import load_ensemble, read_header
    from landmeta.raster import open_imagery

    device, folder = _device(request), model_folder(request.run)
    model = load_ensemble(folder).to(device)
    notes, _ = read_header(folder / MODEL)
    region = resolved(request.region, request.imagery)
    whole = open_imagery(request.imagery, bands=request.bands, scale=request.scale, offset=request.offset)
    check_scale(whole, model.bands, notes, request.offset)
    imagery = clip(fitting(whole, model.bands.names, notes.get("pixel_m")), region)
    imagery = replace(imagery, warnings=(*imagery.warnings, *apart(imagery, model.fill)))
    name = region.name if region else request.imagery[0].resolve().stem
    kept: dict[str, Any] = {
        key: notes[key] for key in ("start_sha256", "effort", "seed", "pixel_m", "scale_from") if key in notes
    }
    return Prepared(model, folder, kept, device, imagery, outline_of(region), name, file_of(region))


def _out(request: PredictRequest) -> Path:
    return request.out or Path("runs") / request.imagery[0].resolve().stem


def _check_out(request: PredictRequest, prepared: Prepared | None = None) -> None:
    """See that the run can be written, and replaces nothing that it reads: neither imagery nor the model."""
    inputs: tuple[Path, ...] = ()
    if prepared is not None:
        inputs = (*prepared.imagery.paths, *prepared.region_file, prepared.folder / MODEL)
    check_target(_out(request), overwrite=request.overwrite, resume=request.resume, inputs=inputs)


def _device(request: PredictRequest) -> DeviceName:
    """Where this process computes."""
    if request.scheduler and request.workers:
        msg = (
            f"there are two clusters to map on: the one at {request.scheduler} and {request.workers} workers"
        )
        raise ClusterError(msg, "give --scheduler or --workers, not both")
    cpus = os.cpu_count() or 1
    if request.workers > _WORKERS_A_CPU * cpus:
        msg = f"{request.workers:,} workers are too many for the {cpus} CPUs of this machine"
        raise ClusterError(msg, f"--workers {cpus}, or --scheduler to map on other machines")
    if not (request.scheduler or request.workers):
        return device_for(request.device, _out(request), resume=request.resume)
    if request.device == "cuda":
        msg = "the workers of a cluster compute on their CPUs, --device asks for cuda"
        raise DeviceError(
            msg, "leave out --device, or --workers and --scheduler to map on this machine's GPU"
        )
    return "cpu"


def model_folder(run: Path) -> Path:
    """The folder of the model of a run; `run` may be that folder itself.

    Raises:
        CheckpointError: There is none.
    """
    for folder in (run / "model", run):
        if (folder / MODEL).is_file():
            return folder
    msg = f"{run} holds no adapted model: expected model/model.safetensors in it"
    raise CheckpointError(msg, "give the folder of a finished landmeta adapt")


def estimate(request: PredictRequest) -> Estimate:
    """What the map would take, from reading and mapping one of its blocks; writes nothing.

    Raises:
        LandmetaError: What would stop `predict_run` before its first block.
    """
    from landmeta.blocks.blending import bytes_held
    from landmeta.prediction import windows_of
    from landmeta_maps.polygons import BYTES

    _check_out(request)
    prepared = prepare(request)
    _check_out(request, prepared)
    model, imagery = prepared.model, prepared.imagery
    windows = windows_of(model, imagery)
    if prepared.outline is not None:
        inside = meets(prepared.outline, imagery.grid)
        windows = [w for w in windows if inside(w)] or windows
    tried = _spread(windows)
    window = next((w for w in tried if _has_data(imagery, w)), None)
    timed = tried[0] if window is None else window
    pixels = sum(w.pixels for w in windows)
    share = sum(_read_pixels(w) for w in windows) / _read_pixels(timed)
    seconds = _seconds(model, imagery, timed, filled=window is None) * share
    peak = peak_memory() or 0.0
    if model.overlap:
        peak += bytes_held(windows, len(model.legend)) / 2**20
    if request.min_area is not None:  # made when the map is finished
        peak = max(peak, BYTES * pixels / 2**20)
    # Finished blocks, overlaps included, and plain rasters hold each pixel until the COGs are written.
    held = sum(w.height * w.width for w in windows) + 2 * pixels
    disk = held * (3 + 2 * len(model.legend)) / 2**20
    looked_at = len(tried) if window is None else tried.index(window) + 1
    found = window is not None
    return Estimate(len(windows), pixels, seconds, peak, disk, looked_at, found, imagery.warnings)


def _spread(windows: Sequence[BlockWindow]) -> list[BlockWindow]:
    """Blocks to look at, evenly spread over all of them, the largest first and the middle one among them."""
    count = min(len(windows), _TRIED)
    places = [(2 * i + 1) * len(windows) // (2 * count) for i in range(count)]
    middle = len(windows) // 2
    return [windows[at] for at in sorted(places, key=lambda at: (-windows[at].pixels, abs(at - middle)))]


def _read_pixels(window: BlockWindow) -> int:
    return window.read_height * window.read_width


def _has_data(imagery: Imagery, window: BlockWindow) -> bool:
    values = imagery.read(window.row, window.col, window.height, window.width)
    return bool((values == values).all(axis=0).any())  # NaN is no data


def _seconds(
    model: Ensemble | PublishedEnsemble, imagery: Imagery, window: BlockWindow, *, filled: bool
) -> float:
    """Seconds to read and map a block once all is warm; `filled` maps the model's fill values instead."""
    from landmeta.prediction import map_window, read_window

    state, fill = model.prepare(), model.fill.cpu().numpy()[:, None, None]

    def work() -> None:
        pixels = read_window(imagery, window)
        if filled:
            pixels[:] = fill
        map_window(model, state, pixels, window)

    work()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _settings(request: PredictRequest, prepared: Prepared) -> dict[str, Any]:
    return {
        "run": str(request.run),
        "region": request.region,
        "bands": request.bands,
        "scale": request.scale,
        "offset": request.offset,
        "device": prepared.device,
        "min_area": request.min_area,
        "stability_blocks": request.stability_blocks,
    }


def _report(
    request: PredictRequest,
    prepared: Prepared,
    summary: MapSummary,
    stable: dict[str, float] | None,
    timing_s: dict[str, float],
) -> dict[str, Any]:
    report = build_report(
        region=prepared.region,
        command=request.command,
        summary=summary,
        labels=None,
        comparison=None,
        stability=stable,
        timing_s=timing_s,
        warnings=[*prepared.imagery.warnings, *unmeasured(request.stability_blocks, stable)],
        settings=_settings(request, prepared),
        imagery=imagery_used(prepared.imagery),
    )
    return report | {"model_from": _origin(prepared.folder)}


def _origin(folder: Path) -> dict[str, Any]:
    """Where the model was adapted and how good it was there, as far as its run says."""
    made = {"path": str(folder), "sha256": sha256(folder / MODEL)}
    try:
        there = json.loads((folder.parent / "report.json").read_text(encoding="utf-8"))
        first = there.get("model_from") or there  # a run that only maps has its model from another one
        return made | {"region": str(first["region"]), "holdout": _holdout(first["holdout"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return made | {"region": None, "holdout": None}


def _holdout(there: Any) -> dict[str, Any] | None:
    """The hold-out in another run's report, seen to have what this one tells of it: people edit files."""
    if there is None:
        return None
    low, high = (float(v) for v in there["ci95"])
    return {**there, "metric": str(there["metric"]), "value": float(there["value"]), "ci95": [low, high]}
