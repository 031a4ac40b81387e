"""What a configuration needs is known, and bounded, before anything is made."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gradprop.cli import main
from gradprop.components import datasets
from gradprop.errors import ConfigError
from gradprop.grid import config, loading, plan, sharding
from gradprop.grid.plan import Need, Plan
from tests.workspace import ROOT

BLOCK: dict[str, Any] = {
    "dataset": "digits",
    "depth": 2,
    "width": 8,
    "activation": "tanh",
    "initializer": "he_normal",
    "learning_rate": 0.1,
    "batch_size": 64,
    "epochs": 1,
    "seeds": 3,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory without studies."""
    for name in ("one", "two", "one_more"):
        (tmp_path / "config/studies" / name).mkdir(parents=True)
    return tmp_path


def write(folder: Path, study: Any, **document: Any) -> None:
    """Write a configuration of one study."""
    content = {"title": "a", "question": "b", **study}
    (folder / "config/studies/one/study.yaml").write_text(yaml.safe_dump(content))
    (folder / "config/config.yaml").write_text(yaml.safe_dump({"studies": ["one"], **document}))


def load(folder: Path, study: Any, **document: Any) -> Plan:
    """Plan a configuration of one study."""
    write(folder, study, **document)
    read, source = plan.read(directory=folder)
    return plan.load(read, source, directory=folder)


def need(study: Any = (), stack_size: Any = 40, **axes: Any) -> Need:
    """Return what one block of a grid needs."""
    content = {"title": "a", "question": "b", "grid": {**BLOCK, **axes}, **dict(study)}
    shards = sharding.shards(loading.build_study("one", content, 1, "one.yaml").cells)
    return sum((plan.job_need(shard, stack_size) for shard in shards.values()), Need())


# ------------------------------------------------------------------- what no computer can do

HISTOGRAMS = {"measurements": [{"name": "histograms", "bins": 10**6}]}


@pytest.mark.parametrize(
    ("document", "study", "axes", "expected"),
    [
        ({"seeds": 10**9}, {}, {}, "seeds: 1000000000 is greater than the maximum of 1000000"),
        ({"seeds": 10**30}, {}, {}, f"seeds: {10**30} is greater than the maximum of 1000000"),
        ({}, {}, {"seeds": 10**9}, "grid.seeds: 1000000000 is greater than"),
        ({}, {}, {"seeds": {"from": 0, "to": 10**12}}, "grid.seeds.to: 1000000000000 is greater"),
        ({}, {}, {"seeds": [10**30]}, f"grid.seeds[0]: {10**30} is greater than"),
        (
            {},
            {},
            {"seeds": {"from": 0, "to": 4 * 10**9}},
            "grid: 4,000,000,001 cells; allowed: 1,000,000 (limits.cells in ",
        ),
        (
            {},
            {},
            {"depth": {"from": 1, "to": 1000}, "width": {"from": 1, "to": 1000}, "seeds": 1000},
            "grid: 1,000,000,000 cells; allowed: 1,000,000 (limits.cells in ",
        ),
        ({}, {}, {"width": 10**6}, "grid.width: 1000000 is greater than the maximum of 100000"),
        ({}, {}, {"width": {"from": 1, "to": 10**6}}, "grid.width.to: 1000000 is greater than"),
        ({}, {}, {"width": 10**5}, "GiB of memory for the job digits-width100000-depth0to32; all"),
        ({}, {}, {"depth": 10**5}, "grid.depth: 100000 is greater than the maximum of 10000"),
        ({}, {}, {"depth": {"from": 1, "to": 10**12}}, "grid.depth.to: 1000000000000 is greater"),
        ({}, {}, {"epochs": 10**6}, "grid.epochs: 1000000 is greater than the maximum of 100000"),
        ({}, {"probes": 10**6}, {}, "probes: 1000000 is greater than the maximum of 10000"),
        ({}, HISTOGRAMS, {}, "measurements[0].bins: 1000000 is greater than the maximum of 10000"),
        (
            {},
            {},
            {"measurements": [{"name": "curvature", "inputs": 10**6}]},
            "grid.measurements[0].inputs: 1000000 is greater than the maximum of 10000",
        ),
        (
            {},
            {},
            {"dataset": "circles", "measurements": [{"name": "decision", "points": 10**4}]},
            "GiB of memory for the job circles-width8-depth0to32-decision; allowed: 64 (limits.m",
        ),
        (
            {},
            {},
            {"dataset": {"name": "sphere", "examples": 10**8}},
            "grid.dataset.examples: 100000000 is greater than the maximum of 10000000",
        ),
        (
            {},
            {},
            {"dataset": {"name": "equicorrelated", "dimension": 10**6}},
            "grid.dataset.dimension: 1000000 is greater than the maximum of 100000",
        ),
        (
            {},
            {},
            {"dataset": {"name": "equicorrelated", "examples": 9 * 10**4, "dimension": 10**5}},
            "GiB of memory for the job equicorrelated_dimension_100000_examples_90000-width8-",
        ),
        (
            {},
            {},
            {"widths": {"name": "listed", "units": f"8 {10**9}"}},
            "grid.widths.units: '8 1000000000' is not allowed; allowed: the units of all hidden",
        ),
    ],
)
def test_sizes_that_no_computer_has_are_told_in_one_line(
    folder: Path, document: Any, study: Any, axes: Any, expected: str
) -> None:
    """Reading them as lists, or making such a data set, would end this process."""
    block = {key: value for key, value in {**BLOCK, **axes}.items() if value is not None}
    if "seeds" in document:
        del block["seeds"]
    with pytest.raises(ConfigError) as caught:
        load(folder, {**study, "grid": block}, **document)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(folder / "config"))
    assert len(message.splitlines()) == 1


