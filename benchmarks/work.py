"""The work that is measured, the same for every competitor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components.initializers import layer_shapes
from gradprop.grid import axes, config
from gradprop.probes.statistics import LayerRecord, Sample, measure, recorded
from gradprop.spec import Cell

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "config/studies/initializers/study.yaml"
INPUTS, OUTPUTS, EXAMPLES = 64, 10, 1437  # digits: pixels, classes, training examples

Arrays = Sequence[NDArray[np.float32]]


def reference(depths: Sequence[int], seeds: int, epochs: int) -> dict[str, Any]:
    """Return the grid block of the reference work.

    Parameters
    ----------
    depths
        Numbers of hidden layers.
    seeds
        Number of seeds per cell.
    epochs
        Passes over the training set.
    """
    study = config.read_yaml(STUDY)
    return {
        **study["training"],
        "dataset": "digits",
        "depth": list(depths),
        "width": 64,
        "activation": ["tanh", "relu"],
        "initializer": study["grid"]["initializer"],
        "seeds": seeds,
        "epochs": epochs,
    }


def expand(block: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a grid block."""
    return list(axes.expand(block))


def step_flop(cell: Cell) -> int:
    """Return the FLOP of the matrix products in one training step of a cell on digits.

    Three products a layer (outputs, weight gradient, signal to the layer below), except that
    nothing is sent below layer 1.
    """
    shapes = layer_shapes(INPUTS, cell, OUTPUTS)
    weights = [fan_in * fan_out for fan_in, fan_out in shapes]
    return 2 * cell.batch_size * (3 * sum(weights) - weights[0])


def statistics(
    cell: Cell,
    gradients: Arrays,
    signals: Arrays,
    preactivations: Arrays,
    activations: Arrays,
    weights: Arrays,
    updates: Arrays,
) -> list[dict[str, NDArray[Any]]]:
    """Compute a probe's statistics, layer by layer, by the code that gradprop itself uses.

    All arrays have a leading replica axis; `signals` are those of the loss averaged over the
    minibatch.
    """
    names = recorded(cell.statistics)
    records = _records(cell, gradients, signals, preactivations, activations, weights, updates)
    return [measure(record, names) for record in records]


def _records(cell: Cell, *arrays: Arrays) -> Iterator[LayerRecord]:
    for number, (gradient, signal, z, activation, weight, update) in enumerate(
        zip(*arrays, strict=True), start=1
    ):
        yield LayerRecord(
            gradient=Sample(gradient),
            signal=Sample(signal, scale=cell.batch_size),
            preactivation=Sample(z),
            activation=Sample(activation),
            weight=Sample(weight),
            update=Sample(update),
            function=cell.activation.label if number <= cell.depth else "linear",
            units=z.shape[-1],
        )
