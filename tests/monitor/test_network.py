"""What a monitor tells rules beside statistics: fans, scales of data, how far units differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from gradprop.advice import diagnose
from gradprop.monitor import Monitor, Probe, probe
from gradprop.monitor.recording import fans, unit_spread
from tests.monitor.networks import L, data, mlp, same

LAYERS = {
    "dense": (L.Dense(5), (7,)),
    "conv": (L.Conv2D(5, 3), (9, 9, 4)),
    "grouped": (L.Conv2D(6, 3, groups=2), (9, 9, 4)),
    "conv1d": (L.Conv1D(5, 3), (9, 4)),
    "transposed": (L.Conv2DTranspose(5, 3), (9, 9, 4)),
    "depthwise": (L.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4)),
    "einsum": (L.EinsumDense("abc,cde->abde", (None, 3, 5)), (9, 4)),
    "reversed": (L.EinsumDense("abde,dec->abc", (None, 7)), (9, 3, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_fan_in_is_the_number_of_weights_that_reach_a_unit(name: str) -> None:
    layer, shape = LAYERS[name]
    x = tf.ones((1, *shape))
    layer(x)
    (kernel, *_) = layer.trainable_variables
    with tf.GradientTape() as tape:
        z = layer(x)
        one = tf.reshape(z, (-1, z.shape[-1]))[tf.size(z) // z.shape[-1] // 2, 0]
        unit = z[0, 4, 0, 0] if name == "einsum" else one
    reached = int(tf.math.count_nonzero(tape.gradient(unit, kernel.value)))
    fan_in, fan_out = fans(layer, kernel)
    assert fan_in == reached
    assert fan_in * fan_out == np.prod(kernel.shape)


def test_weights_with_a_constraint_are_told() -> None:
    x, y = data()
    hidden = L.Dense(4, kernel_constraint="max_norm")
    model = keras.Sequential([keras.Input(x.shape[1:]), hidden, L.Dense(1)])
    model.compile(loss="mse")
    assert list(probe(model, x, y).network["constrained"]) == [True, False]


def test_an_embedding_takes_one_row_and_a_vector_one_entry() -> None:
    layer = L.Embedding(11, 4)
    layer(tf.zeros((1, 2), tf.int32))
    assert fans(layer, layer.embeddings) == (1, 44)
    normalization = L.LayerNormalization()
    normalization(tf.ones((2, 6)))
    assert fans(normalization, normalization.gamma) == (1, 6)
    assert fans(normalization, None) == (0, 0)


def test_rules_judge_the_layers_on_the_way_and_know_what_else_acts_on_them() -> None:
    inputs = keras.Input((6, 6, 2))
    h = L.Conv2D(4, 3, padding="same", name="first")(inputs)
    h = L.ReLU()(L.BatchNormalization(name="norm")(h))
    h = L.Add()([h, L.Conv2D(4, 3, padding="same", activation="tanh", name="branch")(h)])
    model = keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(h)))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data((6, 6, 2), 16)
    network = probe(model, x, y).network
    assert list(network["name"]) == ["first", "norm", "branch", "last"]
    assert list(network["judged"]) == [True, False, True, True]
    assert list(network["extra"]) == ["normalization", "", "skip", ""]
    assert list(network["fan_in"]) == [18, 1, 36, 144]
    assert list(network["activation"]) == ["relu", "linear", "tanh", "linear"]


def test_the_scale_of_data_is_that_of_numpy() -> None:
    x, _ = data()
    x = 3 + 2 * x[:32]
    y = np.stack([100 + x[:, 0], 5 * x[:, 1]], axis=1)
    model = keras.Sequential([keras.Input((7,)), L.Dense(4), L.Dense(2)])
    model.compile(loss="mse")
    (row,) = probe(model, x, y).steps.to_dict("records")
    for name, values in (("input", x), ("target", y)):
        exact = values.astype(np.float64)
        found = [row[f"{name}_{column}"] for column in ("mean", "std", "largest")]
        np.testing.assert_allclose(found, [exact.mean(), exact.std(), abs(exact).max()], rtol=1e-12)
    assert row["loss"] == "mean_squared_error"
    best = np.mean((y.astype(float) - y.mean(axis=0, dtype=float)) ** 2)
    assert row["guessing_loss"] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "kind", "guess"),
    [
        ("sparse_categorical_crossentropy", 3, "cross_entropy", math.log(3)),
        ("binary_crossentropy", 1, "cross_entropy", math.log(2)),
        (keras.losses.BinaryCrossentropy(), 4, "cross_entropy", math.log(2)),
        ("mae", 1, "other", math.nan),
    ],
)
def test_the_loss_is_compared_with_that_of_guessing(
    loss: Any, outputs: int, kind: str, guess: float
) -> None:
    model = keras.Sequential([keras.Input((7,)), L.Dense(outputs, "sigmoid")])
    model.compile(loss=loss)
    x, y = data(examples=8)
    targets = y if outputs == 3 else np.ones((8, outputs), np.float32)
    (row,) = probe(model, x, targets).steps.to_dict("records")
    assert row["loss"] == kind
    assert row["guessing_loss"] == pytest.approx(guess, nan_ok=True)


class Adding(keras.layers.Layer):
    """Hands its inputs on, and adds their mean square to the loss."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(0.3 * keras.ops.mean(inputs**2))
        return inputs


