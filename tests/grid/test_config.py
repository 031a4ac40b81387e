"""Every mistake in the configuration gives one line with file, key, value and what is allowed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from snakemake.cli import parse_config

from gradprop.components.datasets import DATASETS
from gradprop.errors import ConfigError
from gradprop.grid import command_line, config, loading, schema
from gradprop.probes.statistics import PRESETS, STATISTICS
from tests.workspace import ROOT

SCHEMAS = {"config": schema.config_schema(), "study": schema.study_schema()}
NAMES = tuple(SCHEMAS)

STUDY = """
title: A study
question: Why?
grid:
  dataset: digits
  depth: 2
  width: 8
  activation: tanh
  initializer: zeros
  learning_rate: 0.1
  batch_size: 16
  epochs: 1
"""


def message(name: str, text: str) -> str:
    """Return what the user sees when `text` stands in the file <name>.yaml."""
    with pytest.raises(ConfigError) as caught:
        config.validate(yaml.safe_load(text), SCHEMAS[name], f"{name}.yaml")
    return str(caught.value)


# ------------------------------------------------------------------------------ the schemas


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_valid(name: str) -> None:
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def objects(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every part of a schema that has properties and is not a mere condition."""
    if isinstance(node, list):
        for item in node:
            yield from objects(item)
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for key, value in node.items():
            yield from objects(value if key != "if" else None)


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_documented(name: str) -> None:
    document = SCHEMAS[name]
    keys = 0
    for node in objects(document):
        if node.get("additionalProperties") is not False:
            continue  # adds a constraint to keys that are documented elsewhere
        needed = {*node.get("required", ()), *loading.REQUIRED, "name"}
        for key, value in node["properties"].items():
            keys += 1
            reference = value.get("$ref", "").removeprefix("#/$defs/")
            full = {**document["$defs"][reference], **value} if reference else value
            assert full.get("description"), f"{key} has no description"
            assert key in needed or "default" in full, f"{key} has no default"
    assert keys >= 5


def test_no_object_takes_unknown_keys() -> None:
    for name in NAMES:
        for node in objects(SCHEMAS[name]):
            if node.get("type") == "object":
                assert node["additionalProperties"] is False


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_valid(name: str) -> None:
    document = SCHEMAS[name]
    keys = [item for node in objects(document) for item in node["properties"].items()]
    keys += [(key, value) for key, value in document.get("$defs", {}).items()]
    defaults = [(key, value) for key, value in keys if value.get("default") is not None]
    assert defaults
    for key, value in defaults:
        config.validate(value["default"], {**value, "$defs": document.get("$defs", {})}, key)


def test_the_configuration_that_is_delivered_is_valid() -> None:
    path = ROOT / "config/config.yaml"
    studies = loading.load_studies(config.read_yaml(path), str(path), [ROOT / "config/studies"])
    assert all(study.cells for study in studies.values())


