"""Orthogonal weights (Day, Kahn and Roberts 2023): fluctuations that do not grow with depth."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradprop import analysis
from gradprop.claims import Below, Between, Claim, Evidence
from gradprop.figures import ensembles
from gradprop.figures.data import StudyTables
from gradprop.spec import Cell

# Where theory and networks are compared, and from where on growth is fitted.
DEEP_LAYER, FIRST_LAYER = 48, 8
GAUSSIAN, ORTHOGONAL = "variance_scaling", "orthogonal"

Ensembles = dict[int, dict[str, tuple[Cell, np.ndarray]]]


def _ensembles(tables: StudyTables) -> Ensembles:
    """Return, for every width and initializer, a cell and the mean squares (networks, layers)."""
    found: Ensembles = {}
    groups: dict[tuple[int, str], list[Cell]] = {}
    for cell in tables.study.cells:
        groups.setdefault((cell.width, cell.initializer.name), []).append(cell)
    layers = tables.layers.pivot(
        index="cell", columns="layer", values="preactivation_log10_mean_square"
    )
    for (width, name), cells in groups.items():
        hidden = list(range(1, cells[0].depth + 1))
        values = layers.loc[[cell.id for cell in cells], hidden]
        squares = 10.0 ** values.to_numpy(np.float64)
        found.setdefault(width, {})[name] = cells[0], squares
    return found


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    by_width = _ensembles(tables)
    width = min(by_width)
    cell, _ = by_width[width][GAUSSIAN]
    layer = min(DEEP_LAYER, cell.depth)
    fluctuation = {
        name: float(analysis.relative_variance(squares)[0][layer - 1])
        for name, (_, squares) in by_width[width].items()
    }
    return {
        "networks": len(tables.cells),
        "layer": layer,
        "width": width,
        "gaussian": fluctuation[GAUSSIAN],
        "orthogonal": fluctuation[ORTHOGONAL],
        "expected": float(np.asarray(ensembles.expected_fluctuation(cell))[layer - 1]),
    }


def _against_theory(tables: StudyTables) -> Iterator[Evidence]:
    for width, by_weights in _ensembles(tables).items():
        cell, squares = by_weights[GAUSSIAN]
        expected = np.asarray(ensembles.expected_fluctuation(cell))[DEEP_LAYER - 1]
        estimate, low, high = (part[DEEP_LAYER - 1] for part in analysis.relative_variance(squares))
        yield Evidence(
            f"width {width}",
            1.0,
            estimate / expected,
            low / expected,
            high / expected,
            len(squares),
        )


def _against_gaussian(tables: StudyTables) -> Iterator[Evidence]:
    """Bound the ratio by the bounds of its parts: wider than its own interval."""
    for width, by_weights in _ensembles(tables).items():
        parts = [
            [part[DEEP_LAYER - 1] for part in analysis.relative_variance(by_weights[name][1])]
            for name in (ORTHOGONAL, GAUSSIAN)
        ]
        (estimate, low, high), (reference, least, most) = np.array(parts)
        networks = len(by_weights[ORTHOGONAL][1])
        with np.errstate(divide="ignore", invalid="ignore"):  # two networks, drawn twice the same
            ratio, lowest, highest = estimate / reference, low / most, high / least
        yield Evidence(f"width {width}", math.nan, ratio, lowest, highest, networks)


def _growth(tables: StudyTables) -> Iterator[Evidence]:
    """Fit the exponent of the relative variance over the layer, by bootstrap over networks."""
    for width, by_weights in _ensembles(tables).items():
        cell, squares = by_weights[ORTHOGONAL]
        layers = np.arange(FIRST_LAYER, cell.depth + 1)
        resampled = analysis.resampled_relative_variances(squares[:, FIRST_LAYER - 1 :])
        positive = resampled[(resampled > 0).all(axis=1)]
        slopes = np.polyfit(np.log(layers), np.log(positive).T, 1)[0]
        low, high = np.quantile(slopes[1:], [0.05, 0.95])
        yield Evidence(f"width {width}", math.nan, slopes[0], low, high, len(squares))


CLAIMS = (
    Claim(
        id="gaussian-fluctuations",
        statement=(
            "Lengths of tanh networks with Gaussian weights fluctuate from network to network as "
            "finite-width theory says."
        ),
        source="Roberts, Yaida and Hanin 2022, chapter 5; Day, Kahn and Roberts 2023",
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
        source="Day, Kahn and Roberts 2023",
        formula=f"relative variance in layer {DEEP_LAYER}, orthogonal over Gaussian",
        unit="",
        criterion=Below(0.02),
        measure=_against_gaussian,
    ),
    Claim(
        id="orthogonal-growth",
        statement="With orthogonal weights, fluctuations do not grow with depth.",
        source="Day, Kahn and Roberts 2023",
        formula=f"exponent of the relative variance over the layer from {FIRST_LAYER} on",
        unit="",
        criterion=Below(0.0),
        measure=_growth,
    ),
)