def test_no_data_set_is_made_to_see_whether_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, generator in datasets.DATASETS.items():
        if name == datasets.DATASETS.unnamed:  # a file of a study, which has to be read
            continue
        made = replace(generator, make=lambda **_: pytest.fail("made"))
        monkeypatch.setitem(datasets.DATASETS, name, made)
        datasets.conflict.cache_clear()
        assert datasets.conflict(datasets.DATASETS.create(name)) is None
    crowd = datasets.DATASETS.create({"name": "equicorrelated", "examples": 10**7})
    assert "10000001 orthogonal directions do not fit into 64" in str(datasets.conflict(crowd))
    datasets.conflict.cache_clear()


# ---------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"cells": 2}, "one/study.yaml: grid: 3 cells; allowed: 2 (limits.cells in "),
        ({"memory": 0.5}, "memory for the job digits-width8-depth0to32; allowed: 0.5 (limits.mem"),
        ({"hours": 0.001}, "of it for 'one'; allowed: 0.001 (limits.hours in "),
    ],
)
def test_more_than_a_limit_is_refused_with_the_key_to_change(
    folder: Path, capsys: pytest.CaptureFixture[str], limits: Any, expected: str
) -> None:
    write(folder, {"grid": BLOCK}, limits=limits)
    assert main(["plan", "--directory", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"gradprop: {folder / 'config'}")
    assert expected in said.err
    assert said.err.count("\n") == 1
    raised = dict.fromkeys(limits, 100)
    assert main(["plan", "--directory", str(folder), "--config", f"limits={raised}"]) == 0


def test_cells_are_counted_over_studies(folder: Path) -> None:
    write(folder, {"grid": BLOCK}, limits={"cells": 5})
    path = folder / "config/studies/two/study.yaml"
    path.write_text((folder / "config/studies/one/study.yaml").read_text())
    with pytest.raises(ConfigError) as caught:
        plan.load({"studies": ["one", "two"], "limits": {"cells": 5}}, "c.yaml", directory=folder)
    expected = "grid: 3 cells, 6 with the studies before; allowed: 5 (limits.cells in c.yaml)"
    assert str(caught.value) == f"{path}: {expected}"


def test_snakemake_refuses_it_before_anything_is_made(folder: Path) -> None:
    write(folder, {"grid": BLOCK}, limits={"cells": 2})
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores"]
    command += ["1", "--directory", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    said = (result.stdout + result.stderr).splitlines()
    assert said[-1].endswith("grid: 3 cells; allowed: 2 (limits.cells in config/config.yaml)")
    assert [path.name for path in folder.iterdir() if path.name != ".snakemake"] == ["config"]


@pytest.mark.parametrize("name", ["config", "papers"])
def test_what_is_delivered_is_within_the_limits_and_counted_exactly(name: str) -> None:
    path = ROOT / f"config/{name}.yaml"
    document, source = plan.read([path])
    assert source == str(path)
    found = plan.load(document, source)
    assert list(found.needs) == config.read_yaml(path)["studies"]
    for study in found.studies.values():
        shards = sharding.shards(study.cells)
        counts = (len(study.cells), len(sharding.stacks(study.cells)), len(shards))
        counted = found.needs[study.name]
        assert (counted.cells, counted.stacks, counted.jobs) == counts
        assert found.shards[study.name] == shards
    named = {cell.dataset.slug: cell.dataset for s in found.studies.values() for cell in s.cells}
    assert found.datasets == named


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"seeds": [1, 7], "depth": {"from": 1, "to": 9, "step": 4}, "activation": ["tanh", "relu"]},
        {"measurements": ["histograms", "spectra"], "learning_rate": [0.1, 0.2]},
    ],
)
def test_cells_are_counted_without_making_them(axes: Any) -> None:
    content = {"title": "a", "question": "b", "grid": [BLOCK, {**BLOCK, **axes, "width": 9}]}
    study = loading.build_study("one", content, 1, "one.yaml")
    assert loading.count_cells(content, 1) == len(study.cells)


