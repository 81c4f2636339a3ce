"""The settings of a training run: a TOML file to values, with every fault of the file told at once."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from landmeta.bands import canonical
from landmeta.devices import DeviceName
from landmeta.errors import ConfigError

if TYPE_CHECKING:
    from landmeta.learning.algorithms import Algorithm

_STRICT = ConfigDict(extra="forbid", strict=True)

_Count = Annotated[int, Field(ge=1)]
_Number = Annotated[int, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class SimulateConfig:
    """`[data.simulate]`: a simulated SEN12MS, made and ingested where the store is not there yet.

    `regions` in all parts of the published split together, each with `patches` of 256 px, four tiles a patch.
    """

    regions: _Count = 16
    patches: _Count = 36
    seed: _Number = 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class DataConfig:
    """`[data]`: where the tiles come from, and which regions are trained on.

    Attributes:
        store: Folder of a tile store (`landmeta ingest`), relative to the working directory.
        dataset: Name of one of its datasets.
        bands: Inputs of the network in order; all bands of the dataset, radar first, if empty.
        scaling: `meteor` (x 10000 times 1e-4, dB times 1e-2), `baseline` (clipped to 0..1) or `physical`.
        split: `region` (METEOR's 75, 25, 25 regions by id), `scene` (the official hold-out of SEN12MS, which
            is the test part; validation is named in `validation`), or `list`.
        train: Regions to train on, as `region` or `season/region`; with `list`, all others if empty.
        validation: Regions to validate on, with `list` and `scene`.
        test: Regions to test on, with `list`.
        workers: Processes that read tiles ahead of each training process; 0 reads in the process itself.
        side: Pixels of a tile's side; larger tiles are averaged down, into a store beside the first.
        simulate: Make a simulated archive and its store if `store` is not there.
    """

    store: Path
    dataset: str = "sen12ms"
    bands: tuple[str, ...] = ()
    scaling: Literal["meteor", "baseline", "physical"] = "meteor"
    split: Literal["region", "scene", "list"] = "region"
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    workers: _Number = 2
    side: _Count | None = None
    simulate: SimulateConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class TasksConfig:
    """`[tasks]`: what a task is (METHODS 4.4).

    Attributes:
        ways: Classes a task.
        shots: Support tiles a class.
        queries: Query tiles a class.
        target: `one-vs-all` (one of the classes is positive, one logit) or `all-classes` (a logit a class).
        blocked: Keep support and query `gap` pixels apart, or in different patches.
        gap: Pixels between support and query.
        mirror: Draw as the published code does.
        augment: Flip and turn every tile at random, in training only.
    """

    ways: Annotated[int, Field(ge=2)] = 4
    shots: _Count = 2
    queries: _Count = 2
    target: Literal["one-vs-all", "all-classes"] = "one-vs-all"
    blocked: bool = True
    gap: _Number = 256
    mirror: bool = False
    augment: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class NetworkConfig:
    """`[network]`: what `landmeta.networks.build_network` builds; bands and logits follow from the rest.

    `widths` are the published ones of the network if empty; `side` is that of the tiles, for the published
    classifier of `conv4`; `start` is a network checkpoint to go on from.
    """

    name: Literal["resnet12", "resnet12_big", "conv4"] = "resnet12"
    widths: tuple[_Count, ...] = ()
    norm: Literal["tbn", "cbn", "tasknorm_i", "tasknorm_l", "in", "gn", "ln", "none"] = "in"
    norm_options: Mapping[str, Any] = Field(default_factory=dict)
    side: _Count | None = None
    start: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class InnerConfig:
    """`[inner]`: how a task is learned, and how the gradient through that is computed.

    Attributes:
        algorithm: Name in `landmeta.learning.algorithms`.
        steps: Gradient steps on the support.
        rate: Their rate; where rates are learned, what they start from.
        adapt_affine: Whether gain and offset of the norms are adapted; by default as METEOR does,
            under `reptile` all are.
        pos_weight: Weight of the positive class in the loss, `ways` by default as METEOR trains and
            validates; to make maps it takes 1, since there the largest logit of all class models wins.
        protocol: Whence a query's moments come in networks with TaskNorm or batch norm: `fair` from the
            support, `meteor` from the query itself.
        options: What else the algorithm takes, by name: `order`; `per` of meta_sgd; `draw`, `shift` of
            sparse_maml; `straight` of sparse_relu_maml; `minibatch`, `optimizer`, `last_step_only` of
            reptile.
        engine: `loop`, `vmap`, `threads`, `checkpoint` or `hvp`: the same gradient at another price.
        chunk: Tasks at a time of the engine `vmap`; all if 0.
    """

    algorithm: str = "maml"
    steps: _Count = 1
    rate: _Positive = 0.1
    adapt_affine: bool | None = None
    pos_weight: _Positive | None = None
    protocol: Literal["fair", "meteor"] = "fair"
    options: Mapping[str, Any] = Field(default_factory=dict)
    engine: Literal["loop", "vmap", "threads", "checkpoint", "hvp"] = "loop"
    chunk: _Number = 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class OuterConfig:
    """`[outer]`: how the shared initialization moves.

    Attributes:
        optimizer: `adam`, or `sgd` (plain, as Reptile takes it).
        steps: Outer steps of the run.
        tasks: Tasks a step, over all processes.
        rate: Rate of the optimizer.
        learned_rate: Its rate for what the inner rule learns (rates, masks); `rate` by default.
        weight_decay: Added to the gradient as `weight_decay * parameter`, for the network only.
        clip_norm: Largest norm of the whole outer gradient; no limit by default.
        clip_value: Largest absolute value of its entries; no limit by default.
        schedule: `constant`, `cosine` or `linear` (to 0 at the last step), or `plateau` (a tenth after
            `plateau_patience` validations without improvement).
        warmup: Steps over which the rate rises from 0.
        plateau_patience: See `schedule`.
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    steps: _Count = 1000
    tasks: _Count = 4
    rate: _Positive = 1e-4
    learned_rate: _Positive | None = None
    weight_decay: _NotNegative = 1e-5
    clip_norm: _Positive | None = None
    clip_value: _Positive | None = None
    schedule: Literal["constant", "cosine", "linear", "plateau"] = "constant"
    warmup: _Number = 0
    plateau_patience: _Count = 10


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ValidationConfig:
    """`[validation]`: the same tasks of other regions every time.

    Attributes:
        every: Outer steps between validations; the first is before the first step. 0: none.
        tasks: Number of tasks.
        inner_steps: Inner steps there, those of training by default.
        inner_rate: Inner rate there, that of training by default; only where rates are not learned.
        metric: What decides which checkpoint is best: `loss` or `balanced_accuracy`.
        patience: Stop after so many validations without improvement; 0: never.
        test_tasks: Tasks of the test part on which the best checkpoint is judged at the end; 0: none.
    """

    every: _Number = 100
    tasks: _Count = 50
    inner_steps: _Count | None = None
    inner_rate: _Positive | None = None
    metric: Literal["loss", "balanced_accuracy"] = "loss"
    patience: _Number = 0
    test_tasks: _Number = 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class DeviceConfig:
    """`[device]`: where and in which precision.

    Attributes:
        device: `auto` (a CUDA device if there is one), `cpu` or `cuda`.
        precision: `float32`, `tf32` (matrix products and convolutions in TF32, CUDA only) or `bf16` (the same
            in bfloat16, all else in float32).
        channels_last: Keep images and weights channel by channel for each pixel in memory.
        threads: CPU threads of each process; torch's choice if 0.
    """

    device: DeviceName = "auto"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    channels_last: bool = False
    threads: _Number = 0


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """A whole run; what is not given has the published values of the main paper where it states any.

    Attributes:
        out: Folder of checkpoints, log and resume state, relative to the working directory.
        seed: Of the first weights, the tasks and their augmentation.
        save_every: Outer steps between saved states; every validation and every stop saves one too.
    """

    out: Path
    data: DataConfig
    seed: _Number = 0
    save_every: _Count = 100
    tasks: TasksConfig = TasksConfig()
    network: NetworkConfig = NetworkConfig()
    inner: InnerConfig = InnerConfig()
    outer: OuterConfig = OuterConfig()
    validation: ValidationConfig = ValidationConfig()
    device: DeviceConfig = DeviceConfig()

    def plain(self) -> dict[str, Any]:
        """The same with JSON types only, every default filled in."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_plain))
        return values

    @property
    def logits(self) -> int:
        """Outputs of the network."""
        return 1 if self.tasks.target == "one-vs-all" else self.tasks.ways


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def read_config(path: Path) -> TrainConfig:
    """The settings in a TOML file.

    Raises:
        ConfigError: The file cannot be read, or what is wrong with its keys and values, all of it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        what = getattr(fault, "strerror", None) or str(fault)
        raise ConfigError(path, [f"cannot be read as TOML: {what}"]) from fault
    return parse_config(tables, path)


