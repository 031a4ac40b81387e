"""Dynamical isometry (Pennington, Schoenholz and Ganguli 2017): the spread of singular values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gradprop.claims import Below, Between, Claim, Evidence, exact, from_seeds
from gradprop.figures import spectra
from gradprop.figures.data import StudyTables


class Ensemble(NamedTuple):
    """Networks that differ in their seeds, and what theory says of their Jacobian."""

    law: spectra.Law
    mean_squares: npt.NDArray[np.float64]  # one a network
    relative_variances: npt.NDArray[np.float64]

    @property
    def case(self) -> str:
        """Name of the ensemble among the evidence."""
        return f"{self.law.activation}, {self.law.ensemble}, L = {self.law.layers}"

    @property
    def isometric(self) -> bool:
        """Whether all its singular values are the same, by theory."""
        return self.law.relative_variance == 0


def _ensembles(tables: StudyTables) -> list[Ensemble]:
    rows = tables.spectra
    rows = rows[(rows["matrix"] == spectra.MATRIX) & (rows["step"] == 0)]
    moments = spectra.moments(rows)
    members: dict[spectra.Law, list[str]] = {}
    for cell in tables.study.cells:
        law = spectra.law(cell)
        if law is not None:
            members.setdefault(law, []).append(cell.id)
    return [
        Ensemble(
            law,
            moments.loc[ids, "mean_square"].to_numpy(np.float64),
            moments.loc[ids, "relative_variance"].to_numpy(np.float64),
        )
        for law, ids in members.items()
    ]


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute the numbers in the chapter's prose."""
    found = _ensembles(tables)
    layers = max(ensemble.law.layers for ensemble in found)
    deepest = {
        (item.law.activation, item.law.ensemble): item
        for item in found
        if item.law.layers == layers
    }
    spread = {key: float(item.relative_variances.mean()) for key, item in deepest.items()}
    tanh = deepest["tanh", "orthogonal"].law
    return {
        "networks": len(tables.study.cells),
        "layers": layers,
        "width": tables.study.cells[0].width,
        "q": tanh.q,
        "relu": spread["relu", "orthogonal"],
        "relu_gaussian": spread["relu", "gaussian"],
        "tanh": spread["tanh", "orthogonal"],
        "tanh_gaussian": spread["tanh", "gaussian"],
        "tanh_expected": tanh.relative_variance,
    }


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


SOURCE = "Pennington, Schoenholz and Ganguli 2017"

CLAIMS = (
    Claim(
        id="spectral-variance",
        statement=(
            "The spread of the squared singular values of a deep Jacobian grows in proportion to "
            "depth, at a rate that activation and weight ensemble fix."
        ),
        source=f"{SOURCE}, the variance of the spectrum",
        formula="var(s²) / mean(s²)² over L (μ₂/μ₁² - 1 - s₁), mean over networks",
        unit="",
        criterion=Between(0.9, 1.1),
        measure=_spread,
        note="The law is that of infinite width; here L over width is at most 1/8.",
    ),
    Claim(
        id="linear-isometry",
        statement="Linear networks with orthogonal weights are isometric at any depth.",
        source=f"{SOURCE}; Saxe, McClelland and Ganguli 2014",
        formula="var(s²) / mean(s²)², the largest of all networks",
        unit="",
        criterion=Below(1e-10),
        measure=_isometry,
    ),
    Claim(
        id="mean-square",
        statement="The mean squared singular value of L layers is chi to the power of L.",
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
)
