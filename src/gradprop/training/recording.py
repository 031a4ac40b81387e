"""What the training of a stack leaves behind: losses, probes and statuses as tidy tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradprop.components import architecture
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import stream_seed
from gradprop.probes.measurements import MEASUREMENTS
from gradprop.probes.statistics import (
    MINIBATCHES,
    STATISTICS,
    LayerRecord,
    Sample,
    measure,
    recorded,
)
from gradprop.spec import OF_STEP, OUTCOMES, Cell, Stack
from gradprop.training.measuring import Measurer
from gradprop.training.stacking import LayerTensors, StackedNetwork, Step, as_numpy

# Minibatch losses are averaged over this many steps before they are compared with a target.
SMOOTHING_STEPS = 10
# Examples evaluated at once outside training, which bounds memory.
EVALUATION_BATCH = 512
# A vanished signal counts as underflow if the layer above still had one below this log10 RMS:
# 2^-126 = 10^-37.9 is float32's smallest normal number. A true zero (W = 0) has no such past.
# float16 ends at 10^-7.2, and the statistics of float64 at 10^-154.
UNDERFLOW_LOG10 = {"float64": -146.0, "float32": -30.0, "bfloat16": -30.0, "float16": -3.0}


@dataclass(frozen=True)
class StackResult:
    """The rows of a stack's cells in the result tables."""

    cells: pd.DataFrame
    steps: pd.DataFrame
    layers: pd.DataFrame
    measurements: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def of_distinct_cells(self) -> StackResult:
        """Return the rows without those of cells that were trained a second time."""
        measured = {
            name: rows.drop_duplicates(MEASUREMENTS[name].all_keys, ignore_index=True)
            for name, rows in self.measurements.items()
        }
        return StackResult(
            self.cells.drop_duplicates(["cell"], ignore_index=True),
            self.steps.drop_duplicates(["cell", "step"], ignore_index=True),
            self.layers.drop_duplicates(["cell", "step", "layer"], ignore_index=True),
            measured,
        )

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        core = {"cells": self.cells, "steps": self.steps, "layers": self.layers}
        return {**core, **self.measurements}


def layer_records(
    tensors: LayerTensors,
    cell: Cell,
    start: Sequence[NDArray[np.float32]] = (),
    minibatches: Sequence[Sequence[NDArray[np.float32]]] = (),
) -> Iterator[LayerRecord]:
    """Yield what a probe sees of layers 1 … depth + 1.

    Parameters
    ----------
    tensors
        What the step computed.
    cell
        The program of the stack.
    start
        Kernels of all layers at step 0, if a statistic needs them.
    minibatches
        Gradients of all layers for each of several other minibatches, likewise.
    """
    *of_layers, bias_gradients = (as_numpy(group) for group in tensors)
    layers = zip(*of_layers, strict=True)
    for index, (z, activation, signal, gradient, weight, update) in enumerate(layers):
        yield LayerRecord(
            gradient=Sample(gradient),
            signal=Sample(signal, scale=cell.batch_size),  # back to the loss of one example
            preactivation=Sample(z),
            activation=Sample(activation),
            weight=Sample(weight),
            update=Sample(update),
            function=cell.activation.label if index < cell.depth else "linear",
            units=z.shape[-1],
            bias_gradient=Sample(bias_gradients[index]) if bias_gradients else None,
            start=Sample(start[index]) if start else None,
            minibatches=[Sample(gradients[index]) for gradients in minibatches],
        )


def _kernel_norms(
    cell: Cell, norms: Sequence[NDArray[np.float64]], gradients: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float64]]:
    """Return log10 norms of the derivatives by kernels: of a tied one, of the sum over its uses."""
    places = architecture.kernel_places(cell)
    found = []
    for place in range(places[-1] + 1):
        uses = [layer for layer, used in enumerate(places) if used == place]
        if len(uses) == 1:
            found.append(norms[uses[0]])
            continue
        summed = sum(gradients[layer].astype(np.float64) for layer in uses)
        # One replica at a time: the order of a sum must not depend on how many there are.
        found.append(0.5 * np.log10([np.square(one).sum() for one in np.asarray(summed)]))
    return found


def other_minibatches(stack: Stack, examples: int, step: int) -> NDArray[np.int32]:
    """Draw the minibatches that gradients are compared over in the probe of `step`.

    Each is drawn without replacement from the whole training set and independently of the others
    and of the training, from a stream of its own: no other number depends on it.

    Returns
    -------
    ndarray of int
        Shape (`MINIBATCHES`, replicas, batch).
    """
    size = stack.first.batch_size
    streams = [np.random.default_rng(stream_seed("probe", c.seed, step)) for c in stack.cells]
    draws = [
        [stream.choice(examples, size, replace=False) for stream in streams]
        for _ in range(MINIBATCHES)
    ]
    return np.array(draws, dtype=np.int32)


