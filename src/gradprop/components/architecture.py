"""What a network is besides its depth, width and activation: registries of structural choices.

Width profiles and residual connections here, `gradprop.components.normalization` beside it. Each
has a default that leaves the plain multilayer perceptron as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprop.components.registry import LARGEST_SIZE, Entry, Parameter, Registry
from gradprop.spec import Cell


@dataclass(frozen=True, kw_only=True)
class Profile(Entry):
    """How units are spread over the hidden layers.

    Attributes
    ----------
    units
        From width, depth and parameters to the units of hidden layers 1 … depth.
    label
        What figures call such an architecture, with `width` and the parameters in braces.
    """

    units: Callable[..., list[int]]
    label: str


def _constant(width: int, depth: int) -> list[int]:
    return [width] * depth


def _alternating(width: int, depth: int, other: int) -> list[int]:
    return [(width, other)[layer % 2] for layer in range(depth)]


def _halves(width: int, depth: int, other: int) -> list[int]:
    first = (depth + 1) // 2
    return [width] * first + [other] * (depth - first)


def _linear(width: int, depth: int, last: int) -> list[int]:
    intervals = max(depth - 1, 1)
    return [round(width + (last - width) * layer / intervals) for layer in range(depth)]


def _listed(width: int, depth: int, units: str) -> list[int]:
    return [int(number) for number in units.split()]


def _units(description: str) -> Parameter:
    return Parameter(10, description, minimum=1, maximum=LARGEST_SIZE)


WIDTHS = Registry(
    {
        "constant": Profile(
            definition="every hidden layer has `width` units",
            source="the usual choice",
            units=_constant,
            label="{width}",
        ),
        "alternating": Profile(
            definition="`width` units in layers 1, 3, 5, ..., `other` in layers 2, 4, 6, ...",
            source="Hanin and Rolnick 2018, figure 2",
            units=_alternating,
            label="{width}, {other} alternating",
            parameters={"other": _units("Units of layers 2, 4, 6, ...")},
        ),
        "halves": Profile(
            definition="`width` units in the first half of the layers (the middle one included), "
            "`other` in the second",
            source="Hanin and Rolnick 2018, figure 2",
            units=_halves,
            label="{width}, then {other}",
            parameters={"other": _units("Units of the layers in the second half.")},
        ),
        "linear": Profile(
            definition="from `width` units in layer 1 to `last` in layer depth on a straight line, "
            "rounded: tapering or growing",
            source="pyramidal networks",
            units=_linear,
            label="{width} to {last}",
            parameters={"last": _units("Units of the last hidden layer.")},
        ),
        "listed": Profile(
            definition='the units of every hidden layer, as in "30 10 20": as many as depth, the '
            "first is `width`",
            source="any other profile",
            units=_listed,
            label="{units}",
            parameters={
                "units": Parameter(
                    "10",
                    'the units of all hidden layers as text, "30 10 20", each from 1 to 99999: as '
                    "many as depth, the first is width",
                    pattern="^[1-9][0-9]{0,4}( [1-9][0-9]{0,4})*$",
                )
            },
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Residual(Entry):
    """What hidden layers with a skip add to their input.

    Attributes
    ----------
    divisor
        From the number of such layers to what the mean square of phi(z_l) is divided by.
    trained
        Whether phi(z_l) is multiplied by a trained number, one per layer, that starts at 0.
    """

    divisor: Callable[[int], float] = lambda layers: 1.0
    trained: bool = False


RESIDUALS = Registry(
    {
        "none": Residual(definition="h_l = phi(z_l)", source="the plain network"),
        "plain": Residual(
            definition="h_l = h_(l-1) + phi(z_l)",
            source="He et al. 2016; Yang and Schoenholz 2017",
        ),
        "scaled": Residual(
            definition="h_l = h_(l-1) + phi(z_l) / sqrt(L), L the number of such layers",
            source="Hanin and Rolnick 2018; De and Smith 2020",
            divisor=float,
        ),
        "rezero": Residual(
            definition="h_l = h_(l-1) + alpha_l phi(z_l), alpha_l one trained number that starts "
            "at 0",
            source="ReZero (Bachlechner et al. 2021); SkipInit (De and Smith 2020)",
            trained=True,
        ),
    }
)


def hidden_widths(cell: Cell) -> list[int]:
    """Return the units of hidden layers 1 … depth."""
    profile = WIDTHS[cell.widths.name]
    return profile.units(cell.width, cell.depth, **WIDTHS.parameters_of(cell.widths))


def skips(cell: Cell) -> list[bool]:
    """Tell of hidden layers 1 … depth whether the output of the layer before is added.

    Only hidden layers of the same width are connected; the first layer, which sees the inputs,
    and the output layer never are.
    """
    units = hidden_widths(cell)
    connected = [before == after for before, after in zip([-1, *units], units, strict=False)]
    return [cell.residual != "none" and skip for skip in connected]


def kernel_places(cell: Cell) -> list[int]:
    """Return for layers 1 … depth + 1 which of the network's kernels each of them uses.

    One of its own, or, if kernels are tied, layers 2 … depth the same.
    """
    if not cell.tied:
        return list(range(cell.depth + 1))
    shared = max(cell.depth - 1, 0)
    first = [0] if cell.depth else []
    return [*first, *([1] * shared), len(first) + min(shared, 1)]


def is_plain(cell: Cell) -> bool:
    """Tell whether z_l = W_l h_(l-1) + b_l and h_l = phi(z_l) in all hidden layers."""
    found = (cell.normalization.name, cell.residual, cell.network.name)
    return found == ("none", "none", "none")


def output_units(cell: Cell, outputs: int) -> int:
    """Return the units of the output layer.

    Parameters
    ----------
    cell
        Its loss counts: binary cross-entropy has one output, the logit of class 1.
    outputs
        Classes or targets of the data set.
    """
    return 1 if cell.loss == "binary_cross_entropy" else outputs


def decide(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class that outputs (..., units) name.

    That is the one of the largest output; a single output is the logit of class 1.
    """
    if outputs.shape[-1] == 1:
        return (outputs[..., 0] > 0).astype(np.int64)
    return np.asarray(outputs.argmax(axis=-1))