def parse_config(tables: Mapping[str, Any], path: Path = Path("the settings")) -> TrainConfig:
    """The settings in the tables of a TOML file; `path` is what errors call it.

    Raises:
        ConfigError: All that is wrong with keys and values.
    """
    try:
        # By way of JSON: there strict means that 3 is no text and "3" no number, while a list makes a tuple.
        config = TypeAdapter(TrainConfig).validate_json(json.dumps(tables, default=str))
    except ValidationError as fault:
        raise ConfigError(path, [_told(error) for error in fault.errors(include_url=False)]) from None
    if faults := list(_contradictions(config)):
        raise ConfigError(path, faults)
    return config


def _told(error: Mapping[str, Any]) -> str:
    """One fault in words: the key, what was found, what was expected."""
    where = list(error["loc"])
    key = ".".join(str(part) for part in where)
    if error["type"] == "unexpected_keyword_argument":
        return f"{key} is no key{_nearest(where)}"
    if error["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{key} is missing"
    expected = str(error["msg"]).removeprefix("Input should be ")
    if error["type"] == "literal_error":
        close = difflib.get_close_matches(str(error["input"]), _words(expected), 1, 0.4)
        expected = f"one of {', '.join(_words(expected))}" + (f"; nearest is {close[0]}" if close else "")
    return f"{key} is {json.dumps(error['input'], default=str)}, expected {expected}"


def _words(expected: str) -> list[str]:
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(",") if word.strip()]


