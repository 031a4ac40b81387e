"""The chapter on rectifiers: which networks its claims count, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.he2015 import claims as he2015
from gradprop import claims
from tests.reference import make_cell


def test_of_every_start_the_deepest_networks_count() -> None:
    rows = pd.DataFrame(
        [
            ("relu", 2.0, 10, 0),
            ("relu", 2.0, 30, 0),
            ("relu", 2.0, 30, 1),
            ("relu", 1.0, 10, 0),
        ],
        columns=["activation", "sigma_w2", "depth", "seed"],
    )
    found = {
        (activation, scale): list(zip(group["depth"], group["seed"], strict=True))
        for _, activation, scale, group in he2015._cases(rows)
    }
    assert found == {("relu", 2.0): [(30, 0), (30, 1)], ("relu", 1.0): [(10, 0)]}


def test_variances_of_the_same_random_numbers_are_one_experiment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three scales of one draw and one of another: two cases, the first at He's variance."""
    first, other = np.random.default_rng(0).normal(0, 0.01, (2, 5))
    draws = {1.0: first, 2.0: first, 4.0: first, 1.5: other}
    rows = pd.DataFrame(
        [
            ("relu", scale, 30, seed, np.log(scale / 2) + draw[seed])
            for scale, draw in draws.items()
            for seed in range(5)
        ],
        columns=["activation", "sigma_w2", "depth", "seed", "slope"],
    )
    monkeypatch.setattr(he2015, "log_slopes", lambda *_: rows)
    cells = [make_cell(width=128, epochs=0)]
    tables: Any = SimpleNamespace(study=SimpleNamespace(cells=cells))
    found = list(he2015._length_rate(tables))
    assert [str(evidence.case) for evidence in found] == [
        "relu, variance 2/n",
        "relu, variance 1.5/n",
    ]
    assert found[0].measured == pytest.approx(first.mean())


def test_starts_are_compared_seed_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds differ more than starts do: the difference is plain in pairs alone."""
    seeds = np.linspace(0.2, 0.8, 5)
    gain = np.array([0.02, 0.03, 0.02, 0.03, 0.02])
    keys = [(he2015.DEEP, start) for start in he2015.STARTS]
    table = pd.DataFrame(dict(zip(keys, (seeds, seeds + gain), strict=True)))
    monkeypatch.setattr(he2015, "best_accuracies", lambda *_: table)
    (claim,) = (one for one in he2015.CLAIMS if one.id == "he-over-glorot")
    tables: Any = SimpleNamespace(study=SimpleNamespace(name="he2015"))
    (found,) = claims.judge(claim, tables)
    assert (found.verdict, found.networks) == (claims.SUPPORTED, 5)
    assert found.measured == pytest.approx(gain.mean())
