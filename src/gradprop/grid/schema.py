"""The JSON Schemas (2020-12) of the configuration: written by hand but for what registries know.

The schema of a study gets a branch for every registry entry: its name, its parameters with their
types, bounds and defaults. Branches are told apart by the name with if/then, so that a message
points at the one value that is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import RESIDUALS, WIDTHS
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import BIAS_INITIALIZERS, INITIALIZERS
from gradprop.components.loss_scaling import LOSS_SCALES
from gradprop.components.network import Argument, NetworkFile
from gradprop.components.normalization import NORMALIZATIONS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.components.precision import FORMATS
from gradprop.components.registry import Entry, Parameter, Registry
from gradprop.components.schedules import SCHEDULES
from gradprop.grid.axes import PARAMETERS
from gradprop.grid.config import read_yaml
from gradprop.grid.kinds import KINDS
from gradprop.probes.measurements import MEASUREMENTS
from gradprop.probes.statistics import PRESETS, STATISTICS

FOLDER = Path(__file__).parent / "schemas"
Schema = Mapping[str, Any]

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
# Types of a cell's parameters; of components, what is selected is text.
_FIELDS = {"bool": "boolean", "int": "integer", "float": "number"}
_BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
    "pattern": "pattern",
    "longest": "maxLength",
}
# Definitions that list what a study's ``components.py`` may add to.
_NAMES_OF_OWN = (
    *("dataset_name", "initializer_name", "activation_name", "optimizer_name"),
    *("layer_statistic", "statistic_or_preset"),
)
# Registries whose entries may have parameters: what an entry is called, and its definition here.
_PARAMETRIC: dict[str, tuple[str, Registry[Any]]] = {
    "one_activation": ("activation function", ACTIVATIONS),
    "dataset": ("data set", DATASETS),
    "initializer": ("initializer", INITIALIZERS),
    "one_optimizer": ("optimizer", OPTIMIZERS),
    "one_widths": ("width profile", WIDTHS),
    "one_normalization": ("normalization", NORMALIZATIONS),
    "one_clipping": ("clipping", CLIPPINGS),
    "one_schedule": ("schedule of the learning rate", SCHEDULES),
    "one_loss_scale": ("loss scaling", LOSS_SCALES),
    "one_bias_initializer": ("initializer of biases", BIAS_INITIALIZERS),
    "measurement": ("measurement", MEASUREMENTS),
}


@cache
def config_schema() -> Schema:
    """Return the schema of ``config/config.yaml``."""
    schema: Schema = read_yaml(FOLDER / "config.schema.yaml")
    return schema


def study_schema(
    kinds: Iterable[str] = (), components: Path | None = None, network: NetworkFile | None = None
) -> Schema:
    """Return the schema of a study, with a branch for every registry entry that it may name.

    Parameters
    ----------
    kinds
        Kinds of figures that the study brings along.
    components
        The file of its own components, if it has one.
    network
        What builds its networks, if it has that: its arguments are axes.
    """
    file = components.resolve() if components else None
    written = copy.deepcopy(_written_study_schema())
    statistics = STATISTICS.of_study(file)
    defs: dict[str, Any] = written["$defs"]
    figure = defs["figure"]["properties"]
    figure["kind"]["enum"] = [*KINDS, *kinds]
    own = network.arguments if network else {}
    for name in own:
        if network and name in statistics:
            problem = "choose another name, because a statistic has it"
            raise network.error(f"argument {name!r}: {problem}")
    axes = {name: _axis(argument) for name, argument in own.items()}
    defs["block"]["properties"] |= axes
    written["properties"]["training"]["properties"] |= axes
    written["properties"]["names"]["properties"] |= {
        name: {"$ref": "#/$defs/names"} for name, argument in own.items() if argument.kind is str
    }
    figure["select"]["properties"] = {
        **{f.name: _selected(f.name, _FIELDS.get(str(f.type), "string")) for f in PARAMETERS},
        **{name: _selected(name, _TYPES[argument.kind]) for name, argument in own.items()},
    }
    defs |= {
        "residual_name": _names(RESIDUALS),
        "format_name": _names(FORMATS),
        "layer_statistic": _names(statistics),
        "statistic_or_preset": _names([*statistics, *PRESETS]),
        "preset": _names(PRESETS),
        "cell_parameter": _names([*(f.name for f in PARAMETERS), *own]),
    }
    for key, (what, registry) in _PARAMETRIC.items():
        entries = registry.of_study(file)
        defs |= {
            key: _component(key, what, entries, registry.unnamed),
            _name_of(key): _names(entries),
        }
    if components and not components.exists():
        for name in _NAMES_OF_OWN:
            defs[name]["$comment"] = f"the study has no {components.name}"
    return written


def parameters_schema(entry: Entry) -> Schema:
    """Return the schema of the parameters of an entry."""
    properties = {name: _parameter(known) for name, known in entry.parameters.items()}
    return {"additionalProperties": False, "properties": properties}


@cache
def _written_study_schema() -> Schema:
    schema: Schema = read_yaml(FOLDER / "study.schema.yaml")
    return schema


def _names(names: Iterable[str]) -> Schema:
    return {"enum": list(names)}


def _axis(argument: Argument) -> Schema:
    """Return the schema of an axis that an argument of a study's own network is."""
    value: Schema = {"type": _TYPES[argument.kind]}
    if argument.kind is str:  # it stands in labels
        description = "letters, digits, points, hyphens and underscores"
        value = {**value, "pattern": r"^[\w.-]+$", "description": description}
    about = {"description": "An argument of build in network.py.", "default": argument.default}
    one = value
    if argument.kind is int:
        one = {"if": {"type": "object"}, "then": {"$ref": "#/$defs/range"}, "else": value}
    several = {"minItems": 1, "items": value}
    return {**about, "if": {"type": "array"}, "then": several, "else": one}