class Owning(keras.Model):
    """Has a method of its own for Keras's loss, penalties included."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


class Sparing(keras.Model):
    """Leaves penalties out of its loss."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, **_: Any) -> Any:
        return keras.ops.mean((y - y_pred) ** 2)


@pytest.mark.parametrize("kind", [keras.Model, Owning, Sparing])
def test_the_penalty_is_what_the_model_adds_to_the_loss_of_the_data(kind: Any) -> None:
    x, _ = data(examples=16)
    y = x[:, :2]
    inputs = keras.Input((7,))
    h = L.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))(Adding()(inputs))
    model = kind(inputs, L.Dense(2, bias_regularizer="l1", bias_initializer="ones")(h))
    model.compile(loss="mse")
    (row,) = probe(model, x, y).steps.to_dict("records")
    of_data = float(np.mean((np.asarray(model(x)) - y) ** 2))
    kernel = np.asarray(model.layers[-2].kernel, np.float64)
    added = 0.5 * (kernel**2).sum() + 0.01 * 2 + 0.3 * (x.astype(float) ** 2).mean()
    assert row["penalty"] == pytest.approx(0.0 if kind is Sparing else added, rel=1e-5)
    assert row["minibatch_loss"] == pytest.approx(of_data + row["penalty"], rel=1e-5)


def test_a_loss_that_layers_add_alone_is_no_penalty() -> None:
    x, y = data(examples=16)
    inputs = keras.Input((7,))
    model = Owning(inputs, Adding()(L.Dense(2)(Adding()(inputs))))
    model.compile()
    (row,) = probe(model, x, y).steps.to_dict("records")
    assert row["penalty"] == 0
    assert row["minibatch_loss"] > 0


