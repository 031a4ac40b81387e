"""Readers see names and short numbers, never ids; two components never share a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from gradprop.analysis.names import NAMED, in_words, name_of, names_in_text, names_of
from gradprop.components.initializers import INITIALIZERS
from gradprop.errors import ConfigError
from gradprop.grid import config, folders, loading
from gradprop.grid.figure_checks import check_names
from gradprop.spec import Study


def study_of(
    initializers: list[Any], axes: Mapping[str, Any] | None = None, **content: Any
) -> Study:
    block = {
        **{"dataset": "gaussian_mixture", "depth": 1, "width": 4, "activation": "leaky_relu"},
        **{"initializer": initializers, "learning_rate": 0.1, "batch_size": 8, "epochs": 0},
        **(axes or {}),
    }
    whole = {"title": "T", "question": "Q?", "grid": block, **content}
    return loading.build_study("s", whole, 1, "s.yaml")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("glorot_normal", "Glorot normal"),
        ("he_uniform", "He uniform"),
        ("standard_heuristic", "standard heuristic"),
        ("sussillo_abbott", "Sussillo and Abbott"),
        ("gaussian_mixture", "Gaussian mixture"),
        ("leaky_relu", "leaky ReLU"),
        ("normal(stddev=1.0)", "normal, std 1"),
        ("orthogonal(gain=1.4142135623730951)", "orthogonal, gain 1.414"),
        ("variance_scaling", "variance 1/n"),
        ("variance_scaling(scale=1.9230769230769231)", "variance 1.923/n"),
        ("variance_scaling(mode=fan_out, scale=2.0)", "variance 2/m"),
        ("variance_scaling(mode=fan_avg)", "variance 2/(n + m)"),
        (
            "variance_scaling(distribution=truncated_normal, scale=1.5482)",
            "variance 1.548/n, truncated normal",
        ),
        ("whitened_teacher(symmetric=True)", "whitened teacher, symmetric"),
        ("file(file=a.csv, target=height, girth)", "a.csv, target height, girth"),
        ("file(file=a.npz, split_seed=1)", "a.npz, split seed 1"),
        ("circles(standardize=False)", "circles, not standardized"),
        ("my_own_rule(alpha=0.25)", "my own rule, alpha 0.25"),
        ("no label: <b>", "no label: <b>"),
    ],
)
def test_ids_in_words(label: str, name: str) -> None:
    assert name_of(label) == name


def test_a_study_has_its_own_names_and_no_name_twice() -> None:
    scales = [1.0001, 1.00012, 2.0]
    given = {"variance_scaling(scale=2.0)": "He normal"}
    study = study_of(
        ["he_normal", "zeros", *({"name": "variance_scaling", "scale": s} for s in scales)],
        names={"initializer": given},
    )
    names = names_of(study)["initializer"]
    assert names["variance_scaling(scale=2.0)"] == "He normal"
    assert names["he_normal"] != "He normal"
    assert len(set(names.values())) == len(names) == 5
    plain = names_of(study_of(["he_normal", {"name": "variance_scaling", "scale": 1.00012}]))
    assert plain["initializer"]["variance_scaling(scale=1.00012)"] == "variance 1/n"
    near = names_of(study_of([{"name": "variance_scaling", "scale": s} for s in scales[:2]]))
    assert list(near["initializer"].values()) == ["variance 1.0001/n", "variance 1.00012/n"]


def test_initializers_of_single_layers_have_names_as_well() -> None:
    named = {"last: normal(stddev=1)": "unit outputs", "none": "as drawn"}
    assert "layer_initializers" not in names_of(study_of(["zeros"]))
    layers = [{}, {"last": {"name": "normal", "stddev": 1.0}}, {"first": "ones"}]
    study = study_of(["zeros"], {"layer_initializers": layers}, names={"layer_initializers": named})
    assert names_of(study)["layer_initializers"] == {
        "last: normal(stddev=1.0)": "unit outputs",
        "": "as drawn",
        "first: ones": "first: ones",
    }


def test_a_name_for_a_label_that_no_network_has() -> None:
    cells = study_of(["ones"], {"layer_initializers": [{}, {"last": "zeros"}]}).cells
    with pytest.raises(ConfigError, match=r"'last: ones' is not allowed; allowed: none, last: zer"):
        check_names({"layer_initializers": {"last: ones": "x"}}, cells, "s.yaml")


@pytest.mark.parametrize("name", folders.names([folders.PROJECT / folders.STUDIES]))
def test_nothing_in_the_delivered_studies_is_called_by_its_id(name: str) -> None:
    path = folders.PROJECT / folders.STUDIES / name / folders.STUDY
    content = config.read_mapping(path)
    study = loading.build_study(name, content, 1, str(path), folder=path.parent)
    for key, names in names_of(study).items():
        for shown in names.values():
            assert not re.search(r"[a-z]_[a-z]|\(\w+=|\d\.\d{6}", shown), (key, shown)
    assert set(names_of(study)) == set(NAMED)


def test_texts_of_claims_are_told_in_words() -> None:
    study = study_of(["glorot_normal", {"name": "normal", "stddev": 1.0}, "normal"])
    text = "leaky_relu, glorot_normal − normal(stddev=1.0), gaussian_mixture, depth 20"
    assert in_words(text, names_in_text(study)) == (
        "leaky ReLU, Glorot normal − normal, std 1, Gaussian mixture, depth 20"
    )


def test_a_text_that_is_told_in_words_stays_as_it_is() -> None:
    names = names_in_text(
        study_of(["normal", *({"name": "normal", "stddev": s} for s in (1.0, 1.5, 0.015))])
    )
    text = "normal, normal(stddev=1.0), normal(stddev=1.5), normal(stddev=0.015), leaky_relu"
    told = "normal, normal, std 1, normal, std 1.5, normal, std 0.015, leaky ReLU"
    assert in_words(text, names) == told
    given = {"normal": "normal, std 0.01", "normal(stddev=1.0)": "normal, std 1"}
    assert in_words("normal, std 0.01; normal, std 1", given) == "normal, std 0.01; normal, std 1"
    assert in_words("normal; normal(stddev=1.0)", given) == "normal, std 0.01; normal, std 1"


def test_no_name_has_a_sign_of_an_id() -> None:
    assert not [name for name in map(name_of, INITIALIZERS) if "_" in name]
