"""The chapter on convolution, on networks that NumPy runs in float64 and on tables by hand."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from config.studies.convolution import claims as convolution
from gradprop import claims
from gradprop.components import network, own
from gradprop.components.initializers import INITIALIZERS, Layer
from gradprop.grid import axes, folders
from gradprop.prediction.data import data_sizes
from gradprop.probes.own import NetworkLayer
from gradprop.probes.statistics import STATISTICS
from gradprop.spec import Cell
from tests.workspace import ROOT

Float64 = NDArray[np.float64]

FOLDER = ROOT / "config/studies/convolution"
DEPTH, WIDTH, SEEDS = 16, 8, 4
PADS = {"circular": {"mode": "wrap"}, "zero": {"mode": "constant"}}


@pytest.fixture(scope="module", autouse=True)
def components() -> Iterator[None]:
    """Let the registries know delta-orthogonal kernels, and forget them."""
    folders.load_components(FOLDER)
    yield
    own.forget(FOLDER / folders.COMPONENTS)


def cells(**changes: Any) -> list[Cell]:
    block = {
        **{"dataset": "digits", "depth": DEPTH, "width": WIDTH, "activation": "linear"},
        **{"initializer": "variance_scaling", "padding": ["circular", "zero"], "seeds": SEEDS},
        **{"learning_rate": 0.1, "batch_size": 8, "epochs": 0, "use_bias": False, **changes},
    }
    return list(axes.expand(block, network.read(FOLDER)))


def convolve(images: Float64, kernel: Float64, pad: dict[str, Any]) -> Float64:
    """Return the convolution of images (batch, 8, 8, channels) with a kernel of 3 x 3."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), **pad)
    return sum(padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3))


def signals(cell: Cell, padding: str, draw: Any) -> Float64:
    """Return log10 RMS of dC/dz of hidden layers 1 ... depth of a linear network."""
    rng = np.random.default_rng(cell.seed)
    signal = rng.standard_normal((6, 8, 8, WIDTH))
    found = [signal]
    for _ in range(cell.depth - 1):
        kernel = draw(rng)
        # What goes back is a convolution with the kernel turned around.
        signal = convolve(signal, kernel[::-1, ::-1].transpose(0, 1, 3, 2), PADS[padding])
        found.insert(0, signal)
    return np.log10([np.sqrt(np.mean(one**2)) for one in found])


def gaussian(rng: np.random.Generator) -> Float64:
    return rng.standard_normal((3, 3, WIDTH, WIDTH)) / np.sqrt(9 * WIDTH)


def delta(rng: np.random.Generator) -> Float64:
    layer = Layer(9 * WIDTH, WIDTH, "linear", 9)
    entry = INITIALIZERS["delta_orthogonal"]
    made = entry.build(layer, int(rng.integers(2**31)), gain=1.0)((9 * WIDTH, WIDTH))
    return made.reshape(3, 3, WIDTH, WIDTH).astype(np.float64)


def tables(chosen: list[Cell], values: dict[str, dict[str, NDArray[Any]]]) -> Any:
    """Return tables of cells with a column of the layers each."""
    layers = pd.concat(
        [
            pd.DataFrame({"cell": c, "step": 0, "layer": range(1, DEPTH + 2), **columns})
            for c, columns in values.items()
        ],
        ignore_index=True,
    )
    study = SimpleNamespace(name="convolution", cells=tuple(chosen), names={})
    return SimpleNamespace(study=study, layers=layers)


def verdicts(found: Any, name: str) -> list[str]:
    (claim,) = (claim for claim in convolution.CLAIMS if claim.id == name)
    return [result.verdict for result in claims.judge(claim, found)]


def signal_tables(draw: Any, paddings: dict[str, str], **changes: Any) -> Any:
    """Return tables of networks that are said to have a padding, and have another one."""
    chosen = cells(**changes)
    rows = {
        c.id: {
            "signal_log10_rms": np.append(signals(c, paddings[str(c.value("padding"))], draw), 0.0)
        }
        for c in chosen
    }
    return tables(chosen, rows)


