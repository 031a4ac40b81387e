"""Own activation functions: stacked where bits allow it, alone where not, refused where neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gradprop.components import own
from gradprop.components.datasets import Dataset
from gradprop.errors import GradpropError
from gradprop.spec import Stack
from gradprop.training import independence, loop
from gradprop.training.recording import StackResult
from gradprop.training.stopwatch import Stopwatch
from tests.reference import make_cell

TEXT = """
import tensorflow as tf

from gradprop.components import activation

@activation()
def free_mish(z):
    return z * tf.tanh(tf.math.softplus(z))

@activation()
def coupled_mish(z):
    return z * tf.tanh(tf.math.softplus(z)) / tf.reduce_mean(1 + tf.square(z))

@activation()
def wide_softmax(z):
    return tf.nn.softmax(z)
"""


@pytest.fixture(autouse=True)
def components(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "components.py"
    path.write_text(TEXT, encoding="utf-8")
    independence.is_independent.cache_clear()
    own.load_file(path)
    yield path
    own.forget(path)


def stack(activation: str, replicas: int) -> Stack:
    cell = make_cell(activation=activation)
    return Stack(tuple(replace(cell, seed=seed) for seed in range(replicas)))


def trained(chosen: Stack, dataset: Dataset) -> list[StackResult]:
    return list(loop.train([chosen], dataset, Stopwatch(), "test"))


def test_an_independent_one_is_trained_in_its_stack(blobs: Dataset) -> None:
    (three,) = trained(stack("free_mish", 3), blobs)
    (alone,) = trained(stack("free_mish", 1), blobs)
    for name, table in alone.tables.items():
        part = three.tables[name]
        part = part[part["cell"].isin(table["cell"])].reset_index(drop=True)
        assert part.equals(table.reset_index(drop=True)), name


def test_a_coupled_one_is_trained_alone_with_one_line(
    blobs: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    both = trained(stack("coupled_mish", 2), blobs)
    trained(stack("coupled_mish", 1), blobs)
    assert [len(result.tables["cells"]) for result in both] == [1, 1]
    assert capsys.readouterr().err.count("are trained one by one, which takes longer\n") == 1


def test_one_that_is_not_element_wise_is_refused(blobs: Dataset, components: Path) -> None:
    with pytest.raises(GradpropError, match="'wide_softmax': not element-wise") as caught:
        trained(stack("wide_softmax", 2), blobs)
    assert str(caught.value).startswith(f"{components.resolve()}: activation")


def test_those_of_the_package_are_not_asked(blobs: Dataset) -> None:
    assert independence.separated([stack("tanh", 3)]) == [stack("tanh", 3)]
