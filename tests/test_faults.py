"""The labelled suite of the benchmarks: what happened, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.faults import held_out, judging, programs, running
from benchmarks.faults.held_out import HeldOut
from benchmarks.faults.programs import NONE, Program


def test_programs_are_many_and_split_by_their_names() -> None:
    tuning, others = programs.grid(), held_out.grid()
    names = {program.name for program in running.grid()}
    assert (len(tuning), len(others), len(names)) == (187, 152, 339)
    assert not any(program.is_held_out for program in tuning)
    assert all(program.is_held_out for program in others)
    for part in (tuning, others):
        assert {program.mended for program in part} <= set(part)
        assert {program.fault for program in part} == {NONE, *programs.FAULTS}


def test_programs_of_a_data_set_alone() -> None:
    chosen = running.grid(["moons"])
    assert chosen
    assert all(program.name.startswith("new-moons") for program in chosen)


@pytest.mark.parametrize("base", ["moons", "pair_skips", "pixels_residual"])
def test_a_fault_changes_what_it_says(base: str) -> None:
    healthy = HeldOut(base)
    frozen = replace(healthy, fault="frozen layers").model()
    assert not frozen.trainable_variables
    assert healthy.model().trainable_variables
    x, y = healthy.arrays()
    large, _ = replace(healthy, fault="inputs too large").arrays()
    assert abs(large).mean() > 100 * abs(x).mean()
    assert len(x) == len(y) == held_out.EXAMPLES


def test_a_label_is_what_happened() -> None:
    program = Program("blobs", 2, "relu", False, "sgd", fault="dead units")
    assert running.label(program, 0.0, 0.9) == "dead units"
    assert running.label(program, 0.9, 0.9).startswith("dropped: trains in spite")
    assert running.label(program, 0.0, 0.5).startswith("dropped: does not train when mended")
    assert running.label(program.mended, 0.9, 0.9) == NONE


def test_a_faulty_program_is_named_and_its_mended_one_is_healthy(tmp_path: Path) -> None:
    faulty = Program("blobs", 2, "relu", False, "sgd", fault="dead units")
    first = {}
    for program in (faulty, faulty.mended):
        run, outcome = running.run(program, tmp_path)
        first[running.label(program, outcome["score"], 1.0)] = run.diagnosis.kind
    assert first == {"dead units": "dead", NONE: "healthy"}


def test_shares_are_those_of_the_rows() -> None:
    import pandas as pd

    rows = [
        ("a", "dead units", "r", "dead", True, True),
        ("b", "dead units", "r", "vanishing", False, True),
        ("c", NONE, "r", "healthy", False, False),
        ("d", NONE, "r", "dead", False, False),
    ]
    columns = ["name", "label", "rule", "first", "named", "among"]
    (line,) = judging.shares(pd.DataFrame(rows, columns=columns)).to_dict("records")
    assert [line[name] for name in ("faulty", "healthy", "named", "among", "detected")] == [
        2, 2, 50, 100, 100,
    ]  # fmt: skip
    assert line["false_alarms"] == pytest.approx(50)
    assert judging.confusion(pd.DataFrame(rows, columns=columns), "r").loc[NONE, "dead"] == 1


def test_a_seed_makes_another_program() -> None:
    one = programs.grid()[0]
    assert replace(one, seed=one.seed + 7).name != one.name