# ------------------------------------------------------------------------------- the model


@pytest.mark.parametrize(
    ("key", "small", "large"),
    [
        ("depth", 3, 30),
        ("width", 16, 160),
        ("seeds", 4, 400),
        ("epochs", 1, 10),
        ("learning_rate", 0.1, [0.1, 0.2]),
        ("activation", "tanh", ["tanh", "relu"]),
        ("dataset", "digits", {"name": "gaussian_mixture", "examples": 20_000}),
        ("measurements", [], ["histograms"]),
        ("measurements", ["spectra"], [{"name": "spectra", "examples": 9}]),
        ("measurements", ["trajectories"], [{"name": "trajectories", "inputs": 900}]),
        ("measurements", ["curvature"], [{"name": "curvature", "inputs": 900, "at": "both"}]),
    ],
)
def test_more_needs_more(key: str, small: Any, large: Any) -> None:
    less, more = need(**{key: small}), need(**{key: large})
    assert more.seconds > less.seconds
    assert more.memory >= less.memory
    assert more.disk >= less.disk


@pytest.mark.parametrize("key", ["optimizer", "normalization"])
def test_costlier_choices_need_more(key: str) -> None:
    plain, costly = {"optimizer": ("sgd", "adam"), "normalization": ("none", "batch")}[key]
    assert need(**{key: costly}).seconds > need(**{key: plain}).seconds


def test_more_recordings_of_more_statistics_need_more() -> None:
    presets = [need({"statistics": name}).seconds for name in ("cheap", "standard", "full")]
    assert presets == sorted(set(presets))
    assert need({"probes": 20}).disk > need({"probes": 5}).disk


def test_smaller_stacks_need_less_memory_and_more_time() -> None:
    small, large = need(stack_size=4, seeds=40), need(stack_size=40, seeds=40)
    assert small.memory < large.memory
    assert small.seconds > large.seconds


# Twenty networks of two initializers, five seeds and two learning rates, unless said otherwise.
STANDARD: dict[str, Any] = {
    **BLOCK,
    "initializer": ["glorot_normal", "he_normal"],
    "learning_rate": [0.01, 0.1],
    "seeds": 5,
}
# Axes, CPU seconds and MiB of jobs that were run on two cores of an AMD EPYC.
MEASURED: list[tuple[dict[str, Any], float, float]] = [
    ({"depth": 2, "width": 8, "epochs": 10}, 5.2, 693),
    ({"depth": 100, "width": 8, "epochs": 2}, 10.4, 843),
    ({"depth": 20, "width": 64, "epochs": 10}, 15.3, 778),
    ({"depth": 20, "width": 64, "epochs": 10, "probes": 100}, 17.3, 808),
    ({"depth": 20, "width": 64, "epochs": 2, "statistics": "cheap"}, 7.9, 778),
    ({"depth": 20, "width": 64, "epochs": 2, "optimizer": "adam"}, 11.3, 853),
    ({"depth": 20, "width": 64, "epochs": 2, "normalization": "batch"}, 13.6, 937),
    ({"depth": 10, "width": 64, "epochs": 10, "batch_size": 1000}, 8.0, 1074),
    ({"depth": 50, "width": 128, "seeds": 2, "statistics": "full"}, 17.0, 1183),
    ({"depth": 100, "width": 256}, 91.5, 5983),
    ({"depth": 20, "width": 512, "seeds": 2}, 33.9, 2243),
    ({"depth": 4, "width": 1024, "seeds": 1}, 14.7, 1256),
    ({"depth": 20, "width": 300, "epochs": 0, "seeds": 10}, 10.5, 1985),
    ({"depth": 5, "width": 32, "epochs": 5, "seeds": 100}, 29.2, 806),
    (
        {
            "depth": [1, 2, 3, 5, 8, 10, 15, 20],
            "width": 64,
            "activation": ["tanh", "relu", "sigmoid"],
            "seeds": 3,
            "epochs": 5,
        },
        54.3,
        863,
    ),
    (
        {
            "depth": 4,
            "width": 64,
            "dataset": {"name": "gaussian_mixture", "examples": 100_000, "dimension": 100},
        },
        27.9,
        1079,
    ),
    (
        {
            "depth": 20,
            "width": 64,
            "measurements": [{"name": "histograms", "at": "probes", "bins": 200}],
        },
        23.0,
        2061,
    ),
    (
        {
            "depth": 10,
            "width": 200,
            "epochs": 0,
            "seeds": 1,
            "measurements": [{"name": "spectra", "examples": 3}],
        },
        6.5,
        730,
    ),
    (
        {
            "depth": 20,
            "width": 64,
            "epochs": 0,
            "measurements": [{"name": "trajectories", "inputs": 300}],
        },
        8.5,
        839,
    ),
    (
        {
            "depth": 10,
            "width": 32,
            "batch_size": 32,
            "epochs": 5,
            "dataset": "circles",
            "measurements": [{"name": "decision", "points": 100}],
        },
        7.2,
        827,
    ),
]


