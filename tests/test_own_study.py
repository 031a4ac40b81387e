"""Somebody's own study, far from the project: it has what ours have, and no list names it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradprop import studies
from gradprop.components import own
from tests.workspace import Workspace, small

pytestmark = pytest.mark.workflow

KIND = """
from gradprop.figures import style
from gradprop.figures.kind import Kind
from gradprop.grid.kinds import Needs


def prepare(tables, options):
    print("[Prepared")
    return tables.select(options)[["initializer", "depth", "seed"]]


def draw(rows, options):
    figure, (axes,) = style.panels(1, height=2.0)
    axes.plot(rows["depth"], rows["seed"], "o")
    return figure


def describe(rows, options):
    return f"{len(rows)} networks of my own."


KINDS = {"mine": Kind(prepare, draw, describe, Needs(shows=("depth",)))}
"""
COMPONENTS = """
import numpy as np

from gradprop.components import Parameter, activation, initializer, optimizer
from gradprop.probes import statistic


@initializer(parameters={"gain": Parameter(1.0, "Factor of all weights.", above=0)})
def signs(layer, rng, gain):
    print("Drawn")
    return gain / layer.fan_in**0.5 * rng.choice([-1.0, 1.0], (layer.fan_in, layer.fan_out))


@activation()
def bend(z):
    import keras

    return z / (1.0 + keras.ops.abs(z))


@optimizer(state=("before",), parameters={"share": Parameter(0.5, "Of the last step.", minimum=0)})
def heavy_ball(weights, before, share):
    change = share * before + weights.rate * weights.gradient
    return change, change


@statistic(definition="log10 of fan-in times the mean square of W")
def weight_log10_gain(layer):
    print("Measured", end=".")
    return np.log10(len(layer.weight) * np.mean(layer.weight**2))
"""
CLAIM = """
def gains(tables):
    print("Judged")
    cells = tables.cells[(tables.cells["initializer"] == "too small") & (tables.cells["depth"] > 2)]
    rows = at_start(tables.layers)
    rows = rows[rows["cell"].isin(cells["cell"]) & (rows["layer"] == 2)]
    gain = rows.set_index("cell")["weight_log10_gain"]
    yield from_seeds(Case(layer=2), gain, math.log10(32 * 0.01**2))


CLAIMS.append(
    Claim(
        id="gain",
        statement="Small weights have a small gain.",
        source="this study",
        formula="log10 n Var(W)",
        unit="decades",
        criterion=Within(0.1),
        measure=gains,
    )
)
"""
BROKEN = """
from gradprop.components import dataset


@dataset(task="classification", fixed={"examples": 40, "dimension": 2, "classes": 2})
def broken(seed):
    print("Before")
    return 1 / 0
"""
BLOCK = """
  - dataset: {name: gaussian_mixture, examples: 400}
    depth: 2
    width: 32
    activation: bend
    initializer: [signs, glorot_normal]
    optimizer: {name: heavy_ball, share: 0.9}
    seeds: 2
  - dataset: {file: forest.csv, target: the kind}
    depth: 2
    width: 8
    activation: elu
    initializer: glorot_normal
    seeds: 1
"""
HEADER = "height,girth,the kind\n"
TREES = "".join(f"{i % 7},{i * i},{('ash', 'oak')[i % 2]}\n" for i in range(100))
FIGURE = """
  own:
    kind: mine
    title: A picture of my own
    rows: activation
    columns: depth
    hue: initializer
  gain:
    kind: layer_profile
    title: The gain of every layer
    statistic: weight_log10_gain
    at: start
    rows: activation
    columns: depth
    hue: initializer
