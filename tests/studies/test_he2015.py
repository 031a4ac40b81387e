"""The chapter on rectifiers: which networks its claims about the start count."""

from __future__ import annotations

import pandas as pd

from config.studies.he2015 import claims as he2015


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
