"""Advice in the layers and for the optimizer that a model has."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import gradprop
from gradprop.advice import Finding, advice
from gradprop.advice.findings import KINDS
from gradprop.advice.keras_code import layers_of
from gradprop.inspection import Run
from gradprop.inspection.settings import settings
from tests.monitor.networks import L, data

schedules = keras.optimizers.schedules
# Every layer on the shape of its inputs, without the minibatch.
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Conv2D": (
        L.Conv2D(4, 3, strides=(1, 2), padding="same", activation="relu"),
        (8, 8, 3),
    ),
    "Conv2DTranspose": (
        L.Conv2DTranspose(5, (3, 2), 2, activation=L.LeakyReLU(0.1), kernel_regularizer="l2"),
        (8, 4, 4),
    ),
    "DepthwiseConv2D": (L.DepthwiseConv2D(3, depth_multiplier=2, activation="tanh"), (17, 8, 5)),
    "SeparableConv2D": (L.SeparableConv2D(4, 3, activation=keras.ops.sin), (15, 6, 10)),
    "Conv3D": (L.Conv3D(3, 1, kernel_initializer="he_uniform"), (13, 4, 2, 2)),
    "Conv1D": (L.Conv1D(4, 5, padding="causal", dilation_rate=2, use_bias=False), (52, 6)),
    "LSTM": (L.LSTM(5, return_sequences=True, recurrent_initializer="he_normal"), (52, 4)),
    "GRU": (L.GRU(6, return_sequences=True), (52, 5)),
    "SimpleRNN": (L.SimpleRNN(7, "relu", kernel_initializer="he_normal"), (52, 6)),
    "Dense": (L.Dense(8, kernel_constraint="max_norm"), (7,)),
}
OUTPUT = "the output"


@pytest.fixture(scope="module")
def seen() -> tuple[keras.Model, Run]:
    """Return a network of layers of many kinds, and what a probe finds of it."""
    keras.utils.set_random_seed(0)
    h = inputs = keras.Input((8, 8, 3))
    for layer, shape in LAYERS.values():
        h = layer(L.Reshape(shape)(h) if h.shape[1:] != shape else h)
    model = keras.Model(inputs, L.Dense(3, "softmax", name=OUTPUT.replace(" ", "_"))(h))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, gradprop.probe(model, *data((8, 8, 3), 8)).run


def finding(kind: str, layer: int | None = None, step: int = 0, concerns: str = "") -> Finding:
    return Finding(kind, step, layer, -4.5, 1.0, "x", concerns=concerns)


def made(code: str) -> list[Any]:
    """Return the layers that a code makes."""
    lines = code.splitlines()
    return [eval(line, {"keras": keras}) for line in lines if line.startswith("keras.layers.")]


def own(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with, but for its name and what advice may change."""
    changed = ("name", "activation")
    config = layer.get_config().items()
    return {k: v for k, v in config if k not in changed and not k.endswith("_initializer")}


@pytest.mark.parametrize("name", LAYERS)
def test_advice_is_in_the_layer_that_was_found(name: str, seen: tuple[keras.Model, Run]) -> None:
    _, run = seen
    layer, shape = LAYERS[name]
    number = list(run.network["name"]).index(layer.name) + 1
    after = (L.BatchNormalization, L.LayerNormalization, L.Activation)
    codes = set()
    of_others = {"wrong output", "logits misnamed", "initial loss", "penalty too strong"}
    for kind in set(KINDS) - of_others:
        found = finding(kind, number, step=1)
        given = advice([found], run.layers, run.judged, run.steps, run.settings)
        codes |= {remedy.code for remedy in given if "keras.layers" in remedy.code}
    codes = {code for code in codes if "residual" not in code and "adapt" not in code}
    instead = {code for code in codes if name == "SimpleRNN" and "keras.layers.LSTM" in code}
    assert instead <= {"keras.layers.LSTM(7)"}
    for code in codes - instead:
        parts = made(code)
        assert [own(part) for part in parts if not isinstance(part, after)] == [own(layer)], code
        assert {type(part) for part in parts} <= {type(layer), *after}
        assert np.isfinite(keras.Sequential(parts)(np.ones((2, *shape), np.float32))).all()
    assert len(codes) >= (2 if layer.name in ("lstm", "gru", "simple_rnn") else 3)