statistics: [standard, weight_log10_gain]
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Return a finished run of a new study with data, components and figures of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    found = Workspace(folder)
    (folder / "config/config.yaml").unlink()
    mine = studies.create("mine", folder)
    (mine / "figures.py").write_text(KIND)
    (mine / "components.py").write_text(COMPONENTS)
    (mine / "forest.csv").write_text(HEADER + TREES)
    with (mine / "claims.py").open("a") as file:
        file.write(CLAIM)
    text = found.study_file("mine").read_text().replace("epochs: 3", "epochs: 0")
    text = text.replace("grid:\n  dataset", "grid:\n  - dataset")
    text = text.replace("    at: start\n", "    at: start\n    select: {activation: tanh}\n")
    before, block, after = re.split(r"(  - dataset.*\n(?:  .*\n)+)", text, maxsplit=1)
    lines = block.replace("\n  ", "\n    ")
    found.study_file("mine").write_text(f"{before}{lines}{BLOCK}{after}{FIGURE}")
    (folder / "said").write_text(found.build("--config", "studies=[mine]"))
    yield found
    own.forget(mine / "components.py")  # which this process read with the study


def test_its_claim_paragraph_and_figures_are_in_the_report(workspace: Workspace) -> None:
    claims = json.loads((workspace.folder / "reports/claims/mine.json").read_text())
    assert len(claims) == 2
    for claim in claims:
        assert claim["verdict"] == "supported"
        assert claim["measured"] == pytest.approx(claim["predicted"], abs=0.1)
    page = (workspace.folder / "reports/index.html").read_text(encoding="utf-8")
    for expected in (
        'id="figure-mine.signal"',
        'id="figure-mine.own"',
        'id="figure-mine.gain"',
        'alt="25 networks of my own."',
        "forest.csv, target the kind",
        "Small weights make every layer shrink",
        "<math",
        ">signs<",
        ">bend<",
    ):
        assert expected in page


def test_what_its_code_prints_is_in_the_logs_and_not_on_the_screen(workspace: Workspace) -> None:
    said = (workspace.folder / "said").read_text()
    logs = {
        path.relative_to(workspace.folder / "logs").parts[:2]: path.read_text()
        for path in sorted((workspace.folder / "logs").rglob("*-width32-*.log"))
        + sorted((workspace.folder / "logs/mine").glob("*.log"))
    }
    for word, job in (
        ("Drawn\n", "train"),
        ("Measured.Measured.", "train"),
        ("[Prepared\n", "figures.log"),
        ("Judged\n", "claims.log"),
    ):
        assert word in logs["mine", job], job
        assert word.strip(".\n") not in said
    for line in re.findall(r"^\[\S+-width32-\S+\] .*", said, re.MULTILINE):
        assert line in logs["mine", "train"]


def test_an_edit_of_its_code_or_data_trains_exactly_its_networks_anew(workspace: Workspace) -> None:
    assert "all requested files are present" in workspace.build("--config", "studies=[mine]")
    before = workspace.runs("mine")
    path = workspace.study_file("mine").with_name("components.py")
    path.write_text(path.read_text().replace("[-1.0, 1.0]", "[1.0, -1.0]"))
    path.with_name("forest.csv").write_text(f"{HEADER}3,4,ash\n{TREES}")
    workspace.build("--config", "studies=[mine]", "--until", "train")
    own.forget(path)
    networks = {
        cell.id: (cell.initializer.name, cell.dataset.name)
        for cell in workspace.study("mine").cells
    }
    after = workspace.runs("mine")
    new = after.keys() - before.keys()
    edited = [("glorot_normal", "file"), *[("signs", "gaussian_mixture")] * 2]
    assert sorted(networks[cell] for cell in new) == edited
    assert after.items() - before.items() == {(cell, after[cell]) for cell in new}


def test_a_table_that_is_not_there_is_told_in_one_line(workspace: Workspace) -> None:
    file = workspace.study_file("mine").with_name("forest.csv")
    aside = file.rename(file.with_suffix(".aside"))
    told = workspace.snakemake("--config", "studies=[mine]")
    aside.rename(file)
    assert told.returncode == 1
    assert f"study.yaml: grid[2].dataset: {file.relative_to(workspace.folder)}: no such file" in (
        told.stdout + told.stderr
    )


