"""What claims need of a study, and how they refuse."""

from __future__ import annotations

import pandas as pd
import pytest

from gradprop.analysis import needs
from gradprop.analysis.needs import NotMeasured
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
