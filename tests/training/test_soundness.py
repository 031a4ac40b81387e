"""A cell's rows are the same bits whatever it is trained with: stack, order, shell, runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop import provenance
from gradprop.components import datasets, initializers, optimizers
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import INITIALIZERS, of_layers
from gradprop.probes.measurements import MEASUREMENTS
from gradprop.probes.measurements import canonical as canonical_measurements
from gradprop.probes.statistics import canonical, recorded
from gradprop.spec import Cell, Component, Stack
from gradprop.training import loop, losses
from gradprop.training.recording import StackResult
from gradprop.training.stopwatch import Stopwatch
from tests.long import long_but
from tests.reference import make_cell, run_step
from tests.workspace import ROOT

HUGE = {"name": "normal", "stddev": 1e30}
MOMENTUM = {"name": "sgd", "momentum": 0.9}
NESTEROV = {**MOMENTUM, "nesterov": True, "weight_decay": 0.01}

# Shapes of which some fill whole vector registers and most do not.
SHAPES: list[dict[str, Any]] = [
    {"width": 7, "batch_size": 5, "optimizer": "sgd"},
    {"width": 37, "batch_size": 13, "optimizer": MOMENTUM, "depth": 3},
    {"width": 7, "batch_size": 13, "optimizer": "adam", "depth": 1},
    {"width": 64, "batch_size": 9, "optimizer": "sgd", "dataset": "linear_teacher"},
    {"width": 37, "batch_size": 9, "optimizer": "adam", "dataset": "linear_teacher"},
    {"width": 64, "batch_size": 64, "optimizer": MOMENTUM, "depth": 1},
    {"width": 37, "batch_size": 5, "optimizer": "sgd", "use_bias": False},
    {"width": 7, "batch_size": 9, "optimizer": MOMENTUM, "dataset": "linear_teacher"},
    {"width": 5, "batch_size": 13, "optimizer": "adam", "depth": 1},
    {"width": 37, "batch_size": 11, "optimizer": "sgd", "loss": "output_sum"},
    {"width": 9, "batch_size": 7, "optimizer": NESTEROV},
    {"width": 12, "batch_size": 10, "optimizer": "adamw", "clipping": "norm_by_variable"},
    {
        "width": 7,
        "batch_size": 13,
        "optimizer": {"name": "rmsprop", "momentum": 0.9},
        "schedule": {"name": "cosine", "warm_up": 3},
    },
]
# Every activation function once, and those with parameters.
LABELS = [*ACTIVATIONS, "leaky_relu(slope=0.01)", "elu(alpha=3.0)"]
PROGRAMS = dict(zip(LABELS, itertools.cycle(SHAPES), strict=False))
EVERY = pytest.mark.parametrize("activation", long_but(["tanh", "prelu"], PROGRAMS))

IDENTITY = {"cells.cell", "steps.cell", "layers.cell", "cells.statistics"}

Rows = dict[str, dict[str, Any]]


def forty_cells(activation: str, **changes: Any) -> list[Cell]:
    """Return cells that differ in everything that may differ within a stack, fully measured."""
    program = {"activation": activation, "statistics": "full", **PROGRAMS[activation], **changes}
    names = [
        name
        for name in [*INITIALIZERS, {"name": "normal", "stddev": 1.0}]
        if initializers.conflict(make_cell(initializer=name, **program)) is None
    ]
    return [
        make_cell(
            initializer=names[number % len(names)],
            seed=number // 3,
            learning_rate=0.002 * (1 + number % 5),
            bias_std=0.1 * (number % 2),
            target_loss=0.5 * (number % 3),
            **program,
        )
        for number in range(40)
    ]


def train(cells: Sequence[Cell], dataset: Dataset) -> StackResult:
    (result,) = loop.train([Stack(tuple(cells))], dataset, Stopwatch(), "test")
    return result


def rows(result: StackResult) -> Rows:
    """Return for every cell the bits of every column of its rows in every table."""
    found: Rows = {}
    for table, frame in result.tables.items():
        positions = frame.groupby("cell").indices
        for name, column in frame.items():
            is_float = pd.api.types.is_float_dtype(column.dtype)
            values = column.to_numpy() if is_float else column.astype(str).to_numpy(dtype=object)
            for cell, rows_of_cell in positions.items():
                part = values[rows_of_cell]
                bits = part.tobytes() if is_float else part.tolist()
                found.setdefault(str(cell), {})[f"{table}.{name}"] = bits
    return found


def check_same(some: Rows, all_rows: Rows) -> None:
    for cell, columns in some.items():
        different = [name for name, bits in columns.items() if all_rows[cell][name] != bits]
        assert not different, f"{cell}: {', '.join(different)}"


@pytest.mark.parametrize("batch_size", [9, 16])
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error"])
def test_a_loss_of_classes_does_not_depend_on_the_stack(
    loss: str, batch_size: int, blobs: Dataset, pair: Dataset
) -> None:
    """Of one output and of three, in stacks of 1, 3 and 40."""
    cells = forty_cells("tanh", loss=loss, batch_size=batch_size, epochs=1)
    dataset = pair if loss == "binary_cross_entropy" else blobs
    together = rows(train(cells, dataset))
    for some in ([cells[7]], [cells[39], cells[3], cells[16]]):
        check_same(rows(train(some, dataset)), together)


def data_of(cell: Cell, blobs: Dataset, teacher: Dataset) -> Dataset:
    return teacher if cell.dataset.name == "linear_teacher" else blobs


@EVERY
@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
def test_a_cell_does_not_depend_on_its_stack(
    activation: str, epochs: int, blobs: Dataset, teacher: Dataset
) -> None:
    """In stacks of 1, 3, 25 and 40, at any place."""
    cells = forty_cells(activation, epochs=epochs)
    dataset = data_of(cells[0], blobs, teacher)
    together = rows(train(cells, dataset))
    assert len(together) == 40
    for some in ([cells[7]], [cells[39], cells[3], cells[16]], cells[:14:-1]):
        alone = rows(train(some, dataset))
        assert len(alone) == len(some)
        check_same(alone, together)


# Every structural choice at least twice, in shapes that do not fill vector registers.
STRUCTURES: dict[str, dict[str, Any]] = {
    "tanh": {"normalization": "batch", "widths": "alternating", "clipping": "norm"},
    "relu": {"normalization": "batch", "residual": "rezero", "depth": 4},
    "gelu": {"normalization": "layer", "residual": "plain", "depth": 3},
    "sigmoid": {"normalization": "layer", "widths": "halves", "clipping": "value", "depth": 3},
    "swish": {"residual": "scaled", "widths": "halves", "depth": 5, "clipping": "norm"},
    "softsign": {"residual": "rezero", "clipping": {"name": "norm", "threshold": 0.01}},
    "elu": {"normalization": "batch", "residual": "plain", "depth": 3, "clipping": "value"},
    "linear": {"widths": {"name": "linear", "last": 3}, "depth": 4, "clipping": "norm"},
}


@pytest.mark.parametrize("activation", long_but(["elu"], STRUCTURES))
@pytest.mark.parametrize(
    "epochs", [pytest.param(0, marks=pytest.mark.long), 1], ids=["eager", "compiled"]
)
def test_a_structured_cell_does_not_depend_on_its_stack(
    activation: str, epochs: int, blobs: Dataset, teacher: Dataset
) -> None:
    """In stacks of 1, 3, 25 and 40, at any place."""
    cells = forty_cells(activation, epochs=epochs, **STRUCTURES[activation])
    dataset = data_of(cells[0], blobs, teacher)
    together = rows(train(cells, dataset))
    assert len(together) == 40
    for some in ([cells[7]], [cells[39], cells[3], cells[16]], cells[:14:-1]):
        alone = rows(train(some, dataset))
        assert len(alone) == len(some)
        check_same(alone, together)


def test_other_biases_do_not_depend_on_the_stack(blobs: Dataset) -> None:
    """Normal, uniform and constant ones side by side, in stacks of 1, 3 and 40."""
    laws = [Component("normal"), Component("fan_in_uniform"), Component("constant")]
    cells = [
        replace(cell, bias_std=0.0, bias_initializer=laws[number % 3])
        for number, cell in enumerate(forty_cells("relu", epochs=1))
    ]
    together = rows(train(cells, blobs))
    for some in ([cells[8]], [cells[38], cells[3], cells[16]]):
        check_same(rows(train(some, blobs)), together)


def test_initializers_of_layers_do_not_depend_on_the_stack(blobs: Dataset) -> None:
    """Replicas of one stack may have their own, in stacks of 1, 3 and 40."""
    layers = [
        of_layers(given)
        for given in ({}, {"last": "zeros"}, {"first": "orthogonal", "2": "normal"})
    ]
    cells = [
        replace(cell, layer_initializers=layers[number % 3])
        for number, cell in enumerate(forty_cells("tanh", epochs=1))
        if not INITIALIZERS[cell.initializer.name].unit_variance
    ]
    together = rows(train(cells, blobs))
    assert len(together) == len(cells) >= 36
    for some in ([cells[7]], [cells[29], cells[3], cells[16]]):
        check_same(rows(train(some, blobs)), together)


def test_constants_of_any_size(teacher: Dataset) -> None:
    """TensorFlow's graph optimizer rewrites constants below 100 kB only, in another order."""
    wide = {"name": "linear_teacher", "examples": 150, "dimension": 7, "outputs": 15}
    dataset = datasets.generate(datasets.DATASETS.create(wide))
    cells = forty_cells("tanh", dataset=wide, batch_size=63, width=5, depth=1)
    assert 40 * 63 * 15 * 4 > 100 * 1024 > 3 * 63 * 15 * 4
    check_same(rows(train(cells[:3], dataset)), rows(train(cells, dataset)))


