"""The chapter on remedies: theory of residual branches, SELU's return, the rule of best rates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.remedies import claims as remedies
from gradprop import claims, theory
from tests.reference import make_cell


@pytest.mark.parametrize("branch", [1.0, 0.1])
def test_lengths_of_rectified_branches_are_those_of_simulated_networks(branch: float) -> None:
    depth, width = 8, 2000
    random = np.random.default_rng(0)
    totals = []
    for _ in range(4):
        h = np.maximum(np.sqrt(2) * random.standard_normal(width), 0)
        squares = [np.mean(h**2)]
        for _ in range(depth - 1):
            z = random.standard_normal((width, width)) @ h * np.sqrt(2 / width)
            h = h + np.sqrt(branch) * np.maximum(z, 0)
            squares.append(np.mean(h**2))
        totals.append(np.array(squares) / squares[0])
    expected = theory.rectified_residual_length(depth, branch)
    assert expected[0] == 1
    assert np.mean(totals, axis=0) == pytest.approx(expected, rel=0.1)
    # The recursion of branches of mean zero is far away.
    assert expected[-1] > 1.3 * (1 + branch) ** (depth - 1)


def test_the_rate_of_return_is_that_of_the_moment_map() -> None:
    def lengths(square: float) -> np.ndarray:
        moments, found = (0.0, square), []
        for _ in range(12):
            moments = theory.moment_map("selu", *moments)
            found.append(moments[1] + moments[0] ** 2)
        return np.array(found)

    close = (lengths(1.001) - lengths(0.999))[None]
    expected = theory.moment_map_jacobian("selu")[1, 1]
    assert remedies.return_rate(close) == pytest.approx(expected, abs=2e-3)
    assert remedies.return_rate(np.stack([2 * close[0], 4 * close[0]])) == pytest.approx(
        remedies.return_rate(close)
    )
    assert np.isnan(remedies.return_rate(-close))


def made_up() -> Any:
    """Return tables of networks whose accuracy depends on the remedy and the rate."""
    cells, rows = [], []
    for remedy, changes in remedies.REMEDIES.items():
        for rate in (0.01, 0.1):
            for seed in range(5):
                given: dict[str, Any] = {**remedies.PLAIN, **changes}
                label = given.pop("initializer")
                initializer = {
                    remedies.XAVIER: {"name": "variance_scaling"},
                    remedies.HE: {"name": "variance_scaling", "scale": 2.0},
                    remedies.EXPLODING: {"name": "variance_scaling", "scale": 4.0},
                }.get(label, label)
                cell = make_cell(
                    depth=30, learning_rate=rate, seed=seed, initializer=initializer, **given
                )
                bad = remedy == "exploding" or (rate == 0.1 and seed == 1)
                learned = 0.9 if remedy in remedies.HELPFUL else 0.1
                cells.append(cell)
                rows.append(
                    {
                        "cell": cell.id,
                        "depth": 30,
                        "seed": seed,
                        "learning_rate": rate,
                        "status": "diverged" if bad else "completed",
                        "final_train_loss": np.nan if bad else 1 - learned,
                        "final_train_accuracy": np.nan if bad else learned + 0.01 * seed,
                    }
                )
    return SimpleNamespace(
        study=SimpleNamespace(name="remedies", cells=cells), cells=pd.DataFrame(rows)
    )


def test_every_remedy_gets_its_best_rate() -> None:
    best = remedies.best_accuracies(made_up())[30]
    assert set(best) == set(remedies.REMEDIES)
    assert list(best["SELU"]) == pytest.approx(
        [0.9, 0.91, 0.92, 0.93, 0.94]
    )  # the rate without divergence
    assert list(best["exploding"]) == [0] * 5


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("remedies-train", claims.SUPPORTED),
        ("exploding-diverges", claims.SUPPORTED),
        ("clipping-stops-divergence", claims.NOT_SUPPORTED),  # one of five seeds diverges
        ("clipping-keeps-vanishing", claims.SUPPORTED),
    ],
)
def test_claims_about_training(claim: str, verdict: str) -> None:
    chosen = next(entry for entry in remedies.CLAIMS if entry.id == claim)
    found = claims.judge(chosen, made_up())
    assert {result.verdict for result in found} == {verdict}


def test_clipped_networks_end_at_losses_that_are_finite_or_lost() -> None:
    """Of two rates and five seeds one diverges; all others have the loss 0.9."""
    found = remedies.clipped_ends(made_up())
    assert found["clipped_min_loss"] == pytest.approx(0.9)
    assert found["clipped_max_loss"] == np.inf
    assert found["clipped_min_accuracy"] == 0
    assert found["clipped_max_accuracy"] == pytest.approx(0.14)
