"""The training loop: steps, minibatches, probes, targets and statuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import kurtosis

from gradprop.components.datasets import Dataset
from gradprop.components.initializers import draw_kernel, layer_shapes
from gradprop.probes.statistics import MINIBATCHES, canonical
from gradprop.spec import Cell, Stack
from gradprop.training import loop
from gradprop.training.loop import ScheduleError, minibatches, probe_steps, total_steps
from gradprop.training.recording import Recorder, StackResult, other_minibatches, underflowed
from gradprop.training.stacking import StackedNetwork, Step, _first_bad_layer
from gradprop.training.stopwatch import Stopwatch
from tests import keras_reference
from tests.reference import make_cell, run_step

import keras  # isort: skip
import tensorflow as tf  # isort: skip


def train(cells: Sequence[Cell], dataset: Dataset) -> StackResult:
    (result,) = loop.train([Stack(tuple(cells))], dataset, Stopwatch(), "test")
    return result


# ------------------------------------------------------------------------ steps and probes


@pytest.mark.parametrize(
    ("steps", "probes", "expected"),
    [
        (0, 10, [0]),
        (1, 10, [0, 1]),
        (100, 1, [0, 100]),
        (100, 2, [0, 1, 100]),
        (100, 3, [0, 1, 10, 100]),
        (1000, 4, [0, 1, 10, 100, 1000]),
        (5, 10, [0, 1, 2, 3, 4, 5]),
        (16, 5, [0, 1, 2, 4, 8, 16]),
    ],
)
def test_probe_steps(steps: int, probes: int, expected: list[int]) -> None:
    assert probe_steps(steps, probes) == expected


@pytest.mark.parametrize("steps", [1, 2, 9, 220, 99_999])
@pytest.mark.parametrize("probes", [1, 2, 10, 30])
def test_probes_begin_and_end_with_the_training(steps: int, probes: int) -> None:
    found = probe_steps(steps, probes)
    assert found[0] == 0
    assert found[-1] == steps
    assert found == sorted(set(found))
    assert len(found) <= probes + 1


def test_total_steps() -> None:
    assert total_steps(make_cell(batch_size=13, epochs=1), 120) == 9
    assert total_steps(make_cell(batch_size=13, epochs=4), 120) == 36
    assert total_steps(make_cell(batch_size=120, epochs=2), 120) == 2
    assert total_steps(make_cell(epochs=0), 120) == 0


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_minibatch_larger_than_the_data(epochs: int, blobs: Dataset) -> None:
    cell = make_cell(batch_size=121, epochs=epochs)
    with pytest.raises(
        ScheduleError, match=r"batch_size 121 .*'gaussian_mixture' \(120 examples\)"
    ):
        train([cell], blobs)


def test_tables_hold_every_probe(blobs: Dataset) -> None:
    cells = [make_cell(seed=seed, depth=3, epochs=2, probes=4) for seed in range(2)]
    result = train(cells, blobs)
    probes = probe_steps(18, 4)
    assert len(probes) == 5
    ids = [cell.id for cell in cells]
    steps = {(cell, step) for cell in ids for step in probes}
    assert set(result.steps[["cell", "step"]].itertuples(index=False, name=None)) == steps
    layers = {(*pair, layer) for pair in steps for layer in (1, 2, 3, 4)}
    found = list(result.layers[["cell", "step", "layer"]].itertuples(index=False, name=None))
    assert set(found) == layers
    assert len(found) == len(layers)
    assert result.cells["cell"].tolist() == ids


# ------------------------------------------------------------------------------ minibatches


def first_batches(cells: Sequence[Cell], count: int) -> NDArray[np.int32]:
    """Return minibatches, (steps, replicas, batch)."""
    return np.stack(list(islice(minibatches(Stack(tuple(cells)), 120), count)))


def test_an_epoch_takes_every_example_once() -> None:
    batches = first_batches([make_cell(batch_size=10), make_cell(batch_size=10, seed=1)], 36)
    assert batches.shape == (36, 2, 10)
    epochs = batches.reshape(3, 12, 2, 10)
    for replica in range(2):
        orders = [epoch[:, replica].ravel() for epoch in epochs]
        for order in orders:
            assert sorted(order) == list(range(120))
        assert len({order.tobytes() for order in orders}) == 3


def test_an_incomplete_minibatch_is_left_out() -> None:
    batches = first_batches([make_cell(batch_size=50)], 3)
    assert len(set(batches[:2].ravel())) == 100
    assert len(set(batches[2].ravel())) == 50


def test_minibatches_depend_on_nothing_but_the_seed() -> None:
    cells = [
        make_cell(seed=7),
        make_cell(seed=8),
        make_cell(seed=7, depth=9, width=3, initializer="zeros", learning_rate=2.0),
        make_cell(seed=7, activation="relu", optimizer="adam", epochs=50),
    ]
    together = first_batches(cells, 20)
    for other in (2, 3):
        np.testing.assert_array_equal(together[:, 0], together[:, other])
    assert (together[:, 0] != together[:, 1]).any()
    np.testing.assert_array_equal(first_batches([cells[1]], 20)[:, 0], together[:, 1])


def test_other_minibatches_depend_on_nothing_but_seed_and_step() -> None:
    cells = [make_cell(seed=seed, batch_size=50) for seed in (7, 8, 7)]
    cells[2] = replace(cells[2], depth=9, epochs=0, statistics="full")
    drawn = other_minibatches(Stack(tuple(cells)), 120, 3)
    assert drawn.shape == (MINIBATCHES, 3, 50)
    assert all(len(set(examples)) == 50 for draw in drawn for examples in draw.tolist())
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    alone = other_minibatches(Stack((cells[1],)), 120, 3)
    np.testing.assert_array_equal(drawn[:, 1], alone[:, 0])
    orders = [*drawn[:, :2].reshape(-1, 50), *other_minibatches(Stack((cells[0],)), 120, 4)[:, 0]]
    assert len({order.tobytes() for order in orders}) == 3 * MINIBATCHES
    # Independent draws overlap: each of the examples is in any of them by 50 / 120.
    draws = [other_minibatches(Stack((cells[0],)), 120, step)[:, 0] for step in range(100)]
    counts = np.bincount(np.ravel(draws), minlength=120) / (100 * MINIBATCHES)
    np.testing.assert_allclose(counts, 50 / 120, atol=4 * np.sqrt(0.25 / (100 * MINIBATCHES)))


# ------------------------------------------------------------------------- steps to target


def recorder(targets: Sequence[float], dataset: Dataset) -> Recorder:
    cells = [make_cell(target_loss=target, seed=n) for n, target in enumerate(targets)]
    network: Any = SimpleNamespace()
    return Recorder(Stack(tuple(cells)), network, dataset)


def step_of(losses: Sequence[float]) -> Step:
    """Return a step of a minibatch of two examples whose mean losses are `losses`."""
    values = tf.constant([[0.5 * loss, 1.5 * loss] for loss in losses], tf.float32)
    count = len(losses)
    return Step(values, tf.zeros((count, 2, 3)), tf.zeros(count, tf.int32), None)


def observe(recorder: Recorder, losses: Sequence[Sequence[float]]) -> list[int]:
    examples = np.zeros((len(losses[0]), 2), np.int32)
    for step, row in enumerate(losses):
        recorder.observe(step, step_of(row), examples)
    return [int(step) for step in recorder.reached]


def test_steps_to_target_by_hand(blobs: Dataset) -> None:
    """The mean of the losses so far is 8, 6, 4.67, 3.75, 3.1: it first meets 4 in step 3."""
    losses = [8, 4, 2, 1, 0.5]
    for target, step in ((8, 0), (6, 1), (5, 2), (4, 3), (3.1, 4), (3, -1), (0, -1)):
        assert observe(recorder([target], blobs), [[loss] for loss in losses]) == [step]


def test_targets_are_met_by_the_mean_of_ten_losses(blobs: Dataset) -> None:
    """A 1 for every 3: after ten more steps the threes are forgotten."""
    losses = [3.0] * 20 + [1.0] * 20
    steps = observe(recorder([2.0, 1.0, 2.5], blobs), [[loss] * 3 for loss in losses])
    assert steps == [24, 29, 22]


def test_a_diverged_replica_meets_no_target(blobs: Dataset) -> None:
    losses = [[np.nan, 5.0], [1.0, np.inf], [1.0, 1.0], [1.0, 1.0]]
    assert observe(recorder([4.0, 4.0], blobs), losses) == [-1, -1]


def test_targets_of_a_training(blobs: Dataset) -> None:
    cells = [make_cell(target_loss=target, epochs=3) for target in (0.0, 1e-9, 1e9)]
    (none, never, at_once) = train(cells, blobs).cells["steps_to_target"]
    assert pd.isna(none)
    assert pd.isna(never)
    assert at_once == 0


# --------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize("compiled", [False, True])
def test_first_bad_layer(compiled: bool) -> None:
    """Replica 0 is well, 1 bad from layer 2 on, 2 in the output layer, 3 in the loss alone."""
    layers = [np.zeros((4, 3, 5), np.float32) for _ in range(3)]
    layers[1][1, 2, 3] = np.inf
    layers[2][1:3, 0, 0] = np.nan
    losses = np.zeros((4, 3), np.float32)
    losses[1:, 1] = np.inf
    search = tf.function(_first_bad_layer) if compiled else _first_bad_layer
    tensors = [tf.constant(z) for z in layers]
    assert search(tf.constant(losses), tensors).numpy().tolist() == [0, 2, 3, 3]
    assert search(tf.constant(losses), tensors[:1]).numpy().tolist() == [0, 1, 1, 1]
    assert search(tf.zeros((4, 3)), tensors).numpy().tolist() == [0, 0, 0, 0]


def test_underflowed_by_hand() -> None:
    """Log10 magnitudes layer by layer, one replica a column."""
    inf = np.inf
    magnitudes = np.array(
        [
            # lost at -44, true zero, never small, small but there, zero all along, jump to zero
            [-10.0, -1.0, -1.0, -10.0, -inf, -3.0],
            [-44.0, -inf, -1.0, -36.0, -inf, -29.0],
            [-inf, -inf, -1.0, -40.0, -inf, -inf],
        ]
    )
    expected = [True, False, False, False, False, False]
    assert underflowed(magnitudes[None]).tolist() == expected
    fine = np.zeros_like(magnitudes)
    assert underflowed(np.stack([fine, magnitudes])).tolist() == expected


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("activation", "epochs"), [("sigmoid", 0), ("tanh", 1)])
def test_underflow_is_told_from_true_zeros(activation: str, epochs: int, blobs: Dataset) -> None:
    """Weights of 1e-8 lose the signal in five layers; zeros never had one."""
    initializers = [{"name": "normal", "stddev": 1e-8}, "zeros", "glorot_normal"]
    cells = [
        make_cell(initializer=i, depth=10, activation=activation, epochs=epochs)
        for i in initializers
    ]
    result = train(cells, blobs)
    assert result.cells["status"].tolist() == ["underflowed", "ok", "ok"]
    assert result.cells["first_bad_step"].isna().all()
    tiny, zero, _ = (
        result.layers[(result.layers["cell"] == cell.id) & (result.layers["step"] == 0)]
        for cell in cells
    )
    for part in (tiny, zero):
        assert part["signal_zero_fraction"].iloc[0] == 1
        assert part["signal_log10_rms"].iloc[-1] > -1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_forward_signal_that_underflows(blobs: Dataset) -> None:
    small = make_cell(
        initializer={"name": "normal", "stddev": 1e-8}, depth=10, activation="linear", epochs=0
    )
    (row,) = train([small], blobs).cells.to_dict("records")
    assert row["status"] == "underflowed"


def test_cells_that_are_only_measured(blobs: Dataset) -> None:
    (row,) = train([make_cell(epochs=0)], blobs).cells.to_dict("records")
    assert row["status"] == "ok"
    assert np.isnan(row["final_train_loss"])
    assert np.isnan(row["final_test_accuracy"])


# ---------------------------------------------------------------- against a loop with Keras


class KerasRun:
    """A cell trained by Keras on the same minibatches; test loss and accuracy before steps."""

    def __init__(self, cell: Cell, dataset: Dataset) -> None:
        self.model = keras_reference.build_model(cell, dataset)
        self.dataset = dataset
        loss: keras.losses.Loss = keras.losses.MeanSquaredError()
        metrics: list[Any] = []
        if dataset.task == "classification":
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            metrics = ["accuracy"]
        self.model.compile(keras_reference.build_optimizer(cell), loss, metrics=metrics)
        steps = total_steps(cell, len(dataset.x_train))
        probes = probe_steps(steps, cell.probes)
        batches: Iterator[Any] = minibatches(Stack((cell,)), len(dataset.x_train))
        self.losses: list[float] = []
        self.tests: dict[int, list[float]] = {}
        for step, (examples,) in zip(range(steps), batches, strict=False):
            if step in probes:
                self.tests[step] = self.evaluate("test")
            x, y = dataset.x_train[examples], dataset.y_train[examples]
            metrics = self.model.train_on_batch(x, y)
            self.model.reset_metrics()
            self.losses.append(float(np.atleast_1d(metrics)[0]))
        self.tests[steps] = self.evaluate("test")
        self.train = self.evaluate("train")

    def evaluate(self, part: str) -> list[float]:
        """Return loss and accuracy, NaN for regression."""
        x, y = getattr(self.dataset, f"x_{part}"), getattr(self.dataset, f"y_{part}")
        found = np.atleast_1d(self.model.evaluate(x, y, verbose=0)).tolist()
        return [*found, np.nan][:2]


@pytest.mark.parametrize(
    ("task", "optimizer"),
    [
        ("classification", "adam"),
        ("regression", "sgd"),
        pytest.param("classification", "sgd", marks=pytest.mark.long),
        pytest.param("regression", "adam", marks=pytest.mark.long),
    ],
)
def test_losses_are_those_of_keras(
    task: str, optimizer: str, blobs: Dataset, teacher: Dataset
) -> None:
    """At every probe before its step, and at the end without the last probe's update."""
    dataset = blobs if task == "classification" else teacher
    rate = 0.5 if optimizer == "sgd" else 0.05
    cell = make_cell(optimizer=optimizer, learning_rate=rate, batch_size=17, probes=4)
    other = make_cell(optimizer=optimizer, learning_rate=rate / 2, batch_size=17, probes=4, seed=3)
    result = train([other, cell], dataset)
    expected = KerasRun(cell, dataset)
    steps = result.steps[result.steps["cell"] == cell.id]
    assert steps["step"].tolist() == list(expected.tests) == [0, 1, 2, 4, 7]
    tests = np.array(list(expected.tests.values()))
    assert (np.abs(np.diff(tests[:, 0])) > 1e-3 * tests[1:, 0]).all()  # a step more would show
    np.testing.assert_allclose(steps[["test_loss", "test_accuracy"]], tests, rtol=2e-4)
    # A probe's training loss is the mean of the last ten minibatches, its own included.
    for step, loss in zip(steps["step"][:-1], steps["train_loss"][:-1], strict=True):
        assert loss == pytest.approx(np.mean(expected.losses[: step + 1]), rel=2e-4)
    # The loss of its own minibatch alone is recorded besides.
    own = [expected.losses[step] for step in steps["step"][:-1]]
    np.testing.assert_allclose(steps["minibatch_loss"][:-1], own, rtol=2e-4)
    final = result.cells.set_index("cell").loc[cell.id]
    for part, values in (("train", expected.train), ("test", expected.tests[7])):
        found = final[[f"final_{part}_loss", f"final_{part}_accuracy"]].astype(float)
        np.testing.assert_allclose(found, values, rtol=2e-4)


