"""The training of one benchmark cell: a warm start, the choice of its inner rate, and meta-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta.errors import BenchError, CheckpointError, ConfigError

if TYPE_CHECKING:
    from landmeta.bench.cells import Cell
    from landmeta.bench.learners import MetaLearned
    from landmeta.bench.presets import Preset
    from landmeta.train_config import TrainConfig
    from landmeta_cli.bench_data import BenchData
    from landmeta_cli.console import Progress
    from landmeta_cli.train_workflow import TrainResult


def train_cell(
    cell: Cell, size: Preset, data: BenchData, out: Path, progress: Progress
) -> tuple[MetaLearned, dict[str, Any]]:
    """Meta-train the network of a cell as `landmeta train` does; goes on where a stopped call was.

    Returns:
        The last network with its inner loop, and what a result says of the training.

    Raises:
        BenchError: The log of a training that was done before is gone.
        CheckpointError: A training that was begun before is damaged.
        ConfigError: It has other settings.
        Interrupted: The run was asked to stop; its state is saved.
        TrainingError: A loss that is no number.
    """
    from landmeta.bench.curves import convergence, training_curve
    from landmeta_cli.train_folder import LOG

    start = _warm_start(cell, size, data, out, progress) if size.warm_up else None
    config = data.train_config(cell, size, out, start=start)
    losses = _losses_by_rate(config, size, data)
    rate = min(losses, key=lambda rate: losses[rate])
    config = replace(config, inner=replace(config.inner, rate=rate))
    done = _train(config, progress)
    curve = training_curve(done.folder / LOG)
    converged, why = convergence(curve)
    return _learner(done.folder, config), {
        "steps": done.result["steps"],
        "parameters": done.result["parameters"],
        "inner_rate": rate,
        "loss_by_inner_rate": {f"{rate:g}": loss for rate, loss in losses.items()},
        "curve": curve,
        "converged": converged,
        "why": why,
    }


def _train(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train as `landmeta train` does, with hints that fit the benchmark, which has no `--restart`."""
    from landmeta_cli.train_folder import LOG
    from landmeta_cli.train_workflow import train_run

    anew = f"remove {config.out}: the same command trains the cell anew"
    try:
        done = train_run(config, progress=progress)
    except (ConfigError, CheckpointError) as error:
        error.hint = f"{anew}; or choose another --out"
        raise
    if not (done.folder / LOG).is_file():
        msg = f"{done.folder / LOG} is gone, which holds the curve of a training that is done"
        raise BenchError(msg, anew)
    return done


def _warm_start(cell: Cell, size: Preset, data: BenchData, out: Path, progress: Progress) -> Path:
    """A network of the cell's norm, trained jointly; cells of one norm and seed share it."""
    from landmeta.bench.joint import class_model_of, classifier_of, train_jointly
    from landmeta.checkpoints import save_network
    from landmeta.devices import choose_device

    path = out / "warm" / f"{cell.norm}-{cell.dataset}-{cell.seed}.safetensors"
    tiles, table = data.tasks.tiles, data.tasks.parts["train"]
    network = classifier_of(table, len(tiles.bands), size.widths, norm=cell.norm, seed=cell.seed)
    settings = {
        "name": "resnet12",
        "bands": list(tiles.bands),
        "widths": list(network.widths),
        "norm": cell.norm,
    }
    training = {"joint_steps": size.warm_up, "seed": cell.seed, "tiles": data.checksum}
    if _is_stored(path, settings, training):
        return path
    network.to(choose_device("auto"))
    told = partial(progress, f"warm start of {cell.name}")
    losses = train_jointly(tiles, table, network, size.warm_up, cell.seed, told)
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {"training": {**training, "last_loss": losses[-1]}}
    save_network(class_model_of(network.cpu()), path, settings, notes)
    return path


def _is_stored(path: Path, settings: Mapping[str, Any], training: Mapping[str, Any]) -> bool:
    """Whether the file holds a warm start of these settings; one of others, or damaged, is trained anew."""
    from landmeta.checkpoints import load_network
    from landmeta.errors import CheckpointError

    if not path.is_file():
        return False
    try:
        header = load_network(path)[1]
    except CheckpointError:
        return False
    same: bool = header["network"] == settings
    return same and training.items() <= header["training"].items()


def _losses_by_rate(config: TrainConfig, size: Preset, data: BenchData) -> dict[float, float]:
    """Mean query loss at the start, after the inner steps of training at each rate of the preset."""
    import torch

    from landmeta.bench.presets import CHOICE
    from landmeta.task_scores import score_tasks
    from landmeta.training_method import set_up_device
    from landmeta_catalog.training_tasks import first_tasks
    from landmeta_cli.train_workflow import network_settings, new_training

    rates = size.inner_rates
    if len(rates) == 1:
        return {rates[0]: float("nan")}
    device = set_up_device(config.device)
    source = data.tasks.sampler("train", config)
    tasks = list(first_tasks(data.tasks.tiles, source, config, CHOICE, device=device))
    losses = {}
    for rate in rates:
        tried = replace(config, inner=replace(config.inner, rate=rate))
        training, method = new_training(tried, network_settings(tried, data.tasks), device)
        with torch.no_grad():
            losses[rate] = score_tasks([method.outcome(training, task) for task in tasks]).loss
    return losses


def _learner(folder: Path, config: TrainConfig) -> MetaLearned:
    """The last network of a training run, with its inner loop."""
    from landmeta.bench.learners import MetaLearned
    from landmeta.checkpoints import load_learned, load_network
    from landmeta.learning.algorithms import inner_settings
    from landmeta.training_method import set_up_device
    from landmeta_cli.train_folder import LAST

    device = set_up_device(config.device)
    network = load_network(folder / LAST)[0].to(device)
    inner = inner_settings(
        config.inner.algorithm, network, rate=config.inner.rate, affine=config.inner.adapt_affine
    )
    return MetaLearned(network, inner, load_learned(folder / LAST, device))
