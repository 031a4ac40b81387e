"""The chapter on the mechanism: its claims count networks."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from config.studies.mechanism import claims as mechanism


def test_powers_count_networks_and_not_their_layers() -> None:
    rows = pd.DataFrame(
        [(0.1, matrices, layer, -1.0 * matrices) for matrices in (1, 2, 3) for layer in (1, 2)],
        columns=["c", "matrices", "layer", "measured"],
    )
    tables: Any = None
    (found,) = mechanism._power(lambda *_: rows, "gradient")(tables)
    assert found.networks == 3
    assert found.measured == pytest.approx(-1)