# ------------------------------------------------------------------------------ the messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "config.yaml: the file is empty"),
        ("[digits]", "config.yaml: ['digits'] is not a mapping (key: value)"),
        ("seeds: 3", "config.yaml: missing key: studies"),
        ("studies: digits", "config.yaml: studies: 'digits' is not a list; write [digits]"),
        ("studies: []", "config.yaml: studies: [] is empty"),
        ("studies: [a, b, a]", "config.yaml: studies: 'a' stands twice in the list"),
        (
            "studies: [My-Study]",
            "config.yaml: studies[0]: 'My-Study' is not allowed; allowed: lower-case letters, "
            "digits and underscores, a letter first",
        ),
        (
            "studies: [on]",
            "config.yaml: studies[0]: True is not text: YAML reads yes, no, on and off as true "
            "and false; put it in quotes",
        ),
        ("{studies: [a], seeds: 0}", "config.yaml: seeds: 0 is less than the minimum of 1"),
        ("{studies: [a], seeds: 2.5}", "config.yaml: seeds: 2.5 is not an integer"),
        (
            "{studies: [a], seeds: 1e1}",
            "config.yaml: seeds: '1e1' is not an integer: YAML reads it as text; write 10",
        ),
        (
            "{studies: [a], sedes: 3}",
            "config.yaml: sedes: unknown key; allowed: studies, seeds, stack_size, limits, report. "
            "Did you mean 'seeds'?",
        ),
        (
            "{studies: [a], 7: 3}",
            "config.yaml: 7: unknown key; allowed: studies, seeds, stack_size, limits, report",
        ),
        (
            "{studies: [a], report: {title: 2024}}",
            "config.yaml: report.title: 2024 is not text; put it in quotes",
        ),
        (
            "{studies: [a], report: {title: ' '}}",
            "config.yaml: report.title: ' ' is empty; allowed: text",
        ),
        (
            "{studies: [data]}",
            "config.yaml: studies[0]: 'data' is not allowed: the folder results/data holds the "
            "data sets",
        ),
        (
            '{studies: ["a\\n"]}',
            "config.yaml: studies[0]: 'a\\n' is not allowed; allowed: lower-case letters, digits "
            "and underscores, a letter first",
        ),
        (
            f"{{studies: [{'a' * 201}]}}",
            "config.yaml: studies[0]: 201 characters are too many; allowed: 200",
        ),
        (
            '{studies: [a], report: {title: "a\\0"}}',
            "config.yaml: report.title: 'a\\x00' has the character U+0000, which is not allowed",
        ),
        (
            '{studies: [a], report: {title: "\\ud800"}}',
            "config.yaml: report.title: '\\ud800' has the character U+D800, which is not allowed",
        ),
        (
            f"{{studies: [a], seeds: {10**400}}}",
            "config.yaml: seeds: an integer of 1329 binary digits is too large",
        ),
        (
            "{studies: [a], seeds: 9223372036854775808}",
            "config.yaml: seeds: 9223372036854775808 is greater than the maximum of 1000000",
        ),
    ],
)
def test_mistakes_in_the_configuration(text: str, expected: str) -> None:
    assert message("config", text) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "dataset",
            "digist",
            f"grid.dataset: 'digist' is not allowed; allowed: {', '.join(DATASETS)}. "
            "Did you mean 'digits'?",
        ),
        (
            "dataset",
            "[digits, {name: circles, nois: 0.1}]",
            "grid.dataset[1].nois: unknown key; allowed: name, examples, factor, noise, "
            "standardize, test_fraction, seed, split_seed. Did you mean 'noise'?",
        ),
        ("dataset", "{examples: 9}", "grid.dataset: missing key: name"),
        ("dataset", "{flie: a.csv}", "grid.dataset: missing key: name. Did you mean 'file'?"),
        ("dataset", "{nmae: digits}", "grid.dataset: missing key: name. Did you mean 'name'?"),
        (
            "dataset",
            "{name: digits, file: a.csv}",
            "grid.dataset.file: unknown key; allowed: name, standardize, test_fraction, seed, "
            "split_seed",
        ),
        (
            "dataset",
            "{file: a.csv, targe: b}",
            "grid.dataset.targe: unknown key; allowed: name, file, target, task, test_fraction, "
            "split_seed, standardize. Did you mean 'target'?",
        ),
        (
            "dataset",
            "{file: 'C:a.csv', target: b}",
            "grid.dataset.file: 'C:a.csv' is not allowed; allowed: path in the study's folder: "
            "letters, digits, points, hyphens, underscores and slashes; it ends in .csv, .parquet "
            "or .npz",
        ),
        (
            "dataset",
            "{file: a.csv, target: 'b=c'}",
            "grid.dataset.target: 'b=c' is not allowed; allowed: name of the column of the "
            "targets, or names with commas between them, without the sign =; of an NPZ file "
            "nothing",
        ),
        ("depth", "[1, -2]", "grid.depth[1]: -2 is less than the minimum of 0"),
        (
            "depth",
            "'3'",
            "grid.depth: '3' is not an integer: YAML reads it as text; write 3",
        ),
        ("depth", "{from: 3}", "grid.depth: missing key: to"),
        ("width", "{from: 0, to: 3}", "grid.width.from: 0 is less than the minimum of 1"),
        (
            "activation",
            "[tanh, off]",
            "grid.activation[1]: False is not allowed; allowed: linear, tanh, sigmoid, softsign, "
            "relu, leaky_relu, relu6, elu, selu, gelu, swish, softplus, mish, exponential, sine, "
            "prelu (YAML reads yes, no, on and off as true and false)",
        ),
        (
            "activation",
            "{name: leaky_relu, slope: 2}",
            "grid.activation.slope: 2 is greater than the maximum of 1",
        ),
        (
            "activation",
            "Leaky-ReLU",
            "grid.activation: 'Leaky-ReLU' is not allowed; allowed: linear, tanh, sigmoid, "
            "softsign, relu, leaky_relu, relu6, elu, selu, gelu, swish, softplus, mish, "
            "exponential, sine, prelu. Did you mean 'leaky_relu'?",
        ),
        (
            "initializer",
            "[{name: normal, stddev: 1e-7}]",
            "grid.initializer[0].stddev: '1e-7' is not a number: YAML reads it as text; "
            "write 1.0e-07",
        ),
        (
            "initializer",
            "{name: zeros, gain: 2}",
            "grid.initializer.gain: unknown key; allowed: name",
        ),
        (
            "optimizer",
            "{name: adam, lr: 0.1}",
            "grid.optimizer.lr: unknown key; allowed: name, beta_1, beta_2, epsilon, weight_decay; "
            "the learning rate is the key learning_rate of the block, or of training",
        ),
        ("initializer", "{gain: 2}", "grid.initializer: missing key: name"),
        (
            "initializer",
            "{name: variance_scaling, mode: fanin}",
            "grid.initializer.mode: 'fanin' is not allowed; allowed: fan_in, fan_out, fan_avg. "
            "Did you mean 'fan_in'?",
        ),
        (
            "learning_rate",
            "[0.1, 1e-3]",
            "grid.learning_rate[1]: '1e-3' is not a number: YAML reads it as text; write 0.001",
        ),
        (
            "learning_rate",
            ".inf",
            "grid.learning_rate: inf is not a number (infinite and undefined numbers are not "
            "allowed)",
        ),
        (
            "optimizer",
            "{name: sgd, momentum: 1}",
            "grid.optimizer.momentum: 1 is not allowed; allowed: less than 1",
        ),
        (
            "initializer",
            "{name: normal, stddev: 1.0e+39}",
            "grid.initializer.stddev: 1e+39 is not a number of float32; allowed: 0 and magnitudes "
            "from 1.2e-38 to 3.4e+38",
        ),
        (
            "learning_rate",
            "1.0e-39",
            "grid.learning_rate: 1e-39 is not a number of float32; allowed: 0 and magnitudes from "
            "1.2e-38 to 3.4e+38",
        ),
        (
            "seeds",
            "[18446744073709551616]",
            "grid.seeds[0]: 18446744073709551616 is greater than the maximum of 4294967295",
        ),
        ("use_bias", "'yes'", "grid.use_bias: 'yes' is not true or false"),
        ("epochs", "", "grid.epochs: there is no value; allowed: an integer"),
        ("seeds", "[]", "grid.seeds: [] is empty"),
    ],
)
def test_mistakes_in_a_grid(key: str, value: str, expected: str) -> None:
    text = f"{{title: a, question: b, grid: {{{key}: {value}}}}}"
    assert message("study", text) == f"study.yaml: {expected}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            "standart",
            "statistics: 'standart' is not allowed; allowed: cheap, standard, full. "
            "Did you mean 'standard'?",
        ),
        ("[]", "statistics: [] is empty"),
        ("[dead_fraction, dead_fraction]", "statistics: 'dead_fraction' stands twice in the list"),
        (
            "[dead_fraction, gradient_curtosis]",
            "statistics[1]: 'gradient_curtosis' is not allowed; allowed: "
            f"{', '.join([*STATISTICS, *PRESETS])}. Did you mean 'gradient_kurtosis'?",
        ),
    ],
)
def test_mistakes_in_the_statistics(value: str, expected: str) -> None:
    assert message("study", f"{STUDY}\nstatistics: {value}") == f"study.yaml: {expected}"


