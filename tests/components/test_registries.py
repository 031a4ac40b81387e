"""The schema of a study and the registries of the package agree, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest

from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import RESIDUALS, WIDTHS
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import INITIALIZERS
from gradprop.components.loss_scaling import LOSS_SCALES
from gradprop.components.normalization import NORMALIZATIONS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.components.registry import Registry
from gradprop.figures.drawing import KINDS
from gradprop.grid import config
from gradprop.grid.axes import axis_values
from gradprop.grid.schema import study_schema
from gradprop.probes.measurements import MEASUREMENTS
from gradprop.probes.statistics import ALWAYS, PRESETS, STATISTICS
from gradprop.spec import Cell, Component

SCHEMA: Any = study_schema()
DEFS: Any = SCHEMA["$defs"]
TYPES: dict[type, str] = {int: "integer", float: "number", bool: "boolean", str: "string"}

REGISTRIES: dict[str, Registry[Any]] = {
    "initializer": INITIALIZERS,
    "dataset": DATASETS,
    "one_optimizer": OPTIMIZERS,
    "measurement": MEASUREMENTS,
    "one_activation": ACTIVATIONS,
    "one_widths": WIDTHS,
    "one_normalization": NORMALIZATIONS,
    "one_clipping": CLIPPINGS,
    "one_loss_scale": LOSS_SCALES,
}
EVERY = pytest.mark.parametrize("definition", REGISTRIES)


def resolved(value: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = value.get("$ref", "").removeprefix("#/$defs/")
    return {**DEFS[reference], **value} if reference else value


def parameters(definition: str) -> dict[str, dict[str, Any]]:
    """Return for every name in the schema its parameters and their schemas."""
    found: dict[str, dict[str, Any]] = {}
    for branch in DEFS[definition]["then"]["allOf"]:
        assert branch["then"]["additionalProperties"] is False
        known = {key: resolved(value) for key, value in branch["then"]["properties"].items()}
        del known["name"]
        for name in branch["if"]["properties"]["name"]["enum"]:
            assert name not in found, f"{name} has two branches"
            found[name] = known
    return found


@EVERY
def test_names(definition: str) -> None:
    names = DEFS[f"{definition.removeprefix('one_')}_name"]["enum"]
    assert names == list(REGISTRIES[definition])
    assert set(parameters(definition)) == set(names)


@EVERY
def test_parameters_and_their_defaults_and_types(definition: str) -> None:
    for name, known in parameters(definition).items():
        registered = REGISTRIES[definition][name].defaults
        assert {key: value["default"] for key, value in known.items()} == registered, name
        for key, value in known.items():
            kind = type(registered[key])
            one = value.get("else", value)  # of a grid's component, whose parameter may be a list
            assert one.get("type", TYPES[str]) == TYPES[kind], f"{name}.{key}"
            assert one is value or value["then"] == {"minItems": 1, "items": one}
            assert (one is value) == (definition == "measurement")


@EVERY
def test_the_schema_takes_what_the_registry_has(definition: str) -> None:
    for name, entry in REGISTRIES[definition].items():
        for value in (name, {"name": name, **entry.defaults}):
            document = {"$ref": f"#/$defs/{definition}", "$defs": DEFS}
            config.validate(value, document, name)
            assert REGISTRIES[definition].create(value) == Component(name)


def test_residual_connections() -> None:
    assert DEFS["residual_name"]["enum"] == list(RESIDUALS)
    assert all(not entry.parameters for entry in RESIDUALS.values())


def test_statistics() -> None:
    assert DEFS["layer_statistic"]["enum"] == list(STATISTICS)
    assert resolved(SCHEMA["properties"]["statistics"]["else"])["enum"] == list(PRESETS)
    for names in PRESETS.values():  # a subset in the same order, nothing twice
        assert list(names) == [name for name in STATISTICS if name in names]
    for name in ALWAYS:
        assert name in " ".join(SCHEMA["properties"]["statistics"]["description"].split())


def test_kinds_of_figures() -> None:
    assert set(DEFS["figure"]["properties"]["kind"]["enum"]) == set(KINDS)


def test_parameters_by_which_figures_are_divided() -> None:
    names = DEFS["cell_parameter"]["enum"]
    assert set(names) <= {f.name for f in fields(Cell)}
    assert list(DEFS["figure"]["properties"]["select"]["properties"]) == names


def test_a_cell_has_the_defaults_of_the_schema() -> None:
    axes = {key: resolved(value) for key, value in DEFS["block"]["properties"].items()}
    axes |= {key: SCHEMA["properties"][key] for key in ("probes", "statistics")}
    not_in_yaml = {"code", "network"}  # which follow from a study's files
    assert {*axes} - {"seeds"} == {f.name for f in fields(Cell)} - {"seed", *not_in_yaml}
    for f in fields(Cell):
        if f.name in axes and f.default is not MISSING:
            assert axis_values(f.name, axes[f.name]["default"]) == [f.default]
        elif f.name not in ("seed", *not_in_yaml):
            assert "default" not in axes[f.name]
            assert "Required" in axes[f.name]["description"]


def test_shared_keys_are_keys_of_a_block() -> None:
    block = DEFS["block"]["properties"]
    assert {k: block[k] for k in SCHEMA["properties"]["training"]["properties"]} == (
        SCHEMA["properties"]["training"]["properties"]
    )
