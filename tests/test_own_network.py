"""A study with a network of its own in the whole workflow."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from gradprop.components import network
from tests.workspace import TINY, Workspace, small

pytestmark = [pytest.mark.workflow, pytest.mark.long]

NETWORK = """
import keras


def build(cell, slope: float = 0.0):
    h = inputs = keras.Input((cell.features,))
    for n in range(1, cell.depth + 1):
        h = keras.layers.Dense(cell.width, kernel_initializer=cell.kernel(n))(h)
        h = keras.layers.LeakyReLU(slope)(h)
    return keras.Model(inputs, keras.layers.Dense(cell.outputs)(h))
"""
FIGURE = {
    **TINY["figures"]["profile"],
    **{"columns": "slope", "select": {"slope": [0.0, 0.5]}, "statistic": "signal_log10_rms"},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a finished run of a study with networks of its own, and of one without."""
    found = Workspace(tmp_path_factory.mktemp("networks"))
    found.write_config("tiny", "mine")
    found.write_study(small(initializer="zeros"))
    content = small(**{"initializer": ["he_normal", "orthogonal"], "slope": [0.0, 0.5], "depth": 2})
    content["figures"] = {"profile": {**FIGURE, "hue": "initializer"}}
    found.write_study(content, "mine")
    found.study_file("mine").with_name(network.FILE).write_text(NETWORK)
    found.build()
    return found


def edit(workspace: Workspace, old: str, new: str) -> None:
    path = workspace.study_file("mine").with_name(network.FILE)
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def test_its_axis_is_in_tables_figures_and_report(workspace: Workspace) -> None:
    cells = pd.read_parquet(workspace.folder / "results/mine/cells")
    assert cells.groupby(["slope", "initializer"]).size().tolist() == [1] * 4
    assert set(cells["status"]) == {"ok"}
    assert "network" in cells
    numbers = pd.read_csv(workspace.folder / "reports/data/mine/profile.csv")
    assert sorted(numbers["slope"].unique()) == [0.0, 0.5]
    page = (workspace.folder / "reports/index.html").read_text(encoding="utf-8")
    assert 'id="figure-mine.profile"' in page
    assert "slope 0.5" in page
    plain = pd.read_parquet(workspace.folder / "results/tiny/cells")
    assert "slope" not in plain


def test_an_edit_trains_the_networks_of_its_study_anew(workspace: Workspace) -> None:
    before = {name: workspace.runs(name) for name in ("tiny", "mine")}
    edit(workspace, "import keras\n", "import keras  # a comment\n")
    assert "all requested files are present" in workspace.build()
    edit(workspace, "LeakyReLU(slope)", "LeakyReLU(slope / 2)")
    workspace.build("--until", "train")
    after = {name: workspace.runs(name) for name in ("tiny", "mine")}
    assert after["tiny"] == before["tiny"]
    assert len(after["mine"]) == len(before["mine"])
    assert not after["mine"].keys() & before["mine"].keys()


def test_a_mistake_in_it_is_one_line_and_keeps_what_is_finished(workspace: Workspace) -> None:
    edit(workspace, "range(1, cell.depth + 1)", "range(1, cell.depth + 1 // (1 - slope * 2))")
    told = workspace.snakemake("--until", "train")
    said = (told.stdout + told.stderr).splitlines()
    place = "gradprop: config/studies/mine/network.py:7: "
    assert told.returncode == 1
    assert len([line for line in said if line.startswith(place)]) == 1
    assert not [line for line in said if "Traceback" in line]
    stacks = list((workspace.folder / "results/mine/stacks").glob("*/*.zip"))
    assert stacks  # of cells with another slope, trained before
    edit(workspace, "def build(cell, slope: float = 0.0)", "def build(cell, slope)")
    told = workspace.snakemake("-n")
    assert told.returncode == 1
    assert "network.py:5: build: argument 'slope': it needs a default" in told.stdout + told.stderr


def test_what_is_recorded_of_a_run_says_what_it_was_computed_with(workspace: Workspace) -> None:
    paths = sorted((workspace.folder / "results/mine/manifests").glob("*.json"))
    modules = json.loads(Path(paths[0]).read_text())["modules"]
    assert {"monitor", "networks", "training"} <= set(modules)
    (plain,) = (workspace.folder / "results/tiny/manifests").glob("*.json")
    assert "networks" not in json.loads(plain.read_text())["modules"]
