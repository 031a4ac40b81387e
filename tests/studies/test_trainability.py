"""The chapter on trainability: what it says of networks that never arrive."""

from __future__ import annotations

import numpy as np
import pandas as pd

from config.studies.trainability import claims as trainability

STEPS = {5: (20.0, 10.0), 10: (80.0, 10.0), 20: (np.nan, 50.0)}  # from Glorot's and from He's
LAST = 200.0


def test_times_are_told_at_every_depth_and_bounds_are_said_to_be_bounds() -> None:
    best = pd.DataFrame(
        [
            {
                **{"activation": "relu", "depth": depth, "start": start, "seed": seed},
                **{"steps": steps, "least_steps": LAST if np.isnan(steps) else steps},
            }
            for depth, pair in STEPS.items()
            for start, steps in zip((trainability.XAVIER, trainability.HE_START), pair, strict=True)
            for seed in range(3)
        ]
    )
    assert trainability.waits(best) == (
        "2 times at depth 5, 8 times at depth 10 and at least 4 times at depth 20 "
        "(3 of 3 networks never arrive)"
    )
