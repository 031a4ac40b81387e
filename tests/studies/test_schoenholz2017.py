"""The chapter on deep information propagation: trainable depths, phase by phase."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from config.studies.schoenholz2017 import claims as schoenholz2017


def test_depths_over_scales_are_judged_in_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 and 2 times the scale the mean of both phases is 4; each alone is told apart."""
    rows = pd.DataFrame(
        [
            (seed, phase, 1 / xi, xi, factor * xi * spread)
            for seed, spread in enumerate((0.99, 1.0, 1.01))
            for phase, factor in (("ordered", 8.0), ("chaotic", 2.0))
            for xi in (2.0, 5.0)
        ],
        columns=["seed", "phase", "sigma_w2", "xi_c", "depth"],
    )
    monkeypatch.setattr(schoenholz2017, "reached_depths", lambda _: rows)
    tables: Any = None
    ordered, chaotic = schoenholz2017._depth_ratio(tables)
    assert ordered.measured == pytest.approx(8, rel=1e-3)
    assert chaotic.measured == pytest.approx(2, rel=1e-3)
    (criterion,) = (c.criterion for c in schoenholz2017.CLAIMS if c.id == "trainable-depth")
    assert criterion.holds(ordered) and not criterion.holds(chaotic)
    rows.loc[0, "depth"] = np.nan  # one that lies outside of the grid is not left out
    ordered, _ = schoenholz2017._depth_ratio(tables)
    assert ordered.reason == "1 of 3 values are not finite"
