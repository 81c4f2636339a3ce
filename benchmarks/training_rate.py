"""The published network by the same command: `python benchmarks/training_rate.py --store STORE`.

Takes a few outer steps of examples/train-sen12ms.toml (8.0 million parameters, instance norm, 13 bands,
second order) through `landmeta train`, on the store given. The time of the whole run is extrapolated, and the
result says so. Without a CUDA device the precision is float32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from recording import made

from landmeta.bench.work import gflop_of
from landmeta.memory import peak_memory
from landmeta.train_config import TrainConfig, read_config
from landmeta_catalog.training_tasks import TrainingData, step_batches
from landmeta_cli.console import plain
from landmeta_cli.train_workflow import network_settings, new_training, train_run

EXAMPLE = Path("examples/train-sen12ms.toml")


def shortened(config: TrainConfig, store: Path, out: Path, steps: int) -> TrainConfig:
    """The same run with a few steps and no validation."""
    cuda = torch.cuda.is_available()
    device = config.device if cuda else replace(config.device, precision="float32")
    return replace(
        config,
        out=out,
        data=replace(config.data, store=store, workers=0),
        outer=replace(config.outer, steps=steps, schedule="constant"),
        validation=replace(config.validation, every=0, test_tasks=0, patience=0),
        device=device,
    )


def teraflop_a_task(config: TrainConfig) -> float:
    """Floating-point operations of convolutions and matrix products of one task's outer gradient, 1e12."""
    data = TrainingData.open(config.data)
    training, method = new_training(config, network_settings(config, data), "cpu")
    source = data.sampler("train", config)
    (batch,) = islice(step_batches(data.tiles, source, config, first_step=0), 1)
    return gflop_of(lambda: method.outer_gradient(training, batch[:1])) / 1e3


def main() -> None:
    """Train for a few steps and store the rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training-rate.json"))
    chosen = parser.parse_args()
    whole = read_config(EXAMPLE)
    told = made(f"python benchmarks/training_rate.py --store STORE --steps {chosen.steps}", seed=whole.seed)
    folder = Path(tempfile.mkdtemp())
    config = shortened(whole, chosen.store, folder / "run", chosen.steps)
    done = train_run(config, progress=lambda stage, part, total: None)
    losses = [json.loads(line)["loss"] for line in (config.out / "log.jsonl").read_text().splitlines()]
    shutil.rmtree(folder)
    rate, tasks = done.result["tasks_per_s"], whole.outer.steps * whole.outer.tasks
    result = {
        **told,
        "parameters": done.result["parameters"],
        "steps": chosen.steps,
        "losses": losses,
        "tasks_per_s": rate,
        "teraflop_a_task": teraflop_a_task(config),
        "peak_mb": peak_memory(),
        "extrapolated": {
            "from": f"{chosen.steps} outer steps of {whole.outer.tasks} tasks, not from a whole run",
            "outer_steps": whole.outer.steps,
            "hours": tasks / rate / 3600,
        },
        "precision": config.device.precision,
    }
    chosen.out.write_text(json.dumps(plain(result), indent=2) + "\n")
    print(json.dumps(plain(result), indent=2))


if __name__ == "__main__":
    main()
