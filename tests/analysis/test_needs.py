"""What claims need of a study, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from gradprop.analysis import needs
from gradprop.analysis.needs import NotMeasured
from gradprop.errors import CodeError
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Study
from tests.reference import make_cell

ROWS = pd.DataFrame(
    {"seed": [0, 0, 1, 1], "start": ["a", "b", "a", "b"], "steps": [1.0, 2.0, 3.0, 4.0]}
)


def test_networks_that_are_there_and_those_that_are_not() -> None:
    cells = [make_cell(depth=depth) for depth in (2, 3)]
    assert needs.networks(cells, depth=[3, 4], activation="tanh") == cells[1:]
    with pytest.raises(NotMeasured, match="the study has no networks with depth 4, loss auto"):
        needs.networks(cells, depth=4, loss="auto")
    with pytest.raises(NotMeasured, match="the study has no such thing"):
        needs.first(iter(()), "such thing")
    assert needs.first([5, 6], "such thing") == 5


def test_a_table_by_hand() -> None:
    found = needs.table(ROWS, "seed", "start", "steps")
    assert needs.at(found, "b").tolist() == [2.0, 4.0]
    with pytest.raises(NotMeasured, match="the study has no networks with start c"):
        needs.at(found, "c")
    with pytest.raises(NotMeasured, match="the study does not record loss"):
        needs.table(ROWS, "seed", "start", "loss")
    with pytest.raises(NotMeasured, match="the study has no such networks"):
        needs.table(ROWS[:0], "seed", "start", "steps")


def test_two_networks_of_one_kind_are_not_compared() -> None:
    with pytest.raises(NotMeasured, match="the study has several networks of one seed, start"):
        needs.table(pd.concat([ROWS, ROWS[:1]]), "seed", "start", "steps")
    with pytest.raises(NotMeasured, match="several such networks of one seed"):
        needs.one_per_seed([make_cell(depth=2), make_cell(depth=3)])


def test_entries_of_series_and_mappings() -> None:
    series = ROWS.set_index(["start", "seed"])["steps"]
    assert needs.at(series, "a").tolist() == [1.0, 3.0]
    assert needs.at(series, ("b", 1)) == 4.0
    with pytest.raises(NotMeasured, match="the study has no networks with start c, seed 1"):
        needs.at(series, ("c", 1))
    with pytest.raises(NotMeasured, match="the study has no networks with tanh, orthogonal"):
        needs.at({}, ("tanh", "orthogonal"))


LAYERS = pd.DataFrame({"cell": ["a"], "step": [0], "layer": [1], "gradient_log10_rms": [-1.0]})
STUDY = Study("own", "Own", "?", (make_cell(depth=2),))
Read = Callable[[pd.DataFrame, str], object]
READS: list[Read] = [
    lambda rows, name: rows[name],
    lambda rows, name: rows[rows["step"] == 0].set_index("cell")[["step", name]],
    lambda rows, name: rows[[name]],
    lambda rows, name: rows.loc[:, name],
    lambda rows, name: rows.groupby(name),
    lambda rows, name: rows.set_index(["cell", name]),
    lambda rows, name: rows.sort_values(name),
    lambda rows, name: rows.merge(rows, on=["cell", name]),
    lambda rows, name: rows.pivot(index="cell", columns="step", values=name),
]


@pytest.mark.parametrize("read", READS)
def test_a_column_that_is_not_recorded(read: Read) -> None:
    """One of a statistic is refused with the key that records it, another one is a mistake."""
    told = "the study does not record gradient_kurtosis; add it to the key statistics of"
    with pytest.raises(NotMeasured, match=told), needs.unrecorded_refused(STUDY):
        read(LAYERS, "gradient_kurtosis")
    with (
        pytest.raises(CodeError) as caught,
        needs.failures_placed(STUDY, "claims.py", "claim a"),
        needs.unrecorded_refused(STUDY),
    ):
        read(LAYERS, "gradient_log10_rsm")
    assert "study own, claim a: the table has no column 'gradient_log10_rsm'; it has " in str(
        caught.value
    )


def test_a_column_that_is_recorded_is_a_mistake_where_the_table_has_none() -> None:
    full = Study("own", "Own", "?", (make_cell(depth=2, statistics="full"),))
    with pytest.raises(KeyError), needs.unrecorded_refused(full):
        LAYERS["gradient_kurtosis"]


@pytest.mark.parametrize(
    "wrong", [lambda: {"a": 1}["layer"], lambda: LAYERS.loc["tanh"], lambda: LAYERS["cell"]["b"]]
)
def test_other_keys_are_told_as_they_are(wrong: Callable[[], object]) -> None:
    with (
        pytest.raises(CodeError, match=r": study own, numbers: KeyError: '\w+'$"),
        needs.failures_placed(STUDY, "claims.py", "numbers"),
        needs.unrecorded_refused(STUDY),
    ):
        wrong()


def test_a_measurement_that_is_not_made() -> None:
    tables = StudyTables(STUDY, Path())
    told = "the study does not make the measurement spectra; add it to the key measurements of"
    with pytest.raises(NotMeasured, match=told), needs.unrecorded_refused(STUDY):
        tables.measurement("spectra")["step"]
    with pytest.raises(ValueError, match=r"measurement 'spctra' is not allowed; .*'spectra'\?"):
        tables.measurement("spctra")
