"""The tables of one network, and what rules and theory say of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from gradprop import errors
from gradprop.advice import Diagnosis, Remedy, advice, alarms, causes, diagnose
from gradprop.analysis.thresholds import MOST_DECADES
from gradprop.errors import GradpropError

# What a monitor writes (`gradprop.monitor`), and what cannot be missing of it.
TABLES = ("layers", "steps", "network", "unmeasured", "cells", "settings", "times")
NEEDED = ("layers", "steps", "network")


class RunError(GradpropError):
    """A folder or tables that hold no run."""


@dataclass(frozen=True)
class Run:
    """What was measured of one network: by a probe, or by a monitor during a training.

    Attributes
    ----------
    name
        Of the folder or the model.
    layers, steps, network, unmeasured, cells
        Tables as `gradprop.monitor.Monitor` has them. ``cells`` is empty of a probe.
    settings
        How layers and optimizer were defined (`gradprop.inspection.settings`); empty if that was
        not recorded.
    times
        Sizes of dC/dx_t by recurrent layer and time step; empty without such layers.
    """

    name: str
    layers: pd.DataFrame
    steps: pd.DataFrame
    network: pd.DataFrame
    unmeasured: pd.DataFrame
    cells: pd.DataFrame
    settings: pd.DataFrame = field(default_factory=pd.DataFrame)
    times: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Read the folder of a monitor.

        Raises
        ------
        RunError
            If it is no such folder, or nothing was recorded.
        """
        path = Path(folder)
        shown = errors.cut_path(str(path))
        if not path.is_dir():
            problem = "not a folder" if path.exists() else "no such folder"
            raise RunError(f"{shown}: {problem}; allowed: the folder of a gradprop.Monitor")
        tables = {name: _table(path / name) for name in TABLES}
        for name in NEEDED:
            if tables[name].empty and name != "steps" and not tables["steps"].empty:
                raise RunError(
                    f"{shown}: steps were recorded, but no layer could be seen in them: "
                    "unmeasured/ says why; allowed: layers that Keras calls in the training step"
                )
            if tables[name].empty:
                raise RunError(
                    f"{shown}: no run of a monitor: {name}/ has no rows; allowed: the folder of a "
                    "gradprop.Monitor that has recorded a step"
                )
        return cls(path.resolve().name, **tables)

    @property
    def judged(self) -> pd.DataFrame:
        """The rows of ``network`` on the way from the inputs to the outputs."""
        return self.network[self.network["judged"].astype(bool)].reset_index(drop=True)

    @cached_property
    def _case(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str, float]:
        """The arguments of `gradprop.advice.diagnose`."""
        judged = self.judged
        if judged.empty:
            raise RunError(
                f"{self.name}: no layer can be judged; allowed: a model with at least one dense, "
                "convolutional, recurrent or embedding layer"
            )
        steps = self.steps.sort_values("step", ignore_index=True)
        losses = steps["minibatch_loss"].astype(float)
        if "penalty" in steps:
            losses = losses - steps["penalty"].astype(float)
        # Of networks that are trained against each other it is the loss of one of them.
        if "train_loss" in steps and not (steps.get("optimizers", pd.Series([1])) > 1).any():
            losses = losses.where(losses.notna(), steps["train_loss"].astype(float))
        layers = self.layers[self.layers["layer"].isin(judged["layer"])]
        loss, guess = str(steps["loss"].iloc[0]), float(steps["guessing_loss"].iloc[0])
        loss = "other" if math.isnan(guess) and loss == "cross_entropy" else loss
        return layers, steps.assign(train_loss=losses), judged, loss, guess

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """What `gradprop.advice.diagnose` finds; losses are those of the minibatches.

        Penalties are left out of them, which guessing does not know.
        """
        return diagnose(*self._case)

    @cached_property
    def alarms(self) -> pd.DataFrame:
        """The rules of thumb that were broken (`gradprop.advice.alarms`)."""
        return alarms(*self._case)

    @cached_property
    def remedies(self) -> tuple[Remedy, ...]:
        """What to change, what mends the cause first (`gradprop.advice.advice`)."""
        layers, steps, network, *_ = self._case
        return advice(self.diagnosis.findings, layers, network, steps, self.settings)

    @cached_property
    def causes(self) -> pd.DataFrame:
        """Weights against what activations need (`gradprop.advice.causes`), where theory speaks.

        Left out are pairs of layers of which one is normalized, recurrent or has a skip, and those
        between which places are lost or made (strides, pooling, flattening).
        """
        layers, _, network, *_ = self._case
        table = causes(layers, network)
        rows: list[dict[Any, Any]] = network.to_dict("records")
        fitting = [here["layer"] for here, after in itertools.pairwise(rows) if _fit(here, after)]
        return table[table["layer"].isin(fitting)].reset_index(drop=True)

    @property
    def decades_per_layer(self) -> float:
        """What theory says a layer does to dC/dz, by the weights as they began; NaN if unknown.

        The mean over the layers of `causes` of ``log10(chi_1) / 2``, towards the input.
        """
        chi = self.causes["chi_1"]
        known = [0.5 * math.log10(value) for value in chi if 0 < value < math.inf]
        return sum(known) / len(known) if known else math.nan

    @property
    def lost_after(self) -> float:
        """Number of layers over which dC/dz changes by `MOST_DECADES` at that rate."""
        rate = abs(self.decades_per_layer)
        return MOST_DECADES / rate if rate > 0 else (math.inf if rate == 0 else math.nan)


def _fit(here: dict[Any, Any], after: dict[Any, Any]) -> bool:
    """Tell whether the second of two layers takes what the first hands on, place by place."""
    same = here["positions"] == after["positions"] != 0
    alone = not here["extra"] and not after["extra"]
    return bool(same and alone and after["fan_in"] % max(here["fan_out"], 1) == 0)


def _table(folder: Path) -> pd.DataFrame:
    """Return a table whose files are one per probe; empty if there are none."""
    try:
        parts = [pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))]
    except (OSError, ValueError) as error:  # pyarrow's errors are among them
        problem = errors.cut(str(error), 120)
        raise RunError(f"{folder}: no table of a monitor: {problem}") from None
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
