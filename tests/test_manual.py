"""The manual and the schemas for editors say what the registries say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

from gradprop import manual
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import INITIALIZERS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.probes.measurements import MEASUREMENTS
from gradprop.probes.statistics import STATISTICS
from tests.workspace import ROOT

CONTENTS = manual.contents(ROOT)


@pytest.mark.parametrize("path", CONTENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_made_from_the_registries_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == CONTENTS[path], "run: make docs"


def test_everything_has_a_source() -> None:
    for registry in (STATISTICS, MEASUREMENTS, INITIALIZERS, DATASETS, ACTIVATIONS, OPTIMIZERS):
        assert [name for name, entry in registry.items() if not entry.source] == []


@pytest.mark.parametrize(
    "name", ["README.md", "docs/papers.md", "config/README.md", "config/papers.yaml"]
)
def test_commands_name_one_configuration(name: str) -> None:
    """Snakemake takes all words after --configfile for files, a target too."""
    text = (ROOT / name).read_text(encoding="utf-8")
    commands = re.findall(r"snakemake ([^`\n]*--configfile [^`\n]*)", text)
    assert commands
    for command in commands:
        arguments = get_argument_parser().parse_args(shlex.split(command, comments=True))
        assert arguments.configfile == [Path("config/papers.yaml")], command