def _nearest(where: list[Any]) -> str:
    """The valid key of the same table that is spelled most like it, else of another table."""
    *tables, name = map(str, where)
    prefix = "".join(f"{table}." for table in tables)
    keys = list(_keys(TrainConfig))
    here = [key for key in keys if key.startswith(prefix) and "." not in key.removeprefix(prefix)]
    names = {key.rpartition(".")[2]: key for key in here}
    if close := difflib.get_close_matches(name, names, 1):
        return f"; nearest is {names[close[0]]}"
    elsewhere = [key for key in keys if key.rpartition(".")[2] == name]
    if elsewhere:
        return (
            f"; that key belongs to {' or '.join(key.rpartition('.')[0] or 'the top' for key in elsewhere)}"
        )
    return f"; keys there are {', '.join(names)}" if names else f"; tables are {', '.join(_tables())}"


def _keys(table: Any, prefix: str = "") -> Iterator[str]:
    """Every key under a table as `outer.rate`, tables among them."""
    hints = get_type_hints(table)
    for field in fields(table):
        yield prefix + field.name
        inside = [kind for kind in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(kind)]
        for kind in inside:
            yield from _keys(kind, f"{prefix}{field.name}.")


def _tables() -> list[str]:
    return [key for key in _keys(TrainConfig) if any(k.startswith(f"{key}.") for k in _keys(TrainConfig))]


def _contradictions(config: TrainConfig) -> Iterator[str]:
    """What is wrong with keys that are each right by themselves."""
    data, outer, validation = config.data, config.outer, config.validation
    yield from _algorithm_faults(config.inner)
    if unknown := [name for name in data.bands if canonical(name) is None]:
        yield f"data.bands names {', '.join(unknown)}, expected bands such as B02, B8A, VV"
    if data.split == "region" and (data.train or data.validation or data.test):
        yield 'data.split = "region" has its own lists; with train, validation or test expected "list"'
    if data.split == "scene" and (data.train or data.test):
        yield 'data.split = "scene" has its own list; with train or test expected "list"'
    if data.split != "region" and validation.every and not data.validation:
        yield f"data.validation is empty, expected regions to validate on with split = {data.split!r}"
    if data.split == "list" and validation.test_tasks and not data.test:
        yield "data.test is empty, expected regions for validation.test_tasks"
    if shared := _shared(data):
        yield f"data.train, validation and test share {', '.join(shared)}, expected each region in one part"
    if outer.schedule == "plateau" and not validation.every:
        yield 'outer.schedule = "plateau" needs validations, expected validation.every above 0'
    if outer.warmup >= outer.steps:
        yield f"outer.warmup is {outer.warmup}, expected less than outer.steps = {outer.steps}"
    if config.inner.chunk and config.inner.engine != "vmap":
        yield f'inner.chunk belongs to engine = "vmap", found {config.inner.engine!r}'
    if config.inner.pos_weight and config.tasks.target == "all-classes":
        yield 'inner.pos_weight belongs to tasks.target = "one-vs-all"'


def _algorithm_faults(inner: InnerConfig) -> Iterator[str]:
    """An unknown algorithm, an option that it does not take, or a value that the option does not."""
    from landmeta.learning.algorithms import ALGORITHMS

    if inner.algorithm not in ALGORITHMS:
        near = difflib.get_close_matches(inner.algorithm, ALGORITHMS, 1, 0.4)
        told = f"; nearest is {near[0]}" if near else ""
        yield f"inner.algorithm is {inner.algorithm!r}, expected one of {', '.join(ALGORITHMS)}{told}"
        return
    known = _options(ALGORITHMS[inner.algorithm])
    for name, value in inner.options.items():
        if name not in known:
            yield f"inner.options.{name} is no option of {inner.algorithm}; options are {', '.join(known)}"
            continue
        try:
            TypeAdapter(known[name]).validate_python(value, strict=True)
        except ValidationError as fault:
            errors = fault.errors(include_url=False)
            yield from (_told(error | {"loc": ("inner", "options", name)}) for error in errors)


def _options(algorithm: Algorithm) -> dict[str, Any]:
    """Names and types of what an algorithm takes besides its rate."""
    if algorithm.displacement:
        return {"minibatch": _Count, "optimizer": Literal["sgd", "adam"], "last_step_only": bool}
    hints = get_type_hints(algorithm.rule)
    return {"order": Literal[1, 2]} | {name: hint for name, hint in hints.items() if name != "rate"}


def _shared(data: DataConfig) -> list[str]:
    parts = [set(data.train), set(data.validation), set(data.test)]
    return sorted((parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2]))
