"""The chapter on descent: kinds of network count alike."""

from __future__ import annotations

import pandas as pd
import pytest

from config.studies.descent import claims as descent


def test_a_kind_with_more_seeds_counts_no_more() -> None:
    seeds = {10: 17, 20: 5}
    networks = pd.DataFrame(
        [
            {"dataset": "digits", "activation": "tanh", "depth": depth, "initializer": "balanced"}
            for depth, count in seeds.items()
            for _ in range(count)
        ]
    )
    arrived = networks["depth"] == 10
    assert arrived.mean() == pytest.approx(17 / 22)
    assert descent._mean_share(networks, arrived) == 0.5
    # Shares within a kind are means over its seeds.
    some = arrived & (networks.index < 4)
    assert descent._mean_share(networks, some) == pytest.approx(4 / 17 / 2)
