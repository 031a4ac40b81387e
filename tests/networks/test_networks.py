"""Networks that a study builds itself, trained by Keras under the monitor's instruments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradprop import networks
from gradprop.components import network
from gradprop.components.datasets import Dataset
from gradprop.errors import ConfigError
from gradprop.figures.layers import without_theory
from gradprop.grid import axes, plan, sharding
from gradprop.networks.model import Model
from gradprop.prediction.data import prediction_on_data
from gradprop.prediction.mean_field import sigma_w2
from gradprop.probes import statistics
from gradprop.spec import Cell, Shard, Stack, Study
from gradprop.training import loop
from gradprop.training.recording import StackResult
from gradprop.training.stopwatch import Stopwatch

DENSE = """
import keras


def build(cell, extra: float = 0.0):
    h = inputs = keras.Input((cell.features,))
    units = [*[cell.width] * cell.depth, cell.outputs]
    for n, unit in enumerate(units, start=1):
        last = n == len(units)
        h = keras.layers.Dense(
            unit,
            None if last else cell.phi,
            use_bias=cell.use_bias,
            kernel_initializer=cell.kernel(n),
            bias_initializer=cell.bias(n),
        )(h)
        if not last and extra:
            h = keras.layers.Dropout(extra)(h)
    return keras.Model(inputs, h)
"""
BLOCK: dict[str, Any] = {
    "dataset": {"name": "gaussian_mixture", "examples": 150, "classes": 3, "dimension": 7,
                "separation": 1.0},
    "depth": 3, "width": 9, "activation": "tanh", "initializer": ["glorot_uniform", "orthogonal"],
    "seeds": 2, "bias_std": 0.1, "learning_rate": 0.3, "batch_size": 13, "epochs": 1, "probes": 3,
    "statistics": statistics.canonical(["standard", "log10_distance_from_start"]),
}  # fmt: skip


def cells(text: str, folder: Path, **changes: Any) -> list[Cell]:
    folder.mkdir(exist_ok=True)
    (folder / network.FILE).write_text(text)
    return list(axes.expand({**BLOCK, **changes}, network.read(folder)))


def train(chosen: Sequence[Cell], dataset: Dataset) -> list[StackResult]:
    shard = Shard("test", tuple(sharding.stacks(chosen)))
    return list(networks.train(shard, [Stack((c,)) for c in chosen], dataset, Stopwatch()))


def table(results: Sequence[StackResult], name: str) -> pd.DataFrame:
    keys = [key for key in ("cell", "step", "layer") if key in getattr(results[0], name)]
    rows = pd.concat([getattr(result, name) for result in results])
    return rows.sort_values(keys, ignore_index=True)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    return cells(DENSE, tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module")
def trained(dense: list[Cell], blobs: Dataset) -> list[StackResult]:
    return train(dense, blobs)


ADAM = {"optimizer": "adam", "schedule": "cosine", "clipping": "norm", "learning_rate": 0.01}
DECAY = {"optimizer": {"name": "adamw", "weight_decay": 0.1}, "learning_rate": 0.01}


@pytest.mark.parametrize("optimizer", [{}, ADAM, DECAY])
def test_a_perceptron_of_keras_is_that_of_a_stack(
    optimizer: dict[str, Any], dense: list[Cell], trained: list[StackResult], blobs: Dataset,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Dense layers built by a study and a stack of the same cells: two programs, one training."""
    chosen, found = dense, trained
    if optimizer:
        chosen = cells(DENSE, tmp_path, **optimizer, initializer="he_normal", seeds=1)
        found = train(chosen, blobs)
    plain = list(axes.expand({**BLOCK, **optimizer}))
    if optimizer:
        plain = list(axes.expand({**BLOCK, **optimizer, "initializer": "he_normal", "seeds": 1}))
    (expected,) = loop.train([Stack(tuple(plain))], blobs, Stopwatch(), "test")
    names = dict(zip([c.id for c in chosen], [c.id for c in plain], strict=True))
    for part in ("cells", "steps", "layers"):
        ours, theirs = table(found, part), table([expected], part)
        ours["cell"] = ours["cell"].map(names)
        keys = [key for key in ("cell", "step", "layer") if key in ours]
        ours = ours.sort_values(keys, ignore_index=True)
        numbers = [c for c in theirs if theirs[c].dtype == np.float64]
        assert len(numbers) > 4
        for name in map(str, numbers):
            quantiles = 1e-2 if "_q" in name else 1e-4 if "fraction" in name else 2e-5
            np.testing.assert_allclose(
                ours[name], theirs[name], atol=quantiles, rtol=2e-5, err_msg=name
            )
        assert list(ours["cell"]) == list(theirs["cell"])
    assert list(found[0].cells["status"]) == ["ok"]
    assert found[0].layers["fan_in"].tolist()[:4] == [7, 9, 9, 9]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_decay_of_zero_is_not_computed(name: str, blobs: Dataset, tmp_path: Path) -> None:
    optimizer = {"name": name, "weight_decay": 0.0}
    cell, *_ = cells(DENSE, tmp_path, optimizer=optimizer)
    model = Model(cell, network.file_of(cell), blobs)
    assert model.keras.optimizer.weight_decay is None