@pytest.mark.parametrize("value", [*PRESETS, list(STATISTICS)[-1:], list(STATISTICS)])
def test_statistics_are_a_preset_or_a_list(value: Any) -> None:
    content = {**yaml.safe_load(STUDY), "statistics": value}
    config.validate(content, SCHEMAS["study"], "study.yaml")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("{title: a}", ": missing key: kind"),
        ("{kind: divergence, title: a}", ": missing key: hue"),
        (
            "{kind: atlas, title: a, hue: depth, statistic: train_accuracy}",
            ".statistic: 'train_accuracy' is not allowed; allowed: final_train_accuracy, "
            "final_test_accuracy. Did you mean 'final_train_accuracy'?",
        ),
        (
            "{kind: divergence, title: a, hue: [depth]}",
            ".hue: ['depth'] is not allowed; allowed: one of dataset, depth, width, activation, "
            "initializer, learning_rate, batch_size, epochs, seed, optimizer, loss, use_bias, "
            "bias_std, target_loss, probes, statistics, measurements, widths, normalization, "
            "residual, clipping, schedule, layer_initializers, bias_initializer, tied, dropout, "
            "precision, loss_scale",
        ),
        (
            "{kind: divergence, title: a, hue: dept}",
            ".hue: 'dept' is not allowed; allowed: dataset, depth, width, activation, "
            "initializer, learning_rate, batch_size, epochs, seed, optimizer, loss, use_bias, "
            "bias_std, target_loss, probes, statistics, measurements, widths, normalization, "
            "residual, clipping, schedule, layer_initializers, bias_initializer, tied, dropout, "
            "precision, loss_scale. Did you mean 'depth'?",
        ),
        (
            "{kind: float_limits, title: a, select: {depth: [1, '2']}}",
            ".select.depth[1]: '2' is not an integer: YAML reads it as text; write 2",
        ),
        (
            "{kind: layer_profile, title: a, hue: depth, statistic: signal_log10_rms, "
            "at: end, theory: true}",
            ".at: 'end' is not allowed; allowed: start",
        ),
        (
            "{kind: layer_profile, title: a, hue: depth, statistic: [saturated_fraction], "
            "theory: true}",
            ".statistic[0]: 'saturated_fraction' is not allowed; allowed: signal_log10_rms, "
            "gradient_log10_rms, preactivation_log10_mean_square",
        ),
        (
            "{kind: layer_profile, title: a, hue: depth, statistic: signal_log10_rms, "
            "residual: true}",
            ": missing key: theory",
        ),
        ("{kind: float_limits, title: a, differs: It is wider.}", ": missing key: source"),
        (
            "{kind: float_limits, title: a, source: a, differs: 3}",
            ".differs: 3 is not text; put it in quotes",
        ),
        *(
            (f"{{kind: float_limits, title: a, source: a, differs: {written}}}", f".differs{said}")
            for written, said in (
                ("''", ": '' is empty; allowed: text"),
                ("'   '", ": '   ' is empty; allowed: text"),
                ('"\\u00a0"', r": '\xa0' is empty; allowed: text"),
                ("null", ": there is no value; allowed: text"),
                ("[]", ": [] is empty"),
                ("[b, ' ']", "[1]: ' ' is empty; allowed: text"),
            )
        ),
        ("{kind: float_limits, title: ' '}", ".title: ' ' is empty; allowed: text"),
        ("{kind: float_limits, title: a, source: ''}", ".source: '' is empty; allowed: text"),
        (
            "{kind: float_limits, title: a, source: a, differs: [b, b]}",
            ".differs: 'b' stands twice in the list",
        ),
    ],
)
def test_mistakes_in_a_figure(options: str, expected: str) -> None:
    assert (
        message("study", f"{STUDY}\nfigures: {{x: {options}}}")
        == f"study.yaml: figures.x{expected}"
    )