def conflict(cell: Cell) -> str | None:
    """Return what is wrong with parameters that are right one by one, as ``key: reason``."""
    if cell.widths.name == "listed":
        units = hidden_widths(cell)
        if len(units) != cell.depth:
            return f"widths: {len(units)} hidden layers are listed, but depth is {cell.depth}"
        if units[:1] not in ([], [cell.width]):
            return f"widths: the first listed layer has {units[0]} units, but width is {cell.width}"
    if cell.tied and cell.depth < 3:
        return f"tied: from depth 3 on hidden layers share a kernel, but depth is {cell.depth}"
    if not cell.use_bias and cell.bias_initializer.name != "normal":
        return f"bias_initializer: {cell.bias_initializer.label} of no biases (use_bias: false)"
    if np.float32(cell.dropout) == 1:
        return f"dropout: {cell.dropout} is 1 in float32; allowed: less than 1"
    if cell.tied and len(set(hidden_widths(cell))) > 1:
        return "tied: one kernel for all hidden layers needs hidden layers of one width"
    given = dict(cell.optimizer.parameters)
    if given.get("nesterov") and not given.get("momentum"):
        return "optimizer: nesterov needs a momentum above 0"
    counting = cell.optimizer.name not in ("sgd", "rmsprop")
    if cell.loss_scale.name == "dynamic" and counting:
        return (
            f"loss_scale: dynamic is for sgd and rmsprop, which skip a step of one network alone; "
            f"{cell.optimizer.name} counts the steps of all networks together"
        )
    if cell.normalization.name == "batch" and cell.batch_size < 2:
        return "normalization: batch needs a batch_size of at least 2"
    return None
