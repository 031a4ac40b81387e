"""A network that diverged counts as the worst, whatever it last was."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradprop.analysis.accuracy import training_outcomes


def test_what_diverged_has_the_worst_of_loss_and_accuracy() -> None:
    cells = pd.DataFrame(
        {
            "status": ["ok", "diverged", "diverged", "underflowed", "ok"],
            "final_train_loss": [0.5, np.nan, 0.1, 2.3, 0.4],
            "final_train_accuracy": [0.9, np.nan, 1.0, 0.1, np.nan],
        }
    )
    found = training_outcomes(cells)
    assert found["loss"].tolist() == [0.5, np.inf, np.inf, 2.3, 0.4]
    assert found["accuracy"].tolist() == [0.9, 0.0, 0.0, 0.1, 0.0]