@pytest.mark.parametrize("epochs", [0, 2], ids=["eager", "compiled"])
def test_what_is_measured_changes_no_other_number(epochs: int, blobs: Dataset) -> None:
    """Gradients of other minibatches and the weights of the start disturb nothing."""
    found = {}
    for statistics in ("full", "standard", "cheap", canonical(["gradient_cosine"])):
        cells = forty_cells("gelu", epochs=epochs, statistics=statistics)[:9]
        bits = rows(train(cells, blobs))
        found[statistics] = [
            {key: value for key, value in bits[cell.id].items() if key not in IDENTITY}
            for cell in cells
        ]
    full = found.pop("full")
    for statistics, fewer in found.items():
        for every, some in zip(full, fewer, strict=True):
            measured = {key.removeprefix("layers.") for key in some if key.startswith("layers.")}
            assert measured == {"step", "layer", *recorded(statistics)}
            assert {key: every[key] for key in some} == some


# Modes are those of regression tasks and tested beside their formula.
OF_ALL_TASKS = [name for name in MEASUREMENTS if name != "modes"]
MEASURED = canonical_measurements([{"name": name, "at": "both"} for name in OF_ALL_TASKS])


@pytest.mark.parametrize("epochs", [0, 1], ids=["eager", "compiled"])
@pytest.mark.parametrize("activation", long_but(["tanh"], ["tanh", "relu"]))
def test_measurements_do_not_depend_on_the_stack_and_disturb_nothing(
    activation: str, epochs: int
) -> None:
    """Every table, in stacks of 1, 3, 5 and 7, in any order, with replicas that are not finite."""
    plane = {"name": "gaussian_mixture", "examples": 150, "classes": 3, "dimension": 2}
    dataset = datasets.generate(datasets.DATASETS.create(plane))
    program: dict[str, Any] = {"dataset": plane, "width": 37, "depth": 3, "epochs": epochs}
    cells = forty_cells(activation, **{**program, "measurements": MEASURED})[:6]
    bad = replace(cells[2], initializer=make_cell(initializer=HUGE).initializer)
    cells.insert(3, bad)
    together = rows(train(cells, dataset))
    for name in OF_ALL_TASKS:
        assert any(key.startswith(f"{name}.") for key in together[bad.id])
    for some in ([cells[0]], [cells[5], bad, cells[1]], cells[:1:-1]):
        check_same(rows(train(some, dataset)), together)
    plain = rows(train([replace(cell, measurements=()) for cell in cells], dataset))
    for cell in cells:
        without = plain[replace(cell, measurements=()).id]
        identity = {*IDENTITY, "cells.measurements"}
        kept = {key: bits for key, bits in without.items() if key not in identity}
        assert kept == {key: together[cell.id][key] for key in kept}


