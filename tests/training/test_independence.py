"""Own components in stacks: where bits allow it, alone where not, refused where neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gradprop.components import own
from gradprop.components.datasets import Dataset
from gradprop.errors import GradpropError
from gradprop.spec import Component, Stack
from gradprop.training import independence, loop
from gradprop.training.recording import StackResult
from gradprop.training.stopwatch import Stopwatch
from tests.reference import make_cell

TEXT = """
import tensorflow as tf

from gradprop.components import activation, optimizer

@activation()
def free_mish(z):
    return z * tf.tanh(tf.math.softplus(z))

@activation()
def coupled_mish(z):
    return z * tf.tanh(tf.math.softplus(z)) / tf.reduce_mean(1 + tf.square(z))

@activation()
def wide_softmax(z):
    return tf.nn.softmax(z)

@optimizer(state=("square",))
def free_rms(w, square):
    square = 0.9 * square + 0.1 * tf.square(w.gradient)
    return w.rate * w.gradient / (tf.sqrt(square) + 1e-7), square

@optimizer()
def centred(w):
    return w.rate * (w.gradient - tf.reduce_mean(w.gradient, axis=(1, 2), keepdims=True))

@optimizer()
def coupled_steps(w):
    return w.rate * w.gradient / tf.reduce_mean(1 + tf.square(w.gradient))

@optimizer()
def rounded_last(w):
    entries = w.gradient.shape.num_elements()
    factor = tf.concat([tf.ones(entries - 1), [1.00001]], axis=0)
    return w.rate * w.gradient * tf.reshape(factor, w.gradient.shape)

@optimizer()
def mixed_steps(w):
    return w.rate * w.gradient / tf.norm(w.gradient)
"""


@pytest.fixture(autouse=True)
def components(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "components.py"
    path.write_text(TEXT, encoding="utf-8")
    independence.is_independent.cache_clear()
    independence.has_independent_steps.cache_clear()
    own.load_file(path)
    yield path
    own.forget(path)


def stack(replicas: int, **names: str) -> Stack:
    cell = make_cell(**names)
    return Stack(tuple(replace(cell, seed=seed) for seed in range(replicas)))


def trained(chosen: Stack, dataset: Dataset) -> list[StackResult]:
    return list(loop.train([chosen], dataset, Stopwatch(), "test"))


INDEPENDENT = [{"activation": "free_mish"}, {"optimizer": "free_rms"}]
COUPLED = [{"activation": "coupled_mish"}, {"optimizer": "coupled_steps"}]


@pytest.mark.parametrize("names", INDEPENDENT)
def test_an_independent_one_is_trained_in_its_stack(
    names: dict[str, str], blobs: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    (three,) = trained(stack(3, **names), blobs)
    (alone,) = trained(stack(1, **names), blobs)
    assert "retracing" not in capfd.readouterr().err
    for name, table in alone.tables.items():
        part = three.tables[name]
        part = part[part["cell"].isin(table["cell"])].reset_index(drop=True)
        assert part.equals(table.reset_index(drop=True)), name


@pytest.mark.parametrize("names", COUPLED)
def test_a_coupled_one_is_trained_alone_with_one_line(
    names: dict[str, str], blobs: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    both = trained(stack(2, **names), blobs)
    trained(stack(1, **names), blobs)
    assert [len(result.tables["cells"]) for result in both] == [1, 1]
    assert capsys.readouterr().err.count("are trained one by one, which takes longer\n") == 1


def test_one_that_is_not_element_wise_is_refused(blobs: Dataset, components: Path) -> None:
    with pytest.raises(GradpropError, match="'wide_softmax': not element-wise") as caught:
        trained(stack(2, activation="wide_softmax"), blobs)
    assert str(caught.value).startswith(f"{components.resolve()}: activation")


def test_an_optimizer_that_mixes_networks_is_refused(blobs: Dataset, components: Path) -> None:
    with pytest.raises(GradpropError, match="'mixed_steps': mixes networks: the first") as caught:
        trained(stack(2, optimizer="mixed_steps"), blobs)
    assert str(caught.value).startswith(f"{components.resolve()}: optimizer")


def test_an_end_of_the_stack_that_is_computed_otherwise_is_seen() -> None:
    """As TensorFlow does with the entries that do not fill a vector register."""
    assert not independence.has_independent_steps(Component("rounded_last"))


def test_a_mean_of_every_network_does_not_mix_them(blobs: Dataset) -> None:
    (cells,) = {len(r.tables["cells"]) for r in trained(stack(2, optimizer="centred"), blobs)}
    assert cells in (1, 2)  # whether its bits depend on the stack is TensorFlow's business


def test_those_of_the_package_are_not_asked(blobs: Dataset) -> None:
    assert independence.separated([stack(3, activation="tanh")]) == [stack(3, activation="tanh")]