HONEST = {"circular": "circular", "zero": "zero"}


def test_a_border_takes_what_a_random_walk_loses() -> None:
    assert verdicts(signal_tables(gaussian, HONEST), "zero-padding") == ["supported"]
    none = dict.fromkeys(HONEST, "circular")
    assert verdicts(signal_tables(gaussian, none), "zero-padding") == ["not supported"]


def test_the_loss_at_the_border_is_that_of_random_walkers() -> None:
    rng = np.random.default_rng(0)
    places = rng.integers(0, 8, (200_000, 2))
    alive = np.ones(len(places), dtype=bool)
    steps = 15
    for _ in range(steps):
        places += rng.integers(-1, 2, places.shape)
        alive &= ((places >= 0) & (places < 8)).all(axis=1)
    assert convolution.border_rate(steps) == pytest.approx(
        0.5 * np.log10(alive.mean()) / steps, abs=2e-4
    )
    slope = 2000 * convolution.border_rate(2000) - 1999 * convolution.border_rate(1999)
    assert slope == pytest.approx(np.log10((1 + 2 * np.cos(np.pi / 9)) / 3), abs=1e-12)


def test_delta_orthogonal_networks_keep_signals_and_gaussian_ones_do_not() -> None:
    name = {"initializer": "delta_orthogonal"}
    assert verdicts(signal_tables(delta, HONEST, **name), "kept") == ["supported"] * 2
    assert verdicts(signal_tables(gaussian, HONEST, **name), "kept") == ["not supported"] * 2


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_rate_of_tanh_networks_is_that_of_a_wide_dense_one(scale: float) -> None:
    """Simulated: a dense network of 1000 units, whose inputs have the mean square of the data."""
    (cell, *_) = chosen = cells(
        activation="tanh",
        initializer={"name": "variance_scaling", "scale": scale},
        padding="circular",
    )
    rng, units = np.random.default_rng(3), 1000
    h, slopes, kernels = np.full(units, np.sqrt(data_sizes(cell.dataset)[2])), [], []
    for _ in range(DEPTH):
        kernels.append(rng.standard_normal((units, units)) * np.sqrt(scale / units))
        h = np.tanh(h @ kernels[-1])
        slopes.append(1 - h**2)
    signal = rng.standard_normal(units) * slopes[-1]
    sizes = [signal]
    for kernel, slope in zip(kernels[:0:-1], slopes[-2::-1], strict=True):
        sizes.append((kernel @ sizes[-1]) * slope)
    rate = np.log10(np.linalg.norm(sizes[-1]) / np.linalg.norm(sizes[0])) / (DEPTH - 1)
    predicted = convolution.mean_field_rate(cell)
    assert predicted == pytest.approx(rate, abs=0.01)
    lines = {
        c.id: {"signal_log10_rms": predicted * np.arange(DEPTH, -1, -1) + 0.001 * c.seed}
        for c in chosen
    }
    assert verdicts(tables(chosen, lines), "mean-field-rate") == ["supported"]
    steeper = {
        name: {k: v + 0.03 * np.arange(DEPTH, -1, -1) for k, v in row.items()}
        for name, row in lines.items()
    }
    assert verdicts(tables(chosen, steeper), "mean-field-rate") == ["not supported"]


def operator(kernel: Float64, pad: dict[str, Any]) -> Float64:
    """Return the matrix of a convolution on images of 8 x 8, place by place."""
    rows = np.eye(64 * kernel.shape[2]).reshape(-1, 8, 8, kernel.shape[2])
    return convolve(rows, kernel, pad).reshape(len(rows), -1)