def recurrent(kind: Any, spread: float | None, sequences: bool = False, **given: Any) -> Any:
    """Return a recurrent layer and a dense one; its kernel is orthogonal without a spread."""
    keras.utils.set_random_seed(1)
    drawn = keras.initializers.RandomNormal(stddev=spread) if spread else "orthogonal"
    layer = kind(8, recurrent_initializer=drawn, return_sequences=sequences, **given)
    model = keras.Sequential([keras.Input((20, 5)), layer, L.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("spread", [None, 1.5])
def test_growth_over_time_is_that_of_backpropagation_through_time(
    spread: float | None, sequences: bool
) -> None:
    x, y = data((20, 5), 16)
    model = recurrent(L.SimpleRNN, spread, sequences)
    labels = np.repeat(y[:, None], 20, axis=1) if sequences else y
    seen = probe(model, x, labels)
    row = seen.layers.iloc[0]
    w, u, b, v, c = (np.asarray(value, np.float64) for value in model.get_weights())
    h = [np.zeros((16, 8))]
    for t in range(20):
        h.append(np.tanh(x[:, t] @ w + h[-1] @ u + b))
    chosen, at = np.eye(3)[y], range(20) if sequences else [19]
    outputs = {t: np.exp(h[t + 1] @ v + c) for t in at}
    errors = {t: p / p.sum(axis=1, keepdims=True) - chosen for t, p in outputs.items()}
    given = {t: error @ v.T / len(at) for t, error in errors.items()}
    delta, gradient = np.zeros((16, 8)), np.zeros((8, 8))
    sizes: list[float] = []
    for t in reversed(range(20)):
        delta = (given.get(t, 0.0) + delta @ u.T) * (1 - h[t + 1] ** 2)
        sizes.insert(0, float(np.sqrt(np.mean((delta @ w.T) ** 2))))
        gradient += h[t].T @ delta / 16
    mean_square = np.mean([h[t + 1] ** 2 for t in at])
    one = (x.astype(float) ** 2).mean() * (w**2).sum() / 8
    signal = math.sqrt(sum((g**2).sum() for g in given.values()) / 16)
    length = math.sqrt(8 * max(mean_square, min(one, 1.0)))
    most = 20 * length * math.sqrt(len(at)) * signal
    growth = math.log10(np.linalg.norm(gradient) / most)
    assert row["recurrent_backward_growth"] == pytest.approx(growth, abs=1e-3)
    assert row["recurrent_forward_growth"] == pytest.approx(math.log10(mean_square / one), abs=1e-5)
    largest = np.linalg.svd(u, compute_uv=False)[0]
    assert row["recurrent_singular_value"] == pytest.approx(largest, rel=1e-6)
    assert spread or growth < -1
    logs = seen.times.set_index("time")["input_signal_log10_rms"]
    assert logs.index.tolist() == list(range(1, 21))
    np.testing.assert_allclose(logs, np.log10(sizes), atol=1e-3)
    fall = math.log10(sizes[0] / sizes[-1])
    assert row["recurrent_signal_decades"] == pytest.approx(fall, abs=1e-3)


def test_time_steps_are_those_of_the_layer() -> None:
    """Backwards where it goes so, behind an embedding, with padding, and of several layers."""
    x, y = data((20, 5), 16)
    forward, backward = (recurrent(L.GRU, None, go_backwards=back) for back in (False, True))
    backward.set_weights(forward.get_weights())
    one, other = probe(forward, x, y).times, probe(backward, x[:, ::-1], y).times
    np.testing.assert_allclose(
        one["input_signal_log10_rms"], other["input_signal_log10_rms"], atol=1e-4
    )
    words = np.random.default_rng(3).integers(1, 9, (16, 12))
    words[:, 8:] = 0
    both = L.Bidirectional(L.LSTM(4, return_sequences=True))
    model = keras.Sequential(
        [keras.Input((12,)), L.Embedding(9, 6, mask_zero=True), both, L.SimpleRNN(3), L.Dense(3)]
    )
    model.compile(loss="mse")
    seen = probe(model, words, np.eye(3, dtype="float32")[y])
    assert seen.times.groupby("layer")["time"].agg(list).tolist() == [list(range(1, 13))] * 3
    assert set(seen.times["name"]) <= set(seen.layers["name"])
    simple = seen.times[seen.times["layer"] == seen.times["layer"].max()]
    assert simple["input_signal_log10_rms"].isna().tolist() == [False] * 8 + [True] * 4
    dense, _ = data((5,), 16)
    plain = keras.Sequential([keras.Input((5,)), L.Dense(3)])
    plain.compile(loss="mse")
    none = probe(plain, dense, np.eye(3, dtype="float32")[y]).times
    assert none.empty and list(none) == list(seen.times)


def by_time(model: keras.Model, x: Any, y: Any) -> Probe:
    model.compile("sgd", "mse")
    return probe(model, x, y)


def test_time_steps_are_those_of_the_examples_that_have_them() -> None:
    """A mask takes examples out of the mean, and padding in front is no signal of 0."""
    x, y = data((6, 3), 16)
    y = np.eye(3, dtype="float32")[y]
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 3))
    model = keras.Model(inputs, L.Dense(3)(L.LSTM(4)(L.Masking()(inputs))))
    whole = by_time(model, x[:1], y[:1]).times["input_signal_log10_rms"]
    x[1:, :4] = 0
    padded = by_time(model, x, y)
    logs = padded.times["input_signal_log10_rms"]
    np.testing.assert_allclose(logs[:4], whole[:4], atol=1e-5)  # of the one example that has them
    assert abs(padded.layers["recurrent_signal_decades"].iloc[0]) < 2
    x[0, :4] = 0
    assert by_time(model, x, y).times["input_signal_log10_rms"].isna().tolist() == 4 * [1] + 2 * [0]
    assert np.isfinite(by_time(model, x, y).layers["recurrent_signal_decades"].iloc[0])


def test_time_steps_that_are_not_measured_are_told() -> None:
    x, y = data((6, 3), 16)
    y = np.eye(3, dtype="float32")[y]
    inputs = keras.Input((6, 3))
    named = by_time(keras.Model(inputs, L.Dense(3)(L.GRU(4)(sequences=inputs))), x, y)
    assert named.times["time"].tolist() == [1, 2, 3, 4, 5, 6]
    nested = keras.Input((2, 6, 3))
    h = L.GlobalAveragePooling1D()(L.TimeDistributed(L.LSTM(4, name="inner"))(nested))
    outer = by_time(keras.Model(nested, L.Dense(3)(h)), np.stack([x, x], axis=1), y)
    whole = keras.Input((6, 3), dtype="int32")
    numbers = by_time(keras.Model(whole, L.Dense(3)(L.LSTM(4, name="inner")(whole))), x, y)
    for seen, why in ((outer, "a wrapper calls it"), (numbers, "no sequence of fractions")):
        (note,) = (n for n in seen.unmeasured.itertuples() if n.what == "dC/dx by time step")
        assert str(note.layer).endswith("inner") and why in str(note.why) and seen.times.empty