def underflowed(
    log10_magnitude: NDArray[np.float64], limit: float | NDArray[np.float64] = -30.0
) -> NDArray[np.bool_]:
    """Tell which replicas lost their signal to the range of their format between two layers.

    Parameters
    ----------
    log10_magnitude
        Shape (probes, layers, replicas), layers in the direction of propagation; ``-inf`` where
        everything is exactly zero.
    limit
        Of `UNDERFLOW_LOG10`; a number or (probes, 1, replicas).

    Returns
    -------
    ndarray of bool
        Shape (replicas,).
    """
    before, after = log10_magnitude[:, :-1], log10_magnitude[:, 1:]
    lost = np.isneginf(after) & np.isfinite(before) & (before < limit)
    return np.asarray(lost.any(axis=(0, 1)))


class Recorder:
    """Collects what the training of one stack of `steps` steps leaves behind."""

    def __init__(
        self, stack: Stack, network: StackedNetwork, dataset: Dataset, steps: int = 0
    ) -> None:
        self.stack, self.network, self.dataset = stack, network, dataset
        self.measurer = Measurer(stack.cells, network, dataset, last=steps)
        self.names = recorded(stack.first.statistics)
        needed = {STATISTICS[name].needs for name in self.names}
        self.compares_minibatches = "minibatches" in needed
        wide = np.float64 if stack.first.precision == "float64" else np.float32
        self.start = [k.numpy().astype(wide) for k in network.kernels] if "start" in needed else []
        self.other_gradients: list[list[NDArray[np.float32]]] = []
        replicas = len(stack.cells)
        self.bad_step = np.full(replicas, -1)
        self.bad_layer = np.full(replicas, -1)
        self.reached = np.full(replicas, -1)
        self.targets = np.array([cell.target_loss for cell in stack.cells])
        self.recent_losses: deque[NDArray[np.float64]] = deque(maxlen=SMOOTHING_STEPS)
        self.recent_accuracies: deque[NDArray[np.float64]] = deque(maxlen=SMOOTHING_STEPS)
        self.probed: list[int] = []
        self.loss_scales: list[NDArray[np.float64]] = []
        self.step_rows: list[dict[str, NDArray[np.float64]]] = []
        self.layer_rows: list[dict[str, NDArray[np.float64]]] = []
        undefined = np.full(replicas, np.nan)
        self.test = self.final_train = self.final_test = (undefined, undefined)

    def observe(self, number: int, step: Step, examples: NDArray[np.int32]) -> None:
        """Note the losses of step `number`; find out which replicas went bad in it."""
        with np.errstate(invalid="ignore"):
            losses = step.losses.numpy().mean(axis=1, dtype=np.float64)
        self.recent_losses.append(losses)
        outputs = step.outputs.numpy()
        self.recent_accuracies.append(self._accuracy(outputs, self.dataset.y_train[examples]))
        newly_bad = ~np.isfinite(losses) & (self.bad_step < 0)
        self.bad_step[newly_bad] = number
        self.bad_layer[newly_bad] = step.first_bad_layer.numpy()[newly_bad]
        smooth = _mean_over_steps(self.recent_losses)
        with np.errstate(invalid="ignore"):
            hit = (smooth <= self.targets) & (self.targets > 0) & (self.reached < 0)
        self.reached[hit] = number

    def evaluate_test(self) -> None:
        """Note the test loss before the step of a probe."""
        self.test = self.evaluate("test")

    def evaluate_final(self) -> None:
        """Note the training and test loss after the last update."""
        self.final_train, self.final_test = self.evaluate("train"), self.test

    def prepare(self, number: int) -> None:
        """Measure the network and take gradients before step `number` changes the weights."""
        self.measurer.before_step(number)
        self.loss_scales.append(self.network.loss_scales())
        if self.compares_minibatches:
            examples = len(self.dataset.x_train)
            self.other_gradients = [
                as_numpy(self.network.gradients(minibatch))
                for minibatch in other_minibatches(self.stack, examples, number)
            ]

    def probe(self, number: int, tensors: LayerTensors) -> None:
        """Record the statistics of step `number`."""
        records = layer_records(tensors, self.stack.first, self.start, self.other_gradients)
        layers = []
        for layer, record in enumerate(records, start=1):
            layers.append(measure(record, self.names))
            self.measurer.observe(number, layer, record)
        with np.errstate(all="ignore"):
            norms = [layer["gradient_log10_norm"] for layer in layers]
            if self.stack.first.tied:
                norms = _kernel_norms(self.stack.first, norms, as_numpy(tensors.gradients))
            squares = sum(10 ** (2 * norm) for norm in norms)
            norm = 0.5 * np.log10(squares)
        self.note(number, layers, norm)

    def note(
        self,
        number: int,
        layers: Sequence[Mapping[str, NDArray[np.float64]]],
        norm: NDArray[np.float64],
    ) -> None:
        """Note the rows of step `number`: statistics of every layer, log10 of the whole norm."""
        names = dict.fromkeys([*self.names, *layers[0]])
        self.layer_rows.append(
            {name: np.stack([layer[name] for layer in layers]) for name in names}
        )
        test_loss, test_accuracy = self.test
        self.probed.append(number)
        values = (
            _mean_over_steps(self.recent_losses),
            self.recent_losses[-1],
            test_loss,
            _mean_over_steps(self.recent_accuracies),
            test_accuracy,
            norm,
            self.network.rate_factor * np.array([c.learning_rate for c in self.stack.cells]),
        )
        self.step_rows.append(dict(zip(OF_STEP, values, strict=True)))

    def evaluate(self, part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean loss and accuracy (NaN for regression) on all of 'train' or 'test'."""
        x = self.dataset.x_train if part == "train" else self.dataset.x_test
        y = self.dataset.y_train if part == "train" else self.dataset.y_test
        # Batches of one size, the last one filled up with zeros, share one traced program.
        size = min(len(self.dataset.x_test), EVALUATION_BATCH)
        batches = np.pad(x, ((0, -len(x) % size), (0, 0))).reshape(-1, size, x.shape[1])
        outputs = np.concatenate([self.network.predict(batch) for batch in batches], axis=1)
        outputs = outputs[:, : len(x)]
        targets = np.broadcast_to(y, (len(outputs), *y.shape))
        loss = self.network.losses(outputs, targets).mean(axis=1, dtype=np.float64)
        return loss, self._accuracy(outputs, targets)

    def _accuracy(
        self, outputs: NDArray[np.float32], targets: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        if self.dataset.task != "classification":
            return np.full(len(outputs), np.nan)
        right = (architecture.decide(outputs) == targets).mean(axis=1)
        return np.where(np.isfinite(outputs).all(axis=(1, 2)), right, np.nan)

    def cell_table(self) -> pd.DataFrame:
        """Return one row per cell."""
        cells = self.stack.cells
        trained = self.stack.first.epochs > 0
        diverged = (self.bad_step >= 0) | (trained & ~np.isfinite(self.final_train[0]))
        backward = np.stack([rows["signal_log10_rms"] for rows in self.layer_rows])[:, ::-1]
        lengths = np.stack([r["preactivation_log10_mean_square"] for r in self.layer_rows])
        limit = UNDERFLOW_LOG10[self.stack.first.precision]
        shift = np.zeros((1, 1, 1))
        if self.stack.first.precision == "float16":  # the others have room for what follows
            # What is back-propagated is a signal times the scale of the loss over the minibatch.
            shift = np.log10(self.stack.first.batch_size / np.stack(self.loss_scales)[:, None])
        lost = underflowed(backward, limit + shift) | underflowed(lengths / 2, limit)
        table = pd.DataFrame([{"cell": cell.id, **cell.columns()} for cell in cells])
        outcomes: tuple[Any, ...] = (
            np.select([diverged, lost], ["diverged", "underflowed"], "ok"),
            _nullable(self.bad_step),
            _nullable(self.bad_layer),
            self.final_train[0],
            self.final_test[0],
            self.final_train[1],
            self.final_test[1],
            _nullable(self.reached),
            self._chance(),
        )
        return table.assign(**dict(zip(OUTCOMES, outcomes, strict=True)))

    def _chance(self) -> float:
        """Return the accuracy of always naming the most frequent training class."""
        if self.dataset.task != "classification":
            return np.nan
        return float(np.bincount(self.dataset.y_train).max() / len(self.dataset.y_train))

    def step_table(self) -> pd.DataFrame:
        """Return one row per cell and probe."""
        return _tidy(self.step_rows, self.probed, self.stack, layers=None)

    def layer_table(self) -> pd.DataFrame:
        """Return one row per cell, probe and layer."""
        return _tidy(self.layer_rows, self.probed, self.stack, layers=self.stack.first.depth + 1)

    def result(self) -> StackResult:
        """Return the rows of all tables."""
        return StackResult(
            self.cell_table(), self.step_table(), self.layer_table(), self.measurer.tables()
        )


def _mean_over_steps(recent: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average arrays (replicas,) in one order of summation, however many replicas there are."""
    return np.stack(list(recent), axis=1).mean(axis=1)


def _nullable(values: NDArray[np.int64]) -> pd.Series[int]:
    return pd.Series(values, dtype="Int64").mask(values < 0)


def _tidy(
    rows: list[dict[str, NDArray[np.float64]]],
    probed: list[int],
    stack: Stack,
    layers: int | None,
) -> pd.DataFrame:
    """Turn arrays (layers, replicas) per probe into a table with one row each."""
    keys: dict[str, list[Any]] = {"step": probed}
    if layers is not None:
        keys["layer"] = list(range(1, layers + 1))
    keys["cell"] = [cell.id for cell in stack.cells]
    index = pd.MultiIndex.from_product(list(keys.values()), names=list(keys))
    columns = {name: np.stack([row[name] for row in rows]).ravel() for name in rows[0]}
    table = pd.DataFrame(columns, index=index).reset_index()
    leading = [name for name in ("cell", "step", "layer") if name in keys]
    return table[leading + list(columns)]