@pytest.mark.parametrize("key", ["title", "question"])
def test_a_study_s_texts_are_not_blank(key: str) -> None:
    content = {**yaml.safe_load(STUDY), key: " \n "}
    assert message("study", yaml.safe_dump(content)) == (
        f"study.yaml: {key}: ' \\n ' is empty; allowed: text"
    )


def test_a_list_statistic_is_for_the_kinds_that_draw_several() -> None:
    options = "{title: a, hue: depth, statistic: [signal_log10_rms, gradient_log10_rms], kind: "
    for kind in ("layer_profile", "slope"):
        content = yaml.safe_load(f"{STUDY}\nfigures: {{x: {options} {kind}}}}}")
        config.validate(content, SCHEMAS["study"], "study.yaml")
    assert "is not allowed" in message(
        "study", f"{STUDY}\nfigures: {{x: {options} layer_heatmap}}}}"
    )


def test_a_name_of_a_figure_becomes_a_file_name() -> None:
    text = message("study", f"{STUDY}\nfigures: {{../x: {{kind: float_limits, title: a}}}}")
    assert text.startswith("study.yaml: figures: '../x' is not allowed; allowed: lower-case")


def test_all_mistakes_are_told_up_to_a_limit() -> None:
    lines = message("config", "{a: 1, b: 1, c: 1, d: 1, e: 1, f: 1}").splitlines()
    assert len(lines) == config.MOST_ERRORS + 1
    assert lines[0] == "config.yaml: missing key: studies"
    assert lines[-1] == "... and 2 more"


