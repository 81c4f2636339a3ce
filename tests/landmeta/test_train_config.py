from __future__ import annotations

import json

import pytest

from landmeta.errors import ConfigError
from landmeta.train_config import TrainConfig, _keys, parse_config, read_config

LEAST = {"out": "runs/x", "data": {"store": "store"}}


def faults_of(**tables):
    with pytest.raises(ConfigError) as caught:
        parse_config({**LEAST, **tables})
    assert caught.value.hint
    return "\n".join(caught.value.faults)


def test_what_is_not_given_has_the_published_values():
    config = parse_config(LEAST)
    assert (config.tasks.ways, config.tasks.shots, config.tasks.queries) == (4, 2, 2)
    assert (config.outer.tasks, config.outer.rate, config.outer.weight_decay) == (4, 1e-4, 1e-5)
    assert (config.inner.algorithm, config.inner.steps, config.inner.rate) == ("maml", 1, 0.1)
    assert config.logits == 1


def test_a_run_of_all_classes_has_a_logit_a_class():
    assert parse_config({**LEAST, "tasks": {"target": "all-classes", "ways": 5}}).logits == 5


def test_plain_values_make_the_same_settings_again():
    config = parse_config({**LEAST, "network": {"widths": [8, 8, 8, 8], "norm_options": {"groups": 4}}})
    again = json.loads(json.dumps(config.plain()))
    assert parse_config(again) == config


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('seed = 1.5\n[data]\nstroe = "x"\n[inner]\nstpes = 3\nengine = "vmapp"\nrate = "fast"\n')
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    told = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 7
    for part in (
        "out is missing",
        "data.store is missing",
        "data.stroe is no key; nearest is data.store",
        "inner.stpes is no key; nearest is inner.steps",
        'inner.engine is "vmapp", expected one of loop, vmap, threads, checkpoint, hvp; nearest is vmap',
        'inner.rate is "fast", expected a valid number',
        "seed is 1.5, expected a valid integer",
    ):
        assert part in told
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_in_the_wrong_table_is_told_where_it_belongs():
    assert "that key belongs to outer" in faults_of(inner={"learned_rate": 0.1})
    assert "keys there are out, data, seed" in faults_of(zzz={})


@pytest.mark.parametrize(
    ("tables", "part"),
    [
        ({"outer": {"rate": 0}}, "outer.rate is 0, expected greater than 0"),
        ({"outer": {"steps": 5, "warmup": 5}}, "outer.warmup is 5"),
        ({"outer": {"schedule": "plateau"}, "validation": {"every": 0}}, "needs validations"),
        ({"inner": {"chunk": 2}}, "inner.chunk belongs to"),
        ({"data": {"store": "s", "bands": ["B2", "B77"]}}, "data.bands names B77"),
        ({"data": {"store": "s", "train": ["1"]}}, "has its own lists"),
        ({"data": {"store": "s", "split": "scene"}}, "data.validation is empty"),
        ({"data": {"store": "s", "split": "list", "train": ["1"], "validation": ["1"]}}, "share 1"),
        ({"tasks": {"target": "all-classes"}, "inner": {"pos_weight": 2.0}}, "inner.pos_weight belongs to"),
    ],
)
def test_keys_that_contradict_each_other_are_told(tables, part):
    assert part in faults_of(**tables)


@pytest.mark.parametrize("content", [b"out = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml: cannot be read as TOML") as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_the_guide_explains_every_key_under_its_table(root):
    guide = (root / "docs" / "guide" / "training.md").read_text(encoding="utf-8")
    for key in _keys(TrainConfig):
        table, _, name = key.rpartition(".")
        heading = {"": "### Top", "data.simulate": "### `[data]`"}.get(table, f"### `[{table}]`")
        section = guide.split(heading, 1)[1].split("\n### ", 1)[0]
        if f"### `[{key}]`" not in guide:
            assert f"`{name}`" in section, key


@pytest.mark.parametrize("name", ["train-narrow", "train-sen12ms"])
def test_the_examples_are_valid(root, name):
    assert read_config(root / "examples" / f"{name}.toml").out.name == name


def test_an_option_that_the_algorithm_does_not_take_is_told():
    told = faults_of(inner={"algorithm": "sparse_maml", "options": {"shif": 1, "draw": "kaiming"}})
    assert told == "inner.options.shif is no option of sparse_maml; options are order, draw, shift"
    assert "nearest is fomaml" in faults_of(inner={"algorithm": "fo_maml"})


@pytest.mark.parametrize(
    ("algorithm", "options", "told"),
    [
        ("maml", {"order": 3}, "inner.options.order is 3, expected one of 1, 2"),
        ("maml", {"order": "1"}, 'inner.options.order is "1", expected one of 1, 2; nearest is 1'),
        ("meta_sgd", {"per": "weights"}, 'is "weights", expected one of weight, tensor; nearest is weight'),
        ("sparse_maml", {"shift": "low"}, 'inner.options.shift is "low", expected a valid number'),
        ("reptile", {"minibatch": 0}, "inner.options.minibatch is 0, expected greater than or equal to 1"),
        ("reptile", {"optimizer": "adamw"}, 'is "adamw", expected one of sgd, adam; nearest is adam'),
        ("reptile", {"last_step_only": 1}, "inner.options.last_step_only is 1, expected a valid boolean"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_told(algorithm, options, told):
    assert told in faults_of(inner={"algorithm": algorithm, "options": options})


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("sparse_maml", {"order": 1, "draw": "kaiming", "shift": 1}),
        ("sparse_relu_maml", {"straight": False}),
        ("reptile", {"minibatch": 4, "optimizer": "adam", "last_step_only": True}),
    ],
)
def test_the_options_of_the_guide_are_taken(algorithm, options):
    config = parse_config({**LEAST, "inner": {"algorithm": algorithm, "options": options}})
    assert config.inner.options == options
