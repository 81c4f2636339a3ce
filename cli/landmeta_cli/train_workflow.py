"""`landmeta train` as a function: settings to a folder of checkpoints, on one process or many."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from landmeta.errors import ConfigError, Interrupted, LandmetaError, OutputError
from landmeta_cli.console import Progress, plain
from landmeta_cli.run_lock import OWNER, lock_folder
from landmeta_cli.train_folder import BEST, LAST, RESULT, STATE, RunFolder

if TYPE_CHECKING:
    from landmeta.metatraining import Training
    from landmeta.networks import Network
    from landmeta.processes import Processes
    from landmeta.task_scores import TaskScores
    from landmeta.train_config import TrainConfig
    from landmeta.training_method import TrainingMethod
    from landmeta_catalog.training_tasks import TrainingData

FREE = frozenset({"out", "save_every", "data.workers", "data.store", "data.simulate", "device.threads"})
"""Settings that may be others when a run goes on: they change no figure."""

_AS_BEFORE = "take those back, choose another out, or --restart to start anew"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A run that ended: its folder and what `result.json` holds."""

    folder: Path
    result: dict[str, Any]


def train_run(config: TrainConfig, *, restart: bool = False, progress: Progress) -> TrainResult:
    """Train as the settings say, from the saved state in `config.out` if there is one.

    Args:
        config: Settings.
        restart: Start anew although there is a saved state.
        progress: Called while a store is made.

    Raises:
        ConfigError: The saved state is of other settings.
        Interrupted: The run was asked to stop; its state is saved.
        OutputError: Another run writes to `config.out`, or it cannot be made.
        LandmetaError: Data, network or training that cannot be; the state is saved if it is sound.
    """
    from landmeta.processes import joined_processes
    from landmeta.training_method import set_up_device

    device = set_up_device(config.device)
    with ExitStack() as held, joined_processes(device) as processes:
        if processes.first:
            held.enter_context(_alone(config.out))
            _prepare(config, restart=restart, progress=progress)
        processes.gather(None)
        return _Run.of(config, processes, device).train()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder that one writes to; made here, it goes again without a run in it.

    Raises:
        OutputError: Another run has it, or it cannot be made.
    """
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(out)
    except OSError as error:
        msg = f"cannot write to {out}: {error.strerror or error}"
        raise OutputError(msg, "choose another out in the settings") from error
    try:
        yield
    finally:
        (out / OWNER).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it holds a run
            if made:
                out.rmdir()


def _prepare(config: TrainConfig, *, restart: bool, progress: Progress) -> None:
    """What the first process does before the others begin: the store, and a folder that fits."""
    from landmeta.run_state import read_notes
    from landmeta_catalog.training_tasks import ensure_store

    state = config.out / STATE
    if restart and state.is_file():
        for path in (*config.out.glob("*.safetensors"), *config.out.glob("*.json*")):
            path.unlink()
        shutil.rmtree(config.out / "tensorboard", ignore_errors=True)
    if state.is_file():
        refuse_other_settings(config, read_notes(state))
    ensure_store(config.data, progress)


def refuse_other_settings(config: TrainConfig, notes: Mapping[str, Any]) -> None:
    """Raise ConfigError, with all differences, where the saved state was made with other settings.

    A start that lies elsewhere now is the same if it holds the same.
    """
    now, then = dict(_flat(config.plain())), dict(_flat(notes["config"]))
    free = FREE | ({"outer.steps"} if config.outer.schedule in ("constant", "plateau") else set())
    began, start = notes.get("inputs", {}).get("start"), _start_checksum(config)  # older states do not say
    if began is not None and start == began:
        free |= {"network.start"}
    changed = [
        f"{key} is {json.dumps(now.get(key))}, it was {json.dumps(then.get(key))} when the run began"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key) and not any(key == f or key.startswith(f"{f}.") for f in free)
    ]
    if None not in (began, start) and start != began:
        changed.append(f"{config.network.start} holds other weights than when the run began")
    if changed:
        raise ConfigError(config.out, changed, _AS_BEFORE)


def _refuse_other_tiles(config: TrainConfig, notes: Mapping[str, Any], tiles: str | None) -> None:
    """Raise ConfigError where the saved state was made with other tiles; older states do not say."""
    if notes.get("inputs", {}).get("tiles", tiles) != tiles:
        fault = f"{config.data.store} holds other tiles of {config.data.dataset} than when the run began"
        raise ConfigError(config.out, [fault], _AS_BEFORE)


def _start_checksum(config: TrainConfig) -> str | None:
    """Of the file of the network to start from; None without one."""
    from landmeta.checksums import sha256

    start = config.network.start
    return sha256(start) if start is not None and start.is_file() else None


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(slots=True)
class _Run:
    """What a run consists of, in one process."""

    config: TrainConfig
    processes: Processes
    device: str
    data: TrainingData
    settings: dict[str, Any]
    training: Training
    method: TrainingMethod
    folder: RunFolder

    @classmethod
    def of(cls, config: TrainConfig, processes: Processes, device: str) -> _Run:
        from landmeta.run_state import load_training, read_notes
        from landmeta_catalog.training_tasks import TrainingData

        if config.outer.tasks < processes.world:
            fault = (
                f"outer.tasks is {config.outer.tasks}, expected one for each of {processes.world} processes"
            )
            raise ConfigError(config.out, [fault])
        data = TrainingData.open(config.data)
        settings = network_settings(config, data)
        training, method = new_training(config, settings, device)
        sampling = data.sampler("train", config).state(0)
        inputs = {
            "start": _start_checksum(config),
            "tiles": data.tiles.store.digest(config.data.dataset),
        }
        if config.validation.test_tasks:
            data.sampler("holdout", config)  # what cannot be drawn is told now, not after the last step
        folder = RunFolder(
            config.out,
            _notes(config, data),
            settings,
            sampling,
            config.outer.tasks,
            config.outer.steps,
            inputs,
            first=processes.first,
        )
        if (config.out / STATE).is_file():
            notes = read_notes(config.out / STATE)
            _refuse_other_tiles(config, notes, inputs["tiles"])
            data.sampler("train", config).restore(notes["tasks"])
            load_training(training, config.out / STATE)
            folder.scores = notes["scores"]
        return cls(config, processes, device, data, settings, training, method, folder)

    def train(self) -> TrainResult:
        """Run the loop, then judge the best network on the test part."""
        from landmeta.metatraining import meta_train
        from landmeta_catalog.training_tasks import step_batches

        begun_at = self.training.step
        batches = step_batches(
            self.data.tiles,
            self.data.sampler("train", self.config),
            self.config,
            first_step=begun_at,
            processes=self.processes,
            device=self.device,
        )
        with self.folder.open(self.training), asked_to_stop(self.folder):
            try:
                end = meta_train(
                    self.training,
                    batches,
                    self.method,
                    self.config,
                    self.folder,
                    validate=lambda: self.scores("val", self.config.validation.tasks, self.training),
                    processes=self.processes,
                )
            except LandmetaError:
                self._save_if_sound()
                raise
            self.folder.save(self.training)
        if end == "interrupted":
            where = f"step {self.training.step:,} of {self.config.outer.steps:,}"
            msg = f"stopped after {where}; the state is saved in {self.config.out}"
            raise Interrupted(msg, "the same command goes on from there")
        return self._finish(end, begun_at)

    def scores(self, part: Any, count: int, training: Training, *, ensemble: bool = False) -> TaskScores:
        """Scores of a network on the first tasks of a part, over all processes."""
        from landmeta.task_scores import score_tasks
        from landmeta_catalog.training_tasks import first_tasks

        source = self.data.sampler(part, self.config)
        tasks = first_tasks(
            self.data.tiles, source, self.config, count, processes=self.processes, device=self.device
        )
        mine = [self.method.outcome(training, task, ensemble=ensemble) for task in tasks]
        return score_tasks([outcome for share in self.processes.gather(mine) for outcome in share])

    def _save_if_sound(self) -> None:
        """Keep the state before the step that failed; not one that holds no numbers itself."""
        import torch

        if all(bool(torch.isfinite(p).all()) for p in self.training.network.parameters()):
            self.folder.save(self.training)

    def _finish(self, end: str, begun_at: int) -> TrainResult:
        result: dict[str, Any] = {
            "end": end,
            "steps": self.training.step,
            "best_step": self.training.best_step,
            "validation": self.folder.scores,
            "tasks_per_s": self.folder.tasks_per_s if self.training.step > begun_at else None,
            "processes": self.processes.world,
            "parameters": sum(p.numel() for p in self.training.network.parameters()),
        }
        if self.config.validation.test_tasks:
            result["test"] = self._test()
        if self.processes.first:
            part = self.config.out / f"{RESULT}.part"
            part.write_text(json.dumps(plain(result), indent=2) + "\n", encoding="utf-8")
            part.replace(self.config.out / RESULT)
        return TrainResult(self.config.out, result)

    def _test(self) -> dict[str, Any]:
        """The best network and the first weights, adapted in the same way to the same tasks held out."""
        from landmeta.checkpoints import load_learned, load_network

        path = self.config.out / (BEST if (self.config.out / BEST).is_file() else LAST)
        best, learned = load_network(path)[0], load_learned(path, self.device)
        initial, _ = new_training(self.config, self.settings, self.device)
        trained = replace(self.training, network=best.to(self.device), learned=learned)
        count, several = self.config.validation.test_tasks, self.config.tasks.target == "one-vs-all"
        return {
            name: asdict(self.scores("holdout", count, training, ensemble=several))
            for name, training in (("trained", trained), ("initial", initial))
        }


def network_settings(config: TrainConfig, data: TrainingData) -> dict[str, Any]:
    """What `build_network` takes for a run."""
    chosen = config.network
    settings: dict[str, Any] = {
        "name": chosen.name,
        "bands": list(data.tiles.bands),
        "norm": chosen.norm,
        "norm_options": dict(chosen.norm_options),
        "out": config.logits,
    }
    if chosen.widths:
        settings["widths"] = list(chosen.widths)
    if chosen.side is not None:
        settings["side"] = chosen.side
    return settings


def new_training(
    config: TrainConfig, settings: Mapping[str, Any], device: str
) -> tuple[Training, TrainingMethod]:
    """The state at step 0, and the method: first weights from the seed, or from a checkpoint."""
    import torch

    from landmeta.checkpoints import load_network
    from landmeta.metatraining import Training, make_optimizer
    from landmeta.networks import build_network
    from landmeta.training_method import TrainingMethod

    network: Network = build_network(settings, generator=torch.Generator().manual_seed(config.seed))
    if config.network.start is not None:
        start, header = load_network(config.network.start)
        differ = [k for k in settings if header["network"].get(k, settings[k]) != settings[k]]
        if differ:
            faults = [f"network.start has {k} {header['network'][k]}, the run {settings[k]}" for k in differ]
            raise ConfigError(config.network.start, faults)
        network.load_state_dict(start.state_dict())
    network = network.to(device)
    method = TrainingMethod.of(config, network, device)
    learned = method.initial_learned(network)
    return Training(network, learned, make_optimizer(network, learned, config.outer)), method


def _notes(config: TrainConfig, data: TrainingData) -> dict[str, Any]:
    """What checkpoints of a run say besides its network."""
    inner, store = config.inner, data.tiles.store
    counts = {part: len(table.region_seasons()) for part, table in data.parts.items()}
    return {
        "scaling": config.data.scaling,
        "legend": [
            {"code": c.code, "name": c.name, "color": c.color} for c in store.legend(config.data.dataset)
        ],
        "adaptation": {
            "algorithm": inner.algorithm,
            "steps": config.validation.inner_steps or inner.steps,
            "rate": config.validation.inner_rate or inner.rate,
        },
        "training": {
            "config": config.plain(),
            "regions": counts,
            "simulated": store.simulated(config.data.dataset),
        },
    }


@contextmanager
def asked_to_stop(folder: RunFolder) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the step at hand; a second one ends it at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if folder.stop_asked:
            raise KeyboardInterrupt
        folder.stop_asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