def statistic(name: str, kernel: Float64) -> float:
    from config.studies.convolution import components as code

    weight = kernel.reshape(-1, kernel.shape[-1])
    empty = np.zeros((1, 1))
    layer = NetworkLayer(empty, empty, empty, empty, weight, empty, "linear")
    return float(np.log10(getattr(code.singular_values(layer), name)()))


@pytest.mark.parametrize("inputs", [1, 4])
def test_singular_values_are_those_of_the_whole_matrix(inputs: int) -> None:
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((3, 3, inputs, 4))
    exact = np.linalg.svd(operator(kernel, PADS["circular"]), compute_uv=False)
    assert statistic("max", kernel) == pytest.approx(np.log10(exact[0]), abs=1e-9)
    assert statistic("min", kernel) == pytest.approx(np.log10(exact[-1]), abs=1e-9)
    assert {"weight_log10_largest_singular", "weight_log10_smallest_singular"} <= set(STATISTICS)


@pytest.mark.parametrize("padding", PADS)
def test_a_delta_orthogonal_convolution_is_an_isometry(padding: str) -> None:
    kernel = delta(np.random.default_rng(2))
    exact = np.linalg.svd(operator(kernel, PADS[padding]), compute_uv=False)
    np.testing.assert_allclose(exact, 1, atol=1e-6)


def flattened(rng: np.random.Generator, units: int) -> Float64:
    q, _ = np.linalg.qr(rng.standard_normal((9 * units, units)))
    return q.reshape(3, 3, units, units)


def test_the_edge_of_flattened_orthogonal_kernels() -> None:
    rng = np.random.default_rng(4)
    waves = np.fft.fft2(flattened(rng, 100), (4, 4), axes=(0, 1))
    largest = np.linalg.svd(waves, compute_uv=False).max()
    assert np.log10(largest) == pytest.approx(convolution.flattened_edge(), abs=0.02)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(lambda rng: flattened(rng, 16), "supported"), (delta, "not supported")],
)
def test_flattened_orthogonal_kernels_stretch(draw: Any, expected: str) -> None:
    chosen = cells(initializer="orthogonal", padding="circular")
    rng = np.random.default_rng(5)
    rows = {
        c.id: {
            convolution.LARGEST: np.array([statistic("max", draw(rng)) for _ in range(DEPTH + 1)])
        }
        for c in chosen
    }
    assert verdicts(tables(chosen, rows), "flattened-orthogonal") == [expected]


@pytest.mark.parametrize(("off", "expected"), [(0.0, "supported"), (0.01, "not supported")])
def test_isometry_is_judged_in_every_layer(off: float, expected: str) -> None:
    chosen = cells(initializer="delta_orthogonal", padding="circular")
    values = np.zeros(DEPTH + 1)
    values[7] = off
    names = (convolution.LARGEST, convolution.SMALLEST)
    found = tables(chosen, {c.id: dict.fromkeys(names, values) for c in chosen})
    assert verdicts(found, "isometry") == [expected] * 2


@pytest.mark.parametrize(("gain", "expected"), [(0.3, "supported"), (-0.3, "not supported")])
def test_trainability_is_compared_seed_by_seed_at_the_largest_depth(
    gain: float, expected: str
) -> None:
    chosen, rows = [], []
    for name, more in (("glorot_normal", 0.0), ("delta_orthogonal", gain)):
        for depth, sign in ((5, -1), (50, 1)):
            for cell in cells(initializer=name, depth=depth, epochs=1, padding="zero"):
                chosen.append(cell)
                accuracy = 0.5 + 0.01 * cell.seed + sign * more
                rows.append({"cell": cell.id, "depth": depth, "seed": cell.seed})
                rows[-1] |= {"status": "ok", "final_train_loss": 1.0}
                rows[-1] |= {"final_train_accuracy": accuracy}
    found = tables(chosen, {c.id: {"x": np.zeros(DEPTH + 1)} for c in chosen[:1]})
    found.cells = pd.DataFrame(rows)
    assert verdicts(found, "trainability") == [expected]
