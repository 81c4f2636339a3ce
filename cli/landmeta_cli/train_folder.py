"""The folder of a training run: checkpoints, the state to go on from, log, and what the terminal shows."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmeta_cli.console import plain, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from tensorboardX import SummaryWriter

    from landmeta.metatraining import Step, Training
    from landmeta.task_scores import TaskScores

BEST, LAST, STATE, LOG, RESULT = (
    "best.safetensors",
    "last.safetensors",
    "state.safetensors",
    "log.jsonl",
    "result.json",
)
_SMOOTHED = 20
"""Steps whose mean loss is shown and goes to TensorBoard."""


@dataclass(slots=True)
class RunFolder:
    """Is told of every step and validation (`landmeta.metatraining.Watch`); the first process writes them.

    Args:
        path: The folder.
        notes: What checkpoints say besides network and counters: data, scaling, settings, ...
        network: Settings of the network.
        sampling: What the sampler says of its tasks (`TaskSampler.state`).
        tasks: Tasks a step.
        steps: Steps of the run.
        inputs: Checksums of what the run begins with, by which a later call knows it again.
        first: Whether this process writes and talks.
    """

    path: Path
    notes: Mapping[str, Any]
    network: Mapping[str, Any]
    sampling: Mapping[str, Any]
    tasks: int
    steps: int
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    first: bool = True
    stop_asked: bool = False
    scores: dict[str, Any] | None = None
    """Of the latest validation."""
    _losses: list[float] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _board: SummaryWriter | None = None
    _bars: Bars | None = None
    _bar: TaskID | None = None
    _began: float = 0.0
    _taken: int = 0

    @contextmanager
    def open(self, training: Training) -> Iterator[None]:
        """Log and show what happens in the block."""
        self._began = time.perf_counter()
        if not self.first:
            yield
            return
        from tensorboardX import SummaryWriter

        self.path.mkdir(parents=True, exist_ok=True)
        self._forget_after(training)
        self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=training.step + 1)
        with self._shown(training):
            try:
                yield
            finally:
                self._write_log()
                self._board.close()

    # --- what the loop tells ---------------------------------------------------------------------------

    def stepped(self, training: Training, step: Step) -> None:
        """Log an outer step; the terminal and TensorBoard get means over some steps."""
        self._taken += 1
        self._losses = [*self._losses[1 - _SMOOTHED :], step.loss]
        if not self.first:
            return
        self._log({"step": training.step, **asdict(step)})
        self._show(training)
        if training.step % _SMOOTHED == 0 and self._board is not None:
            figures = {"loss": self.loss, "gradient_norm": step.gradient_norm, "rate": step.rate}
            for name, value in {**figures, "tasks_per_s": self.tasks_per_s}.items():
                self._board.add_scalar(f"train/{name}", value, training.step)

    def validated(self, training: Training, scores: TaskScores, improved: bool) -> None:
        """Log a validation, and keep the network if it is the best so far."""
        self.scores = asdict(scores)
        if not self.first:
            return
        self._log({"step": training.step, "validation": self.scores, "best": improved})
        for name, value in self.scores.items():
            if self._board is not None and not math.isnan(value):
                self._board.add_scalar(f"validation/{name}", value, training.step)
        if improved:
            self._save_network(training, BEST)
        self._tell(training, scores, improved)

    def save(self, training: Training) -> None:
        """Write the latest checkpoint, and last the state to go on from."""
        if not self.first:
            return
        from landmeta.run_state import save_training

        self._write_log()
        self._save_network(training, LAST)
        config = self.notes["training"]["config"]
        notes = {"config": config, "tasks": self.sampling, "inputs": self.inputs, "scores": self.scores}
        save_training(training, self.path / STATE, plain(notes))

    def stop(self) -> bool:
        """Whether a signal asked this process to end the run."""
        return self.stop_asked

    # --- figures ---------------------------------------------------------------------------------------

    @property
    def loss(self) -> float:
        """Mean query loss of the latest steps."""
        return sum(self._losses) / len(self._losses) if self._losses else math.nan

    @property
    def tasks_per_s(self) -> float:
        """Tasks a second since this process began, validations included."""
        return self._taken * self.tasks / max(time.perf_counter() - self._began, 1e-9)

    # --- files -----------------------------------------------------------------------------------------

    def _save_network(self, training: Training, name: str) -> None:
        from landmeta.checkpoints import save_network

        told = {**self.notes["training"], "step": training.step, "validation": plain(self.scores)}
        notes = {**self.notes, "training": told}
        save_network(training.network, self.path / name, self.network, notes, training.learned)

    def _log(self, entry: Mapping[str, Any]) -> None:
        self._lines.append(json.dumps(plain(entry)))
        if len(self._lines) >= _SMOOTHED:
            self._write_log()

    def _write_log(self) -> None:
        if self._lines:
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.write("\n".join(self._lines) + "\n")
        self._lines = []

    def _forget_after(self, training: Training) -> None:
        """Drop from the log what happened after the saved state: it happens again."""
        log = self.path / LOG
        if not log.is_file():
            return
        kept = []
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the last line of a killed process
                continue
            limit = training.validated if "validation" in entry else training.step
            if entry["step"] <= limit:
                kept.append(line)
        part = log.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        part.replace(log)

    # --- terminal --------------------------------------------------------------------------------------

    @contextmanager
    def _shown(self, training: Training) -> Iterator[None]:
        """A bar on a terminal, nothing but a line a validation elsewhere."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        told = TextColumn("{task.fields[told]}")
        columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), told)
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            self._bars, self._bar = (
                bars,
                bars.add_task("train", total=self.steps, completed=training.step, told=""),
            )
            yield
        self._bars = None

    def _show(self, training: Training) -> None:
        if self._bars is None or self._bar is None:
            return
        told = f"loss {self.loss:.3f}  {self.tasks_per_s:.1f} tasks/s"
        if self.scores is not None:
            told += f"  validation {self.scores['loss']:.3f}, {self.scores['balanced_accuracy']:.3f}"
        self._bars.update(self._bar, completed=training.step, told=told)

    def _tell(self, training: Training, scores: TaskScores, improved: bool) -> None:
        rate = f", {self.tasks_per_s:.2f} tasks/s" if self._taken else ""
        adapted = f"balanced accuracy {scores.balanced_accuracy:.3f} (not adapted {scores.unadapted:.3f})"
        losses = f"loss {self.loss:.3f}, " if self._losses else ""
        losses += f"validation {scores.loss:.3f}"
        line = f"step {training.step:,} of {self.steps:,}: {losses}, {adapted}{rate}"
        line += ", best so far" if improved else ""
        if self._bars is None:
            say("note", line)
        else:
            self._bars.console.print(f"note: {line}", highlight=False)
