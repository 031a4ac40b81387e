"""What readers call a component where a study gives it no name: its id in words.

Names stand here and not in the registries, because all that those say is in the digest of what was
trained: a better word would train every network anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from gradprop.components.activations import ACTIVATIONS
from gradprop.results.study_tables import COMPONENTS
from gradprop.spec import Component, Names, Scalar, Study

# Words of ids that are not written as they stand there.
WORDS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "elu": "ELU",
    "gaussian": "Gaussian",
    "gelu": "GELU",
    "glorot": "Glorot",
    "he": "He",
    "lecun": "LeCun",
    "lsuv": "LSUV",
    "lyapunov": "Lyapunov",
    "nesterov": "Nesterov",
    "prelu": "PReLU",
    "pytorch": "PyTorch",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "rezero": "ReZero",
    "selu": "SELU",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
    "standardize": "standardized",
    "stddev": "std",
    "sussillo": "Sussillo and",
    "abbott": "Abbott",
}
# Parameters that have names: components of registries, and what a cell names besides.
NAMED = (*COMPONENTS, "residual")
LABEL = re.compile(r"\w+(?:\([^()]*\))?")
DIGITS = (4, 8, 17)  # significant ones of numbers: as few as tell all components apart


def words(name: str) -> str:
    """Return an id in words: ``glorot_normal`` becomes Glorot normal."""
    return " ".join(WORDS.get(word, word) for word in name.split("_"))


def name_of(label: str, digits: int = DIGITS[0], names: Names = MappingProxyType({})) -> str:
    """Return what a component is called.

    Parameters
    ----------
    label
        Of the component (`gradprop.spec.Component.label`): ``normal(stddev=0.01)``.
    digits
        Significant digits of numbers.
    names
        Of texts that are parameters, by parameter.

    Returns
    -------
    str
        Its name in words, then its parameters: "normal, std 0.01". Scaled variances are formulas of
        the fan-in n and the fan-out m: "variance 2/n".
    """
    try:
        component = Component.parse(label)
    except ValueError:  # no component of this package
        return label
    parameters = dict(component.parameters)
    if component.name == "variance_scaling":
        parts = [_variance(parameters, digits)]
    elif component.name == "file":
        parts = [str(parameters.pop("file", "file"))]
    else:
        parts = [words(component.name)]
    for key, value in parameters.items():
        called = names.get(key, {}).get(str(value))
        parts.append(f"{words(key)} {called}" if called else _parameter(key, value, digits))
    return ", ".join(parts)


def _variance(parameters: dict[str, Scalar], digits: int) -> str:
    """Return the variance of a scaled kernel; take what it says out of the parameters."""
    scale = float(parameters.pop("scale", 1.0))
    mode = parameters.pop("mode", "fan_in")
    fan = {"fan_in": "n", "fan_out": "m", "fan_avg": "(n + m)"}[str(mode)]
    return f"variance {(2 if mode == 'fan_avg' else 1) * scale:.{digits}g}/{fan}"


def _parameter(key: str, value: Scalar, digits: int) -> str:
    if isinstance(value, bool):
        return words(key) if value else f"not {words(key)}"
    if isinstance(value, str):
        return words(value) if key == "distribution" else f"{words(key)} {value}"
    return f"{words(key)} {value:.{digits}g}"


def names_of(study: Study) -> dict[str, dict[str, str]]:
    """Return what the components of a study are called: by parameter, from label to name.

    The study's own names come first. No other name stands for two components, or for one that the
    study calls so.
    """
    found = {}
    for key in dict.fromkeys([*NAMED, *study.names]):
        given = study.names.get(key, {})
        labels = list(dict.fromkeys(str(cell.column(key)) for cell in study.cells))
        rest = [label for label in labels if label not in given]
        own = study.names if key == "network" else {}
        trials = [[name_of(label, digits, own) for label in rest] for digits in DIGITS]
        taken = set(given.values())
        chosen = next((t for t in trials if len({*t, *taken}) == len(t) + len(taken)), rest)
        found[key] = {**given, **dict(zip(rest, chosen, strict=True))}
    return found


def in_words(text: str, names: Mapping[str, str]) -> str:
    """Return a text with these names in the place of labels.

    A name that stands there already stays: "normal, std 1" holds the label "normal".
    """
    named = "|".join(re.escape(name) for name in sorted(names.values(), key=len, reverse=True))
    whole = rf"(?<!\w)(?:{named})(?![\w(]|\.\d)|{LABEL.pattern}" if named else LABEL.pattern
    return re.sub(whole, lambda found: names.get(found[0], found[0]), text)


def names_in_text(study: Study) -> dict[str, str]:
    """Return the names by label of what the cases of a study's claims speak of.

    Activations are named that are not in the study's grid, too: a claim may train networks of its
    own.
    """
    called, keys = names_of(study), ("activation", "dataset", "optimizer", "initializer")
    own = {label: name for key in keys for label, name in called[key].items()}
    return {label: name_of(label) for label in ACTIVATIONS} | own
