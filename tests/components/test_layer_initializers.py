"""Initializers of single layers: their text, what they draw, what is refused, and theory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradprop.components import initializers
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import (
    draw_kernel,
    hidden_initializer,
    initializer_of,
    of_layers,
    parse_layers,
)
from gradprop.errors import ConfigError
from gradprop.grid import config, loading, schema, sharding
from gradprop.grid.axes import axis_values, count_values
from gradprop.prediction import mean_field, spectra
from gradprop.prediction.data import unpredicted
from gradprop.prediction.networks import predict
from gradprop.spec import Cell, Component, LayerInitializer
from tests.reference import make_cell

SMALL = {"name": "normal", "stddev": 0.02}


def cell_of(layers: dict[str, Any], **changes: Any) -> Cell:
    return make_cell(**{"depth": 4, "layer_initializers": layers, **changes})


def text_of(layers: tuple[LayerInitializer, ...]) -> Any:
    return replace(make_cell(), layer_initializers=layers).column("layer_initializers")


def test_one_text_whatever_the_order() -> None:
    given = {"last": SMALL, "10": "zeros", "2": "orthogonal", "first": {"name": "ones"}}
    layers = of_layers(given)
    assert [one.key for one in layers] == ["first", "2", "10", "last"]
    assert layers[-1].initializer == Component("normal", (("stddev", 0.02),))
    assert of_layers(dict(reversed(given.items()))) == layers
    text = "first: ones; 2: orthogonal; 10: zeros; last: normal(stddev=0.02)"
    assert text_of(layers) == text
    assert parse_layers(text) == parse_layers(text.replace("zeros", "zeros()")) == layers
    assert of_layers({}) == () == make_cell().layer_initializers
    assert text_of(()) == ""


def test_a_cell_without_has_its_id() -> None:
    assert cell_of({}).id == make_cell(depth=4).id
    assert cell_of({"last": SMALL}).id != cell_of({"first": SMALL}).id != cell_of({}).id
    default = {"name": "normal", "stddev": 0.01}
    assert cell_of({"last": default}).id == cell_of({"last": "normal"}).id


def test_axes() -> None:
    lists = [{}, {"last": {"name": "normal", "stddev": [0.1, 1.0]}, "first": "zeros"}]
    assert [text_of(one) for one in axis_values("layer_initializers", lists)] == [
        "",
        "first: zeros; last: normal(stddev=0.1)",
        "first: zeros; last: normal(stddev=1.0)",
    ]
    assert count_values("layer_initializers", lists) == 3
    assert count_values("layer_initializers", {}) == 1


def test_which_layer_has_which() -> None:
    cell = cell_of({"first": "ones", "3": "zeros", "last": SMALL})
    names = [initializer_of(cell, layer).name for layer in range(1, 6)]
    assert names == ["ones", "glorot_normal", "zeros", "glorot_normal", "normal"]
    assert hidden_initializer(cell) is None
    assert hidden_initializer(cell_of({"first": "ones"})) == Component("glorot_normal")


def test_kernels_of_other_layers_are_as_before() -> None:
    plain, own = cell_of({}, seed=3), cell_of({"last": SMALL, "2": "he_normal"}, seed=3)
    shapes = [(7, 7)] * 5
    stack = [own, plain, replace(own, seed=4)]
    drawn = initializers.draw_kernels(stack, shapes, np.zeros((1, 7), np.float32))
    for layer in range(1, 6):
        kernel = draw_kernel(own, layer, (7, 7))
        np.testing.assert_array_equal(drawn[layer - 1][0], kernel)
        same = np.array_equal(kernel, draw_kernel(plain, layer, (7, 7)))
        assert same == (layer in (1, 3, 4))
    alone = make_cell(initializer=SMALL, depth=4, seed=3)
    np.testing.assert_array_equal(draw_kernel(own, 5, (7, 7)), draw_kernel(alone, 5, (7, 7)))


def test_replicas_may_have_their_own() -> None:
    cells = [cell_of({}), cell_of({"last": SMALL}), cell_of({"last": "zeros"})]
    (stack,) = sharding.stacks(cells)
    assert len(stack.cells) == 3
    digests = {sharding.shard_digest(*sharding.shards(some).values()) for some in
               ([cells[0], cell] for cell in cells)}  # fmt: skip
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("layers", "changes", "expected"),
    [
        ({"6": "zeros"}, {}, "layer_initializers.6: no layer 6 at depth 4; allowed: 1 to 5"),
        (
            {"first": "zeros", "1": "ones"},
            {},
            "layer_initializers: 1 and first both name layer 1 at depth 4",
        ),
        (
            {"5": "zeros", "last": "ones"},
            {},
            "layer_initializers: 5 and last both name layer 5 at depth 4",
        ),
        (
            {"first": "zeros", "last": "ones"},
            {"depth": 0},
            "layer_initializers: first and last both name layer 1 at depth 0",
        ),
        (
            {"2": "sussillo_abbott"},
            {"activation": "tanh"},
            "layer_initializers.2: sussillo_abbott has no gain for the activation 'tanh'; it has "
            "for linear, relu",
        ),
        (
            {"last": "lsuv"},
            {},
            "layer_initializers: lsuv scales the kernels of all layers, one after the other, and "
            "can't be that of some",
        ),
        (
            {"last": "zeros"},
            {"initializer": "lsuv"},
            "layer_initializers: lsuv scales the kernels of all layers, one after the other, and "
            "can't be that of some",
        ),
    ],
)
def test_conflicts(layers: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    assert initializers.conflict(cell_of(layers, **changes)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"third": "zeros"}, ".third: unknown key; allowed: first, last, the number of a layer"),
        ({"0": "zeros"}, ".0: unknown key; allowed: first, last, the number of a layer"),
        ({"last": "zeroes"}, ".last: 'zeroes' is not allowed; allowed: zeros"),
        ({"3": {"name": "normal", "std": 1}}, ".3.std: unknown key; allowed: name, stddev, mean"),
        ("zeros", ": 'zeros' is not a mapping (key: value)"),
        ([{"last": "zeros"}, 3], "[1]: 3 is not a mapping (key: value)"),
    ],
)
def test_mistakes(value: Any, expected: str) -> None:
    block = {"layer_initializers": value}
    with pytest.raises(ConfigError) as caught:
        config.validate(
            {"title": "a", "question": "b", "grid": block}, schema.study_schema(), "study.yaml"
        )
    assert str(caught.value).startswith(f"study.yaml: grid.layer_initializers{expected}")


def test_a_study_with_the_axis() -> None:
    block = {
        "dataset": "digits", "depth": [1, 3], "width": 8, "activation": "relu", "epochs": 0,
        "initializer": "he_normal", "learning_rate": 0.1, "batch_size": 16,
        "layer_initializers": [{}, {"last": SMALL}, {"4": "zeros"}],
    }  # fmt: skip
    content = {"title": "a", "question": "b", "grid": {**block, "depth": 3}}
    config.validate(content, schema.study_schema(), "study.yaml")
    study = loading.build_study("s", content, 1, "study.yaml")
    assert [cell.column("layer_initializers") for cell in study.cells] == [
        "",
        "last: normal(stddev=0.02)",
        "4: zeros",
    ]
    message = r"study\.yaml: grid\.layer_initializers\.4: no layer 4 at depth 1; allowed: 1 to 2"
    with pytest.raises(ConfigError, match=message):
        loading.build_study("s", {**content, "grid": block}, 1, "study.yaml")
    twice = {**block, "depth": 3, "layer_initializers": [{"last": "zeros"}, {"last": "zeros"}]}
    with pytest.raises(ConfigError, match="'last: zeros' stands twice in the list"):
        loading.build_study("s", {**content, "grid": twice}, 1, "study.yaml")


# ------------------------------------------------------------------------------------- theory


def test_theory_takes_the_variance_of_every_layer() -> None:
    """Linear and wide: lengths change from the layer on, and signals in the layers before it."""
    wide = {"depth": 5, "width": 10**5, "activation": "linear", "initializer": "lecun_normal"}
    plain = predict(cell_of({}, **wide), 10**5, 10**5)
    own = predict(cell_of({"3": {"name": "variance_scaling", "scale": 0.01}}, **wide), 10**5, 10**5)
    assert plain is not None and own is not None
    np.testing.assert_allclose(own.length - plain.length, [0, 0, -2, -2, -2, -2], atol=1e-3)
    np.testing.assert_allclose(own.signal - plain.signal, [-1, -1, 0, 0, 0, 0], atol=1e-3)


def test_theory_against_networks() -> None:
    """A small output layer and an orthogonal one in the middle, in float64."""
    rng = np.random.default_rng(0)
    layers = {"last": SMALL, "2": "orthogonal"}
    cell = cell_of(layers, depth=3, width=60, activation="relu", initializer="he_normal")
    squares, signals = [], []
    for _ in range(400):
        h = rng.standard_normal(50)
        h /= math.sqrt(np.mean(h**2))
        q, r = np.linalg.qr(rng.standard_normal((60, 60)))
        kernels = [
            math.sqrt(2 / 50) * rng.standard_normal((50, 60)),
            q * np.sign(np.diag(r)),
            math.sqrt(2 / 60) * rng.standard_normal((60, 60)),
            0.02 * rng.standard_normal((60, 40)),
        ]
        z = []
        for kernel in kernels:
            z.append(h @ kernel)
            h = np.maximum(z[-1], 0)
        delta = [rng.standard_normal(40)]
        for kernel, inner in zip(kernels[:0:-1], z[-2::-1], strict=True):
            delta.insert(0, (kernel @ delta[0]) * (inner > 0))
        squares.append([math.log10(np.mean(layer**2)) for layer in z])
        logs = np.array([math.log10(np.mean(layer**2)) / 2 for layer in delta])
        signals.append(logs - logs[2])
    found = predict(cell, 50, 40)
    assert found is not None
    np.testing.assert_allclose(found.length, np.mean(squares, axis=0), atol=0.03)
    np.testing.assert_allclose(found.signal, np.mean(signals, axis=0), atol=0.03)
    np.testing.assert_allclose(found.length_sd, np.std(squares, axis=0), rtol=0.15)


def test_laws_of_equal_layers_are_silent_where_layers_differ() -> None:
    deep = {"initializer": "he_normal", "activation": "relu", "width": 50}
    first, middle = cell_of({"first": SMALL}, **deep), cell_of({"3": SMALL}, **deep)
    assert mean_field.sigma_w2(first) == pytest.approx(2)
    assert math.isnan(mean_field.sigma_w2(middle))
    assert spectra.law(first) == spectra.law(cell_of({}, **deep))
    assert spectra.law(middle) is None
    assert predict(cell_of({"3": "zeros"}, **deep), 64, 10) is None
    assert unpredicted(cell_of({"3": "zeros"}, **deep)).startswith("the kernels are constant")
    assert unpredicted(cell_of({"3": SMALL}, **deep)) == ""


def test_a_stack_starts_as_the_keras_models(blobs: Dataset) -> None:
    from gradprop.spec import Stack
    from gradprop.training.stacking import StackedNetwork
    from tests import keras_reference

    cells = [cell_of({}), cell_of({"first": "orthogonal", "3": SMALL}), cell_of({"last": "zeros"})]
    stack = StackedNetwork(Stack(tuple(cells)), blobs)
    for replica, cell in enumerate(cells):
        model = keras_reference.build_model(cell, blobs)
        for layer, kernel in enumerate(stack.kernels, start=1):
            expected = model.get_layer(f"layer_{layer}").kernel.numpy()
            np.testing.assert_array_equal(kernel.numpy()[replica], expected)