@pytest.mark.parametrize(
    "text",
    [
        "{studies: [a], seeds: LONG}",
        "{studies: [LONG]}",
        "{studies: [a], LONG: 1}",
        "{studies: [a], report: {LONG: {LONG: LONG}}}",
        "{studies: [a], report: [LONG, [LONG]]}",
        "{studies: [a], seeds: -" + "1" * 300 + "}",
    ],
)
def test_a_line_repeats_little_of_what_it_was_given(text: str) -> None:
    for line in message("config", text.replace("LONG", "Q" * 900)).splitlines():
        assert line.count("Q") + line.count("1") < 200


def test_long_values_are_cut() -> None:
    assert len(message("config", f"studies: {'x' * 1000}y")) < 1200
    assert "..." in message("config", f"{{studies: [a], seeds: {'x' * 1000}}}")


# ---------------------------------------------------------------------------- reading files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [1\nb: 2", "line 2, column 2: not valid YAML: expected ',' or ']', but got ':'"),
        (
            b"title: Kill: the job",
            "line 1, column 12: not valid YAML: mapping values are not allowed here; text that "
            "holds a colon and a space needs quotes",
        ),
        (b"? [1]\n: 2", "line 1, column 3: not valid YAML: found unhashable key"),
        (
            b"a: 1\nb: 2\na: 3",
            "line 3, column 1: not valid YAML: key 'a' stands twice in one mapping",
        ),
        (
            b"a: !!python/object:os.system {}",
            "line 1, column 4: not valid YAML: could not determine",
        ),
        (b"a: \xff", "not valid UTF-8 at byte 3"),
        (b"a: \x07", "not valid YAML: unacceptable character #x0007"),
        (b"a: !!bool maybe", "line 1, column 4: not valid YAML: 'maybe' can't be read as bool"),
        (b"a: !!int x", "line 1, column 4: not valid YAML: 'x' can't be read as int"),
        (b"a: !!float x", "line 1, column 4: not valid YAML: 'x' can't be read as float"),
        (b"a: !!timestamp x", "line 1, column 4: not valid YAML: x is a date; put it in quotes"),
        (b"a: 2026-02-31", "line 1, column 4: not valid YAML: 2026-02-31 is a date"),
        (b"a: !!binary aGk=", "line 1, column 4: not valid YAML: could not determine"),
        (b"a: " + b"9" * 5000, "line 1, column 4: not valid YAML: '999"),
        (b"a: 0x" + b"f" * 5000, "line 1, column 4: not valid YAML: '0xfff"),
        (b"[" * 5000, "line 1, column 51: not valid YAML: more than 50 levels of nesting"),
        (b"7: a", "line 1, column 1: not valid YAML: key 7 is not text; put it in quotes"),
        (b"on: a", "line 1, column 1: not valid YAML: key on is not text; put it in quotes"),
        (b"~: a", "line 1, column 1: not valid YAML: key ~ is not text; put it in quotes"),
        (b"a: &a [*a]", "line 1, column 4: not valid YAML: an alias stands within what it"),
        (b"!!" + b"Q" * 5000 + b" x", "line 1, column 1: not valid YAML: could not determine"),
        (b"a: b\n" * 50000, "the file is too large; allowed: 200000 bytes"),
    ],
)
def test_files_that_are_not_yaml(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).count("Q") < 200