# ------------------------------------------------------------------------------- environment


# Large programs among them: replicas of an activation function, and changes.
TABLES = ["histograms", "spectra", "trajectories"]
LARGE: dict[str, tuple[str, int, dict[str, Any]]] = {
    "every row": ("tanh", 7, {"width": 129, "batch_size": 61}),
    "a whole stack": ("gelu", 40, {}),
    "batch": ("elu", 5, {"normalization": "batch", "residual": "rezero", "depth": 4}),
    "layer": ("swish", 7, {"normalization": "layer", "clipping": "norm", "width": 129}),
    "alone": ("relu", 1, {"width": 151, "batch_size": 120, "dataset": "gaussian_mixture"}),
    "measured": ("gelu", 3, {"width": 151, "measurements": TABLES}),
    "curved": ("swish", 3, {"width": 151, "measurements": "curvature"}),
}


def digests(programs: Sequence[str]) -> dict[str, str]:
    """Train some programs; return a hash of the rows of each."""
    mixture = {"name": "gaussian_mixture", "examples": 150, "classes": 3, "dimension": 7}
    dataset = datasets.generate(datasets.DATASETS.create(mixture))
    found = {}
    for name in programs:
        activation, replicas, changes = LARGE[name]
        trained = rows(train(forty_cells(activation, **changes)[:replicas], dataset))
        text = repr(sorted((cell, sorted(bits.items())) for cell, bits in trained.items()))
        found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


