"""The numbers in the chapter on convolution, and its claims."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from gradprop import theory
from gradprop.analysis.accuracy import training_outcomes
from gradprop.analysis.needs import at, distinct, need, recorded
from gradprop.claims import Above, Case, Claim, Evidence, Within, from_layers, from_seeds
from gradprop.components.initializers import INITIALIZERS, Layer
from gradprop.prediction.data import data_sizes
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

XIAO = "xiao2018"
SIGNAL = "signal_log10_rms"
LARGEST, SMALLEST = "weight_log10_largest_singular", "weight_log10_smallest_singular"
SIDE, PLACES = 8, 9  # of an image, of a kernel
GLOROT, DELTA = "glorot_normal", "delta_orthogonal"


def _parameters(cell: Cell) -> dict[str, object]:
    return {
        **{"network": cell, "seed": cell.seed, "activation": cell.activation.label},
        **{"initializer": cell.initializer.label, "name": cell.initializer.name},
        **{"padding": cell.value("padding"), "depth": cell.depth, "epochs": cell.epochs},
    }


def signals(tables: StudyTables) -> pd.DataFrame:
    """Return a row per network: decades that its signal gains per layer, from output to input.

    From the last hidden layer to the first, at initialization.
    """
    rows = at_start(recorded(tables.layers, SIGNAL)).pivot(
        index="cell", columns="layer", values=SIGNAL
    )
    found = []
    for cell in tables.study.cells:
        if cell.id in rows.index and cell.depth > 1:
            sizes = rows.loc[cell.id].astype(float).to_dict()
            rate = (sizes[1] - sizes[cell.depth]) / (cell.depth - 1)  # NaN of signals of zero
            found.append({**_parameters(cell), "cell": cell.id, "rate": rate})
    return pd.DataFrame(need(found, "networks with several hidden layers"))


def sigma_w2(cell: Cell) -> float:
    """Return the variance of a weight between hidden layers times its fan-in.

    NaN of kernels without one.
    """
    entry = INITIALIZERS[cell.initializer.name]
    if entry.variance is None:
        return math.nan
    layer = Layer(PLACES * cell.width, PLACES * cell.width, cell.activation, PLACES)
    given = INITIALIZERS.parameters_of(cell.initializer)
    return layer.fan_in * float(entry.variance(layer, **given))


def mean_field_rate(cell: Cell) -> float:
    """Return the decades per layer that mean-field theory gives the signal, without a border.

    The variance of pre-activations follows the length map from that of the first layer, and the
    mean square of the signal changes by ``sigma_w^2 E[phi'(z)^2]`` in every layer: the map of
    dense networks, as a kernel sums over independent weights wherever its inputs stand.
    """
    weights, biases = sigma_w2(cell), cell.bias_std**2 if cell.use_bias else 0.0
    q = weights * data_sizes(cell.dataset)[2] + biases
    logs = []
    for _ in range(1, cell.depth):
        logs.append(0.5 * math.log10(theory.chi_1(cell.activation, q, weights)))
        q = theory.length_map(cell.activation, q, weights, biases)
    return float(np.mean(logs))


def border_rate(steps: int, side: int = SIDE) -> float:
    """Return the decades per layer that a border of zeros costs the signal of linear networks.

    A mean square at a place is the mean over the 3 x 3 places around it, those beyond the border
    being 0. Rows and columns can be taken apart: in each it is the matrix with 1/3 on three
    diagonals. The signal enters at the output with one mean square everywhere. In the long run that
    comes to the largest eigenvalue, ``(1 + 2 cos(pi / (side + 1))) / 3`` for each direction.
    """
    near = (np.eye(side) + np.eye(side, k=1) + np.eye(side, k=-1)) / 3
    left = np.linalg.matrix_power(near, steps).sum(axis=1).mean()
    return float(math.log10(left) / steps)  # half the logarithm of the square, in two directions


def _gaussian(tables: StudyTables) -> Iterator[Evidence]:
    rows = signals(tables)
    chosen = rows[
        (rows["name"] == "variance_scaling")
        & (rows["padding"] == "circular")
        & (rows["activation"] != "linear")
    ]
    groups = need(chosen, "nonlinear networks with Gaussian kernels and circular padding")
    for (activation, initializer), alike in groups.groupby(
        ["activation", "initializer"], sort=False
    ):
        networks = distinct(alike, "seed")
        predicted = mean_field_rate(networks["network"].iloc[0])
        case = Case(activation=activation, initializer=initializer)
        yield from_seeds(case, networks["rate"], predicted)


def _border(tables: StudyTables) -> Iterator[Evidence]:
    """Measure what zero padding takes, with the same kernels as circular padding."""
    rows = signals(tables)
    rows = rows[(rows["activation"] == "linear") & (rows["name"] == "variance_scaling")]
    rows = need(rows, "linear networks with Gaussian kernels")
    for (initializer, depth), alike in rows.groupby(["initializer", "depth"], sort=False):
        pairs = distinct(alike, "seed", "padding").pivot(
            index="seed", columns="padding", values="rate"
        )
        if {"zero", "circular"} <= set(pairs):
            lost = (pairs["zero"] - pairs["circular"]).dropna()
            case = Case(initializer=initializer, depth=depth)
            yield from_seeds(case, lost, border_rate(int(alike["depth"].iloc[0]) - 1))


def _kept(tables: StudyTables) -> Iterator[Evidence]:
    rows = signals(tables)
    rows = rows[(rows["activation"] == "linear") & (rows["initializer"] == DELTA)]
    for padding, alike in need(rows, "linear delta-orthogonal networks").groupby(
        "padding", sort=False
    ):
        case = Case(f"{padding} padding", padding=padding)
        yield from_seeds(case, distinct(alike, "seed")["rate"], 0.0)


def singular_values(tables: StudyTables, column: str, initializer: str) -> pd.DataFrame:
    """Return log10 of a singular value between hidden layers at initialization, layers by seeds.

    Of linear networks with circular padding.
    """
    chosen = {
        cell.id: cell.seed
        for cell in tables.study.cells
        if cell.activation.name == "linear"
        and cell.initializer.label == initializer
        and cell.value("padding") == "circular"
    }
    rows = at_start(recorded(tables.layers, column))
    rows = need(rows[rows["cell"].isin(chosen)], f"linear {initializer} networks")
    rows = rows.assign(seed=rows["cell"].map(chosen))
    depth = int(rows["layer"].max()) - 1
    rows = rows[(rows["layer"] > 1) & (rows["layer"] <= depth)]
    return distinct(rows, "layer", "seed").pivot(index="layer", columns="seed", values=column)


def _isometry(tables: StudyTables) -> Iterator[Evidence]:
    for which, column in (("largest", LARGEST), ("smallest", SMALLEST)):
        values = singular_values(tables, column, DELTA)
        yield from_layers(Case(singular_value=which), values.to_numpy(), 0.0)


def flattened_edge(places: int = PLACES) -> float:
    """Return log10 of the largest singular value of a convolution from an orthogonal matrix.

    The matrix has orthonormal columns and `places` times as many rows. What the convolution does to
    a wave is ``sqrt(places)`` times a projection of it: a square block of a Haar-distributed matrix
    that is ``places`` times as large. With ``a = 1 / places`` the squares of the block's singular
    values lie below ``4 a (1 - a)`` in the limit of many channels.
    """
    share = 1 / places
    return 0.5 * math.log10(places * 4 * share * (1 - share))


def _flattened(tables: StudyTables) -> Iterator[Evidence]:
    values = singular_values(tables, LARGEST, "orthogonal")
    yield from_seeds(Case(initializer="orthogonal"), values.mean(axis=0), flattened_edge())


def accuracies(tables: StudyTables) -> pd.DataFrame:
    """Return final training accuracies of the deepest trained networks, seeds by initializers."""
    cells = {cell.id: cell.initializer.name for cell in tables.study.cells if cell.epochs}
    rows = training_outcomes(tables.cells[tables.cells["cell"].isin(cells)])
    rows = need(rows, "trained networks")
    rows = rows.assign(name=rows["cell"].map(cells))
    rows = rows[rows["depth"] == rows["depth"].max()]
    return distinct(rows, "name", "seed").pivot(index="seed", columns="name", values="accuracy")


def _trained(tables: StudyTables) -> Iterator[Evidence]:
    found = accuracies(tables)
    if not {GLOROT, DELTA} <= set(found):
        return
    depth = max(cell.depth for cell in tables.study.cells if cell.epochs)
    yield from_seeds(Case(depth=depth), (found[DELTA] - found[GLOROT]).dropna())


def numbers(tables: StudyTables) -> dict[str, float]:
    """Compute the numbers in the chapter's prose."""
    rates = signals(tables)
    start = rates[rates["epochs"] == 0]
    linear = start[(start["activation"] == "linear") & (start["name"] == "variance_scaling")]
    by_padding = need(linear, "linear networks").groupby("padding")["rate"].mean()
    tanh = need(start[start["activation"] == "tanh"], "tanh networks at initialization")
    low, high = (
        tanh[tanh["initializer"] == f"variance_scaling(scale={scale})"] for scale in (0.5, 2.0)
    )
    deep = rates[(rates["epochs"] > 0) & (rates["depth"] == rates["depth"].max())]
    by_name = deep.groupby("name")["rate"].mean()
    final = accuracies(tables).mean()
    largest, smallest = (
        singular_values(tables, column, "orthogonal") for column in (LARGEST, SMALLEST)
    )
    steps = int(need(linear, "linear networks")["depth"].iloc[0]) - 1
    return {
        "networks": len(tables.study.cells),
        "circular": float(at(by_padding, "circular")),
        "zero": float(at(by_padding, "zero")),
        "border": border_rate(steps),
        "border_limit": math.log10((1 + 2 * math.cos(math.pi / (SIDE + 1))) / 3),
        "low": float(need(low, "tanh networks of variance 0.5/n")["rate"].mean()),
        "low_theory": mean_field_rate(low["network"].iloc[0]),
        "high": float(need(high, "tanh networks of variance 2/n")["rate"].mean()),
        "high_theory": mean_field_rate(high["network"].iloc[0]),
        "largest": 10 ** float(largest.to_numpy().mean()),
        "smallest": 10 ** float(smallest.to_numpy().mean()),
        "edge": 10 ** flattened_edge(),
        "depth": int(need(deep, "trained networks")["depth"].iloc[0]),
        "glorot_rate": float(at(by_name, GLOROT)),
        "delta_rate": float(at(by_name, DELTA)),
        "he_rate": float(at(by_name, "he_normal")),
        "glorot_accuracy": float(at(final, GLOROT)),
        "delta_accuracy": float(at(final, DELTA)),
        "he_accuracy": float(at(final, "he_normal")),
        "orthogonal_accuracy": float(at(final, "orthogonal")),
    }


CLAIMS = (
    Claim(
        id="mean-field-rate",
        statement=(
            "Without a border, the signal of tanh networks with Gaussian kernels changes from "
            "layer to layer as in dense networks of the same variance."
        ),
        source=f"{XIAO}: the mean field theory of signal propagation",
        formula="mean of ½ log10 (σ_w² E[φ'(z_l)²]) over the hidden layers",
        unit="decades per layer",
        criterion=Within(0.02),
        measure=_gaussian,
    ),
    Claim(
        id="zero-padding",
        statement=(
            "A border of zeros takes from the signal of linear networks what a random walk on the "
            "image loses that dies beyond the border."
        ),
        source="derived here",
        formula="log10 mean((A^(L − 1)) 1) / (L − 1), A = 1/3 on three diagonals",
        unit="decades per layer",
        criterion=Within(0.01),
        measure=_border,
    ),
    Claim(
        id="isometry",
        statement="All singular values of a delta-orthogonal convolution are 1.",
        source=f"{XIAO}: delta-orthogonal kernels",
        formula="log10 σ = 0",
        unit="decades",
        criterion=Within(1e-5),
        measure=_isometry,
        check=True,
    ),
    Claim(
        id="kept",
        statement="Linear delta-orthogonal networks keep the signal, whatever is around the image.",
        source=f"{XIAO}: delta-orthogonal kernels",
        formula="decades per layer = 0",
        unit="decades per layer",
        criterion=Within(1e-4),
        measure=_kept,
        check=True,
    ),
    Claim(
        id="flattened-orthogonal",
        statement=(
            "A kernel of 3 x 3 that is an orthogonal matrix when it is flattened is no orthogonal "
            "map: it stretches some waves almost twofold."
        ),
        source="derived here",
        formula="largest singular value = √(9 · 4 a (1 − a)), a = 1/9",
        unit="log10",
        criterion=Within(0.05),
        measure=_flattened,
    ),
    Claim(
        id="trainability",
        statement=(
            "With 50 convolutions, critical delta-orthogonal kernels train better than Glorot's."
        ),
        source=f"{XIAO}: abstract",
        formula="final training accuracy, delta-orthogonal − Glorot, seed by seed",
        unit="",
        criterion=Above(0.0),
        measure=_trained,
    ),
)