def test_stateful_layers_are_left_as_they_were(tmp_path: Path) -> None:
    x, y = data((6, 3), 16)
    y = np.eye(3, dtype="float32")[y]
    found = []
    for callbacks in ([], [Monitor(tmp_path / "run", schedule=1)]):
        keras.utils.set_random_seed(3)
        layers = [L.LSTM(4, stateful=True, return_sequences=True), L.GRU(4, stateful=True)]
        model = keras.Sequential([keras.Input(batch_shape=(8, 6, 3)), *layers, L.Dense(3)])
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
        states = [np.array(s) for layer in layers for s in layer.states]
        found.append([*model.get_weights(), *states])
        probe(model, x[:8], y[:8])
        assert all(
            np.array_equal(now, then)
            for now, then in zip((s for p in layers for s in p.states), states, strict=True)
        )
    assert same(*found)


def test_gates_are_measured_one_by_one_and_other_layers_not() -> None:
    x, y = data((20, 5), 16)
    seen = probe(recurrent(L.LSTM, 1.0), x, y)
    kernel = seen.layers.iloc[0]
    model = recurrent(L.LSTM, 1.0)
    gates = np.split(np.asarray(model.layers[0].cell.recurrent_kernel), 4, axis=1)
    largest = max(np.linalg.svd(gate, compute_uv=False)[0] for gate in gates)
    assert kernel["recurrent_singular_value"] == pytest.approx(largest, rel=1e-6)
    columns = [name for name in map(str, seen.layers) if name.startswith("recurrent_")]
    assert seen.layers[columns].iloc[1:].isna().all(axis=None)
    shared, inputs = L.GRU(4), keras.Input((20, 5))
    twice = keras.Model(inputs, L.Dense(3)(shared(inputs) + shared(inputs[:, ::-1])))
    twice.compile(loss="mse")
    rows = probe(twice, x, np.eye(3, dtype="float32")[y]).layers.set_index("name")
    assert rows["recurrent_backward_growth"].isna().all()


@pytest.mark.filterwarnings("ignore:.*received `from_logits=True`")
@pytest.mark.parametrize(
    ("outputs", "from_logits", "policy", "kind"),
    [
        ("softmax", False, "float32", "healthy"),
        ("softmax", True, "float32", "logits misnamed"),
        ("softmax", True, "mixed_bfloat16", "wrong output"),  # a cast hides the softmax
        ("linear", True, "float32", "healthy"),
        ("softmax layer", True, "float32", "logits misnamed"),
        ("two layers", False, "float32", "wrong output"),
        ("two layers", True, "float32", "wrong output"),
        ("sigmoid", False, "float32", "healthy"),
        ("sigmoid", True, "float32", "logits misnamed"),
    ],
)
def test_softmax_twice_is_told_by_what_the_loss_computes(
    outputs: str, from_logits: bool, policy: str, kind: str
) -> None:
    x, y = data(examples=32)
    binary = outputs == "sigmoid"
    targets = (y > 0).astype("float32")[:, None] if binary else y
    keras.utils.set_random_seed(0)
    first = outputs if outputs in ("softmax", "linear", "sigmoid") else "linear"
    first = "softmax" if outputs == "two layers" else first
    further = [L.Softmax()] if outputs in ("softmax layer", "two layers") else []
    dense = [L.Dense(8, "tanh", dtype=policy), L.Dense(1 if binary else 3, first, dtype=policy)]
    model = keras.Sequential([keras.Input((7,)), *dense, *further])
    known = (
        keras.losses.BinaryCrossentropy if binary else keras.losses.SparseCategoricalCrossentropy
    )
    model.compile("sgd", known(from_logits=from_logits))
    seen = probe(model, x, targets)
    steps = seen.steps.assign(train_loss=seen.steps["minibatch_loss"])
    found = diagnose(seen.layers, steps, seen.network, "cross_entropy")
    assert found.kind == kind
    once = np.asarray(model(x), np.float64)
    if binary:
        right, of_outputs = targets[:, 0], once[:, 0]
        applied = 1 / (1 + np.exp(-of_outputs)) if kind == "wrong output" else of_outputs
        chosen = np.where(right == 1, applied, 1 - applied)
    else:
        again = np.exp(once) / np.exp(once).sum(axis=1, keepdims=True)
        linear = outputs == "linear"
        twice = kind == "wrong output" and outputs != "two layers"
        chosen = (again if twice or linear else once)[range(32), y]
    loss = seen.steps["minibatch_loss"].item()
    assert loss == pytest.approx(-np.log(chosen).mean(), rel=1e-2 if "16" in policy else 1e-5)