def test_aliases_do_not_make_a_small_file_large(tmp_path: Path) -> None:
    laughs = "\n".join(f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 30))
    (tmp_path / "x.yaml").write_text(f"a0: &a0 [lol]\n{laughs}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 7, column 5: .* more than 200000 values"):
        config.read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1, "a": 2}', "not valid JSON: key 'a' stands twice"),
        ("[" * 100_000, "not valid JSON: too many levels of nesting"),
        ("{", "not valid JSON: Expecting property name"),
    ],
)
def test_json_is_read_as_strictly(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=expected):
        config.read_yaml(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{\n\t"studies": ["a"]\n}', encoding="utf-8")
    assert config.read_yaml(tmp_path / "x.json") == {"studies": ["a"]}


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, expected in {
        "pipe.yaml": "not a regular file but a pipe or a device",
        "/dev/zero": "not a regular file but a pipe or a device",
        "loop.yaml": "Too many levels of symbolic links",
        "n" * 300: "File name too long",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            config.read_yaml(tmp_path / name)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.read_yaml(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        config.read_yaml(tmp_path)


def test_merged_and_repeated_keys_in_different_mappings_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n", encoding="utf-8")
    assert config.read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


# -------------------------------------------------------------------------- loading studies


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/study.yaml").write_text(STUDY, encoding="utf-8")
    return tmp_path


def load(folder: Path, **document: Any) -> int:
    """Return the number of cells of the first study."""
    studies = loading.load_studies(document, "config.yaml", [folder])
    return len(next(iter(studies.values())).cells)


def test_seeds_have_a_default(folder: Path) -> None:
    assert load(folder, studies=["one"]) == 5
    assert load(folder, studies=["one"], seeds=2) == 2


def test_an_unknown_study_is_told_with_those_that_exist(folder: Path) -> None:
    expected = "config.yaml: studies: 'won' is not allowed; allowed: one. Did you mean 'one'?"
    with pytest.raises(ConfigError) as caught:
        load(folder, studies=["won"])
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epochs: 1", "", "grid: missing key: epochs; every block needs it, in the block or in"),
        ("depth: 2", "depth: {from: 3, to: 1}", "grid.depth: {'from': 3, 'to': 1} is empty"),
        ("grid:", "grid: []\ntraining:", "grid: [] is empty"),
        ("depth: 2", "depth: [2, 3, 2.0]", "grid.depth: 2 stands twice in the list"),
        ("depth: 2", "depth: 2\n  seeds: [4, 1, 4]", "grid.seeds: 4 stands twice in the list"),
        (
            "initializer: zeros",
            "initializer: [normal, {name: normal, stddev: 0.01}]",
            "grid.initializer: 'normal' stands twice in the list",
        ),
        (
            "initializer: zeros",
            "initializer: {name: normal, stddev: [0.1, 0.2, 0.1]}",
            "grid.initializer: 'normal(stddev=0.1)' stands twice in the list",
        ),
        (
            "initializer: zeros",
            "initializer: [zeros, {name: normal, stddev: [0.1, a]}]",
            "grid.initializer[1].stddev[1]: 'a' is not a number",
        ),
        (
            "initializer: zeros",
            "initializer: {name: normal, stddev: []}",
            "grid.initializer.stddev: [] is empty",
        ),
        (
            "initializer: zeros",
            "initializer: {name: [normal, zeros]}",
            "grid.initializer.name: ['normal', 'zeros'] is not allowed; allowed: ",
        ),
        (
            "batch_size: 16",
            "batch_size: [8, 1438]",
            "grid.batch_size: 1438 is larger than the training set of 'digits'; allowed: 1 to 1437",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  schedule: [constant, {name: cosine, warm_up: 100000}]",
            "grid.schedule.warm_up: 100000 steps, but training ends after ",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  bias_std: [0, 0.1]\n  bias_initializer: [normal, constant]",
            "grid.bias_std: biases of constant are not normal; allowed: 0, or bias_initializer",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  dropout: 0.9999999999999999",
            "grid.dropout: 0.9999999999999999 is 1 in float32; allowed: less than 1",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  use_bias: false\n  bias_initializer: {name: constant, value: 1}",
            "grid.bias_initializer: constant(value=1.0) of no biases (use_bias: false)",
        ),
        (
            "depth: 2",
            "depth: [1, 3]\n  tied: true",
            "grid.tied: from depth 3 on hidden layers share a kernel, but depth is 1",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  dropout: [0.1, 1.0]",
            "grid.dropout[1]: 1.0 is not allowed; allowed: less than 1",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  precision: [float16, float8]",
            "grid.precision[1]: 'float8' is not allowed; allowed: float64, float32, bfloat16, "
            "float16",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  loss_scale: {name: fixed, factor: 0}",
            "grid.loss_scale.factor: 0 is not allowed; allowed: more than 0",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  optimizer: adam\n  loss_scale: [none, dynamic]",
            "grid.loss_scale: dynamic is for sgd and rmsprop",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  optimizer: {name: sgd, nesterov: true}",
            "grid.optimizer: nesterov needs a momentum above 0",
        ),
        (
            "batch_size: 16",
            "batch_size: 16\n  loss: [auto, binary_cross_entropy]",
            "grid.loss: binary_cross_entropy needs two classes; 'digits' has 10 classes",
        ),
        (
            "dataset: digits",
            "dataset: {name: spirals, examples: 10, classes: 6}",
            "grid.dataset: 'spirals(classes=6, examples=10)' can't be made: 6 classes need 2",
        ),
        (
            "dataset: digits",
            "dataset: {name: equicorrelated, dimension: 12}",
            "grid.dataset: 'equicorrelated(dimension=12)' can't be made: 41 orthogonal directions",
        ),
        (
            "grid:",
            "measurements: [decision]\ngrid:",
            "grid.measurements: decision needs a data set in the plane; 'digits' has 64 inputs",
        ),
        (
            "grid:",
            "measurements: [modes]\ngrid:",
            "grid.measurements: modes are those of regression tasks; 'digits' is one of",
        ),
    ],
)
def test_mistakes_in_a_study_name_its_file(folder: Path, old: str, new: str, expected: str) -> None:
    path = folder / "one/study.yaml"
    path.write_text(STUDY.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(folder, studies=["one"])
    assert f"{path}: {expected}" in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            "{initializer: {zeroes: Z}}",
            "names.initializer.zeroes: 'zeroes' is not allowed; allowed: zeros",
        ),
        ("{initializer: {zeroes: Z}}", "Did you mean 'zeros'?"),
        (
            "{initialiser: {zeros: Z}}",
            "names.initialiser: unknown key; allowed: dataset, initializer",
        ),
        ("{zeros: Z}", "names.zeros: unknown key; allowed: dataset, initializer"),
        ("{optimizer: {zeros: Z}}", "names.optimizer.zeros: 'zeros' is not allowed; allowed: sgd"),
        (
            "{initializer: {zeros: '$\\frac{$'}}",
            "names.initializer.zeros: '$\\\\frac{$' has a formula that can't be drawn:",
        ),
        (
            "{initializer: {zeros: 'a $ b'}}",
            "names.initializer.zeros: 'a $ b' has a formula without end",
        ),
    ],
)
def test_names_are_labels_of_the_study_and_can_be_drawn(
    folder: Path, names: str, expected: str
) -> None:
    (folder / "one/study.yaml").write_text(f"{STUDY}names: {names}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(folder, studies=["one"])
    assert expected in str(caught.value)
    fine = "{initializer: {zeros: 'W = {0, 1}, $\\sigma_w^2$ for \\$5'}}"
    (folder / "one/study.yaml").write_text(f"{STUDY}names: {fine}\n", encoding="utf-8")
    assert load(folder, studies=["one"]) == 5


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        ("{zeros: he_normal}", True),
        ("{zeros: he_normal, he_normal: zeros}", True),
        ("{zeros: he_normal, he_normal: He}", True),
        ("{zeros: he_normal, he_normal: he_normal}", False),  # drawn as one, as said
        ("{zeros: zeros}", False),
    ],
)
def test_no_network_is_drawn_under_the_label_of_another(
    folder: Path, names: str, wrong: bool
) -> None:
    text = STUDY.replace("initializer: zeros", "initializer: [zeros, he_normal]")
    (folder / "one/study.yaml").write_text(
        f"{text}names: {{initializer: {names}}}\n", encoding="utf-8"
    )
    if not wrong:
        load(folder, studies=["one"])
        return
    with pytest.raises(ConfigError, match="'he_normal' is the label of other networks"):
        load(folder, studies=["one"])


