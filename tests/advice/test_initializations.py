"""What is recommended, against closed forms, SciPy's quadrature, simulated networks and Keras."""

from __future__ import annotations

import doctest
import json
import math
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import scipy

import gradprop
from gradprop import advice
from gradprop.advice import functions, initializations
from gradprop.cli import main
from gradprop.components import activations, gains
from gradprop.components.activations import ACTIVATIONS
from gradprop.errors import GradpropError


def row(found: advice.InitializationAdvice, name: str) -> advice.Initialization:
    (chosen,) = [row for row in found.rows if name in row.initialization]
    return chosen


def quad(f: object, q: float, points: tuple[float, ...] = (0.0,)) -> float:
    """Integrate over N(0, q) with SciPy."""
    root = math.sqrt(q)
    value, _ = scipy.integrate.quad(
        lambda z: f(root * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi),  # type: ignore[operator]
        -12, 12, points=points, limit=400, epsabs=1e-13,
    )  # fmt: skip
    return float(value)


def test_selu_has_two_answers_that_are_both_right() -> None:
    found = gradprop.advise("selu", depth=100, width=64)
    unit, torch = row(found, "unit length"), row(found, "PyTorch's gain")
    assert unit.gain == pytest.approx(1, abs=1e-7)
    assert unit.q_star == pytest.approx(1, abs=1e-6)
    assert unit.activation_std == pytest.approx(1, abs=1e-6)
    assert torch.gain == 0.75
    phi = activations.get("selu")
    square = lambda z: float(phi.function(z)) ** 2  # noqa: E731
    slope = lambda z: float(phi.derivative(z)) ** 2  # noqa: E731
    assert unit.decades_per_layer == pytest.approx(0.5 * math.log10(quad(slope, 1.0)), abs=1e-9)
    assert unit.decades_per_layer == pytest.approx(0.0150, abs=5e-5)
    q = torch.q_star
    assert 0.5625 * quad(square, q) == pytest.approx(q, rel=1e-8)
    assert torch.chi_1 == pytest.approx(0.5625 * quad(slope, q), rel=1e-8)
    assert torch.chi_1 == pytest.approx(1.0037, abs=5e-5)
    assert torch.activation_std == pytest.approx(0.20, abs=0.005)
    assert "1.0037" in repr(found)
    assert "0.0150 decades per layer" in repr(found)


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu(slope=0.1)"])
def test_rectifiers_have_he_s_gain_or_that_without_drift(activation: str) -> None:
    slope = {"linear": 1.0, "relu": 0.0}.get(activation, 0.1)
    wide = gradprop.advise(activation, depth=5, width=1000).recommended
    assert wide.sigma_w2 == pytest.approx(2 / (1 + slope**2), rel=1e-12)
    assert wide.initialization == "recommended (unit length, edge of chaos, PyTorch's gain)"
    deep = gradprop.advise(activation, depth=150, width=16).recommended
    gain = gains.unbiased_gain(16, activation)
    assert deep.gain == pytest.approx(gain, rel=1e-4)
    assert abs(deep.signal_decades) < 0.01


def test_an_exact_value_of_each_usual_initialization() -> None:
    found = gradprop.advise("relu", depth=11, width=50)
    for name, sigma_w2 in [("He", 2), ("LeCun", 1), ("Glorot", 1), ("orthogonal", 1)]:
        assert row(found, name).sigma_w2 == pytest.approx(sigma_w2)
        assert row(found, name).chi_1 == pytest.approx(sigma_w2 / 2)
    default = row(found, "PyTorch's default")
    assert default.decades_per_layer == pytest.approx(0.5 * math.log10(1 / 6))
    assert default.trainable_depth == pytest.approx(2 / (0.5 * math.log10(6)))
    # RMS of h_11 of inputs of mean square 1 is sqrt(sigma_w2 / 2)^11, and its mean sqrt(q / 2 pi)
    q = 2.0
    assert row(found, "He").activation_std == pytest.approx(math.sqrt(q / 2 - q / (2 * math.pi)))


@pytest.mark.parametrize(
    ("activation", "name"), [("tanh", "unit length"), ("selu", "PyTorch's gain")]
)
def test_simulated_networks_do_as_predicted(activation: str, name: str) -> None:
    depth, width, count = 12, 48, 300
    expected = row(gradprop.advise(activation, depth, width), name)
    phi, rng = activations.get(activation), np.random.default_rng(1)
    h = rng.standard_normal((count, width))
    h *= math.sqrt(width) / np.linalg.norm(h, axis=1, keepdims=True)
    weights, z = [], []
    for _ in range(depth):
        weights.append(rng.standard_normal((count, width, width)) * expected.gain / width**0.5)
        z.append(np.einsum("ci,cij->cj", h, weights[-1]))
        h = phi.function(z[-1])
    delta = rng.standard_normal((count, width)) * phi.derivative(z[-1])
    last = np.log10(np.square(delta).mean(axis=1)) / 2
    for layer in range(depth - 1, 0, -1):
        delta = np.einsum("cj,cij->ci", delta, weights[layer]) * phi.derivative(z[layer - 1])
    signal = np.log10(np.square(delta).mean(axis=1)) / 2 - last
    length = np.log10(np.square(z[-1]).mean(axis=1) / np.square(z[0]).mean(axis=1)) / 2
    error = signal.std() / math.sqrt(count)
    assert signal.mean() == pytest.approx(expected.signal_decades, abs=4 * error + 0.03)
    assert signal.std() == pytest.approx(expected.signal_sd, rel=0.25)
    assert length.mean() == pytest.approx(expected.length_decades, abs=4 * error + 0.03)


