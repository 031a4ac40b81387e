"""Which layers slopes are fitted over."""

from __future__ import annotations

import pandas as pd
import pytest

from gradprop.analysis.slopes import inner_layers


@pytest.mark.parametrize(("depth", "first", "last"), [(40, 8, 38), (10, 2, 8), (3, 1, 1)])
def test_slopes_leave_out_both_ends(depth: int, first: int, last: int) -> None:
    """Seven layers at the input, or a quarter of a shallow network, and the last two."""
    layers = pd.Series(range(1, depth + 2))
    chosen = layers[inner_layers(layers, pd.Series(depth, index=layers.index))]
    assert chosen.tolist() == list(range(first, last + 1))