# What a shell may set for other programs.
FOREIGN = {
    "KERAS_BACKEND": "jax",
    "OMP_NUM_THREADS": "7",
    "OPENBLAS_CORETYPE": "Nehalem",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
}


@pytest.mark.parametrize(
    "programs",
    [["batch", "measured"], pytest.param([*LARGE], marks=pytest.mark.long)],
    ids=["two", "all"],
)
def test_the_callers_environment_changes_nothing(programs: list[str]) -> None:
    code = (
        "import json, sys\n"
        "from gradprop.training import environment\n"
        "environment.fix()\n"  # as the command does, before NumPy is imported
        "from tests.training import test_soundness\n"
        "print(json.dumps(test_soundness.digests(sys.argv[1:])))\n"
    )
    path = os.pathsep.join([str(provenance.PACKAGE.parent), str(ROOT)])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *programs],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, **more, "PYTHONPATH": path},
        )
        for more in ({}, FOREIGN)
    ]
    found = [json.loads(run.communicate()[0]) for run in runs]
    assert [*found[0]] == programs
    assert found[0] == found[1]


PRODUCTS = """
import hashlib, os, sys
from gradprop.training import environment
environment.fix()
import numpy as np
from gradprop.training.backend import tf
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"  # where it made a difference
rows, columns = np.random.default_rng(0).standard_normal((2, 40, 9)).astype(np.float32)
x, y, turned = rows[:, None], columns[:, :, None], columns[:, None]
ways = {"plain": lambda: tf.matmul(x, y),
        "transposed": lambda: tf.matmul(x, turned, transpose_b=True)}
bits = {way: hashlib.sha256(ways[way]().numpy().tobytes()).hexdigest() for way in sys.argv[1:]}
print(sorted(bits.items()))
"""


def test_a_product_does_not_depend_on_the_products_before_it() -> None:
    """As of vectors and of their transposes: stacks are trained in any order in a process."""
    found = [
        subprocess.run(
            [sys.executable, "-c", PRODUCTS, *order],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(provenance.PACKAGE.parent)},
        ).stdout
        for order in (("plain", "transposed"), ("transposed", "plain"))
    ]
    assert found[0] == found[1]
    assert "transposed" in found[0]


# -------------------------------------------------------------------------------- divergence

# Changes that make a cell's numbers leave the range of float32.
DIVERGING: dict[str, dict[str, Any]] = {
    "huge steps": {"learning_rate": 1e6},
    "large steps": {"learning_rate": 30.0, "activation": "linear", "depth": 3},
    "huge weights": {"initializer": {"name": "normal", "stddev": 1e20}},
    "large weights": {"initializer": {"name": "normal", "stddev": 1e13}, "depth": 4},
    "momentum": {"learning_rate": 1e6, "optimizer": MOMENTUM, "activation": "leaky_relu"},
    "regression": {"learning_rate": 1e3, "dataset": "linear_teacher", "activation": "elu"},
    "adam": {"initializer": {"name": "normal", "stddev": 1e30}, "optimizer": "adam"},
}


def diverging_cell(case: str) -> Cell:
    changes = {"activation": "relu", "epochs": 2, "seed": 11, "probes": 6, **DIVERGING[case]}
    return make_cell(**changes)


