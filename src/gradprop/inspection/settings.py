"""How a Keras model was defined, as far as advice repeats it: its layers and its optimizer.

Advice is given from tables, also where no Keras is at hand. So what it repeats of a definition is
kept in Keras code here, argument by argument.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
import pandas as pd

from gradprop.monitor.instruments import hidden
from gradprop.monitor.layers import watched

# Arguments that say nothing of what a layer or an optimizer computes.
_ASIDE = ("self", "name", "dtype", "trainable")
# A pair of equal numbers is one number in these.
_OF_SPACE = ("kernel_size", "strides", "dilation_rate")
_CLIPPINGS = ("clipnorm", "clipvalue", "global_clipnorm")


def settings(model: Any) -> pd.DataFrame:
    """Return the definition of the layers with weights of a built and compiled model.

    Returns
    -------
    DataFrame
        One row per layer with weights: ``layer``, its name in the table ``network``;
        ``class_name``, the class of `keras.layers` that it is an instance of, empty if it is none;
        and ``arguments``, JSON: of every argument of this class that is not as by default the value
        in Keras code, or null where it has none. Of a model with several inputs a row per input
        follows, of the class ``InputLayer``: its ``place``, the key in a dict or the number in a
        list of inputs, and the layers with weights that it alone ``feeds``; of a model whose inputs
        are not known, one row of this class without arguments. With an empty ``layer`` follow the
        optimizer and its bounds of clipping, where it scales the loss the one that it wraps, and
        the learning rate unless it is a number: the class of `keras.optimizers.schedules` with all
        of its rates, ``function``, or an empty name for a schedule of another class.
    """
    rows: list[tuple[str, str, dict[str, Any]]] = []
    for part in watched(model):
        if part.weights:
            rows.append((part.name, *_definition(part.layer, keras.layers)))
    rows += _inputs(model)
    optimizer = getattr(model, "optimizer", None)
    while optimizer is not None:
        bounds = {name: getattr(optimizer, name, None) for name in _CLIPPINGS}
        clipping = {name: _source(bound) for name, bound in bounds.items() if bound is not None}
        rows.append(("", type(optimizer).__name__, clipping))
        rate = getattr(optimizer, "_learning_rate", None)
        optimizer = getattr(optimizer, "inner_optimizer", None)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rows.append(("", *_definition(rate, keras.optimizers.schedules, rates=True)))
        elif callable(rate) and not isinstance(rate, keras.Variable):
            rows.append(("", "function", {}))
    table = [(layer, name, json.dumps(given)) for layer, name, given in rows]
    return pd.DataFrame(table, columns=["layer", "class_name", "arguments"])


def _inputs(model: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the rows of the inputs of a model; none of a single input."""
    if not isinstance(model, keras.Sequential) and not hasattr(model, "_inputs_struct"):
        return [(model.name, "InputLayer", {})]
    given = getattr(model, "_inputs_struct", None)
    places = (
        dict(given) if isinstance(given, Mapping) else dict(enumerate(keras.tree.flatten(given)))
    )
    if len(places) < 2 or len(places) != len(model.inputs):
        return []
    origins = {part.name: _origins(part.layer) for part in watched(model) if part.weights}
    rows = []
    for place, tensor in places.items():
        name = tensor._keras_history.operation.name
        feeds = [layer for layer, found in origins.items() if found == {name}]
        rows.append((name, "InputLayer", {"place": json.dumps(place), "feeds": feeds}))
    return rows


def _origins(layer: Any) -> set[str]:
    """Return the names of the inputs that what a layer gets is made of."""
    found, seen, ahead = set(), set(), list(layer._inbound_nodes)
    while ahead:
        node = ahead.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        ahead += node.parent_nodes
        if node.is_input:
            found.add(str(node.operation.name))
    return found


def _definition(thing: Any, module: Any, rates: bool = False) -> tuple[str, dict[str, str | None]]:
    """Return the class of Keras that a thing is an instance of, and its arguments in code."""
    # A schedule that is derived from one of Keras has other rates; a layer has the same weights.
    kinds = type(thing).__mro__[:1] if rates else type(thing).__mro__
    known = [kind for kind in kinds if getattr(module, kind.__name__, None) is kind]
    if not known or known[0] is keras.layers.Layer:
        return "", {}
    functions = _functions_of(thing)
    try:
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore")  # of functions that cannot be loaded again
            for argument in functions:  # of some lambdas there is no source, which is asked for
                stack.enter_context(hidden(thing, argument, keras.activations.linear))
            config = thing.get_config()
    except Exception:  # a class of somebody's own may lack it
        return "", {}
    found = _arguments(known[0], config, rates) | functions
    parameters = inspect.signature(known[0]).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    return ("", {}) if None in map(found.get, needed) else (known[0].__name__, found)


def _functions_of(layer: Any) -> dict[str, str | None]:
    """Return the activation functions of a layer that are not those of `keras.activations`.

    In a configuration somebody's own function is one of Keras if it has the name of one.
    """
    found: dict[str, str | None] = {}
    for argument in ("activation", "recurrent_activation"):
        function = getattr(layer, argument, None)
        name = getattr(function, "__name__", "")
        if not name or getattr(keras.activations, name, None) is function:
            continue
        found[argument] = (
            f"keras.ops.{name}" if getattr(keras.ops, name, None) is function else None
        )
    return found


def _arguments(kind: type, config: Mapping[str, Any], rates: bool = False) -> dict[str, str | None]:
    """Return the arguments of a class: those that are not as by default, and rates."""
    found: dict[str, str | None] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = config.get(name)
        if name in _ASIDE or value is None:
            continue
        if name == "data_format" and value == keras.config.image_data_format():
            continue
        source, usual = _source(value, name), _source(parameter.default, name)
        is_usual = source is not None and source in (usual, _of_name(usual, name))
        if not is_usual or (rates and name.endswith("learning_rate")):
            found[name] = source
    return found


def _of_name(usual: str | None, name: str) -> str | None:
    """Return what the name of a default stands for: an initializer, or no function at all."""
    if usual is not None and name.endswith("_initializer"):
        words = re.sub(r"\W", "", usual).split("_")
        return f"keras.initializers.{''.join(map(str.capitalize, words))}()"
    return '"linear"' if usual == "None" and name == "activation" else None


def _source(value: Any, name: str = "") -> str | None:
    """Return a value of a configuration in Keras code; None where there is none."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, np.generic):
        return _source(value.item())
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        parts = [_source(part) for part in value]
        if name in _OF_SPACE and len(set(parts)) == 1:
            return parts[0]
        return None if None in parts else f"[{', '.join(map(str, parts))}]"
    if isinstance(value, Mapping) and str(value.get("module")).startswith("keras."):
        module = getattr(keras, str(value["module"]).removeprefix("keras."), None)
        kind = getattr(module, str(value["class_name"]), None)
        if isinstance(kind, type):
            given = _arguments(kind, value["config"])
            if None not in given.values():
                shown = ", ".join(f"{key}={text}" for key, text in given.items())
                return f"{value['module']}.{value['class_name']}({shown})"
    return None
