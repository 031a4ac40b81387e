"""The thresholds of a study: what may stand in its YAML, and what that means."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from gradprop.analysis import alarms
from gradprop.analysis.thresholds import PRESETS, Thresholds
from gradprop.errors import ConfigError
from gradprop.grid import config, schema
from gradprop.grid.definitions import cell_definition
from gradprop.spec import Study
from tests.workspace import TINY

SCHEMA = schema.study_schema()
KEY = SCHEMA["properties"]["diagnosis"]


def of(diagnosis: Any) -> Thresholds:
    content = {**TINY, "diagnosis": diagnosis}
    config.validate(content, SCHEMA, "s.yaml")
    return Thresholds.of(Study("s", "", "", (), definition={"content": content}))


def test_the_schema_has_every_threshold_with_its_default() -> None:
    stated = {key: rule["default"] for key, rule in KEY["else"]["properties"].items()}
    assert stated == asdict(Thresholds())
    assert KEY["then"]["enum"] == list(PRESETS)
    assert {*alarms.ALARMS} < {*stated}
    assert KEY["default"] == "standard"


def test_a_study_sets_what_it_names() -> None:
    assert Thresholds.of(Study("s", "", "", ())) == of("standard") == of({}) == Thresholds()
    assert of({"exploding": 7}) == Thresholds(exploding=7.0)
    chosen = {"compares": "weight_gradients", "vanishing": 1e-3, "first_layer": 1e-4}
    assert of({**chosen, "exploding": 70}) == of("autotrainer")


@pytest.mark.parametrize(
    ("diagnosis", "told"),
    [
        (
            "autotrain",
            "diagnosis: 'autotrain' is not allowed; allowed: standard, autotrainer. Did you mean",
        ),
        ({"vanish": 1}, "diagnosis.vanish: unknown key; allowed: compares, vanishing"),
        ({"vanishing": 3}, "diagnosis.vanishing: 3 is greater than the maximum of 1"),
        ({"dead_units": -0.1}, "diagnosis.dead_units: -0.1 is less than the minimum of 0"),
        (
            {"compares": "loss"},
            "diagnosis.compares: 'loss' is not allowed; allowed: signal, weight_gradients",
        ),
        (3, "diagnosis: 3 is not a mapping"),
    ],
)
def test_a_wrong_threshold_is_one_line(diagnosis: Any, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(diagnosis)
    assert str(caught.value).startswith(f"s.yaml: {told}")
    assert len(str(caught.value).splitlines()) == 1


def test_thresholds_are_no_part_of_what_is_trained() -> None:
    definition = {"name": "s", "seeds": 1, "content": TINY}
    other = {**definition, "content": {**TINY, "diagnosis": "autotrainer"}}
    assert cell_definition(definition) == cell_definition(other)