def log10_rms(values: NDArray[np.float64]) -> float:
    return float(np.log10(np.sqrt(np.mean(values**2))))


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("use_bias", [True, False])
def test_the_first_probe_by_brute_force(epochs: int, use_bias: bool, blobs: Dataset) -> None:
    """Of the second of two replicas: signals of single examples, weights before the update."""
    options = {"depth": 3, "activation": "gelu", "learning_rate": 0.2, "use_bias": use_bias}
    cells = [make_cell(seed=seed, epochs=epochs, **options) for seed in (5, 6)]
    result = train(cells, blobs)
    cell = cells[1]
    (examples,) = first_batches([cell], 1)[0]
    x, y = blobs.x_train[examples], blobs.y_train[examples]
    shapes = layer_shapes(7, cell, 3)
    kernels = [draw_kernel(cell, n, shape) for n, shape in enumerate(shapes, start=1)]
    exact = run_step(kernels, [], cell.activation, "cross_entropy", x, y)
    rows = result.layers[(result.layers["cell"] == cell.id) & (result.layers["step"] == 0)]
    assert rows["layer"].tolist() == [1, 2, 3, 4]
    layers = rows.to_dict("list")
    gradients = [gradient.value for gradient in exact.gradients]
    weights = [kernel.astype(np.float64) for kernel in kernels]
    norm = np.linalg.norm
    expected = {
        "gradient_log10_rms": [log10_rms(g) for g in gradients],
        "signal_log10_rms": [log10_rms(d.value) for d in exact.signals],
        "signal_log10_q50": [np.log10(np.median(np.abs(d.value))) for d in exact.signals],
        "preactivation_log10_mean_square": [2 * log10_rms(z.value) for z in exact.preactivations],
        "activation_std": [h.value.std() for h in exact.activations],
        "weight_log10_norm": [np.log10(norm(w)) for w in weights],
        "log10_update_ratio": [
            np.log10(0.2 * norm(g) / norm(w)) for g, w in zip(gradients, weights, strict=True)
        ],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(layers[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    (step,) = result.steps[(result.steps["cell"] == cell.id) & (result.steps["step"] == 0)].to_dict(
        "records"
    )
    assert step["train_loss"] == pytest.approx(exact.losses.value.mean(), rel=1e-6)
    right = (exact.activations[-1].value.argmax(axis=1) == y).mean()
    assert step["train_accuracy"] == right
    total = np.sqrt(sum(norm(g) ** 2 for g in gradients))
    assert step["gradient_log10_norm"] == pytest.approx(np.log10(total), abs=1e-6)
    assert step["learning_rate"] == 0.2


@pytest.mark.parametrize("epochs", [0, 2])
def test_comparing_statistics_by_brute_force(epochs: int, blobs: Dataset) -> None:
    """Of the second of two replicas, at step 0 and after plain descent of some steps."""
    cells = [
        make_cell(seed=seed, epochs=epochs, activation="gelu", depth=3, probes=2, statistics="full")
        for seed in (5, 6)
    ]
    cell = cells[1]
    layers = train(cells, blobs).layers
    steps = total_steps(cell, len(blobs.x_train))
    shapes = layer_shapes(7, cell, 3)
    start = [draw_kernel(cell, n, s).astype(np.float64) for n, s in enumerate(shapes, start=1)]
    kernels, biases = list(start), [np.zeros(out) for _, out in shapes]

    def backward(examples: NDArray[np.int32]) -> Any:
        x, y = blobs.x_train[examples], blobs.y_train[examples]
        return run_step(kernels, biases, cell.activation, "cross_entropy", x, y)

    for step, examples in enumerate(first_batches([cell], steps + 1)[:, 0]):
        exact = backward(examples)
        gradients = [gradient.value for gradient in exact.gradients]
        rows = layers[(layers["cell"] == cell.id) & (layers["step"] == step)]
        assert (len(rows) == 0) == (step not in probe_steps(steps, 2))
        others = [
            [gradient.value for gradient in backward(draw).gradients]
            for draw in other_minibatches(Stack((cell,)), len(blobs.x_train), step)[:, 0]
        ]
        for index, row in enumerate(rows.to_dict("records")):
            moved = np.linalg.norm(kernels[index] - start[index]) / np.linalg.norm(start[index])
            one, several = gradients[index], [other[index] for other in others]
            mean = np.mean(several, axis=0)
            noise = sum(((g - mean) ** 2).sum() for g in several) / (len(several) - 1)
            signal = (mean**2).sum() - noise / len(several)
            assert signal > 0
            z, h = exact.preactivations[index].value, exact.activations[index].value
            bias = exact.bias_gradients[index].value
            expected = {
                "log10_distance_from_start": np.log10(moved) if step else -np.inf,
                "gradient_cosine": cosines(one.reshape(1, -1), several[0].reshape(1, -1)),
                "gradient_log10_snr": 0.5 * np.log10(signal / noise),
                "preactivation_correlation": cosines(z[:-1:2], z[1::2]),
                "activation_correlation": cosines(h[:-1:2], h[1::2]),
                "gradient_kurtosis": kurtosis(one.ravel(), fisher=False),
                **{
                    f"bias_gradient_log10_{name}": 0.5 * np.log10(total(bias**2))
                    for name, total in (("norm", np.sum), ("rms", np.mean))
                },
            }
            found = {name: row[name] for name in expected}
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
        kernels = [w - cell.learning_rate * g for w, g in zip(kernels, gradients, strict=True)]
        changes = [cell.learning_rate * g.value for g in exact.bias_gradients]
        biases = [b - change for b, change in zip(biases, changes, strict=True)]


def cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the mean cosine of the rows."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).mean())


def test_only_what_needs_them_takes_other_gradients(
    blobs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default takes none, and keeps no weights of the start."""
    calls: list[int] = []
    original = StackedNetwork.gradients

    def count(network: StackedNetwork, examples: NDArray[np.int32]) -> Any:
        calls.append(1)
        return original(network, examples)

    monkeypatch.setattr(StackedNetwork, "gradients", count)
    expected = {"standard": 0, "cheap": 0, canonical(["log10_distance_from_start"]): 0}
    for statistics, number in {**expected, "full": 4 * MINIBATCHES}.items():
        calls.clear()
        train([make_cell(statistics=statistics)], blobs)
        assert len(calls) == number, statistics
    network = StackedNetwork(Stack((make_cell(),)), blobs)
    kept = {
        statistics: len(Recorder(Stack((make_cell(statistics=statistics),)), network, blobs).start)
        for statistics in ("standard", "cheap", canonical(["gradient_cosine"]), "full")
    }
    assert list(kept.values()) == [0, 0, 0, 3]


def test_the_last_update_belongs_to_no_result(
    blobs: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that is left has made one step more than the final evaluation has seen."""
    kept: list[StackedNetwork] = []

    def keep(*arguments: Any) -> StackedNetwork:
        kept.append(StackedNetwork(*arguments))
        return kept[0]

    monkeypatch.setattr(loop, "StackedNetwork", keep)
    cell = make_cell(learning_rate=0.5)
    result = train([cell], blobs)
    outputs = kept[0].predict(blobs.x_train)[0]
    after = keras.losses.sparse_categorical_crossentropy(blobs.y_train, outputs, from_logits=True)
    final = result.cells["final_train_loss"][0]
    assert abs(float(np.mean(after)) - final) > 1e-3 * final


def test_accuracy_by_chance(blobs: Dataset, teacher: Dataset) -> None:
    assert train([make_cell(epochs=0)], blobs).cells["chance_accuracy"][0] == 1 / 3
    (row,) = train([make_cell(epochs=0)], teacher).cells.to_dict("records")
    assert np.isnan(row["chance_accuracy"])


def test_evaluation_in_parts(blobs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set larger than one evaluation batch gives what it gives in one piece."""
    from gradprop.training import recording

    cell = make_cell(epochs=1)
    whole = train([cell], blobs).cells
    monkeypatch.setattr(recording, "EVALUATION_BATCH", 32)
    parts = train([cell], blobs).cells
    for name in ("final_train_loss", "final_test_loss", "final_train_accuracy"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5)


def test_progress_of_a_cell_that_is_trained_alone_ends_at_the_end(
    blobs: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is trained twice, which is one cell and twice the work."""
    monkeypatch.setattr(loop.Progress.__init__, "__defaults__", (0.0,))
    train([make_cell(epochs=1)], blobs)
    said = [line for line in capsys.readouterr().err.splitlines() if "remaining" in line]
    assert all(", 1 cell, step " in line for line in said)
    assert not any("-" in line.split("about")[1] for line in said)
    assert said[-1].endswith("about 0 s remaining")


def test_the_first_steps_do_not_tell_how_long_the_rest_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 5.0, 10.0])
    monkeypatch.setattr("gradprop.training.loop.time.monotonic", lambda: next(now))
    progress = loop.Progress("job", 1, 100)
    progress.advance(1, "step 1")
    progress.advance(9, "step 10")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "[job] step 1, 5 s elapsed"
    assert second == "[job] step 10, 10 s elapsed, about 90 s remaining"