def test_advice_about_the_network_has_every_class_once(seen: tuple[keras.Model, Run]) -> None:
    _, run = seen
    given = advice([finding("symmetric")], run.layers, run.judged, run.steps, run.settings)
    first, second = [[type(part).__name__ for part in made(remedy.code)] for remedy in given]
    assert first == ["LSTM", "GRU", "SimpleRNN"]
    functions = run.network.set_index("name")["activation"]
    linear = [name for name, (layer, _) in LAYERS.items() if functions[layer.name] == "linear"]
    assert second == [name for name in linear if name not in first]
    assert "which linear needs" in given[1].change and 2 < len(second) < len(LAYERS) - 3
    found = [finding("initial loss"), finding("wrong output", concerns="function")]
    for remedy in advice(found, run.layers, run.judged, run.steps, run.settings)[-2:]:
        (output,) = made(remedy.code)
        assert (output.units, output.activation.__name__) == (3, "softmax")


@pytest.mark.parametrize(
    "name", ["Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"]
)
def test_weights_as_advised_have_the_variance_over_the_fan_in(
    name: str, seen: tuple[keras.Model, Run]
) -> None:
    """Inputs of variance 1 become pre-activations of variance sigma_w2, away from the edges."""
    _, run = seen
    layer, (*_, channels) = LAYERS[name]
    defined = layers_of(run.settings)[layer.name]
    keras.utils.set_random_seed(0)
    drawn = defined.drawn(2.0)
    squares = []
    for _ in range(20):
        (one,) = made(defined.code(**drawn, activation=None))
        z = np.asarray(one(keras.random.normal((4, 24, 24, channels))))
        squares.append(np.mean(z[:, 3:-3, 3:-3] ** 2))
    assert np.mean(squares) == pytest.approx(2.0, abs=4 * np.std(squares) / np.sqrt(20))
    assert np.std(squares) < 1.0


RATES = {
    "exponential": schedules.ExponentialDecay(0.5, 10, 0.5, staircase=True),
    "piecewise": schedules.PiecewiseConstantDecay([1, 5], [0.5, 0.25, 0.125]),
    "polynomial": schedules.PolynomialDecay(0.5, 10, end_learning_rate=0.1),
    "inverse time": schedules.InverseTimeDecay(0.5, 10, 0.5),
    "cosine": schedules.CosineDecay(0.1, 10, alpha=0.1, warmup_target=0.5, warmup_steps=4),
    "restarts": schedules.CosineDecayRestarts(0.5, 4),
}


