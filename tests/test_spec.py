"""The identity of a cell, the labels of components, chunks of a stack."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import make_dataclass, replace
from typing import Any

import pytest

from gradprop import spec
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import INITIALIZERS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.spec import Cell, Component, LayerInitializer, Stack, canonical_json

CELL = Cell(
    dataset=Component("digits"),
    depth=3,
    width=64,
    activation=Component("tanh"),
    initializer=Component("normal", (("stddev", 0.02),)),
    learning_rate=0.03,
    batch_size=64,
    epochs=10,
    seed=0,
)


# ---------------------------------------------------------------------------------- identity


def test_ids_are_what_they_were() -> None:
    """If this fails, all results that exist are lost: undo the change, or raise `NUMERICS`."""
    other = replace(
        CELL,
        optimizer=OPTIMIZERS.create({"name": "sgd", "momentum": 0.9}),
        initializer=INITIALIZERS.create("glorot_uniform"),
        dataset=DATASETS.create({"name": "gaussian_mixture", "classes": 3}),
        use_bias=False,
        seed=7,
    )
    assert [CELL.id, other.id] == ["b3fcb3007baa", "1e7939846513"]


def test_a_component_is_not_given_by_its_label() -> None:
    for name in ("activation", "initializer", "schedule"):
        with pytest.raises(TypeError, match=f"{name}: 'relu' is no Component"):
            replace(CELL, **{name: "relu"})  # type: ignore[arg-type]


def test_a_component_is_not_compared_with_a_text() -> None:
    """Which it would never equal, and nobody would be told."""
    component = Component("relu")
    with pytest.raises(TypeError, match="relu is a component: compare its name or its label"):
        assert component == "relu"
    assert component == Component("relu") != Component("tanh")
    assert component != 3
    assert len({component, Component("relu")}) == 1


def test_an_id_is_a_hash_of_the_canonical_parameters() -> None:
    document = {
        "numerics": spec.NUMERICS,
        "cell": {
            "width": 64,
            "seed": 0,
            "learning_rate": 0.03,
            "initializer": {"stddev": 0.02, "name": "normal"},
            "epochs": 10,
            "depth": 3,
            "dataset": {"name": "digits"},
            "batch_size": 64,
            "activation": "tanh",
        },
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert CELL.id == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_canonical_json_knows_no_order() -> None:
    assert canonical_json({"b": 1, "a": [0.1, 1e-7]}) == '{"a":[0.1,1e-07],"b":1}'
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(math.nan)


def test_the_order_of_parameters_is_no_matter() -> None:
    one = INITIALIZERS.create({"name": "variance_scaling", "scale": 2.0, "mode": "fan_out"})
    two = INITIALIZERS.create({"mode": "fan_out", "scale": 2.0, "name": "variance_scaling"})
    assert replace(CELL, initializer=one).id == replace(CELL, initializer=two).id


def test_whole_numbers_and_floats_are_the_same_parameter() -> None:
    one, two = (INITIALIZERS.create({"name": "normal", "stddev": s}) for s in (1, 1.0))
    assert one == two
    assert replace(CELL, initializer=one).id == replace(CELL, initializer=two).id
    assert replace(CELL, bias_std=0).id == CELL.id


def test_a_parameter_at_its_default_is_left_out() -> None:
    assert INITIALIZERS.create({"name": "normal", "stddev": 0.01}) == Component("normal")
    assert replace(CELL, optimizer=OPTIMIZERS.create({"name": "sgd", "momentum": 0})).id == CELL.id


def test_a_new_parameter_at_its_default_moves_no_id() -> None:
    wider: Any = make_dataclass(
        "Wider", [("gradient_clipping", float, 0.0)], bases=(Cell,), frozen=True
    )
    values = {name: getattr(CELL, name) for name in CELL.columns()}
    assert wider(**values).id == CELL.id
    assert wider(**values, gradient_clipping=1.0).id != CELL.id


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": Component("circles")},
        {"depth": 4},
        {"width": 65},
        {"activation": Component("relu")},
        {"initializer": Component("normal")},
        {"learning_rate": 0.031},
        {"batch_size": 63},
        {"epochs": 0},
        {"seed": 1},
        {"optimizer": Component("adam")},
        {"loss": "output_sum"},
        {"use_bias": False},
        {"bias_std": 0.1},
        {"target_loss": 0.1},
        {"probes": 11},
        {"statistics": "cheap"},
        {"measurements": (Component("spectra"),)},
        {"layer_initializers": (LayerInitializer("last", Component("zeros")),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_counts(change: dict[str, Any]) -> None:
    assert replace(CELL, **change).id != CELL.id


def test_the_numerics_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = replace(CELL).id
    monkeypatch.setattr(spec, "NUMERICS", spec.NUMERICS + 1)
    assert replace(CELL).id != before


# ---------------------------------------------------------------------------------- components


@pytest.mark.parametrize(
    ("component", "label"),
    [
        (INITIALIZERS.create("zeros"), "zeros"),
        (INITIALIZERS.create({"name": "normal", "stddev": 1}), "normal(stddev=1.0)"),
        (
            INITIALIZERS.create({"name": "normal", "stddev": 1e-7}),
            "normal(stddev=1e-07)",
        ),
        (
            INITIALIZERS.create({"name": "constant", "value": -2}),
            "constant(value=-2.0)",
        ),
        (
            INITIALIZERS.create({"name": "variance_scaling", "scale": 2, "mode": "fan_avg"}),
            "variance_scaling(mode=fan_avg, scale=2.0)",
        ),
        (DATASETS.create({"name": "spirals", "classes": 3.0}), "spirals(classes=3)"),
        (Component("x", (("flag", True), ("other", False))), "x(flag=True, other=False)"),
    ],
)
def test_labels_and_back(component: Component, label: str) -> None:
    assert component.label == label
    parsed = Component.parse(label)
    assert parsed == component
    assert [type(value) for _, value in parsed.parameters] == [
        type(value) for _, value in component.parameters
    ]


@pytest.mark.parametrize(
    "text", ["", "a b", "normal(", "normal(stddev=1) x", "zeros\n", "normal(stddev)"]
)
def test_what_is_no_label(text: str) -> None:
    with pytest.raises(ValueError, match="not a component's label"):
        Component.parse(text)


def test_a_document_makes_the_component_again() -> None:
    component = INITIALIZERS.create({"name": "variance_scaling", "scale": 2})
    assert component.document() == {"name": "variance_scaling", "scale": 2.0}
    assert INITIALIZERS.create(component.document()) == component


def test_unknown_names_and_parameters_are_errors() -> None:
    with pytest.raises(KeyError, match="nromal"):
        INITIALIZERS.create("nromal")
    with pytest.raises(KeyError, match="std"):
        INITIALIZERS.create({"name": "normal", "std": 1.0})


def test_a_slug_is_a_file_name() -> None:
    component = DATASETS.create({"name": "circles", "noise": 0.1, "factor": 0.5})
    assert component.slug == "circles_factor_0.5_noise_0.1"


# ------------------------------------------------------------------------------------ stacks


def test_chunks() -> None:
    cells = tuple(replace(CELL, seed=seed) for seed in range(7))
    chunks = Stack(cells).chunks(3)
    assert [len(chunk.cells) for chunk in chunks] == [3, 3, 1]
    assert tuple(cell for chunk in chunks for cell in chunk.cells) == cells
    assert Stack(cells).chunks(7) == [Stack(cells)]


def test_only() -> None:
    cells = tuple(replace(CELL, seed=seed) for seed in range(3))
    assert Stack(cells).only({cells[2].id, cells[0].id, "none"}).cells == (cells[0], cells[2])
    assert Stack(cells).only(set()).cells == ()
