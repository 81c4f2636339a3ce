"""What `landmeta train` reaches in minutes of CPU: `python benchmarks/training_curve.py`.

Runs examples/train-narrow.toml, then judges on tasks of regions held out: the network before and after
adaptation, the first weights adapted in the same way, both again at the inner steps and rate that suit each
best on the validation regions, and, as a rival without any training, the nearest class mean of band
means and deviations. Writes benchmarks/results/training.json and docs/images/training-curve.png.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from recording import made

from landmeta.checkpoints import load_learned, load_network
from landmeta.metatraining import Training
from landmeta.task_scores import TaskOutcome, mean_recall, score_tasks
from landmeta.tasks import Task
from landmeta.train_config import TrainConfig, read_config
from landmeta.training_method import TrainingMethod
from landmeta_catalog.training_tasks import TrainingData, first_tasks
from landmeta_cli.console import plain
from landmeta_cli.train_workflow import network_settings, new_training, train_run

EXAMPLE = Path("examples/train-narrow.toml")
TRIED = [(steps, rate) for steps in (1, 5, 10, 20) for rate in (0.05, 0.1, 0.2, 0.4)]
"""Inner steps and rates of which each network may choose."""


def scores(
    config: TrainConfig, data: TrainingData, training: Training, part: str, count: int
) -> list[TaskOutcome]:
    """Outcomes of the first tasks of a part."""
    method = TrainingMethod.of(config, training.network)
    tasks = first_tasks(data.tiles, data.sampler(part, config), config, count)
    return [method.outcome(training, task) for task in tasks]


def at_its_best(
    config: TrainConfig, data: TrainingData, training: Training, tasks: int, tests: int
) -> dict[str, object]:
    """Scores on held-out tasks with the inner steps and rate that win on validation tasks."""
    found = []
    for steps, rate in TRIED:
        trial = replace(config, validation=replace(config.validation, inner_steps=steps, inner_rate=rate))
        if training.step == 0:  # rates that training has not learned yet are those that are tried
            first = TrainingMethod.of(replace(trial, inner=replace(trial.inner, rate=rate)), training.network)
            training = replace(training, learned=first.initial_learned(training.network))
        told = score_tasks(scores(trial, data, training, "val", tasks))
        found.append((told.balanced_accuracy, steps, rate, trial, training))
    _, steps, rate, trial, training = max(found, key=lambda entry: entry[0])
    return {
        "steps": steps,
        "rate": rate,
        **asdict(score_tasks(scores(trial, data, training, "holdout", tests))),
    }


def nearest_mean(config: TrainConfig, data: TrainingData, count: int) -> float:
    """One-vs-all balanced accuracy of the nearest class mean of band means and deviations."""
    source, found = data.sampler("holdout", config), []
    for task in (source.task(i) for i in range(count)):
        support, query = (_statistics(data, rows) for rows in (task.support, task.query))
        scale = np.concatenate([support, query]).std(0) + 1e-6
        means = np.stack([support[task.support_codes == code].mean(0) for code in task.classes])
        distance = (((query[:, None] - means) / scale) ** 2).sum(2)
        nearest = np.array(task.classes)[distance.argmin(1)]
        found.append(mean_recall(task.query_targets, _is_target(task, nearest)))
    return float(np.mean(found))


def _statistics(data: TrainingData, rows: np.ndarray) -> np.ndarray:
    images = data.tiles.read(rows)
    return np.concatenate([images.mean((2, 3)), images.std((2, 3))], axis=1)


def _is_target(task: Task, codes: np.ndarray) -> np.ndarray:
    return (codes == task.target).astype(np.int64)


def draw(log: list[dict], result: dict, path: Path) -> None:
    """The curve: balanced accuracy of validations against outer steps, and the held-out figures."""
    width, height, left, top, bottom = 720, 420, 60, 40, 70
    points = [(e["step"], e["validation"]) for e in log if "validation" in e]
    last = max(step for step, _ in points)
    low, high = 0.4, max(0.8, *(v["balanced_accuracy"] for _, v in points))
    image = Image.new("RGB", (2 * width, 2 * height), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(26)

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (width - left - 190) * step / last
        return 2 * x, 2 * (top + (height - top - bottom) * (high - value) / (high - low))

    for value in np.arange(low, high + 0.01, 0.1):
        pen.line([place(0, value), place(last, value)], fill="#dddddd", width=2)
        pen.text(place(0, value), f"{value:.1f}  ", fill="#444444", font=font, anchor="rm")
    for step, _ in points:
        pen.text(place(step, low), f"\n{step}", fill="#444444", font=font, anchor="ma")
    start = points[0][1]["balanced_accuracy"]
    lines = (
        ("#1b6ca8", "trained, adapted", [v["balanced_accuracy"] for _, v in points]),
        ("#999999", "trained, not adapted", [v["unadapted"] for _, v in points]),
        ("#c0392b", "first weights, adapted", [start] * len(points)),
    )
    for colour, _, values in lines:
        pen.line([place(s, v) for (s, _), v in zip(points, values, strict=True)], fill=colour, width=5)
    taken = []
    for colour, name, values in sorted(lines, key=lambda line: -line[2][-1]):
        x, y = place(last, values[-1])
        while any(abs(y - other) < 34 for other in taken):
            y += 8
        taken.append(y)
        pen.text((x + 14, y), name, fill=colour, font=font, anchor="lm")
    held = result["test"]
    title = (
        f"Balanced accuracy, one-vs-all, 2-shot, regions not trained on; on {held['trained']['tasks']} test "
        f"tasks {held['trained']['balanced_accuracy']:.2f}"
    )
    pen.text((2 * 10, 2 * 8), title, fill="#222222", font=font)
    pen.text(
        (place(last / 2, low)[0], 2 * height - 24), "outer steps", fill="#222222", font=font, anchor="mm"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((width, height), Image.Resampling.LANCZOS).quantize(32).save(path, optimize=True)


def main() -> None:
    """Train, judge, store and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=EXAMPLE)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.json"))
    parser.add_argument("--image", type=Path, default=Path("docs/images/training-curve.png"))
    parser.add_argument(
        "--tasks", type=int, default=30, help="validation tasks of each choice of steps and rate"
    )
    chosen = parser.parse_args()
    config = read_config(chosen.config)
    told = made(f"python benchmarks/training_curve.py --config {chosen.config}", seed=config.seed)
    begun, cpu = time.perf_counter(), time.process_time()
    done = train_run(config, progress=lambda stage, part, whole: None)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    log = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    data = TrainingData.open(config.data)
    first, _ = new_training(config, network_settings(config, data), "cpu")
    best = config.out / "best.safetensors"
    trained = replace(
        first, network=load_network(best)[0], learned=load_learned(best), step=done.result["best_step"]
    )
    tests = config.validation.test_tasks
    result = {
        **told,
        "config": config.plain(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **done.result,
        "curve": [entry for entry in log if "validation" in entry],
        "at_their_best": {
            "trained": at_its_best(config, data, trained, chosen.tasks, tests),
            "initial": at_its_best(config, data, first, chosen.tasks, tests),
        },
        "nearest_class_mean": nearest_mean(config, data, tests),
    }
    chosen.out.write_text(json.dumps(plain(result), indent=2) + "\n")
    draw(log, result, chosen.image)
    print(
        json.dumps(
            plain({key: result[key] for key in ("test", "at_their_best", "nearest_class_mean")}), indent=2
        )
    )


if __name__ == "__main__":
    main()
