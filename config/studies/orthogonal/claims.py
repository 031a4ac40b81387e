"""Orthogonal weights (Day, Kahn and Roberts 2023): fluctuations that do not grow with depth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gradprop.analysis import estimates
from gradprop.analysis.needs import NotMeasured, at, one_per_seed, table
from gradprop.claims import Below, Between, Case, Claim, Evidence, from_interval
from gradprop.grid.selection import deepest
from gradprop.prediction import fluctuations
from gradprop.results.study_tables import StudyTables, at_start
from gradprop.spec import Cell

Float64 = NDArray[np.float64]

# Where theory and networks are compared, and from where on growth is fitted.
DEEP_LAYER, FIRST_LAYER = 48, 8
GAUSSIAN, ORTHOGONAL = "variance_scaling", "orthogonal"

Ensembles = dict[int, dict[str, tuple[Cell, np.ndarray]]]


def _ensembles(tables: StudyTables) -> Ensembles:
    """Return, for every width and initializer, a cell and the mean squares (networks, layers).

    Of the deepest networks: those of other depths have the same seeds and are not independent.
    """
    found: Ensembles = {}
    groups: dict[tuple[int, str], list[Cell]] = {}
    for cell in tables.study.cells:
        groups.setdefault((cell.width, cell.initializer.name), []).append(cell)
    layers = table(at_start(tables.layers), "cell", "layer", "preactivation_log10_mean_square")
    for (width, name), alike in groups.items():
        cells = one_per_seed(deepest(alike))
        hidden = list(range(1, cells[0].depth + 1))
        values = layers.loc[[cell.id for cell in cells], hidden]
        squares = 10.0 ** values.to_numpy(np.float64)
        found.setdefault(width, {})[name] = cells[0], squares
    return found


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    by_width = _ensembles(tables)
    width = min(by_width)
    by_weights = by_width[width]
    cell, _ = at(by_weights, GAUSSIAN)
    layer = min(DEEP_LAYER, cell.depth, at(by_weights, ORTHOGONAL)[0].depth)
    fluctuation = {
        name: float(estimates.relative_variance(squares)[0][layer - 1])
        for name, (_, squares) in by_weights.items()
        if name in (GAUSSIAN, ORTHOGONAL)
    }
    return {
        "networks": len(tables.cells),
        "layer": layer,
        "width": width,
        "gaussian": fluctuation[GAUSSIAN],
        "orthogonal": fluctuation[ORTHOGONAL],
        "expected": _expected(cell, layer),
    }


def _expected(cell: Cell, layer: int) -> float:
    """Return the relative variance of lengths in a layer by theory, NaN if it says nothing."""
    expected = np.broadcast_to(fluctuations.expected_fluctuation(cell), cell.depth)
    return float(expected[layer - 1])


def _deep(squares: Float64) -> Float64:
    """Return the mean squares of networks that have the deep layer."""
    if squares.shape[1] < DEEP_LAYER:
        raise NotMeasured(f"the study has no networks of {DEEP_LAYER} hidden layers")
    return squares


def _fluctuation(squares: Float64, confidence: float = 0.90) -> Float64:
    """Return relative variance of the lengths at the deep layer, and its bounds, shape (3,)."""
    parts = estimates.relative_variance(squares, confidence)
    return np.array([part[DEEP_LAYER - 1] for part in parts])


def _against_theory(tables: StudyTables) -> Iterator[Evidence]:
    for width, by_weights in _ensembles(tables).items():
        cell, squares = at(by_weights, GAUSSIAN)
        squares, expected = _deep(squares), _expected(cell, DEEP_LAYER)

        def interval(
            confidence: float, squares: Float64 = squares, expected: float = expected
        ) -> tuple[float, float]:
            _, low, high = _fluctuation(squares, confidence) / expected
            return float(low), float(high)

        ratio = float(_fluctuation(squares)[0] / expected)
        yield from_interval(Case(width=width), ratio, interval, len(squares), predicted=1.0)


def _against_gaussian(tables: StudyTables) -> Iterator[Evidence]:
    """Bound the ratio by the bounds of its parts: wider than its own interval."""
    for width, by_weights in _ensembles(tables).items():
        squares, reference = (_deep(at(by_weights, name)[1]) for name in (ORTHOGONAL, GAUSSIAN))

        def interval(
            confidence: float, squares: Float64 = squares, reference: Float64 = reference
        ) -> tuple[float, float]:
            _, low, high = _fluctuation(squares, confidence)
            _, least, most = _fluctuation(reference, confidence)
            with np.errstate(divide="ignore"):  # two networks: a resample has one of them twice
                return float(low / most), float(high / least)

        ratio = float(_fluctuation(squares)[0] / _fluctuation(reference)[0])
        yield from_interval(Case(width=width), ratio, interval, len(squares))


def _growth(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the exponent of the relative variance over the layer, by bootstrap over networks."""
    for width, by_weights in _ensembles(tables).items():
        cell, squares = at(by_weights, ORTHOGONAL)
        layers = np.arange(FIRST_LAYER, cell.depth + 1)
        resampled = estimates.resampled_relative_variances(squares[:, FIRST_LAYER - 1 :])
        positive = resampled[(resampled > 0).all(axis=1)]
        if len(positive) < 2 or not (resampled[0] > 0).all():
            raise NotMeasured(f"lengths of width {width} do not fluctuate in all of the layers")
        slopes = estimates.slopes(np.log(layers), np.log(positive).T)

        def interval(confidence: float, slopes: Float64 = slopes) -> tuple[float, float]:
            low, high = np.quantile(slopes[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
            return float(low), float(high)

        yield from_interval(Case(width=width), float(slopes[0]), interval, len(squares))


CLAIMS = (
    Claim(
        id="gaussian-fluctuations",
        statement=(
            "Lengths of tanh networks with Gaussian weights fluctuate from network to network as "
            "finite-width theory says."
        ),
        source="roberts2022: chapter 5; day2023",
        formula=(
            f"relative variance in layer l = {DEEP_LAYER} over its leading order, "
            "(2 / l²) Σ k²/n, which tends to (2/3) l/n"
        ),
        unit="",
        criterion=Between(0.75, 1.35),
        measure=_against_theory,
    ),
    Claim(
        id="orthogonal-fluctuations",
        statement="With orthogonal weights, lengths of deep tanh networks hardly fluctuate.",
        source="day2023",
        formula=f"relative variance in layer {DEEP_LAYER}, orthogonal over Gaussian",
        unit="",
        criterion=Below(0.02),
        measure=_against_gaussian,
    ),
    Claim(
        id="orthogonal-growth",
        statement="With orthogonal weights, fluctuations do not grow with depth.",
        source="day2023",
        formula=f"exponent of the relative variance over the layer from {FIRST_LAYER} on",
        unit="",
        criterion=Below(0.0),
        measure=_growth,
    ),
)