def test_a_mistake_is_told_with_the_part_of_the_configuration_that_it_stands_in(
    folder: Path,
) -> None:
    own: dict[str, Any] = {"studies": ["one"], "seeds": 2}
    given = {"studies": ["won"]}
    mistakes: dict[str, dict[str, dict[str, Any]]] = {
        "papers.yaml: studies: 'won' is not": {"papers.yaml": given, "--config": {"seeds": 1}},
        "--config: seeds: 'x' is not an integer": {"papers.yaml": {}, "--config": {"seeds": "x"}},
    }
    for line, wrong in mistakes.items():
        parts: dict[str, dict[str, Any]] = {"config.yaml": own, **wrong}
        merged = {key: value for part in parts.values() for key, value in part.items()}
        with pytest.raises(ConfigError) as caught:
            loading.load_studies(merged, "config.yaml", [folder], parts)
        assert str(caught.value).startswith(line)


def test_a_broken_link_is_not_a_study_that_is_missing(folder: Path) -> None:
    (folder / "two").mkdir()
    (folder / "two/study.yaml").symlink_to("study.yaml")
    with pytest.raises(ConfigError, match="Too many levels of symbolic links"):
        load(folder, studies=["two"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--cores", "4", "--configfile", "a.yaml", "study_x"],
            "--configfile: 'study_x' is not a file .yaml, .yml or .json; --configfile takes all "
            "that follows, so name targets first: snakemake study_x --cores 4 --configfile a.yaml",
        ),
        (["--configfile=none.yaml"], "none.yaml: no such file"),
        (["--configfiles", "a.yaml", "b.yaml", "-n"], "b.yaml: line 1, column 8: not valid YAML"),
        (
            ["--config", "seeds=2", "study_x"],
            "--config: 'study_x' is not key=value; --config takes all that follows",
        ),
        (["-C", "7=2"], "--config: '7=2' is not key=value"),
    ],
)
def test_what_snakemake_would_take_for_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("studies: [a]", encoding="utf-8")
    Path("b.yaml").write_text("{a: 1, a: 2}", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["snakemake", *arguments])
    with pytest.raises(SystemExit) as stop:
        command_line.check_command_line()
    assert str(stop.value.code).startswith(expected)
    assert len(str(stop.value.code).splitlines()) == 1
    fine = ["study_x", "--configfile", "a.yaml", "--config", "seeds=2", "-n"]
    monkeypatch.setattr("sys.argv", ["snakemake", *fine])
    command_line.check_command_line()


