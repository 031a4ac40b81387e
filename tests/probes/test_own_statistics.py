"""Own statistics: what they see, who records them, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gradprop.components import own
from gradprop.components.datasets import Dataset
from gradprop.errors import ConfigError
from gradprop.grid import axes, loading, schema
from gradprop.grid.config import validate
from gradprop.probes.own import NetworkLayer
from gradprop.probes.statistics import (
    ALWAYS,
    PRESETS,
    STATISTICS,
    LayerRecord,
    Sample,
    canonical,
    measure,
    recorded,
)
from gradprop.spec import Cell, Stack
from gradprop.training import loop
from gradprop.training.stopwatch import Stopwatch
from tests.reference import make_cell

HEAD = """
import numpy as np
from gradprop.probes import statistic
"""
SINGULAR = """
@statistic(source="a test")
def log10_singular(layer):
    '''log10 of the largest singular value of W.'''
    return np.log10(np.linalg.norm(layer.weight, 2))
"""
MOVED = """
@statistic(needs="start", definition="largest change of a weight")
def largest_move(layer):
    return np.abs(layer.weight - layer.start).max()
"""
NAMES = ("gradient", "signal", "preactivation", "activation", "weight", "update")
REPLICAS, BATCH, FAN_IN, UNITS = 4, 3, 5, 2


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "components.py"
    yield path
    own.forget(path)


def load(path: Path, *parts: str) -> None:
    path.write_text(HEAD + "".join(parts), encoding="utf-8")
    own.load_file(path)


def problem(path: Path, *parts: str) -> str:
    """Return the line that a file is refused with, after its path."""
    with pytest.raises(ConfigError) as caught:
        load(path, *parts)
    return str(caught.value).removeprefix(f"{path}:")


def arrays() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    rows = {"signal": BATCH, "preactivation": BATCH, "activation": BATCH}
    return {
        name: rng.standard_normal((REPLICAS, rows.get(name, FAN_IN), UNITS)).astype(np.float32)
        for name in (*NAMES, "start", "other")
    }


def make_record(values: dict[str, NDArray[np.float32]]) -> LayerRecord:
    return LayerRecord(
        **{name: Sample(values[name]) for name in NAMES if name != "signal"},
        signal=Sample(values["signal"], scale=float(BATCH)),
        function="tanh",
        units=UNITS,
        start=Sample(values["start"]),
        minibatches=[Sample(values["other"])],
    )


def test_it_sees_the_layer_of_one_network() -> None:
    values = arrays()
    layers = list(NetworkLayer.each(make_record(values)))
    assert len(layers) == REPLICAS
    for replica, layer in enumerate(layers):
        for name in (*NAMES, "start"):
            scale = BATCH if name == "signal" else 1
            expected = values[name][replica].astype(np.float64) * scale
            np.testing.assert_array_equal(getattr(layer, name), expected)
            assert getattr(layer, name).dtype == np.float64
        (other,) = layer.minibatches
        np.testing.assert_array_equal(other, values["other"][replica])
        assert layer.function == "tanh" and layer.is_finite


def test_its_numbers_are_those_of_numpy(path: Path) -> None:
    load(path, SINGULAR, MOVED)
    values = arrays()
    found = measure(make_record(values), ["log10_singular", "largest_move"])
    weights = values["weight"].astype(np.float64)
    largest = np.linalg.svd(weights, compute_uv=False)[:, 0]
    np.testing.assert_allclose(found["log10_singular"], np.log10(largest), rtol=1e-12)
    moves = np.abs(weights - values["start"]).max(axis=(1, 2))
    np.testing.assert_array_equal(found["largest_move"], moves.astype(np.float32))
    dtypes = {name: column.dtype for name, column in found.items()}
    assert dtypes == {"log10_singular": np.float64, "largest_move": np.float32}
    statistic = STATISTICS["log10_singular"]
    assert statistic.definition == "log10 of the largest singular value of W"
    assert statistic.source == "a test"
    assert STATISTICS["largest_move"].needs == "start"
    assert STATISTICS["largest_move"].source == str(path)


def test_a_network_that_diverged_has_none_and_disturbs_no_other(path: Path) -> None:
    load(path, SINGULAR)
    values = arrays()
    before = measure(make_record(values), ["log10_singular"])["log10_singular"]
    values["weight"][1, 0, 0] = np.nan
    after = measure(make_record(values), ["log10_singular"])["log10_singular"]
    assert math.isnan(after[1])
    np.testing.assert_array_equal(np.delete(after, 1), np.delete(before, 1))


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_bits_do_not_depend_on_the_stack(path: Path, replicas: int) -> None:
    load(path, SINGULAR)
    values = arrays()
    whole = measure(make_record(values), ["log10_singular"])["log10_singular"]
    some = {name: array[:replicas] for name, array in values.items()}
    part = measure(make_record(some), ["log10_singular"])["log10_singular"]
    assert part.tobytes() == whole[:replicas].tobytes()


# --------------------------------------------------------------------------- who records them


def study(statistics: Any, **figure: Any) -> dict[str, Any]:
    block = {"dataset": "circles", "depth": 1, "width": 4, "activation": "tanh"}
    training = {"learning_rate": 0.1, "batch_size": 8, "epochs": 0}
    drawn = {"kind": "layer_profile", "title": "a", "hue": "depth", **figure}
    return {
        "title": "a",
        "question": "b",
        "training": training,
        "grid": {**block, "initializer": "zeros"},
        **({"statistics": statistics} if statistics else {}),
        **({"figures": {"x": drawn}} if figure else {}),
    }


def cells(statistics: Any, **figure: Any) -> tuple[Cell, ...]:
    return loading.build_study("one", study(statistics, **figure), 1, "s.yaml").cells


def test_presets_and_ids_of_others_stay(path: Path) -> None:
    before = {name: list(PRESETS[name]) for name in PRESETS}
    ids = [cells(name)[0].id for name in (None, "full", ["dead_fraction"])]
    load(path, SINGULAR, MOVED)
    assert {name: list(PRESETS[name]) for name in PRESETS} == before
    assert [cells(name)[0].id for name in (None, "full", ["dead_fraction"])] == ids
    assert cells("full")[0].code == ""


def test_a_list_of_names_and_presets_has_one_text(path: Path) -> None:
    load(path, SINGULAR, MOVED)
    text = canonical(["log10_singular", "standard", "largest_move"])
    assert text == "standard,largest_move,log10_singular"
    assert recorded(text) == [*PRESETS["standard"], "largest_move", "log10_singular"]
    written_out = canonical(["largest_move", *PRESETS["standard"][::-1], "log10_singular"])
    assert written_out == text
    assert canonical(["largest_move"]) == ",".join([*ALWAYS, "largest_move"])
    load(path, MOVED, SINGULAR)  # the order in the file does not matter
    assert canonical(["log10_singular", "standard", "largest_move"]) == text
    assert canonical(["cheap", "dead_fraction"]) == canonical([*PRESETS["cheap"], "dead_fraction"])


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ("log10 of the largest singular value", "the spectral norm", False),
        ("layer.weight, 2", "layer.weight, -2", True),
    ],
)
def test_an_edit_moves_the_ids_of_its_cells_alone(
    path: Path, before: str, after: str, moves: bool
) -> None:
    chosen = (None, ["largest_move"], ["cheap", "log10_singular"])

    def ids(text: str) -> list[str]:
        load(path, text, MOVED)
        return [cells(names)[0].id for names in chosen]

    assert before in SINGULAR
    old, new = ids(SINGULAR), ids(SINGULAR.replace(before, after))
    assert new[:2] == old[:2]
    assert (new[2] != old[2]) == moves
    (cell,) = cells(["cheap", "log10_singular"])
    assert cell.code == f"statistic={STATISTICS['log10_singular'].code}"


def test_a_study_names_its_own_alone(path: Path) -> None:
    load(path, SINGULAR)
    figure = {"statistic": "log10_singular"}
    content = study(["standard", "log10_singular"], **figure)
    validate(content, schema.study_schema(components=path), "s.yaml")
    with pytest.raises(ConfigError, match=r"statistics\[1\]: 'log10_singular' is not allowed"):
        validate(content, schema.study_schema(), "s.yaml")
    assert cells(["standard", "log10_singular"], **figure)
    with pytest.raises(ConfigError, match=r"statistic: log10_singular is not recorded"):
        cells("full", **figure)


def test_it_is_recorded_in_the_table_of_layers(path: Path, blobs: Dataset) -> None:
    load(path, SINGULAR, MOVED)
    (text,) = axes.axis_values("statistics", canonical(["cheap", "log10_singular", "largest_move"]))
    stack = Stack(tuple(replace(make_cell(statistics=text), seed=seed) for seed in range(2)))
    (result,) = loop.train([stack], blobs, Stopwatch(), "test")
    assert list(result.layers)[3:] == recorded(text)
    assert np.isfinite(result.layers["log10_singular"]).all()
    at_start = result.layers["step"] == 0
    assert (result.layers.loc[at_start, "largest_move"] == 0).all()
    assert (result.layers.loc[~at_start, "largest_move"] > 0).all()
    (plain,) = loop.train([Stack((make_cell(),))], blobs, Stopwatch(), "test")
    assert list(plain.layers)[3:] == PRESETS["standard"]


# ----------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@statistic()\ndef full(layer): ...\n", "4: statistic 'full': is the name of a preset"),
        (
            "@statistic()\ndef step(layer): ...\n",
            "4: statistic 'step': is the name of a column of the table layers",
        ),
        (
            "@statistic()\ndef dead_fraction(layer): ...\n",
            "4: statistic 'dead_fraction': the package has one of this name (",
        ),
        (
            "@statistic(needs='begin')\ndef f(layer): ...\n",
            "4: statistic 'f': needs: 'begin' is not allowed; allowed: start, minibatches",
        ),
    ],
)
def test_mistakes_in_a_file(path: Path, text: str, expected: str) -> None:
    assert problem(path, text).startswith(expected)
    assert not own.registered(path)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("layer.weight", "5: statistic 'bad': returned an array of shape (5, 2), not a number"),
        ("layer.weights.max()", "7: AttributeError: 'NetworkLayer' object has no attribute 'we"),
        ("np.linalg.inv(layer.weight)", "7: LinAlgError: Last 2 dimensions of the array must be"),
        ("'text'", "5: statistic 'bad': returned 'text', not a number"),
        ("None", "5: statistic 'bad': returned nothing, not a number"),
    ],
)
def test_mistakes_in_a_statistic(path: Path, body: str, expected: str) -> None:
    load(path, f"\n@statistic()\ndef bad(layer):\n    return {body}\n")
    with pytest.raises(ConfigError) as caught:
        measure(make_record(arrays()), ["bad"])
    assert str(caught.value).startswith(f"{path}:{expected}")
