"""A working directory with a small configuration, in which the real Snakemake runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gradprop.grid import definitions, folders
from gradprop.spec import Study

ROOT = Path(__file__).parent.parent

TINY: dict[str, Any] = {
    "title": "A {tiny} study: all of it",
    "question": "Does everything work?",
    "training": {"learning_rate": 0.1, "batch_size": 13, "epochs": 2, "target_loss": 0.9},
    "probes": 3,
    "grid": {
        "dataset": {"name": "gaussian_mixture", "dimension": 5, "classes": 3, "examples": 70},
        "depth": [1, 3],
        "width": 6,
        "activation": ["tanh", "relu"],
        "initializer": ["he_normal", {"name": "normal", "stddev": 0.3}],
    },
    "figures": {
        "profile": {
            "kind": "layer_profile",
            "title": "Signal & gradient {{by}} <layer>_",
            "caption": "`Lines` are *medians* {% of %} |seeds|_ {{ 1 + 1 }} {# and #} x_.",
            "statistic": ["signal_log10_rms", "gradient_log10_rms"],
            "columns": "depth",
            "hue": "initializer",
            "select": {"activation": "tanh"},
        },
        "curves": {
            "kind": "learning_curves",
            "title": "Loss",
            "statistic": "train_loss",
            "rows": "activation",
            "columns": "depth",
            "hue": "initializer",
        },
    },
}


def small(**axes: Any) -> dict[str, Any]:
    """Return a study without figures."""
    mixture = {"name": "gaussian_mixture", "dimension": 5, "classes": 3, "examples": 40}
    block = {"dataset": mixture, "depth": 1, "width": 5, "activation": "tanh", "seeds": 1}
    return {
        "title": "Small",
        "question": "What is missing?",
        "training": {"learning_rate": 1.0, "batch_size": 13, "epochs": 2, "target_loss": 0.9},
        "probes": 3,
        "grid": {**block, **axes},
    }


def environment_in(folder: Path) -> Path:
    """Return the Python of an environment in `folder` that has what this one has."""
    venv.create(folder, symlinks=True, with_pip=False)
    bases = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", scheme="venv", vars=bases))
    ours = sysconfig.get_path("purelib")
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    return folder / "bin/python"


def finished(said: str) -> list[str]:
    """Return the jobs that have ended, by what a run printed, without those of definitions."""
    lines = re.findall(r"^\[ *\d+ of \d+, [\d:]+\] (.*?)(?:; about .* left)?$", said, re.MULTILINE)
    return [line for line in lines if not line.endswith((": study", ": grid"))]


class Workspace:
    """A working directory with a configuration of its own, for the workflow of a project."""

    def __init__(self, folder: Path, project: Path = ROOT) -> None:
        self.folder = folder
        self.project = project
        self.python_path = [project / "src"]
        (folder / "config/studies").mkdir(parents=True)
        self.write_config("tiny")
        self.write_study(TINY)

    def write_config(self, *studies: str) -> None:
        """Write the configuration's file."""
        config = {
            "studies": list(studies),
            "seeds": 2,
            "stack_size": 3,
            "report": {"title": "Tiny & <b>small</b>"},
        }
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(config))

    def write_study(self, content: dict[str, Any] | str, name: str = "tiny") -> None:
        """Write a study's file; text as it is."""
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        self.study_file(name).parent.mkdir(parents=True, exist_ok=True)
        self.study_file(name).write_text(text)

    def study_file(self, name: str = "tiny") -> Path:
        """Return the YAML file of a study."""
        return self.folder / folders.STUDIES / name / folders.STUDY

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """Return the command line that runs Snakemake in this directory, and its environment."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", f"{self.project}/Snakefile"]
        command += ["--directory", str(self.folder), *arguments]
        command += [] if "--cores" in arguments else ["--cores", "2"]
        environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, self.python_path))
        return command, environment

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in this directory."""
        command, environment = self.command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def build(self, *arguments: str) -> str:
        """Run Snakemake, which must succeed; return what it said."""
        result = self.snakemake(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    @property
    def results(self) -> Path:
        """Return the folder of the study's tables."""
        return self.folder / "results/tiny"

    def study(self, name: str = "tiny") -> Study:
        """Return a study as its training jobs saw it."""
        (path,) = (self.folder / "results" / name).glob("grid.*.json")
        return definitions.read_study(path, self.study_file(name).parent)

    def ids(self, study: str = "tiny") -> list[str]:
        """Return the ids of a study's cells, sorted."""
        return sorted(cell.id for cell in self.study(study).cells)

    def runs(self, study: str = "tiny") -> dict[str, str]:
        """Return for every cell in the tables the job that trained it, each cell once."""
        paths = (self.folder / "results" / study / "runs").glob("*.parquet")
        rows = [row for path in paths for row in pd.read_parquet(path).itertuples()]
        found = [(cell, str(row.job)) for row in rows for cell in json.loads(str(row.cells))]
        assert len(found) == len(dict(found))
        return dict(found)

    def trained(self, study: str = "tiny") -> list[str]:
        """Return the ids of the cells in the tables, sorted."""
        return sorted(self.runs(study))