def test_the_code_makes_weights_of_this_gain() -> None:
    import keras

    for activation in ("leaky_relu(slope=0.3)", "elu(alpha=0.5)", "selu"):
        found = gradprop.advise(activation, 10, 200, initializer="normal(stddev=0.02)")
        for each in found.rows:
            layer = eval(each.code, {"keras": keras})
            layer.build((None, 200))
            kernel = layer.get_weights()[0]
            assert kernel.std() * math.sqrt(200) == pytest.approx(each.gain, rel=0.03)
            z = np.linspace(-3, 3, 7)
            exact = activations.get(activation).function(z)
            assert np.allclose(np.asarray(layer.activation(z)), exact, atol=1e-6)
    assert row(found, "yours").sigma_w2 == pytest.approx(200 * 0.02**2)


def test_a_function_is_taken_for_what_it_is_whatever_its_name() -> None:
    def selu(z: np.ndarray) -> np.ndarray:
        return np.tanh(z)

    known = list(ACTIVATIONS)
    found, exact = gradprop.advise(selu, 15, 32), gradprop.advise("tanh", 15, 32)
    assert list(ACTIVATIONS) == known
    numbers = ["signal_decades", "signal_sd", "length_decades", "activation_std", "sigma_w2"]
    for name in ("unit length", "edge of chaos", "He"):
        for number in numbers:
            wanted = getattr(row(exact, name), number)
            assert getattr(row(found, name), number) == pytest.approx(wanted, rel=1e-6)
    assert 0 < found.error < 1e-8
    assert "to" in found.notes[-1]
    assert exact.error == 0


def test_what_cannot_be_helped_is_told() -> None:
    assert any("No variance" in note for note in gradprop.advise("gelu", 100, 64).notes)
    assert not any("No variance" in note for note in gradprop.advise("tanh", 100, 64).notes)
    flat = gradprop.advise("sigmoid", 20, 64)
    assert any("is flat" in note for note in flat.notes) == (
        2 * scipy.stats.norm.cdf(-5.9864 / math.sqrt(flat.recommended.q_star)) > 0.5
    )


def test_it_shows_itself() -> None:
    def evil(z: np.ndarray) -> np.ndarray:
        return np.tanh(z)

    evil.__name__ = "<script>alert(1)</script>"
    found = gradprop.advise(evil, 5, 8)
    page = found._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<td>") == len(found.rows) * (len(found.table.columns) - 1)
    assert list(found.table["initialization"]) == [r.initialization for r in found.rows]
    for each in found.rows:
        assert each.initialization in repr(found)
        assert each.code in repr(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"activation": "sellu"}, "advise: activation: 'sellu' is not allowed"),
        ({"activation": "leaky_relu(slope=3)"}, "advise: activation: leaky_relu: slope"),
        ({"activation": "leaky_relu(tilt=3)"}, "advise: activation: leaky_relu: tilt"),
        ({"activation": "relu("}, "advise: activation: relu"),
        ({"activation": 3}, "advise: activation: 3 is no label"),
        ({"depth": 1}, "advise: depth: 1 is not allowed; allowed: a whole number from 2 to 1000"),
        ({"depth": 2.5}, "advise: depth: 2.5"),
        ({"width": 0}, "advise: width: 0"),
        ({"initializer": "zeros"}, "advise: initializer: theory says nothing of zeros"),
        ({"initializer": "hee_normal"}, "Did you mean 'he_normal'?"),
        ({"activation": "tanh", "initializer": "lyapunov"}, "advise: initializer: lyapunov"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(GradpropError) as caught:
        gradprop.advise(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_prints_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = gradprop.advise("leaky_relu(slope=0.1)", 7, 9)
    command = ["advise", "--activation", "leaky_relu(slope=0.1)", "--depth", "7", "--width", "9"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == repr(found)
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == found.document()
    assert printed["initializations"][0]["depth_scale"] is None
    assert main(["advise", "--depth", "1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, gradprop; heavy = {'numpy', 'scipy', 'pandas', 'tensorflow', 'keras'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        "assert 'advise' in dir(gradprop);"
        "gradprop.advise('relu', 5, 8); assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'advize'"):
        _ = gradprop.advize


@pytest.mark.parametrize("module", [functions, initializations])
def test_examples_in_docstrings(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


@pytest.mark.parametrize(
    "label",
    [
        *(name for name in ACTIVATIONS if name != "exponential"),
        "sine(omega=30)",
        "prelu(slope=0.1)",
    ],
)
def test_the_layer_that_is_advised_computes_the_activation(label: str) -> None:
    import keras

    code = advice.advise(label, depth=10, width=64).recommended.code
    layer = eval(code, {"keras": keras})  # the string is this package's own
    z = np.linspace(-2, 2, 9, dtype=np.float32)[:, None]
    layer.units = 1
    layer.kernel_initializer = keras.initializers.Ones()
    found = np.asarray(layer(z)).ravel()
    assert found == pytest.approx(activations.get(label).function(z[:, 0]), abs=2e-6)


def test_an_exponential_is_refused_in_one_line() -> None:
    with pytest.raises(GradpropError, match="exponential grows faster than linearly"):
        advice.advise("exponential", depth=10, width=64)