def test_no_argument_has_the_name_of_a_column(
    dense: list[Cell], trained: list[StackResult], tmp_path: Path
) -> None:
    own = {*dict(dense[0].network.parameters), "cell"}  # which is its first argument
    for part in ("cells", "steps", "layers"):
        for name in set(getattr(trained[0], part)) - own - set(statistics.STATISTICS):
            text = f"def build(cell, {name}=3): return {name}"
            with pytest.raises(ConfigError, match=f"argument '{name}': choose another name, bec"):
                cells(text, tmp_path)


def test_a_cell_has_its_bits_in_any_order_and_process(
    dense: list[Cell], trained: list[StackResult], blobs: Dataset, tmp_path: Path
) -> None:
    with_dropout = cells(DENSE, tmp_path, extra=0.3, initializer="he_normal")
    once = [*trained, *train(with_dropout, blobs)]
    again = train([*reversed(with_dropout), dense[1], *dense[:1]], blobs)
    of = {result.cells["cell"][0]: result for result in once}
    for result in again:
        for part in ("cells", "steps", "layers"):
            first = getattr(of[result.cells["cell"][0]], part)
            pd.testing.assert_frame_equal(getattr(result, part), first, check_exact=True)
    losses = [result.cells["final_train_loss"][0] for result in once]
    assert len(set(losses)) == len(losses)
    code = f"""
import sys
from pathlib import Path
from gradprop import threads
from gradprop.training import environment
environment.fix()
from tests.networks import test_networks as t
from gradprop.components import datasets
(cell, _) = t.cells(t.DENSE, Path({str(tmp_path)!r}), extra=0.3, initializer="he_normal")
(result,) = t.train([cell], datasets.generate(cell.dataset))
print(result.layers.to_json(double_precision=15))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == once[len(trained)].layers.to_json(double_precision=15)


def test_probes_change_no_weight(dense: list[Cell], trained: list[StackResult], blobs: Dataset,
                                 tmp_path: Path) -> None:  # fmt: skip
    (few,) = cells(DENSE, tmp_path, probes=1, initializer="glorot_uniform", seeds=1)
    (result,) = train([few], blobs)
    columns = ["final_train_loss", "final_test_loss"]
    pd.testing.assert_frame_equal(
        result.cells[columns], trained[0].cells[columns], check_exact=True
    )


def test_a_network_that_diverges_is_data(tmp_path: Path, blobs: Dataset) -> None:
    changes = {"activation": "relu", "initializer": "he_normal", "learning_rate": 1e9}
    found = train(cells(DENSE, tmp_path, **changes, seeds=1), blobs)[0]
    plain = list(axes.expand({**BLOCK, **changes, "seeds": 1}))
    (expected,) = loop.train([Stack(tuple(plain))], blobs, Stopwatch(), "test")
    columns = ["status", "first_bad_step", "first_bad_layer"]
    assert found.cells["status"][0] == "diverged"
    pd.testing.assert_frame_equal(found.cells[columns], expected.cells[columns])
    assert found.layers["signal_nonfinite_fraction"].max() == 1


WRONG = {
    "a function": ("return keras.Model(inputs, h)", "return build", ": build: returned <function"),
    "compiled": (
        "return keras.Model(inputs, h)",
        "m = keras.Model(inputs, h); m.compile(); return m",
        ": build: the model is compiled; leave that out",
    ),
    "outputs": ("cell.outputs", "5", ": build: the model makes (2, 5) of two examples with 7 feat"),
    "softmax": (
        "None if last else cell.phi",
        "'softmax' if last else cell.phi",
        ": build: layer 'dense_3' ends in a softmax, but the loss cross_entropy takes logits",
    ),
    "softmax as a layer": (
        "return keras.Model(inputs, h)",
        "return keras.Model(inputs, keras.layers.Softmax()(h))",
        ": build: layer 'dense_3' ends in a softmax, but the loss cross_entropy takes logits",
    ),
    "sigmoid": (
        "return keras.Model(inputs, h)",
        "return keras.Model(inputs, keras.ops.sigmoid(h))",
        ": build: layer 'dense_3' ends in a sigmoid, but the loss cross_entropy takes logits",
    ),
    "layers": (
        "return keras.Model(inputs, h)",
        "return keras.Model(inputs, keras.layers.Dense(cell.outputs)(h))",
        ": build: the network has 5 layers with weights on the way from the inputs to the outputs; "
        "allowed with depth 3: 4",
    ),
    "an error": ("units = [", "units = [1 / 0, ", ":7: ZeroDivisionError: division by zero"),
    "Keras's error": ("keras.Input((", "keras.Input((0.5, ", ":6: "),
    "a name": ("cell.width", "cell.widht", ":7: AttributeError: a cell has no 'widht'"),
    "an import": ("import keras", "import keras, helper", ":2: ModuleNotFoundError: No module"),
    "unused": ("cell.use_bias", "True", ": build: it makes no use of use_bias, which the grid"),
    "a late error": (
        "return keras.Model(inputs, h)",
        "return Late(inputs, h)\n\n\nclass Late(keras.Model):\n    def train_step(self, data):\n"
        "        raise KeyError('late')",
        ":24: KeyError: 'late'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_it_is_told_in_a_line(name: str, tmp_path: Path, blobs: Dataset) -> None:
    old, new, problem = WRONG[name]
    assert DENSE.count(old) == 1
    changes = {"initializer": "he_normal", "seeds": 1, "use_bias": False, "bias_std": 0.0}
    with pytest.raises(ConfigError) as told:
        train(cells(DENSE.replace(old, new), tmp_path, **changes), blobs)
    assert str(told.value).startswith(f"{tmp_path / network.FILE}:")
    assert problem in str(told.value)
    assert "\n" not in str(told.value)


def test_an_axis_has_to_make_a_difference(tmp_path: Path, blobs: Dataset) -> None:
    text = DENSE.replace("None if last else cell.phi", "'relu'")
    with pytest.raises(ConfigError, match=r"build: it makes no use of activation, which the grid"):
        train(cells(text, tmp_path, activation=["tanh", "relu"], seeds=1), blobs)


def test_theory_is_silent_about_them_and_says_why(dense: list[Cell]) -> None:
    assert all(prediction_on_data(cell) is None for cell in dense)
    assert np.isnan(sigma_w2(dense[0]))
    told = without_theory(Study("s", "a", "b", tuple(dense)), {"theory": True})
    assert told == (
        "Theory has no line for networks of network.py (code makes their layers, which theory "
        "cannot read)."
    )


def test_a_plan_counts_every_network(dense: list[Cell]) -> None:
    one, all_of_them = (
        plan.job_need(Shard("test", tuple(sharding.stacks(chosen))), 40)
        for chosen in (dense[:1], dense)
    )
    assert all_of_them.cells == len(dense) == 4
    alone = one.seconds - plan.SECONDS["job"]
    assert all_of_them.seconds == pytest.approx(plan.SECONDS["job"] + 4 * alone)
    assert 0.3 < alone < 1.5  # 0.6 to 1.1 s were measured