@pytest.mark.parametrize(
    ("files", "said", "expected"),
    [
        ([], [], "snakemake --cores 4"),
        (["config/papers.yaml"], [], "snakemake --configfile config/papers.yaml --cores 4"),
        ([], ["studies=[mine]"], "snakemake --config 'studies=[mine]' --cores 4"),
        (
            ["my papers.yaml"],
            ["seeds=3", "limits={hours: 2.5}", "report={file: a.html, title: It's 5}"],
            "snakemake --configfile 'my papers.yaml' --config seeds=3 'limits={hours: 2.5}' "
            """'report={file: a.html, title: It'"'"'s 5}' --cores 4""",
        ),
        (
            [],
            ["report={title: '5'}"],
            """snakemake --config 'report={title: '"'"'5'"'"'}' --cores 4""",
        ),
        ([], ["studies=[a, b]"], "snakemake --config 'studies=[a, b]' --cores 4"),
    ],
)
def test_the_command_with_a_configuration(files: list[str], said: list[str], expected: str) -> None:
    chosen = config.with_numbers(parse_config(said), schema.config_schema())
    command = command_line.command_of(files, chosen)
    assert command == expected
    words = shlex.split(command)[1 + (1 + len(files) if files else 0) + bool(said) : -2]
    assert config.with_numbers(parse_config(words), schema.config_schema()) == chosen


def test_the_profile_that_snakemake_reads_first_checks_its_command_line() -> None:
    profile = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8"))
    assert profile["__use_yte__"] is True
    assert profile["__definitions__"][-1] == "check_command_line()"


def test_text_is_a_number_where_one_belongs() -> None:
    """As in what Snakemake makes of `--config 'limits={cells: 5, hours: 1e-3}' seeds=2`."""
    limits = {"cells": "5", "memory": "a lot", "hours": "1e-3", "other": "5"}
    document = {"seeds": 2, "limits": limits, "report": {"title": "5"}, "studies": ["5"]}
    assert config.with_numbers(document, schema.config_schema()) == {
        **document,
        "limits": {"cells": 5, "memory": "a lot", "hours": 0.001, "other": "5"},
    }


def test_whole_numbers() -> None:
    document = {"stack_size": 3.0, "list": [1.0, 1.5, True, "1.0"], "deep": {"x": 2.0}}
    found = config.whole_numbers(document)
    assert repr(found) == "{'stack_size': 3, 'list': [1, 1.5, True, '1.0'], 'deep': {'x': 2}}"


def test_mistakes_in_a_list_of_blocks_name_the_block() -> None:
    block = yaml.safe_load(STUDY)["grid"]
    content = {"title": "a", "question": "b", "grid": [block, {**block, "depth": 3}]}
    del content["grid"][1]["width"]
    with pytest.raises(ConfigError, match=r"^s.yaml: grid\[1\]: missing key: width;"):
        loading.build_study("s", content, 1, "s.yaml")


def test_a_folder_that_cannot_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Snakemake makes its own folder there, which would be a traceback."""
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "closed")
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("sys.argv", ["snakemake", "-n", "--directory", str(tmp_path / "closed")])
    with pytest.raises(SystemExit, match=r"closed: cannot be written to; .* --directory FOLDER$"):
        command_line.check_command_line()
    monkeypatch.setattr("sys.argv", ["snakemake", "-n", f"--directory={tmp_path}"])
    command_line.check_command_line()
