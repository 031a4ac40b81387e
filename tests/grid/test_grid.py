"""From a study's file to cells, stacks and shards."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gradprop.components.initializers import of_layers
from gradprop.errors import ConfigError
from gradprop.grid import config, definitions, loading, schema, selection, sharding
from gradprop.grid.axes import PARAMETERS, axis_values, count_values, expand
from gradprop.grid.figure_checks import check_figure
from gradprop.grid.kinds import Needs
from gradprop.probes.measurements import canonical
from gradprop.probes.statistics import PRESETS
from gradprop.spec import REPLICA_FIELDS, Cell, Component

BLOCK: dict[str, Any] = {
    "seeds": 1,
    "dataset": "digits",
    "depth": 2,
    "width": 8,
    "activation": "tanh",
    "initializer": "zeros",
    "learning_rate": 0.1,
    "batch_size": 16,
    "epochs": 1,
}


def cells(**axes: Any) -> list[Cell]:
    return list(expand({**BLOCK, **axes}))


def study_cells(blocks: Any, seeds: int = 1, **content: Any) -> tuple[Cell, ...]:
    document = {"title": "a", "question": "b", "grid": blocks, **content}
    return loading.build_study("s", document, seeds, "s.yaml").cells


# ------------------------------------------------------------------------------------ cells


def test_scalars_make_one_cell() -> None:
    assert cells() == [
        Cell(
            dataset=Component("digits"),
            depth=2,
            width=8,
            activation=Component("tanh"),
            initializer=Component("zeros"),
            learning_rate=0.1,
            batch_size=16,
            epochs=1,
            seed=0,
        )
    ]


def test_a_grid_is_the_product_of_its_axes() -> None:
    found = cells(depth=[1, 5], initializer=["zeros", {"name": "normal", "stddev": 1}], seeds=3)
    wanted = itertools.product([1, 5], ["zeros", "normal(stddev=1.0)"], [0, 1, 2])
    assert [(c.depth, c.initializer.label, c.seed) for c in found] == list(wanted)


@pytest.mark.parametrize(
    ("key", "value", "values"),
    [
        ("depth", 3, [3]),
        ("depth", [3, 1], [3, 1]),
        ("depth", {"from": 1, "to": 9, "step": 4}, [1, 5, 9]),
        ("depth", {"from": 1, "to": 8, "step": 4}, [1, 5]),
        ("depth", {"from": 2, "to": 4}, [2, 3, 4]),
        ("depth", {"from": 2.0, "to": 4.0, "step": 1.0}, [2, 3, 4]),
        ("width", {"from": 2, "to": 2}, [2]),
        ("seeds", 3, [0, 1, 2]),
        ("seeds", [7, 5], [7, 5]),
        ("seeds", {"from": 3, "to": 5}, [3, 4, 5]),
        ("learning_rate", [1, 0.5], [1.0, 0.5]),
        ("use_bias", False, [False]),
        ("initializer", {"name": "normal"}, [Component("normal")]),
        (
            "initializer",
            ["zeros", {"name": "identity", "gain": [1.0, 1.41]}],
            [Component("zeros"), Component("identity"), Component("identity", (("gain", 1.41),))],
        ),
        (
            "dataset",
            {"name": "circles", "factor": [0.5, 0.8], "noise": [0.05, 0.1]},
            [
                Component("circles", (("factor", 0.5),)),
                Component("circles", (("factor", 0.5), ("noise", 0.1))),
                Component("circles"),
                Component("circles", (("noise", 0.1),)),
            ],
        ),
        ("optimizer", ["sgd", "adam"], [Component("sgd"), Component("adam")]),
        (
            "activation",
            ["tanh", {"name": "leaky_relu", "slope": [0.2, 0.01]}],
            [
                Component("tanh"),
                Component("leaky_relu"),
                Component("leaky_relu", (("slope", 0.01),)),
            ],
        ),
    ],
)
def test_values_of_an_axis(key: str, value: Any, values: list[Any]) -> None:
    found = axis_values(key, value)
    assert found == values
    assert [type(item) for item in found] == [type(item) for item in values]


def test_a_list_within_a_component_counts_without_being_made() -> None:
    """A small file may ask for more than any memory holds."""
    many = [float(n) for n in range(1, 1001)]
    optimizer = {"name": "adam", "beta_1": many, "beta_2": many, "epsilon": many}
    assert count_values("optimizer", ["sgd", optimizer]) == 1 + 10**9
    assert count_values("initializer", {"name": "identity", "gain": [1.0, 2.0]}) == 2
    assert count_values("depth", {"from": 1, "to": 9}) == 9


def test_a_list_within_a_component_has_the_ids_of_the_list_of_components() -> None:
    one = cells(initializer={"name": "normal", "stddev": [0.1, 0.2]})
    two = cells(initializer=[{"name": "normal", "stddev": value} for value in (0.1, 0.2)])
    assert [cell.id for cell in one] == [cell.id for cell in two]


def test_numbers_are_typed_so_that_ids_do_not_depend_on_their_spelling() -> None:
    one = cells(learning_rate=1, depth=2.0, bias_std=1)
    two = cells(learning_rate=1.0, depth=2, bias_std=1.0)
    assert [c.id for c in one] == [c.id for c in two]


def test_the_order_of_axes_and_a_default_move_no_id() -> None:
    axes = {"depth": [1, 2], "width": [4, 8], "seeds": 2}
    turned = {key: axes.get(key, BLOCK[key]) for key in reversed(BLOCK)}
    ids = {c.id for c in cells(**axes)}
    assert {c.id for c in expand(turned)} == ids
    assert {c.id for c in cells(**axes, optimizer="sgd", loss="auto", probes=10)} == ids
    assert len(ids) == 8


# ---------------------------------------------------------------------------------- studies


def test_blocks_share_training_and_may_override_it() -> None:
    block = {k: v for k, v in BLOCK.items() if k not in ("seeds", "learning_rate", "epochs")}
    found = study_cells(
        [block, {**block, "epochs": 5}],
        seeds=2,
        training={"learning_rate": 0.5, "epochs": 3, "optimizer": "adam"},
        probes=4,
        statistics="cheap",
    )
    assert [(c.epochs, c.seed) for c in found] == [(3, 0), (3, 1), (5, 0), (5, 1)]
    shared = {(c.learning_rate, c.optimizer.label, c.probes, c.statistics) for c in found}
    assert shared == {(0.5, "adam", 4, "cheap")}


def test_a_choice_of_statistics_has_one_identity() -> None:
    """A list in any order is one choice; a preset written out is that preset."""

    def ids(statistics: Any) -> list[str]:
        return [cell.id for cell in study_cells(BLOCK, statistics=statistics)]

    default = [cell.id for cell in study_cells(BLOCK)]
    assert ids("standard") == ids(PRESETS["standard"]) == default
    assert ids("cheap") == ids(PRESETS["cheap"][::-1]) != default
    few = ids(["dead_fraction", "gradient_cosine"])
    assert few == ids(["gradient_cosine", "dead_fraction"])
    assert len({*few, *ids(["dead_fraction"]), *ids("full"), *default}) == 4 * len(default)


def test_a_figure_draws_what_is_recorded() -> None:
    options = {"kind": "layer_profile", "title": "a", "hue": "depth", "statistic": "dead_fraction"}
    for statistics in ("cheap", ["activation_mean"]):
        with pytest.raises(ConfigError) as caught:
            study_cells(BLOCK, figures={"x": options}, statistics=statistics)
        told = "figures.x.statistic: dead_fraction is not recorded; add it to `statistics` (now: "
        assert told in str(caught.value)
    for statistics in ("standard", ["dead_fraction"]):
        assert study_cells(BLOCK, figures={"x": options}, statistics=statistics)


def test_a_band_is_drawn_of_what_is_recorded() -> None:
    options = {"kind": "layer_curves", "title": "a", "statistic": "activation_mean"}
    drawn = {"x": {**options, "band": "activation_std"}}
    assert study_cells(BLOCK, figures=drawn)
    with pytest.raises(ConfigError, match=r"figures\.x\.band: activation_std is not recorded"):
        study_cells(BLOCK, figures=drawn, statistics=["activation_mean"])


def test_a_data_set_that_is_too_long_for_names_of_files_is_refused() -> None:
    teacher = {"name": "whitened_teacher", "strengths": " ".join(90 * ["1"])}
    with pytest.raises(ConfigError, match=r"grid.dataset: 'whitened_.*\.\.\. names files, and is"):
        study_cells({**BLOCK, "dataset": teacher})


@pytest.mark.parametrize(
    ("measured", "options", "expected"),
    [
        ([], {}, "needs the measurement histograms, made at the start"),
        ([{"signal": 0.1}], {"at": "end"}, "needs the measurement histograms, made at the end"),
        ([{}], {}, "give the measurement histograms one range `signal` above 0"),
        ([{"signal": 0.1}, {"signal": 0.2}], {}, "needs the same bins in all layers and networks"),
        ([{"signal": 0.1}, {"signal": 0.1, "bins": 7}], {}, "and one number of `bins`"),
    ],
)
def test_a_figure_of_histograms_needs_common_bins(
    measured: list[dict[str, Any]], options: dict[str, Any], expected: str
) -> None:
    blocks = [
        {"depth": depth, "measurements": [{"name": "histograms", **parameters}]}
        for depth, parameters in enumerate(measured, start=1)
    ]
    drawn = {"kind": "histograms", "title": "x", "statistic": "signal", **options}
    with pytest.raises(ConfigError, match=re.escape(expected)) as caught:
        study_cells([{**BLOCK, **block} for block in blocks] or BLOCK, figures={"x": drawn})
    assert "figures.x: kind histograms needs" in str(caught.value)


def test_bins_are_those_of_the_networks_that_a_figure_shows() -> None:
    ends = [("start", 0.1, 3), ("both", 0.1, 3), ("end", 0.3, 5)]
    blocks = [
        {**BLOCK, "depth": depth, "measurements": [
            {"name": "histograms", "at": at, "signal": signal, "bins": bins}
        ]}
        for depth, (at, signal, bins) in enumerate(ends, start=1)
    ]  # fmt: skip
    drawn = {"kind": "histograms", "title": "x", "statistic": ["signal"], "columns": "depth"}
    study_cells(blocks, figures={"x": drawn})
    study_cells(blocks, figures={"x": {**drawn, "at": "end", "select": {"depth": [1, 3]}}})


def test_a_block_may_have_its_own_seeds() -> None:
    block = {k: v for k, v in BLOCK.items() if k != "seeds"}
    found = study_cells([block, {**block, "width": 9, "seeds": [7]}], seeds=2)
    assert [(c.width, c.seed) for c in found] == [(8, 0), (8, 1), (9, 7)]


def test_a_grid_is_a_union_without_repetitions() -> None:
    found = study_cells([{**BLOCK, "depth": [1, 2]}, {**BLOCK, "depth": [3, 2], "loss": "auto"}])
    assert [c.depth for c in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            {"layer_initializers": {"1": "ones"}},
            {"layer_initializers": {"first": "ones"}},
            "layer_initializers '1: ones' and 'first: ones' are the same network (depth 2,",
        ),
        (
            {"layer_initializers": {"last": "ones", "2": "orthogonal"}},
            {"layer_initializers": {"2": "orthogonal", "3": "ones"}},
            "layer_initializers '2: orthogonal; last: ones' and '2: orthogonal; 3: ones' are the",
        ),
        (
            {"layer_initializers": {}},
            {"layer_initializers": {"2": "zeros"}},
            "layer_initializers 'none' and '2: zeros' are the same network (depth 2, initializer ",
        ),
        (
            {},
            {"bias_initializer": {"name": "constant", "value": 0}},
            "bias_initializer 'normal' and 'constant(value=0.0)' are the same network",
        ),
    ],
)
def test_a_network_has_one_spelling_in_a_grid(
    one: dict[str, Any], other: dict[str, Any], said: str
) -> None:
    """A second one would be trained and counted as another network."""
    for block in (one, other):
        assert len(study_cells({**BLOCK, **block})) == 1
    with pytest.raises(ConfigError) as caught:
        study_cells([{**BLOCK, **one}, {**BLOCK, **other}])
    assert str(caught.value).startswith(f"s.yaml: grid: {said}")


def test_networks_that_differ_are_not_taken_for_second_spellings() -> None:
    layers = [{}, {"1": "ones"}, {"2": "ones"}, {"last": "ones"}, {"last": "lecun_normal"}]
    biases = ["normal", "constant", {"name": "constant", "value": 0.0}]
    assert len(study_cells({**BLOCK, "layer_initializers": layers, "bias_std": 0.0})) == 5
    assert len(study_cells([{**BLOCK, "bias_initializer": biases[1:], "seeds": 2}])) == 4
    assert len(study_cells({**BLOCK, "depth": [2, 3], "layer_initializers": {"3": "ones"}})) == 2


def test_one_block_is_a_list_of_one() -> None:
    assert study_cells(BLOCK) == study_cells([BLOCK])


def test_more_seeds_keep_the_cells() -> None:
    block = {k: v for k, v in BLOCK.items() if k != "seeds"}
    few, many = (study_cells(block, seeds=n) for n in (2, 4))
    assert many[:2] == few
    assert len({c.id for c in many}) == 4


# -------------------------------------------------------------------------- stacks and shards

CHANGES: dict[str, Any] = {
    "dataset": Component("circles"),
    "depth": 3,
    "width": 9,
    "activation": Component("relu"),
    "initializer": Component("he_normal"),
    "learning_rate": 0.2,
    "batch_size": 17,
    "epochs": 2,
    "seed": 1,
    "optimizer": Component("adam"),
    "loss": "output_sum",
    "use_bias": False,
    "bias_std": 0.1,
    "target_loss": 0.1,
    "probes": 11,
    "statistics": "cheap",
    "measurements": canonical(["spectra"]),
    "widths": Component("alternating"),
    "normalization": Component("batch"),
    "residual": "plain",
    "clipping": Component("norm"),
    "schedule": Component("cosine"),
    "dropout": 0.1,
    "code": "initializer=0123456789ab",
    "layer_initializers": of_layers({"last": "zeros"}),
    "bias_initializer": Component("constant"),
    "tied": True,
    "precision": "float16",
    "loss_scale": Component("dynamic"),
    "network": Component("network"),
}


def test_every_parameter_is_tried() -> None:
    assert set(CHANGES) == {f.name for f in fields(Cell)}


@pytest.mark.parametrize("name", CHANGES)
def test_stacks_share_all_but_the_replica_fields(name: str) -> None:
    cell = cells()[0]
    pair = [cell, replace(cell, **{name: CHANGES[name]})]
    assert len(sharding.stacks(pair)) == (1 if name in REPLICA_FIELDS else 2)


def test_stacks_keep_every_cell_once_and_in_order() -> None:
    every = cells(depth=[1, 2], width=[4, 8], initializer=["zeros", "ones"], seeds=3)
    stacks = sharding.stacks(every)
    assert [len(stack.cells) for stack in stacks] == [6] * 4
    assert sorted(c.id for s in stacks for c in s.cells) == sorted(c.id for c in every)
    for stack in stacks:
        assert [every.index(c) for c in stack.cells] == sorted(every.index(c) for c in stack.cells)
        assert stack.first == stack.cells[0]


def test_a_shard_is_a_data_set_a_width_and_a_depth() -> None:
    data = ["digits", {"name": "circles", "noise": 0.1}]
    every = cells(dataset=data, depth=[1, 40], activation=["tanh", "relu"], seeds=2)
    shards = sharding.shards(every)
    assert set(shards) == {
        "digits-width8-depth0to32",
        "digits-width8-depth33to64",
        "circles_noise_0.1-width8-depth0to32",
        "circles_noise_0.1-width8-depth33to64",
    }
    for name, shard in shards.items():
        assert shard.name == name
        assert len(shard.stacks) == 2  # the activation functions
        assert {sharding.shard_name(c) for c in shard.cells} == {name}
    assert sorted(c.id for s in shards.values() for c in s.cells) == sorted(c.id for c in every)


def test_networks_that_are_not_trained_share_a_shard() -> None:
    shards = sharding.shards(cells(depth=[1, 2, 3], epochs=0))
    assert {name: len(shard.cells) for name, shard in shards.items()} == {"digits-width8-start": 3}


def test_new_cells_join_existing_shards() -> None:
    few, many = (
        sharding.shards(cells(depth=[1, 40])),
        sharding.shards(cells(depth=[1, 2, 40, 100], seeds=3)),
    )
    assert set(few) < set(many)
    for name, shard in few.items():
        assert set(shard.cells) < set(many[name].cells)


def test_the_deepest_cells_are_all_of_the_largest_depth() -> None:
    chosen = selection.deepest(cells(seeds=2, depth=[2, 5, 3]))
    assert [(cell.depth, cell.seed) for cell in chosen] == [(5, 0), (5, 1)]
    assert selection.deepest([]) == []


@pytest.mark.parametrize(
    "content",
    [b'{"name": "s", "content": {}, "seeds": 1}', b'{"name": "s", "content": 3, "seeds": 1}'],
)
def test_a_file_of_something_else_is_no_study(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"study.json: not the definition of a study \("):
        definitions.read_study(tmp_path / "study.json", tmp_path)


@pytest.mark.parametrize(
    "label",
    ["lsuv(examples=Infinity)", f"normal(stddev={'[' * 99_999})", "normal(stddev)", "zeros\n"],
)
def test_a_label_that_is_none_stays_as_it_is(label: str) -> None:
    assert selection.canonical_label("initializer", label) == label


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("He", ["he_normal", "variance_scaling(scale=2.0)"]),  # both are called so
        (["He", "zeros"], ["he_normal", "variance_scaling(scale=2.0)", "zeros"]),
        ("variance_scaling(scale=2)", ["variance_scaling(scale=2.0)"]),
        ("zeros", ["zeros"]),  # and no other's name, but a label
    ],
)
def test_a_figure_selects_by_label_or_display_name(wanted: Any, expected: list[str]) -> None:
    he = {"name": "variance_scaling", "scale": 2.0}
    block = {**BLOCK, "initializer": ["he_normal", he, "zeros", "he_uniform"]}
    names = {
        "initializer": {"he_normal": "He", "variance_scaling(scale=2)": "He", "he_uniform": "zeros"}
    }
    figure = {"kind": "atlas", "title": "A", "statistic": "final_train_loss", "hue": "initializer"}
    content = {
        "title": "T",
        "question": "Q?",
        "grid": block,
        "names": names,
        "figures": {"a": {**figure, "select": {"initializer": wanted}}},
    }
    study = loading.build_study("s", content, 1, "s.yaml")
    chosen = selection.select(study.cells, study.figures["a"]["select"])
    assert list(dict.fromkeys(cell.initializer.label for cell in chosen)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("none", [""]),
        (["last: normal(stddev=1)", "none"], ["", "last: normal(stddev=1.0)"]),
    ],
)
def test_a_figure_selects_initializers_of_layers(wanted: Any, expected: list[str]) -> None:
    layers = [{}, {"last": {"name": "normal", "stddev": 1}}, {"first": "ones"}]
    figure = {"kind": "atlas", "title": "A", "statistic": "final_train_loss"}
    figure["hue"] = "layer_initializers"
    content: dict[str, Any] = {
        "title": "T",
        "question": "Q?",
        "grid": {**BLOCK, "layer_initializers": layers},
        "figures": {"a": {**figure, "select": {"layer_initializers": wanted}}},
    }
    study = loading.build_study("s", content, 1, "s.yaml")
    chosen = selection.select(study.cells, study.figures["a"]["select"])
    assert [cell.column("layer_initializers") for cell in chosen] == expected
    content["figures"]["a"]["select"] = {"layer_initializers": "last: zeros"}
    with pytest.raises(ConfigError, match="allowed: none, last: normal"):
        loading.build_study("s", content, 1, "s.yaml")


# ------------------------------------------------------------- what a figure may take together

PROFILE = {"kind": "layer_profile", "title": "a", "statistic": "signal_log10_rms"}


@pytest.mark.parametrize("name", [f.name for f in PARAMETERS if f.name != "seed"])
def test_no_parameter_is_pooled_as_if_it_were_a_seed(name: str) -> None:
    """But every one can divide a figure, and be selected."""
    cell = cells()[0]
    pair = [cell, replace(cell, **{name: CHANGES[name]})]
    where = "s.yaml: figures.x"

    def check(options: dict[str, Any]) -> None:
        options = {**PROFILE, **options}
        config.validate(options, {**STUDY_SCHEMA, "$ref": "#/$defs/figure"}, "s.yaml")
        check_figure(options, Needs(), "standard", pair, {}, where)

    other = "depth" if name != "depth" else "width"
    with pytest.raises(ConfigError) as caught:
        check({"hue": other})
    first, second = (str(c.column(name)) or "none" for c in pair)
    assert f"that differ in {name} ({first}, {second})" in str(caught.value)
    assert str(caught.value).startswith(where) and len(str(caught.value).splitlines()) == 1
    for key in ("rows", "columns", "hue"):
        check({"hue": other, key: name})
    check({"hue": other, "select": {name: cell.column(name)}})
    check({"hue": other, "select": {name: [cell.column(name)]}})


STUDY_SCHEMA = {k: v for k, v in schema.study_schema().items() if k in ("$schema", "$defs")}


def test_seeds_are_pooled() -> None:
    study_cells({**BLOCK, "seeds": 3}, figures={"x": {**PROFILE, "hue": "initializer"}})


def test_a_kind_shows_some_parameters_by_itself() -> None:
    block = {**BLOCK, "depth": [1, 2], "learning_rate": [0.1, 0.2]}
    atlas = {"kind": "atlas", "title": "a", "statistic": "final_test_accuracy", "hue": "width"}
    study_cells(block, figures={"x": {**atlas, "columns": "learning_rate"}})
    with pytest.raises(ConfigError, match=r"differ in learning_rate \(0.1, 0.2\)"):
        study_cells(block, figures={"x": atlas})
    times = {"kind": "learning_time", "title": "a", "statistic": "test_accuracy", "level": 0.5}
    study_cells(block, figures={"x": {**times, "hue": "initializer"}})
    profiles = {**block, "width": [4, 8], "widths": ["constant", "alternating"]}
    study_cells(profiles, figures={"x": {**times, "hue": "widths"}})  # which names the width
    with pytest.raises(ConfigError, match=r"differ in width \(4, 8\) and widths"):
        study_cells(profiles, figures={"x": {**times, "hue": "initializer"}})


def test_a_figure_of_a_measurement_is_of_the_networks_that_have_it() -> None:
    blocks = [BLOCK, {**BLOCK, "epochs": 2, "measurements": ["spectra"]}]
    shown = {"kind": "layer_singular_values", "title": "a", "hue": "initializer"}
    study_cells(blocks, figures={"x": shown})
    blocks.append({**BLOCK, "epochs": 3, "measurements": ["spectra"]})
    with pytest.raises(ConfigError, match=r"differ in epochs \(2, 3\)"):
        study_cells(blocks, figures={"x": shown})


def test_networks_with_one_display_name_are_drawn_as_one() -> None:
    block = {**BLOCK, "initializer": ["he_normal", "he_uniform"]}
    figures = {"x": {**PROFILE, "hue": "activation", "columns": "initializer"}}
    study_cells(
        block, figures=figures, names={"initializer": dict.fromkeys(block["initializer"], "He")}
    )
    with pytest.raises(ConfigError, match=r"differ in initializer \(he_normal, he_uniform\)"):
        study_cells(block, figures={"x": {**PROFILE, "hue": "activation"}})


def test_an_own_kind_says_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "figures.py").write_text(
        "from gradprop.figures.kind import Kind\nfrom gradprop.grid.kinds import Needs\n"
        "KINDS = {'mine': Kind(None, None, None, Needs(shows=('depth',)))}\n",
        encoding="utf-8",
    )
    document = {"title": "a", "question": "b", "grid": {**BLOCK, "depth": [1, 2]}}
    document["figures"] = {"x": {"kind": "mine", "title": "a"}}
    loading.build_study("s", document, 1, "s.yaml", tmp_path)
    document["grid"] = {**BLOCK, "width": [1, 2]}
    with pytest.raises(ConfigError, match=r"figures.x: .* differ in width \(1, 2\)"):
        loading.build_study("s", document, 1, "s.yaml", tmp_path)