def test_its_optimizer_and_its_statistic_are_in_the_tables(workspace: Workspace) -> None:
    results = workspace.folder / "results/mine"
    cells, layers = (pd.read_parquet(results / table) for table in ("cells", "layers"))
    assert set(cells["optimizer"]) == {"sgd", "heavy_ball(share=0.9)"}
    assert np.isfinite(layers["weight_log10_gain"]).all()
    numbers = pd.read_csv(workspace.folder / "reports/data/mine/gain.csv")
    signs = numbers[(numbers["initializer"] == "signs") & (numbers["layer"] == 2)]
    np.testing.assert_allclose(signs["median"], 0, atol=1e-6)  # 32 weights of +-1/sqrt(32)


def test_a_job_that_fails_tells_its_mistake_and_its_log(tmp_path: Path) -> None:
    found = Workspace(tmp_path)
    found.write_config("mine")
    found.write_study(small(dataset="broken", initializer="zeros"), "mine")
    path = found.study_file("mine").with_name("components.py")
    path.write_text(BROKEN)
    result = found.snakemake("--until", "dataset")
    (log,) = (tmp_path / "logs/data").glob("*.log")
    mistake = "gradprop: config/studies/mine/components.py:8: ZeroDivisionError: division by zero"
    assert log.read_text().splitlines() == ["Before", mistake]
    said = (result.stdout + result.stderr).splitlines()
    assert result.returncode == 1
    assert mistake in said
    (failed,) = [line for line in said if "FAILED" in line]
    assert re.fullmatch(
        r"\[\d of \d, 0:00:\d\d\] FAILED: Data set \w+; log: "
        + re.escape(str(log.relative_to(tmp_path))),
        failed,
    )
    assert not [line for line in said if "Traceback" in line or line == "Before"]
    assert not [line for line in said if "Error" in line and line != mistake]


def planned(workspace: Workspace) -> set[str]:
    """Return the kinds of jobs that Snakemake would run."""
    said = workspace.build("--config", "studies=[mine]", "-n")
    return {
        job.lower() for job in re.findall(r"^(?:Study mine: )?(\w+)(?: reports/.*)?$", said, re.M)
    }


@pytest.mark.long
def test_an_edit_makes_again_what_depends_on_it(workspace: Workspace) -> None:
    """Manifests that are not right any more go at the first look: edits add up."""
    for name, old, new, jobs in (
        ("chapter.md.j2", "Small weights", "Tiny weights", {"report"}),
        ("figures.py", '"o"', '"x"', {"figures", "report"}),
        ("claims.py", "Within(0.1)", "Within(0.2)", {"figures", "claims", "report"}),
    ):
        path = workspace.study_file("mine").with_name(name)
        path.write_text(path.read_text().replace(old, new))
        assert planned(workspace) == jobs, name


@pytest.mark.long
def test_a_mistake_in_its_code_stops_the_job_in_one_line(workspace: Workspace) -> None:
    path = workspace.study_file("mine").with_name("claims.py")
    text = path.read_text()
    wrong = text.replace("from_seeds(case, measured", "from_seeds(case, mesaured")
    path.write_text(wrong)
    line = wrong[: wrong.index("mesaured")].count("\n") + 1
    result = workspace.snakemake("--config", "studies=[mine]")
    said = result.stdout + result.stderr
    assert result.returncode == 1
    place = (
        f"gradprop: config/studies/mine/claims.py:{line}: study mine, claim small-weights-vanish"
    )
    assert f"{place}: NameError: name 'mesaured' is" in said
    assert "FAILED: Study mine: claims; log: logs/mine/claims.log" in said
    assert "Traceback" not in said
    path.write_text(text)
    assert planned(workspace) == {"claims", "report"}
