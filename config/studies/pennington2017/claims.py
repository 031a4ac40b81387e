"""Dynamical isometry (Pennington, Schoenholz and Ganguli 2017): singular values, learning time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradprop import theory
from gradprop.analysis.arrivals import arrivals, at_best_rate, exponents
from gradprop.analysis.needs import at, need, recorded, table
from gradprop.analysis.spectra import MATRIX, moments
from gradprop.claims import Above, Below, Between, Case, Claim, Evidence, exact, from_seeds
from gradprop.prediction.spectra import Law, law
from gradprop.results.study_tables import StudyTables, at_start

TIMES = {
    "statistic": "train_accuracy",
    "level": 0.9,
    "columns": "activation",
    "hue": "initializer",
    "select": {"dataset": "digits"},
}
ISOMETRIC = ("tanh", "orthogonal")
# Trained networks, by activation function and ensemble of weights.
LEARNING = (ISOMETRIC, ("tanh", "gaussian"), ("relu", "orthogonal"), ("relu", "gaussian"))


def _case(kind: tuple[str, str], more: str = "", **parameters: object) -> Case:
    """Return the case of an activation function with an ensemble of weights."""
    activation, ensemble = kind
    text = f"{activation}, {'Gaussian' if ensemble == 'gaussian' else ensemble}{more}"
    return Case(text, activation=activation, ensemble=ensemble, **parameters)


class Ensemble(NamedTuple):
    """Networks that differ in their seeds, and what theory says of their Jacobian."""

    law: Law
    mean_squares: npt.NDArray[np.float64]  # one per network
    relative_variances: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]  # singular value of each network

    @property
    def case(self) -> Case:
        """The ensemble among the evidence."""
        law = self.law
        return _case(
            (law.activation.label, law.ensemble),
            f", L = {law.layers}",
            sigma_w2=law.sigma_w2,
            q=law.q,
            layers=law.layers,
        )

    @property
    def isometric(self) -> bool:
        """Whether all its singular values are the same, by theory."""
        return self.law.relative_variance == 0


def _ensembles(tables: StudyTables) -> list[Ensemble]:
    rows = at_start(recorded(tables.measurement("spectra"), "matrix"))
    rows = rows[rows["matrix"] == MATRIX]
    found = moments(rows)
    members: dict[Law, list[str]] = {}
    for cell in tables.study.cells:
        expected = law(cell) if cell.id in found.index and not cell.epochs else None
        if expected is not None:
            members.setdefault(expected, []).append(cell.id)
    return [
        Ensemble(
            law,
            found.loc[ids, "mean_square"].to_numpy(np.float64),
            found.loc[ids, "relative_variance"].to_numpy(np.float64),
            found.loc[ids, "largest_singular_value"].to_numpy(np.float64),
        )
        for law, ids in members.items()
    ]


def _smallest(tables: StudyTables, layers: int) -> float:
    """Return the mean over tanh networks with orthogonal weights of the smallest singular value."""
    chosen = {
        cell.id
        for cell in tables.study.cells
        if (cell.activation.name, cell.initializer.name, cell.depth) == (*ISOMETRIC, layers + 1)
    }
    rows = recorded(tables.measurement("spectra"), "cell")
    rows = rows[rows["cell"].isin(chosen)]
    return float((10 ** rows.groupby("cell")["log10_singular_value"].min()).mean())


def learning_times(tables: StudyTables) -> dict[tuple[str, str], pd.DataFrame]:
    """Return steps to learn at the best rate, by activation and ensemble.

    Rows are seeds, columns depths.
    """
    ensembles = {
        cell.id: "orthogonal" if cell.initializer.name == "orthogonal" else "gaussian"
        for cell in tables.study.cells
    }
    found = at_best_rate(arrivals(tables, TIMES))
    found = found.assign(ensemble=found["cell"].map(ensembles))
    groups = found.groupby(["panel", "ensemble"], sort=False)
    return {
        (str(panel), str(ensemble)): table(rows, "seed", "depth", "steps")
        for (panel, ensemble), rows in groups
    }


def _exponents(tables: StudyTables) -> dict[tuple[str, str], npt.NDArray[np.float64]]:
    last = float(tables.steps["step"].max())
    return {key: exponents(steps, last) for key, steps in learning_times(tables).items()}


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    found = need(_ensembles(tables), "networks whose singular values have a law")
    layers = max(ensemble.law.layers for ensemble in found)
    deepest = {
        (item.law.activation.label, item.law.ensemble): item
        for item in found
        if item.law.layers == layers
    }
    spread = {key: float(item.relative_variances.mean()) for key, item in deepest.items()}
    tanh = at(deepest, ("tanh", "orthogonal")).law
    cells, trained = (
        need([cell for cell in tables.study.cells if bool(cell.epochs) is learns], what)
        for learns, what in ((False, "networks at initialization"), (True, "trained networks"))
    )
    values: dict[str, float | str] = {
        "networks": len(cells),
        "layers": layers,
        "width": cells[0].width,
        "q": tanh.q,
        "relu": at(spread, ("relu", "orthogonal")),
        "relu_gaussian": at(spread, ("relu", "gaussian")),
        "tanh": at(spread, ("tanh", "orthogonal")),
        "tanh_gaussian": at(spread, ("tanh", "gaussian")),
        "tanh_expected": tanh.relative_variance,
        "smallest": _smallest(tables, layers),
        "along": theory.length_map_slope("tanh", tanh.q, tanh.sigma_w2) ** layers,
        "trained_width": trained[0].width,
        "seeds": len({cell.seed for cell in trained if cell.activation.name == "tanh"}),
        "steps": int(tables.steps["step"].max()),
    }
    for name, key in (("tanh", ISOMETRIC), ("tanh_gaussian", ("tanh", "gaussian"))):
        values[f"{name}_largest"] = float(at(deepest, key).largest.mean())
        values[f"{name}_edge"] = at(deepest, key).law.largest_singular_value
    times_of, exponents = learning_times(tables), _exponents(tables)
    for activation, ensemble in LEARNING:
        times = at(times_of, (activation, ensemble))
        medians = times.quantile(0.5, interpolation="higher")
        values[f"{activation}_{ensemble}_shallow"] = medians.iloc[0]
        values[f"{activation}_{ensemble}_deep"] = medians.iloc[-1]
        values[f"{activation}_{ensemble}_arrived"] = int(np.isfinite(times.iloc[:, -1]).sum())
        values["shallow"] = int(times.columns[0])
        values[f"{activation}_depth"] = int(times.columns[-1])
        slopes = at(exponents, (activation, ensemble))
        values[f"{activation}_{ensemble}_exponent"] = float(slopes.mean())
    return values


def _spread(tables: StudyTables) -> Iterator[Evidence]:
    for ensemble in _ensembles(tables):
        if not ensemble.isometric:
            ratios = ensemble.relative_variances / ensemble.law.relative_variance
            yield from_seeds(ensemble.case, ratios, 1.0)


def _isometry(tables: StudyTables) -> Iterator[Evidence]:
    for ensemble in _ensembles(tables):
        if ensemble.isometric:
            largest = float(ensemble.relative_variances.max())
            yield exact(ensemble.case, largest, 0.0, len(ensemble.relative_variances))


def _mean(tables: StudyTables) -> Iterator[Evidence]:
    for ensemble in _ensembles(tables):
        ratios = ensemble.mean_squares / ensemble.law.mean_square
        yield from_seeds(ensemble.case, ratios, 1.0)


def _isometric_time(tables: StudyTables) -> Iterator[Evidence]:
    yield from_seeds(_case(ISOMETRIC), at(_exponents(tables), ISOMETRIC))


def _other_times(tables: StudyTables) -> Iterator[Evidence]:
    for key, slopes in _exponents(tables).items():
        if key != ISOMETRIC:
            yield from_seeds(_case(key), slopes)


SOURCE = "pennington2017"

CLAIMS = (
    Claim(
        id="spectral-variance",
        statement=(
            "The spread of the squared singular values of a deep Jacobian grows in proportion to "
            "depth, at a rate that activation and weight ensemble fix."
        ),
        source=f"{SOURCE}: the variance of the spectrum",
        formula="var(s²) / mean(s²)² over L (μ₂/μ₁² − 1 − s₁), mean over networks",
        unit="",
        criterion=Between(0.9, 1.1),
        measure=_spread,
        note="The law is that of infinite width; here L over width is at most 1/8.",
    ),
    Claim(
        id="linear-isometry",
        statement="Linear networks with orthogonal weights are isometric at any depth.",
        source=f"{SOURCE}; saxe2014",
        formula="var(s²) / mean(s²)², the largest of all networks",
        unit="",
        criterion=Below(1e-10),
        measure=_isometry,
        check=True,
    ),
    Claim(
        id="mean-square",
        statement="The mean squared singular value of L layers is χ₁ to the power of L.",
        source=SOURCE,
        formula="mean(s²) over χ^L, mean over networks; here χ = 1",
        unit="",
        criterion=Between(0.9, 1.1),
        measure=_mean,
        note=(
            "Of sixteen ReLU layers, the mean square of one network has a standard deviation of "
            "about 0.4: the mean over 200 is known to 0.03, and its interval may miss a bound."
        ),
    ),
    Claim(
        id="isometric-learning-time",
        statement=(
            "Nearly isometric networks, with tanh, a small q* and orthogonal weights, learn in a "
            "time that grows more slowly than depth does."
        ),
        source=f"{SOURCE}: on training time",
        formula="slope of ln steps over ln depth at the best learning rate; 1/2 in the paper",
        unit="exponent",
        criterion=Below(0.6),
        measure=_isometric_time,
    ),
    Claim(
        id="other-learning-time",
        statement=(
            "From Gaussian weights, and with ReLU from either, it grows like depth or faster."
        ),
        source=f"{SOURCE}: on training time",
        formula="slope of ln steps over ln depth at the best learning rate",
        unit="exponent",
        criterion=Above(0.9),
        measure=_other_times,
        note="Networks that have not learned by the last step count with it: the slope is a bound.",
    ),
)
