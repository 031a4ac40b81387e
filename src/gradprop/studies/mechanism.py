"""The numbers in the chapter on the mechanism."""

from __future__ import annotations

import numpy as np

from gradprop.figures.data import StudyTables
from gradprop.figures.mechanism import (
    FLOAT32,
    layer_spread,
    prepare_gradient,
    prepare_limits,
    prepare_output,
    prepare_random,
)
from gradprop.theory import log_growth_mean


def numbers(tables: StudyTables) -> dict[str, float | str]:
    """Compute outputs, gradients, errors and limits of the scaled identities."""
    output, gradient = prepare_output(tables, {}), prepare_gradient(tables, {})
    limits = prepare_limits(tables, {})
    exact = limits[(limits["state"] == "ok") & (limits["c"] != limits["c"].min())]
    spread = layer_spread(gradient)
    lost = limits[limits["state"] != "ok"].groupby(["quantity", "state"])["matrices"].min()
    low, high = float(output["c"].min()), float(output["c"].max())
    at = output[output["matrices"] == min(100, output["matrices"].max())]
    last = prepare_random(tables, {}).query("kind in ('median', 'theory of the typical')")
    last = last[last["layer"] == last["layer"].max()]
    unit = last[np.isclose(last["c"], 1)].set_index("kind")["log10_growth"]
    return {
        "networks": len(spread),
        "low": low,
        "high": high,
        "depth": int(at["matrices"].iloc[0]),
        "low_output": 10 ** float(at.loc[at["c"] == low, "measured"].iloc[0]),
        "high_output": 10 ** float(at.loc[at["c"] == high, "measured"].iloc[0]),
        "largest_error": float(exact["relative_error"].max()),
        "layer_spread": float(spread.max()),
        "overflow_power": int(np.log(float(FLOAT32.max)) // np.log(high)) + 1,
        "underflow_power": int(np.log2(float(FLOAT32.tiny)) // np.log2(low)) + 1,
        "measured_overflow": float(lost.get(("output", "overflow"), np.nan)),
        "measured_zero": float(lost.get(("output", "zero"), np.nan)),
        "steps": int(last["layer"].max()) - 1,
        "typical_growth": float(unit["median"]),
        "predicted_growth": float(unit["theory of the typical"]),
        "typical_factor": float(np.exp(log_growth_mean(2, 1.0))),
    }