@pytest.mark.parametrize(("axes", "seconds", "mib"), MEASURED)
def test_estimates_of_jobs_that_were_measured(axes: Any, seconds: float, mib: float) -> None:
    """Within a factor of 1.5 in CPU time and 1.2 in memory, as the module's docstring says."""
    study = {key: axes[key] for key in ("probes", "statistics") if key in axes}
    block = {key: value for key, value in {**STANDARD, **axes}.items() if key not in study}
    found = need(study, **block)
    assert found.jobs == 1
    assert 1 / 1.5 < found.seconds / seconds < 1.5
    assert 1 / 1.2 < found.memory / 2**20 / mib < 1.2


@pytest.mark.parametrize(
    ("axes", "size"),
    [
        ({"depth": 20, "width": 64, "epochs": 10}, 1_532_435),
        ({"depth": 20, "width": 256}, 1_385_526),
        ({"depth": 5, "width": 32, "epochs": 5, "seeds": 100}, 8_957_847),
        (MEASURED[-4][0], 123_117_000),
        (MEASURED[-2][0], 12_147_278),
        (MEASURED[-1][0], 6_727_258),
    ],
)
def test_estimates_of_disk_that_was_measured(axes: Any, size: int) -> None:
    """Within a factor of 1.3, tables and finished stacks together."""
    assert 1 / 1.3 < need(**{**STANDARD, **axes}).disk / size < 1.3


# ------------------------------------------------------------------------------- the command


def test_the_command_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, {"grid": {**BLOCK, "depth": [2, 50]}})
    other = folder / "other.yaml"
    other.write_text("studies: [one, one_more]\nseeds: 2\n")
    path = folder / "config/studies/one_more/study.yaml"
    path.write_text((folder / "config/studies/one/study.yaml").read_text().replace("seeds: 3", ""))
    arguments = ["--directory", str(folder), "--configfile", str(other), "--config", "seeds=7"]
    assert main(["plan", *arguments]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "study"
    assert [row.split()[:4] for row in rows] == [
        ["one", "6", "2", "2"],
        ["one_more", "14", "2", "2"],
        ["total", "20", "4", "4"],
    ]
    assert len({len(row) for row in [head, *rows]}) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["config", "other.yaml"]


def test_the_summary_is_one_line(folder: Path) -> None:
    """Of what has to be trained, which may be nothing."""
    found = load(folder, {"grid": BLOCK})
    jobs = [(study, shard) for study, shards in found.shards.items() for shard in shards]
    text = plan.summary(found, jobs)
    assert text.startswith("3 cells in 1 training job: at most about ")
    assert "\n" not in text
    assert plan.table(found).splitlines()[-1].split()[4] in text
    assert plan.summary(found, []) == (
        "nothing has to be trained: the tables of all 3 cells are there"
    )
    need = found.total
    (study,) = found.jobs
    other = Plan(found.studies, found.shards, {study: {"a": need, "b": need}})
    assert plan.summary(other, [(study, "b")]).startswith("3 of 6 cells in 1 training job: at most")


def test_a_change_without_a_value_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", "seeds=[1"]) == 1
    assert capsys.readouterr().err == "gradprop: --config: seeds: '[1' is not YAML\n"
    assert main(["plan", "--config", "seeds"]) == 1
    assert "--config: 'seeds' is not allowed; allowed: key=value" in capsys.readouterr().err


def test_what_takes_long_gives_a_sign_of_life(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with plan.sign_of_life("working", interval=0.001):
        while not said:
            said = capsys.readouterr().err
    assert said.startswith("working, 0 s so far\n")
    with plan.sign_of_life("working", interval=60):
        pass
    assert "working" not in capsys.readouterr().err.replace("working, 0 s so far\n", "")


def test_a_cluster_is_asked_for_more_than_the_estimate_and_then_for_more_again() -> None:
    found = need(depth=20)
    assert found.megabytes(1) > 1.14 * found.memory / 1e6
    assert found.minutes(1) > 1.43 * found.seconds / 60
    for asked in (found.megabytes, found.minutes, found.analysis.megabytes, found.analysis.minutes):
        assert asked(2) == pytest.approx(2 * asked(1), abs=2)
    assert need(depth=20, seeds=100).analysis.memory > found.analysis.memory
