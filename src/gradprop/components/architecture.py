"""What a network is besides its depth, width and activation: registries of structural choices.

Width profiles, normalization, residual connections and the clipping of gradients. Each has a
default that leaves the plain multilayer perceptron as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradprop.spec import Cell, Component, Scalar


@dataclass(frozen=True)
class Choice:
    """One structural choice.

    Attributes
    ----------
    definition, source
        What it does, and where it comes from.
    parameters
        The parameters and their defaults.
    """

    definition: str
    source: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile(Choice):
    """How units are spread over the hidden layers.

    Attributes
    ----------
    units
        From width, depth and parameters to the units of hidden layers 1 … depth.
    """

    units: Callable[..., list[int]] = lambda width, depth: [width] * depth


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


WIDTHS: dict[str, Profile] = {
    "constant": Profile("every hidden layer has `width` units", "the usual choice"),
    "alternating": Profile(
        "`width` units in layers 1, 3, 5, ..., `other` in layers 2, 4, 6, ...",
        "Hanin and Rolnick 2018, figure 2",
        {"other": 10},
        _alternating,
    ),
    "halves": Profile(
        "`width` units in the first half of the layers (the middle one included), `other` in the "
        "second",
        "Hanin and Rolnick 2018, figure 2",
        {"other": 10},
        _halves,
    ),
    "linear": Profile(
        "from `width` units in layer 1 to `last` in layer depth on a straight line, rounded: "
        "tapering or growing",
        "pyramidal networks",
        {"last": 10},
        _linear,
    ),
    "listed": Profile(
        'the units of every hidden layer, as in "30 10 20": as many as depth, the first is `width`',
        "any other profile",
        {"units": "10"},
        _listed,
    ),
}

NORMALIZATIONS: dict[str, Choice] = {
    "none": Choice("z = W h + b", "the plain network"),
    "batch": Choice(
        "z = gamma (u - mean u) / sqrt(var u + epsilon) + beta, u = W h + b, mean and variance of "
        "a unit over the minibatch; on test and training sets after steps those of running means: "
        "running <- momentum running + (1 - momentum) minibatch, from 0 and 1",
        "Ioffe and Szegedy 2015; keras.layers.BatchNormalization",
        {"epsilon": 1e-3, "momentum": 0.99},
    ),
    "layer": Choice(
        "the same with mean and variance of an example over the units of the layer",
        "Ba et al. 2016; keras.layers.LayerNormalization",
        {"epsilon": 1e-3},
    ),
}

RESIDUALS: dict[str, Choice] = {
    "none": Choice("h_l = phi(z_l)", "the plain network"),
    "plain": Choice("h_l = h_(l-1) + phi(z_l)", "He et al. 2016; Yang and Schoenholz 2017"),
    "scaled": Choice(
        "h_l = h_(l-1) + phi(z_l) / sqrt(L), L the number of such layers",
        "Hanin and Rolnick 2018; De and Smith 2020",
    ),
    "rezero": Choice(
        "h_l = h_(l-1) + alpha_l phi(z_l), alpha_l one trained number that starts at 0",
        "ReZero (Bachlechner et al. 2021); SkipInit (De and Smith 2020)",
    ),
}

CLIPPINGS: dict[str, Choice] = {
    "none": Choice("g", "plain gradient descent"),
    "norm": Choice(
        "g min(1, threshold / norm(g)), norm over all trained variables of the network",
        "Pascanu et al. 2013; global_clipnorm of Keras",
        {"threshold": 1.0},
    ),
    "value": Choice(
        "every entry of g cut to [-threshold, threshold]",
        "Mikolov 2012; clipvalue of Keras",
        {"threshold": 1.0},
    ),
}


def _creator(registry: Mapping[str, Choice]) -> Callable[[str | Mapping[str, Any]], Component]:
    defaults = {name: entry.parameters for name, entry in registry.items()}
    return lambda value: Component.create(value, defaults)


# Normalize a choice as it stands in a study's YAML.
create_widths = _creator(WIDTHS)
create_normalization = _creator(NORMALIZATIONS)
create_clipping = _creator(CLIPPINGS)


def parameters(component: Component, registry: Mapping[str, Choice]) -> dict[str, Any]:
    """Return all parameters of a choice, defaults included."""
    return {**registry[component.name].parameters, **dict(component.parameters)}


def hidden_widths(cell: Cell) -> list[int]:
    """Return the units of hidden layers 1 … depth."""
    profile = WIDTHS[cell.widths.name]
    return profile.units(cell.width, cell.depth, **parameters(cell.widths, WIDTHS))


def skips(cell: Cell) -> list[bool]:
    """Tell of hidden layers 1 … depth whether the output of the layer before is added.

    Only hidden layers of the same width are connected; the first layer, which sees the inputs,
    and the output layer never are.
    """
    units = hidden_widths(cell)
    connected = [before == after for before, after in zip([-1, *units], units, strict=False)]
    return [cell.residual != "none" and skip for skip in connected]


def is_plain(cell: Cell) -> bool:
    """Tell whether z_l = W_l h_(l-1) + b_l and h_l = phi(z_l) in all hidden layers."""
    return cell.normalization.name == "none" and cell.residual == "none"


def conflict(cell: Cell) -> str | None:
    """Return what is wrong with parameters that are right one by one, as ``key: reason``."""
    if cell.widths.name == "listed":
        units = hidden_widths(cell)
        if len(units) != cell.depth:
            return f"widths: {len(units)} hidden layers are listed, but depth is {cell.depth}"
        if units[:1] not in ([], [cell.width]):
            return f"widths: the first listed layer has {units[0]} units, but width is {cell.width}"
    if cell.normalization.name == "batch" and cell.batch_size < 2:
        return "normalization: batch needs a batch_size of at least 2"
    if cell.initializer.name == "lsuv" and not is_plain(cell):
        return "initializer: lsuv is for networks without normalization and residual connections"
    covered = {
        "sussillo_abbott": ("linear", "relu"),
        "lyapunov": ("linear", "relu", "leaky_relu"),
    }.get(cell.initializer.name)
    if covered and cell.activation not in covered:
        names = ", ".join(covered)
        return (
            f"initializer: {cell.initializer.name} has no gain for the activation "
            f"{cell.activation!r}; it has for {names}"
        )
    return None