def test_a_run_on_disk_has_its_definition(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    hidden = [L.Conv1D(4, 3, padding="same", activation="sigmoid") for _ in range(9)]
    model = keras.Sequential([keras.Input((6, 2)), *hidden, L.Flatten(), L.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = gradprop.Monitor(tmp_path / "run")
    model.fit(*data((6, 2), 32), verbose=0, callbacks=[monitor])
    run = Run.read(tmp_path / "run")
    assert run.diagnosis.kind == "vanishing"
    drawn = [remedy.code for remedy in run.remedies if "Draw" in remedy.change]
    assert [type(part).__name__ for code in drawn for part in made(code)] == ["Conv1D"]
    shutil.rmtree(tmp_path / "run" / "settings")  # of an earlier version
    older = [remedy.code for remedy in Run.read(tmp_path / "run").remedies]
    assert older and all(made(code) for code in older if code.startswith("keras.layers."))


class Falling(schedules.CosineDecay):  # type: ignore[name-defined]
    """Another function under the arguments of one of Keras."""

    def __call__(self, step: Any) -> Any:
        return super().__call__(step) / 2


class Own(schedules.LearningRateSchedule):  # type: ignore[name-defined]
    """A schedule of somebody's own."""

    def __call__(self, step: Any) -> Any:
        return 0.5 / (1.0 + keras.ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {}


LAYER = pd.DataFrame({"step": 0, "layer": [1, 2], "log10_update_ratio": -1.0})
NETWORK = pd.DataFrame(
    {"layer": [1, 2], "name": ["a", "b"], "fan_in": 4, "fan_out": 4, "activation": "relu"}
)


def line(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False)])
    model.compile(optimizer, "mse")
    return model


def moved(model: keras.Model, x: Any) -> float:
    """Return how far the weight moves in a step on targets 0: rate * 2 w E[x^2]."""
    before = float(model.weights[0].numpy().item())
    model.fit(x, 0 * x, batch_size=len(x), verbose=0)
    return abs(before - float(model.weights[0].numpy().item())) / abs(before)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", [*RATES, "own", "other", "function", "number"])
def test_a_smaller_rate_keeps_its_schedule(name: str, wrapped: bool) -> None:
    if wrapped and name not in ("cosine", "own", "number"):
        return
    rate: Any = {
        **RATES,
        "own": Own(),
        "other": Falling(0.5, 9),
        "function": lambda: 0.5,
        "number": 0.5,
    }[name]
    sgd = keras.optimizers.SGD(rate)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd, 2.0) if wrapped else sgd
    model, x = line(optimizer), np.full((4, 1), 0.1, np.float32)
    moved(model, x)  # the step is compiled by now
    known = settings(model)
    slower, _ = advice([finding("unstable")], LAYER, NETWORK, None, known)
    what = "learning rate" if name == "number" else "rates of the schedule"
    assert slower.change == f"Multiply the {what} by 0.01."
    before = float(model.optimizer.learning_rate)
    exec(slower.code, {"keras": keras, "model": model})
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01 * before, rel=1e-3)
    assert moved(model, x) == pytest.approx(0.01 * before * 2 * 0.01, rel=1e-2)
    if name in RATES:
        (new,) = (r for r in settings(model)["class_name"] if r in dir(schedules))
        assert new == type(rate).__name__
        new_rate = sgd.get_config()["learning_rate"]
        scaled = schedules.deserialize(new_rate)
        for step in range(12):
            assert float(scaled(step)) == pytest.approx(0.01 * float(rate(step)), rel=1e-3)


def test_clipping_under_a_scaled_loss_is_set_where_it_acts() -> None:
    """Gradients reach the inner optimizer unscaled; bounds of the outer one are not looked at."""
    x = np.full((4, 1), 100.0, np.float32)

    def model_with(**bounds: float) -> keras.Model:
        model = line(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-3), 64.0))
        for name, bound in bounds.items():
            setattr(model.optimizer, name, bound)
        return model

    def step(model: keras.Model) -> float:
        before = float(model.weights[0].numpy().item())
        model.fit(x, 0 * x, batch_size=4, verbose=0)
        return abs(before - float(model.weights[0].numpy().item()))

    free = step(model_with())
    assert free > 0.05
    outside = model_with(clipnorm=1.0)
    assert step(outside) == free
    _, clip = advice([finding("unstable")], LAYER, NETWORK, None, settings(outside))
    assert "inner_optimizer.clipnorm" in clip.code and "unscaled gradients" in clip.effect
    exec(clip.code, {"keras": keras, "model": outside})
    assert step(outside) == pytest.approx(1e-3, rel=1e-3)  # the rate times 1, not 1 / 64
    given = advice([finding("unstable")], LAYER, NETWORK, None, settings(outside))
    assert not [remedy for remedy in given if "Clip" in remedy.change]
    table = pd.DataFrame([{"clips": True}])  # what the outer one is set to
    given = advice([finding("unstable")], LAYER, NETWORK, table, settings(model_with(clipnorm=1.0)))
    assert [remedy for remedy in given if "Clip" in remedy.change]


