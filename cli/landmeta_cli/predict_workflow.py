"""A saved regional model on other imagery: the whole of `landmeta predict`."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta.devices import DeviceName
from landmeta.errors import CheckpointError, DeviceError, ImageryError
from landmeta_cli.console import Progress
from landmeta_cli.inputs import clip, outline_of, pixel_metres, resolved
from landmeta_cli.mapping import Cluster, device_for, meets, write_products, write_stability
from landmeta_cli.provenance import sha256
from landmeta_cli.requests import PredictRequest
from landmeta_cli.run_folder import check_target, staged
from landmeta_cli.run_report import build_report
from landmeta_cli.runs import RunResult, Watch, silent, write_records

if TYPE_CHECKING:
    from odc.geo.geom import Geometry

    from landmeta.ensemble import Ensemble
    from landmeta.prediction import BlockWindow, MappingModel
    from landmeta.published import PublishedEnsemble
    from landmeta.raster import Imagery
    from landmeta_maps.summary import MapSummary

_TRIED = 16  # blocks that are looked at for one with data
_PIXEL_RATIO = 1.5
"""Pixels that differ more in size than this show objects at another scale than the model knows."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a prediction starts from, read and validated: nothing is written yet."""

    model: Ensemble | PublishedEnsemble
    folder: Path
    notes: dict[str, Any]
    device: DeviceName
    imagery: Imagery
    outline: Geometry | None
    region: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a map would take, from one of its blocks: seconds and megabytes, without the pages."""

    blocks: int
    pixels: int
    seconds: float
    memory_mb: float
    disk_mb: float


def predict_run(request: PredictRequest, *, progress: Progress = silent) -> RunResult:
    """Map other imagery with the model of a run, and write a run folder without hold-out.

    Raises:
        LandmetaError: The leaf says what is wrong: model, imagery, region, cluster or output folder.
    """
    watch, out = Watch(progress), _out(request)
    check_target(out, overwrite=request.overwrite, resume=request.resume)
    with watch.stage("read"):
        prepared = prepare(request)
    paths = (*prepared.imagery.paths, prepared.folder)
    check_target(out, overwrite=request.overwrite, resume=request.resume, inputs=prepared.imagery.paths)
    cluster = Cluster(request.scheduler, request.workers)
    from landmeta.checkpoints import save_ensemble
    from landmeta_maps.polygons import write_polygons
    from landmeta_maps.report import write_report
    from landmeta_maps.stac import Model
    from landmeta_maps.webmap import write_web_map

    with staged(out, resume=request.resume) as folder:
        save_ensemble(prepared.model, folder / "model", prepared.notes)
        with watch.stage("map"):
            summary = write_products(
                prepared.model,
                prepared.imagery,
                prepared.outline,
                folder,
                device=prepared.device,
                progress=progress,
                cluster=cluster,
            )
        with watch.stage("stability"):
            stable = write_stability(
                prepared.model, prepared.imagery, folder, blocks=request.stability_blocks, seed=0
            )
        if request.min_area is not None:
            with watch.stage("polygons"):
                write_polygons(folder, summary, request.min_area)
        with watch.stage("write"):
            write_web_map(summary, prepared.imagery, None, folder / "map.html", title=prepared.region)
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
        DeviceError: CUDA is asked for where there is none, or for a cluster.
        CheckpointError: There is no model in the run, or it is damaged.
        ImageryError: The imagery cannot be understood, lacks a band of the model, or has pixels of quite
            another size than those the model was adapted on.
        RegionError: The region is unknown or misses the imagery.
    """
    from landmeta.checkpoints import load_ensemble
    from landmeta.raster import open_imagery

    device, folder = _device(request), model_folder(request.run)
    model = load_ensemble(folder).to(device)
    notes = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    region = resolved(request.region)
    whole = open_imagery(request.imagery, bands=request.bands, scale=request.scale, offset=request.offset)
    imagery = _fitting(whole, model.bands.names, notes.get("pixel_m"))
    name = region.name if region else request.imagery[0].stem
    kept = {key: notes[key] for key in ("start_sha256", "effort", "seed", "pixel_m") if key in notes}
    return Prepared(model, folder, kept, device, clip(imagery, region), outline_of(region), name)


def _out(request: PredictRequest) -> Path:
    return request.out or Path("runs") / request.imagery[0].resolve().stem


def _device(request: PredictRequest) -> DeviceName:
    """Where this process computes."""
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
        if (folder / "model.safetensors").is_file():
            return folder
    msg = f"{run} holds no adapted model: expected model/model.safetensors in it"
    raise CheckpointError(msg, "give the folder of a finished landmeta adapt")


def _fitting(imagery: Imagery, bands: tuple[str, ...], pixel_m: float | None) -> Imagery:
    """The imagery with the model's bands in the model's order."""
    if lacking := [name for name in bands if name not in imagery.bands.names]:
        msg = (
            f"the imagery has the bands {', '.join(imagery.bands.names)}; "
            f"the model needs {', '.join(lacking)} as well"
        )
        raise ImageryError(msg, f"give imagery with {', '.join(bands)}, or adapt a model to these bands")
    found = pixel_metres(imagery.grid)
    if pixel_m and not 1 / _PIXEL_RATIO < found / pixel_m < _PIXEL_RATIO:
        msg = f"the imagery has pixels of {found:.3g} m; the model was adapted to pixels of {pixel_m:.3g} m"
        raise ImageryError(msg, "resample the imagery, or adapt a model to this resolution")
    return imagery.pick(bands)


def estimate(request: PredictRequest) -> Estimate:
    """What the map would take, from reading and mapping one of its blocks; writes nothing."""
    from landmeta.prediction import plan_blocks

    prepared = prepare(request)
    model, imagery = prepared.model, prepared.imagery
    windows = plan_blocks(imagery, align=model.align * model.stride, context=model.context)
    if prepared.outline is not None:
        inside = meets(prepared.outline, imagery.grid)
        windows = [w for w in windows if inside(w)] or windows
    window, seconds = _timed(model, imagery, windows)
    pixels = sum(w.height * w.width for w in windows)
    share = window.height * window.width / pixels
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    # Finished blocks and plain rasters hold each pixel once more until the COGs are written.
    disk = 3 * pixels * (3 + 2 * len(model.legend)) / 2**20
    return Estimate(len(windows), pixels, seconds / share, peak, disk)


def _timed(
    model: MappingModel, imagery: Imagery, windows: Sequence[BlockWindow]
) -> tuple[BlockWindow, float]:
    """A block with data, from the middle on, and the seconds to read and map it once all is warm."""
    from landmeta.prediction import map_window, read_window

    state, middle = model.prepare(), len(windows) // 2
    for window in [*windows[middle:], *windows[:middle]][:_TRIED]:
        if map_window(model, state, read_window(imagery, window), window) is not None:
            break
    begun = time.perf_counter()
    map_window(model, state, read_window(imagery, window), window)
    return window, time.perf_counter() - begun


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
        warnings=prepared.imagery.warnings,
        settings=_settings(request, prepared),
    )
    return report | {"model_from": _origin(prepared.folder)}


def _origin(folder: Path) -> dict[str, Any]:
    """Where the model was adapted and how good it was there, as far as its run says."""
    made = {"path": str(folder), "sha256": sha256(folder / "model.safetensors")}
    try:
        there = json.loads((folder.parent / "report.json").read_text(encoding="utf-8"))
        return made | {"region": there["region"], "holdout": there["holdout"]}
    except (OSError, ValueError, KeyError):
        return made | {"region": None, "holdout": None}