def test_tokens_and_normalized_inputs_have_no_scale() -> None:
    x, y = data(examples=8)
    for first, inputs in (
        (L.Embedding(9, 4), (abs(x) * 2).astype(int)),
        (L.LayerNormalization(), x),
    ):
        model = keras.Sequential([keras.Input((7,)), first, L.Flatten(), L.Dense(3, "softmax")])
        model.compile(loss="sparse_categorical_crossentropy")
        (row,) = probe(model, inputs, y).steps.to_dict("records")
        assert math.isnan(row["input_std"])


def test_units_differ_by_their_deviation_from_the_mean_over_units() -> None:
    v = np.random.default_rng(0).normal(1.0, 2.0, (50, 8)).astype(np.float32)
    deviation = v.astype(float) - v.mean(axis=1, dtype=float, keepdims=True)
    expected = np.sqrt((deviation**2).mean() / (v.astype(float) ** 2).mean())
    assert unit_spread(v) == pytest.approx(expected, rel=1e-12)
    assert unit_spread(np.repeat(v[:, :1], 8, axis=1)) == 0.0
    assert unit_spread(np.zeros((3, 4), np.float32)) == 0.0
    assert math.isnan(unit_spread(v[:, :1]))
    assert math.isnan(unit_spread(np.full((2, 2), np.nan, np.float32)))


def _judged(model: keras.Model, x: Any, y: Any) -> str:
    found = probe(model, x, y)
    steps = found.steps.assign(train_loss=found.steps["minibatch_loss"])
    network = found.network[found.network["judged"]]
    guess = float(steps["guessing_loss"].iloc[0])
    return diagnose(found.layers, steps, network, steps["loss"].iloc[0], guess).kind


def test_units_of_equal_weights_and_equal_signals_never_differ() -> None:
    x, y = data(examples=32)
    constant = keras.initializers.Constant(0.1)
    kinds = {}
    for name, (first, second, last) in {
        "all": (constant, constant, constant),
        "zeros": ("zeros", "zeros", "zeros"),
        "hidden": ("glorot_uniform", constant, constant),
        "last": ("glorot_uniform", "glorot_uniform", "zeros"),
        "none": ("glorot_uniform", "glorot_uniform", "glorot_uniform"),
    }.items():
        keras.utils.set_random_seed(0)
        inits = [*((11, "tanh", init) for init in (first, second)), (3, "softmax", last)]
        layers = [L.Dense(n, phi, kernel_initializer=init) for n, phi, init in inits]
        model = keras.Sequential([keras.Input((7,)), *layers])
        model.compile(loss="sparse_categorical_crossentropy")
        kinds[name] = _judged(model, x, y)
    assert kinds == dict.fromkeys(("all", "zeros", "hidden"), "symmetric") | dict.fromkeys(
        ("last", "none"), "healthy"
    )


def test_inputs_are_judged_as_the_first_layer_gets_them() -> None:
    x, y = data(examples=32)
    pixels = np.round(127 + 60 * x)
    assert _judged(mlp(), pixels, y) == "input not scaled"
    scaled = keras.Sequential([keras.Input((7,)), L.Rescaling(1 / 100, -1.27), *mlp().layers])
    scaled.compile(loss="sparse_categorical_crossentropy")
    assert _judged(scaled, pixels, y) == "healthy"


def test_the_numbers_of_what_is_not_finite_are_there_with_every_choice(tmp_path: Any) -> None:
    x, y = data(examples=32)
    model = mlp()
    model.layers[1].kernel.assign(np.full((11, 11), np.nan))
    rows = probe(model, x, y, statistics="cheap").layers
    assert list(rows["weight_nonfinite_fraction"]) == [0, 1, 0, 0]
    assert list(rows["activation_nonfinite_fraction"]) == [0, 1, 1, 1]
    assert isinstance(rows, pd.DataFrame)
    assert (rows["signal_nonfinite_fraction"] > 0).all()
