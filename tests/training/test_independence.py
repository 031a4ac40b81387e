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

@optimizer(state=("mean",))
def centred_over_all(w, mean):
    mean = 0.9 * mean + 0.1 * w.gradient
    return w.rate * (mean - tf.reduce_mean(mean)), mean

@optimizer()
def root_of_a_mean(w):
    return w.rate * tf.sqrt(tf.reduce_mean(w.gradient, axis=(1, 2), keepdims=True)) * w.gradient

@optimizer()
def root_of_a_weight(w):
    return w.rate * tf.sqrt(w.value) * w.gradient

@optimizer(state=("square",))
def divided_by_nothing(w, square):
    return w.rate * w.gradient / square, tf.square(w.gradient)

calls = 0

@optimizer()
def counted(w):
    global calls
    calls += 1
    return w.rate * w.gradient * calls

@optimizer()
def noisy(w):
    return w.rate * (w.gradient + tf.random.normal(w.gradient.shape))

@optimizer()
def seeded(w):
    return w.rate * (w.gradient + tf.random.normal(w.gradient.shape, seed=1))

@optimizer()
def stateless(w):
    step = tf.cast(w.step, tf.int32)
    return w.rate * (w.gradient + tf.random.stateless_normal(w.gradient.shape, [1, step]))

@optimizer()
def shared(w):
    return w.rate * w.gradient / w.gradient.shape[0]

@optimizer()
def largest(w):
    return w.rate * w.gradient / tf.reduce_max(tf.abs(w.gradient))

@activation()
def noisy_relu(z):
    return tf.nn.relu(z) * (1 + tf.random.uniform([]))

@activation()
def root(z):
    return tf.sqrt(z)
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
COUPLED = [{"activation": "coupled_mish"}, {"optimizer": "rounded_last"}]


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
    assert str(caught.value).startswith(f"{components}:{line_of('wide_softmax')}: activation")


MIXES = "mixes networks: the first axis is theirs; reduce over the axes 1 and 2"
NUMBER = "depends on how many networks train together (by their number or random numbers)"
CHANGES = "gives another result when called again (state or random numbers)"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mixed_steps", MIXES),
        ("coupled_steps", MIXES),
        ("centred_over_all", MIXES),  # not seen beside a copy of the same network
        ("divided_by_nothing", "returned NaN or infinity for finite gradients"),
        ("largest", MIXES),
        ("shared", NUMBER),
        ("seeded", NUMBER),
        ("counted", CHANGES),
        ("noisy", CHANGES),
    ],
)
def test_an_optimizer_is_refused_for_what_it_does(
    name: str, problem: str, components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(components.parent)
    own.forget(components)
    own.load_file(Path(components.name))  # the file is shown as it was given
    with pytest.raises(GradpropError) as caught:
        independence.has_independent_steps(Component(name))
    assert str(caught.value) == f"components.py:{line_of(name)}: optimizer {name!r}: {problem}"


def line_of(name: str) -> int:
    """Return the line of the decorator of a function of `TEXT`."""
    return TEXT.partition(f"def {name}(")[0].count("\n")


@pytest.mark.parametrize("name", ["root_of_a_mean", "root_of_a_weight"])
def test_a_rule_that_fails_for_some_networks_is_not_refused(name: str) -> None:
    assert independence.has_independent_steps(Component(name)) in (True, False)


def test_an_activation_is_not_called_coupled_for_nan_or_random_numbers() -> None:
    assert independence.is_independent(Component("root")) in (True, False)
    with pytest.raises(GradpropError) as caught:
        independence.is_independent(Component("noisy_relu"))
    assert str(caught.value).endswith(f": activation 'noisy_relu': {CHANGES}")


def test_an_end_of_the_stack_that_is_computed_otherwise_is_seen() -> None:
    """As TensorFlow does with the entries that do not fill a vector register."""
    assert not independence.has_independent_steps(Component("rounded_last"))


def test_random_numbers_that_repeat_are_not_called_mixing() -> None:
    assert not independence.has_independent_steps(Component("stateless"))


def test_a_mean_of_every_network_does_not_mix_them(blobs: Dataset) -> None:
    (cells,) = {len(r.tables["cells"]) for r in trained(stack(2, optimizer="centred"), blobs)}
    assert cells in (1, 2)  # whether its bits depend on the stack is TensorFlow's business


def test_those_of_the_package_are_not_asked(blobs: Dataset) -> None:
    assert independence.separated([stack(3, activation="tanh")]) == [stack(3, activation="tanh")]