def _selected(name: str, kind: str) -> Schema:
    """Return the schema of the values of a cell's parameter that a figure selects."""
    values = {"type": kind}
    return {
        "description": f"Networks with this value of `{name}`, or one of a list.",
        "default": None,
        "if": {"type": "array"},
        "then": {"minItems": 1, "items": values},
        "else": values,
    }


def _name_of(key: str) -> str:
    return f"{key.removeprefix('one_')}_name"


def _component(key: str, what: str, entries: Mapping[str, Entry], unnamed: str) -> Schema:
    """Return the schema of a component: a name, or a mapping of name and parameters.

    A mapping that has the key `unnamed` may leave the name out, which is the same word then.
    """
    named: Schema = {"required": ["name"]}
    if unnamed:
        either = {**named, "properties": {unnamed: {}}}  # which a message may suggest
        named = {"if": {"not": {"required": [unnamed]}}, "then": either}
    name = {"$ref": f"#/$defs/{_name_of(key)}"}
    description = f"Name of the {what}; what it means is in config/README.md."
    return {
        "if": {"type": "object"},
        "then": {
            **named,
            "properties": {"name": {"description": description, **name}},
            "allOf": [
                _branch(*item, axes=key != "measurement", unnamed=unnamed)
                for item in entries.items()
            ],
        },
        "else": name,
    }


def _branch(name: str, entry: Entry, *, axes: bool, unnamed: str) -> Schema:
    """Return the schema of one entry; of `axes`, a parameter's values may be a list."""
    parameters = parameters_schema(entry)
    properties = {
        key: _value_or_list(known) if axes else known
        for key, known in parameters["properties"].items()
    }
    properties = {"name": {"description": entry.definition}, **properties}
    has_name = {"properties": {"name": {"enum": [name]}}}
    return {
        "if": {"required": [unnamed if name == unnamed else "name"], **has_name},
        "then": {**parameters, "properties": properties},
    }


def _value_or_list(parameter: Schema) -> Schema:
    about = {key: parameter[key] for key in ("description", "default")}
    allowed = {key: rule for key, rule in parameter.items() if key != "default"}
    one = {"type": "array"}
    return {**about, "if": one, "then": {"minItems": 1, "items": allowed}, "else": allowed}


def _parameter(parameter: Parameter) -> Schema:
    bounds = {
        keyword: bound
        for name, keyword in _BOUNDS.items()
        if (bound := getattr(parameter, name)) is not None
    }
    kind = {"type": _TYPES[type(parameter.default)]}
    allowed = {"enum": list(parameter.choices)} if parameter.choices else {**kind, **bounds}
    return {"description": parameter.description, **allowed, "default": parameter.default}
