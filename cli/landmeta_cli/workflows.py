"""What joins library, catalogue and maps: the whole of a verb, for the command line and for services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landmeta.errors import RegionError
from landmeta_cli.console import Progress
from landmeta_cli.inputs import Inputs, pixel_metres, read_inputs
from landmeta_cli.mapping import Products, Region, device_for, unmeasured, write_products
from landmeta_cli.requests import AdaptRequest, Effort
from landmeta_cli.run_folder import check_target, staged
from landmeta_cli.run_report import build_report, imagery_used, unheld, verdict
from landmeta_cli.runs import RunResult, Watch, silent, write_records

if TYPE_CHECKING:
    from landmeta.adaptation import Adapted
    from landmeta.assessment import Comparison
    from landmeta.labels import Labels
    from landmeta_maps.summary import MapSummary

_FOLDS = 5


def adapt_run(request: AdaptRequest, *, progress: Progress = silent) -> RunResult:
    """Adapt to a region, map it, measure it and write the run folder.

    Nothing is written before all input has been read and found good; the folder appears when all is in it.

    Raises:
        LandmetaError: The leaf says what is wrong: imagery, labels, region, checkpoint, device or output.
    """
    watch, out = Watch(progress), request.out or default_folder(request)
    request = replace(request, device=device_for(request.device, out, resume=request.resume))
    check_target(out, overwrite=request.overwrite, resume=request.resume)
    with watch.stage("read"):
        inputs = _read(request)
    check_target(out, overwrite=request.overwrite, resume=request.resume, inputs=inputs.paths)
    with watch.stage("adapt"):
        adapted = _adapt(request, inputs, progress)
    with watch.stage("hold out"):
        comparison = _hold_out(request, inputs, adapted)
    return _write(request, out, inputs, adapted, comparison, watch)


def _read(request: AdaptRequest) -> Inputs:
    from landmeta_cli.store_inputs import read_store_inputs

    if request.region:
        from landmeta_catalog.store_regions import find_store_region

        if place := find_store_region(request.region):
            return read_store_inputs(request, place)
    if request.shots is not None:
        msg = f"--shots {request.shots} draws labelled tiles of a tile store's region, and none was given"
        raise RegionError(msg, "--region STORE/REGION of ingested tiles, or leave out --shots")
    return read_inputs(request)


def default_folder(request: AdaptRequest) -> Path:
    """`runs/` and a name from the region, or from the imagery where the region is a box or everything."""
    name = request.region or ""
    if "," in name or not name:
        name = request.imagery[0].resolve().stem if request.imagery else "run"
    word = "-".join(filter(None, "".join(c if c.isalnum() else " " for c in Path(name).stem).split()))
    return Path("runs") / (word.lower() or "run")


def _adapt(request: AdaptRequest, inputs: Inputs, progress: Progress) -> Adapted:
    from landmeta.adaptation import adapt_region

    return adapt_region(
        inputs.imagery,
        inputs.labels,
        effort=request.effort.value,
        checkpoint=request.checkpoint,
        seed=request.seed,
        device=request.device,
        progress=progress,
    )


def _hold_out(request: AdaptRequest, inputs: Inputs, adapted: Adapted) -> Comparison | None:
    """The class models and the forest on the same held-out samples; None where none can be held out."""
    from landmeta.adaptation import cross_validate
    from landmeta.assessment import Comparison, holdout_score, paired_holdout
    from landmeta.rivals import forest_holdout
    from landmeta.splits import group_folds

    labels, samples = inputs.labels, adapted.samples
    codes, groups = labels.codes[samples], labels.groups[samples]
    fold = group_folds(codes, groups, _FOLDS)
    if request.effort in (Effort.standard, Effort.full, Effort.paper):
        fold = np.where(fold == 0, 0, -1)  # the whole network is adapted anew: one blocked split
    held = fold >= 0
    if not held.any():
        return None
    found = (
        cross_validate(adapted, labels, fold)[held],
        forest_holdout(inputs.imagery, labels, fold, samples=samples, seed=request.seed)[held],
    )
    truth, groups, folds = codes[held], groups[held], len(np.unique(fold[held]))
    ours, forest = (
        holdout_score(truth, p, groups, block=_block(labels), folds=folds, seed=request.seed) for p in found
    )
    return Comparison(ours, forest, *paired_holdout(truth, *found, groups, seed=request.seed))


def _block(labels: Labels) -> str:
    """What the labels hold out together, in the singular."""
    if labels.unit == "tiles":
        return "tile"
    if labels.patches:
        return "patch"
    return "point" if (labels.footprints.geom_type == "Point").all() else "polygon"


def _write(
    request: AdaptRequest,
    out: Path,
    inputs: Inputs,
    adapted: Adapted,
    comparison: Comparison | None,
    watch: Watch,
) -> RunResult:
    from landmeta.checkpoints import save_ensemble
    from landmeta_maps.report import write_report
    from landmeta_maps.stac import Model

    model = adapted.ensemble
    region = Region(inputs.mapped, inputs.outline, inputs.region, inputs.labels)
    wanted = Products(
        device=request.device,
        stability_blocks=request.stability_blocks,
        seed=request.seed,
        min_area=request.min_area,
    )
    with staged(out, resume=request.resume) as folder:
        save_ensemble(model, folder / "model", _model_notes(request, inputs))
        summary, stable = write_products(model, region, folder, wanted, watch)
        report = _report(request, inputs, adapted, summary, (comparison, stable), watch.timing_s)
        if inputs.scene is not None:
            from landmeta_cli.store_inputs import score_tiles

            report["unlabelled_tiles"] = score_tiles(inputs.scene, folder)
        write_report(report, folder / "report.html", summary=summary, imagery=inputs.mapped)
        write_records(
            folder,
            summary,
            region=inputs.region,
            model=Model(
                name="landmeta adapted model",
                bands=model.bands.names,
                pretrained_source=request.checkpoint.name if request.checkpoint else "landmeta starter",
            ),
            inputs=inputs.paths,
            command=request.command,
            seed=request.seed,
            settings=settings(request, inputs),
        )
    return RunResult(out, report)


def _model_notes(request: AdaptRequest, inputs: Inputs) -> dict[str, Any]:
    """What the saved model says of how it was made."""
    from landmeta.checkpoints import starter_path
    from landmeta.checksums import sha256

    return {
        "start_sha256": sha256(request.checkpoint or starter_path()),
        "effort": request.effort.value,
        "seed": request.seed,
        "pixel_m": round(pixel_metres(inputs.imagery.grid), 4),
        "scale_from": _scale_from(request, inputs),
    }


def _scale_from(request: AdaptRequest, inputs: Inputs) -> str:
    """Where scale and offset are from, as far as it tells how other imagery is to be read."""
    if inputs.stored:  # a store gives reflectance whatever its numbers: its scale of 1 tells nothing
        return "inferred"
    return inputs.imagery.scale_from if request.offset is None else "given"


def settings(request: AdaptRequest, inputs: Inputs) -> dict[str, Any]:
    """What of a request decides the result, as plain values for report and provenance."""
    drawn = inputs.scene is not None  # elsewhere the labels are what they are
    return {
        "region": request.region,
        "bands": request.bands,
        "scale": request.scale,
        "offset": request.offset,
        "label_column": request.label_column,
        "shots": request.drawn_shots if drawn else None,
        "effort": request.effort.value,
        "checkpoint": None if request.checkpoint is None else str(request.checkpoint),
        "device": request.device,
        "seed": request.seed,
        "min_area": request.min_area,
        "stability_blocks": request.stability_blocks,
    }


def _report(
    request: AdaptRequest,
    inputs: Inputs,
    adapted: Adapted,
    summary: MapSummary,
    measured: tuple[Comparison | None, Mapping[str, float] | None],
    timing_s: Mapping[str, float],
) -> dict[str, Any]:
    comparison, stable = measured
    findings = [*inputs.imagery.warnings, *inputs.labels.warnings, *adapted.warnings]
    findings += unmeasured(request.stability_blocks, stable)
    if comparison is None:
        findings.append("no accuracy: no class has two polygons, patches or tiles, one to hold out")
    else:
        findings += unheld(summary.legend, comparison.ours)
        findings += filter(None, [verdict(comparison)])
    return build_report(
        region=inputs.region,
        command=request.command,
        summary=summary,
        labels=inputs.labels,
        comparison=comparison,
        stability=stable,
        timing_s=timing_s,
        warnings=findings,
        settings=settings(request, inputs),
        imagery=imagery_used(inputs.imagery, stored=inputs.stored),
    )