def first_failure(cell: Cell, dataset: Dataset) -> tuple[int, int]:
    """Return step and layer at which plain gradient descent leaves the range of float32."""
    shapes = initializers.layer_shapes(dataset.x_train.shape[1], cell, dataset.outputs)
    kernels = [initializers.draw_kernel(cell, n, s) for n, s in enumerate(shapes, start=1)]
    biases = [np.zeros(out, np.float32) for _, out in shapes]
    velocities = [np.zeros_like(value) for value in [*kernels, *biases]]
    momentum = optimizers.OPTIMIZERS.parameters_of(cell.optimizer).get("momentum", 0.0)
    loss = losses.resolve_loss(cell, dataset)
    batches = loop.minibatches(Stack((cell,)), len(dataset.x_train))
    for step, (examples,) in enumerate(batches):
        x, y = dataset.x_train[examples], dataset.y_train[examples]
        exact = run_step(kernels, biases, cell.activation, loss, x, y)
        for layer, z in enumerate(exact.preactivations, start=1):
            if not np.isfinite(z.value.astype(np.float32)).all():
                return step, layer
        if not np.isfinite(exact.losses.value.astype(np.float32)).all():
            return step, len(kernels)
        gradients = [g.value for g in (*exact.gradients, *exact.bias_gradients)]
        velocities = [
            (momentum * velocity - cell.learning_rate * gradient).astype(np.float32)
            for velocity, gradient in zip(velocities, gradients, strict=True)
        ]
        changed = [v + d for v, d in zip([*kernels, *biases], velocities, strict=True)]
        kernels, biases = changed[: len(kernels)], changed[len(kernels) :]
    raise AssertionError("minibatches never end")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", long_but(["large steps", "huge weights"], DIVERGING))
def test_a_diverging_replica(case: str, blobs: Dataset, teacher: Dataset) -> None:
    """It is marked, stays NaN, and leaves the bits of its neighbours as they were."""
    bad = diverging_cell(case)
    dataset = data_of(bad, blobs, teacher)
    program: dict[str, Any] = {
        "depth": bad.depth,
        "epochs": 2,
        "probes": 6,
        "batch_size": 13,
        "width": 7,
    }
    program |= {"activation": bad.activation.label, "optimizer": bad.optimizer.document()}
    good = [
        make_cell(seed=seed, learning_rate=0.01, dataset=bad.dataset.document(), **program)
        for seed in range(4)
    ]
    result = train([*good[:2], bad, *good[2:]], dataset)
    check_same(rows(train(good, dataset)), rows(result))

    status = result.cells.set_index("cell")
    assert (status.loc[[cell.id for cell in good], "status"] == "ok").all()
    marked = status.loc[bad.id]
    assert marked["status"] == "diverged"
    found = (marked["first_bad_step"], marked["first_bad_layer"])
    assert found == first_failure(bad, dataset)
    assert np.isnan(marked[["final_train_loss", "final_test_loss"]].astype(float)).all()
    steps = result.steps[result.steps["cell"] == bad.id]
    late = steps["step"] >= found[0]
    assert late.any()
    assert (np.isfinite(steps["train_loss"]) == ~late).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("activation", long_but(["softsign"], STRUCTURES))
def test_a_diverging_replica_among_structured_ones(
    activation: str, blobs: Dataset, teacher: Dataset
) -> None:
    """Normalization, branches and clipping act on each replica alone, also where one is NaN.

    They tame large weights and gradients, but no step of the size of float32's largest number.
    """
    good = forty_cells(activation, epochs=2, **STRUCTURES[activation])[:4]
    bad = replace(good[1], learning_rate=3e38)
    dataset = data_of(bad, blobs, teacher)
    result = train([*good[:2], bad, *good[2:]], dataset)
    assert result.cells.set_index("cell").loc[bad.id, "status"] == "diverged"
    alone = train(good, dataset)
    assert (alone.cells["status"] == "ok").all()
    check_same(rows(alone), rows(result))


def test_the_first_bad_layer_by_hand(blobs: Dataset) -> None:
    """Weights of 1e20 make z of 1e20, 1e40: the second layer is out of range, at once."""
    result = train([diverging_cell("huge weights")], blobs)
    (row,) = result.cells.to_dict("records")
    assert (row["first_bad_step"], row["first_bad_layer"]) == (0, 2)
    layers = result.layers[result.layers["step"] == 0].set_index("layer")
    assert layers["preactivation_log10_mean_square"][1] == pytest.approx(40, abs=2)
    assert not np.isfinite(layers["preactivation_log10_mean_square"][2])
    assert layers["activation_nonfinite_fraction"][1] == 0
    assert layers["activation_nonfinite_fraction"][2] > 0