def test_data_are_scaled_by_all_of_them_and_not_by_a_minibatch() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([100.0, -3.0], [20.0, 0.1], (500, 2)).astype(np.float32)
    y = rng.normal(40.0, 8.0, (500, 1))
    steps = pd.DataFrame(
        [{"input_mean": 48.0, "input_std": 53.0, "target_mean": 41.0, "target_std": 9.0}]
    )
    names: dict[str, Any] = {"keras": keras, "x": x, "y": y}
    for kind, numbers in (("input", "mean 48"), ("target", "mean 41")):
        (remedy,) = advice([finding(f"{kind} not scaled")], LAYER, NETWORK, steps)
        assert "in one minibatch" in remedy.effect and numbers in remedy.effect
        exec(remedy.code, names)
    for made_of in (np.asarray(names["normalization"](x)), names["y"]):
        np.testing.assert_allclose(made_of.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(made_of.std(axis=0), 1, rtol=1e-3)
    names["y"] = np.stack([y[:, 0], np.full(500, 3.0)], axis=1)  # one of two is constant
    exec(remedy.code, names)
    assert (names["y"][:, 1] == 0).all() and names["y"][:, 0].std() == pytest.approx(1)


class OfDict(keras.Model):
    """A model whose inputs are known when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.last = L.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.last(L.concatenate([inputs["small"], inputs["large"]]))


@pytest.mark.parametrize("form", ["list", "dict", "joined", "subclass"])
def test_every_input_that_is_not_scaled_has_a_normalization(form: str) -> None:
    rng = np.random.default_rng(0)
    x = {"small": rng.normal(size=(64, 3)), "large": rng.normal(500.0, 100.0, (64, 2))}
    x = {name: values.astype(np.float32) for name, values in x.items()}
    one, other = inputs = [keras.Input((3,), name="small"), keras.Input((2,), name="large")]
    if form == "subclass":
        model: keras.Model = OfDict()
        model(x)
    elif form == "joined":
        model = keras.Model(inputs, L.Dense(1)(L.concatenate(inputs)))
    else:
        parts = [L.Dense(4, "tanh")(L.Rescaling(1.0)(other)), L.Dense(4, "tanh")(one)]
        given = dict(zip(x, inputs, strict=True)) if form == "dict" else inputs
        model = keras.Model(given, L.Dense(1)(L.concatenate(parts)))
    model.compile("sgd", "mse")
    listed = list(x.values())
    found = gradprop.probe(model, listed if form == "list" else x, rng.normal(size=(64, 1)))
    assert found.diagnose().kind == "input not scaled"
    code = found.run.remedies[0].code
    for data_of in (x,) if form == "subclass" else (x, listed):
        names = {"keras": keras, "x": data_of}
        exec(code, names)
        if form in ("list", "dict"):
            assert 'behind the input "large"' in code
            made_of = names["normalization"](x["large"])
        else:
            by_name = names["normalizations"]
            made_of = by_name["large" if data_of is x else 1](x["large"])
        np.testing.assert_allclose(np.mean(made_of, axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(np.std(made_of, axis=0), 1, rtol=1e-3)


REGULARIZERS = {
    "l2": "l2",
    "l1": keras.regularizers.L1(0.5),
    "both": keras.regularizers.L1L2(0.0, 0.25),
    "orthogonal": keras.regularizers.OrthogonalRegularizer(0.5, mode="columns"),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_smaller_penalty_is_one_of_the_layer(name: str) -> None:
    given = REGULARIZERS[name]
    model = keras.Sequential([keras.Input((1,)), L.Dense(4, "relu", kernel_regularizer=given)])
    strong = Finding("penalty too strong", 0, None, 30.0, 20.0, "x")
    (lighter,) = advice([strong], LAYER, NETWORK, None, settings(model))
    (layer,) = made(lighter.code)
    w = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(3, 4)), "float32")
    before = float(model.layers[0].kernel_regularizer(w))
    assert float(layer.kernel_regularizer(w)) == pytest.approx(before / 300, rel=1e-3)
    assert (layer.units, layer.activation.__name__) == (4, "relu")
    assert "loaded" not in lighter.effect
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert float(again.kernel_regularizer(w)) == pytest.approx(before / 300, rel=1e-3)


def test_a_penalty_that_has_no_code_is_divided_in_the_model() -> None:
    own = L.Dense(4, "relu", kernel_regularizer=lambda w: keras.ops.sum(w**2))
    model = keras.Sequential([keras.Input((1,)), own])
    model.compile("sgd", "mse")
    strong = Finding("penalty too strong", 0, None, 30.0, 20.0, "x")
    (lighter,) = advice([strong], LAYER, NETWORK, None, settings(model))
    assert "a loaded model has the old factor again" in lighter.effect
    w, before = np.ones((3, 4), np.float32), float(model.weights[0].regularizer(np.ones((3, 4))))
    exec(lighter.code, {"keras": keras, "model": model})
    assert float(model.weights[0].regularizer(w)) == pytest.approx(before / 300)


ENDS = {
    "usual end": schedules.PolynomialDecay(0.5, 10),
    "usual end above": schedules.PolynomialDecay(1e-6, 10),
    "end above": schedules.PolynomialDecay(1e-3, 10, end_learning_rate=0.1),
    "cycles": schedules.PolynomialDecay(0.5, 4, cycle=True),
}


@pytest.mark.parametrize("name", [*RATES, *ENDS])
@pytest.mark.parametrize("ratio", [-1.0, -5.0, -7.0])
def test_other_rates_begin_in_proportion_and_rise_nowhere_else(name: str, ratio: float) -> None:
    old = {**RATES, **ENDS}[name]
    model = line(keras.optimizers.SGD(old))
    kind = "unstable" if ratio > -3 else "not learning"
    table = LAYER.assign(log10_update_ratio=ratio)
    given = advice([finding(kind)], table, NETWORK, None, settings(model))
    exec(given[0].code, {"keras": keras, "model": model})
    new = schedules.deserialize(model.optimizer.get_config()["learning_rate"])
    steps = range(16)
    before, after = (np.array([float(rate(step)) for step in steps]) for rate in (old, new))
    assert after[0] == pytest.approx(before[0] * 10 ** (-3 - ratio), rel=1e-3)
    rises = np.diff(after) > 1e-6 * after[:-1]
    assert not (rises & (np.diff(before) <= 0)).any()
    if "usual end" in name:
        assert after.max() == pytest.approx(after[0])


def test_a_definition_is_kept_where_it_has_code() -> None:
    found = settings(line("adam"))
    assert found.to_dict("records") == [
        {"layer": found["layer"][0], "class_name": "Dense",
         "arguments": '{"units": "1", "use_bias": "False"}'},
        {"layer": "", "class_name": "Adam", "arguments": "{}"},
    ]  # fmt: skip

    class Mine(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], 2), name="kernel")

        def call(self, x: Any) -> Any:
            return x @ self.kernel

    model = keras.Sequential([keras.Input((3,)), Mine(), L.Dense(2, lambda z: z)])
    model.compile(None, "mse")
    state = random.getstate()  # where Keras takes seeds from
    known = settings(model).set_index("class_name")["arguments"].to_dict()
    assert known == {"": "{}", "Dense": '{"units": "2", "activation": null}'}
    assert random.getstate() == state
    scaled = L.Dense(2, kernel_initializer=keras.initializers.Constant(np.float64(0.5)))
    (one, _) = settings(keras.Sequential([keras.Input((3,)), scaled, L.Dense(1)]))["arguments"]
    assert "keras.initializers.Constant(value=0.5)" in one
    layer = layers_of(settings(model))[model.layers[0].name]
    assert layer.code(kernel_initializer='"zeros"') == 'kernel_initializer = "zeros"'


def relu(z: Any) -> Any:
    """Compute something else than its name says."""
    return keras.ops.sin(z)


class Gated(L.Dense):
    """A dense layer that applies a function inside."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.tanh(super().call(inputs))


OWN: dict[str, tuple[Any, str, str]] = {
    "lambda": (lambda: L.Dense(16, eval("lambda z: keras.ops.sin(z)", {"keras": keras})),
               "activation=your_activation", "the lambda of this layer"),
    "named": (lambda: L.Dense(16, relu), "activation=your_activation", "another relu"),
    "of ops": (lambda: L.Dense(16, keras.ops.sin), "activation=keras.ops.sin", ""),
    "a layer": (lambda: L.Dense(16, kernel_regularizer=keras.regularizers.L2(0.0)), "", ""),
    "a class": (lambda: Gated(16), "Gated(16", "Gated is your Dense"),
    "another argument": (lambda: L.Dense(16, "tanh", bias_initializer=lambda s, dtype: 0 * relu(
        keras.ops.ones(s, dtype))), "bias_initializer=your_bias_initializer", "that of this layer"),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_what_has_no_code_is_not_left_out(name: str) -> None:
    """Code that is pasted, with what its comments name, computes what the layers compute."""
    make, argument, comment = OWN[name]
    keras.utils.set_random_seed(0)
    layers = [make() for _ in range(3)]
    between = [L.Activation(relu)] if name == "a layer" else []
    parts = [part for layer in layers for part in (layer, *between)]
    model = keras.Sequential([keras.Input((16,)), *parts, L.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    run = gradprop.probe(model, x, x[:, :1]).run
    given = advice([finding("symmetric")], run.layers, run.judged, run.steps, run.settings)
    drawn, normal = (
        next(remedy for remedy in found if word in remedy.change)
        for word, found in (
            ("Draw", given),
            ("Normalize", advice([finding("exploding")], run.layers, run.judged, run.steps,
                                 run.settings)),
        )
    )  # fmt: skip
    assert argument in drawn.code and comment in drawn.code
    assert "linear" not in drawn.change + normal.code
    assert ("gain" in drawn.change) == (name == "another argument")
    names = {"keras": keras, "Gated": Gated, "your_bias_initializer": "zeros"}
    names["your_activation"] = keras.ops.tanh if name == "a class" else keras.ops.sin
    (line,) = drawn.code.splitlines()
    (pasted,) = [eval(line, names)]
    pasted.build((None, 16))
    pasted.set_weights(layers[0].get_weights())
    np.testing.assert_allclose(pasted(x), layers[0](x), atol=1e-6)
    _, normalization, function = (eval(line, names) for line in normal.code.splitlines())
    assert isinstance(normalization, L.BatchNormalization)
    expected = np.tanh(x) if name in ("a class", "another argument") else np.sin(x)
    np.testing.assert_allclose(function(x), expected, atol=1e-5)


def test_a_layer_of_no_class_of_keras_has_a_function_that_is_not_known() -> None:
    network = NETWORK.assign(kind=["Mine", "Dense"], activation="linear")
    rows = [("a", "", "{}"), ("b", "Dense", '{"units": "4"}')]
    known = pd.DataFrame(rows, columns=["layer", "class_name", "arguments"])
    drawn, *_ = advice([finding("symmetric")], LAYER, network, None, known)
    assert "gain" not in drawn.change and drawn.code.endswith("# of your Mine")
    deep = pd.concat([network.iloc[:1], network], ignore_index=True).assign(layer=[1, 2, 3])
    given = advice([finding("dead")], LAYER, deep, None, known)
    (normal,) = (remedy.code for remedy in given if "Normalize" in remedy.change)
    assert "Activation(your_activation)  # your_activation is what Mine applies" in normal
