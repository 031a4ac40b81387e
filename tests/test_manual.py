"""The tables of config/README.md; run as a program, this file brings them in step."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser

from gradprop.analysis.diagnosis import ALARMS
from gradprop.components import activations, optimizers
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import CLIPPINGS, NORMALIZATIONS, RESIDUALS, WIDTHS, Choice
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import INITIALIZERS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.probes.measurements import MEASUREMENTS, PARAMETERS
from gradprop.probes.statistics import PRESETS, STATISTICS
from gradprop.spec import Scalar
from tests.workspace import ROOT

MANUAL = ROOT / "config/README.md"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(parameters: Mapping[str, Scalar]) -> str:
    items = (yaml.safe_dump({name: default}).strip() for name, default in parameters.items())
    return ", ".join(f"`{item}`" for item in items)


def formula(documented: object) -> str:
    """Return the docstring of a function as one line of Markdown."""
    text = " ".join((documented.__doc__ or "").split()).replace("``", "`").rstrip(".")
    return text.replace("LEAKY_RELU_SLOPE", str(activations.LEAKY_RELU_SLOPE)).partition(";")[0]


def interval(low: float, high: float) -> str:
    parts = [
        *([f"z <= {low:.4g}"] if abs(low) < float("inf") else []),
        *([f"z >= {high:.4g}"] if abs(high) < float("inf") else []),
    ]
    return " or ".join(parts) or "never"


def choices(registry: Mapping[str, Choice]) -> str:
    return table(
        ["name", "what it does", "parameters and defaults", "source"],
        [
            [f"`{name}`", entry.definition, listed(entry.parameters), entry.source]
            for name, entry in registry.items()
        ],
    )


def tables() -> dict[str, str]:
    """Return the tables of the manual by name, made from the registries."""
    return {
        "initializers": table(
            ["name", "weights", "parameters and defaults", "source"],
            [
                [f"`{name}`", entry.formula, listed(entry.parameters), entry.source]
                for name, entry in INITIALIZERS.items()
            ],
        ),
        "datasets": table(
            ["name", "task", "what it is", "parameters and defaults", "source"],
            [
                [f"`{name}`", e.task, e.description, listed(e.parameters), e.source]
                for name, e in DATASETS.items()
            ],
        ),
        "activations": table(
            ["name", "value at z", "saturated where", "source"],
            [
                [f"`{name}`", formula(entry.function), interval(*entry.saturation), entry.source]
                for name, entry in ACTIVATIONS.items()
            ],
        ),
        "optimizers": table(
            ["name", "update", "parameters and defaults"],
            [
                [f"`{name}`", " ".join(str(rule.__doc__).split()), listed(parameters)]
                for name, parameters in OPTIMIZERS.items()
                if (rule := getattr(optimizers, f"_{name}"))
            ],
        ),
        "widths": choices(WIDTHS),
        "normalizations": choices(NORMALIZATIONS),
        "residuals": choices(RESIDUALS),
        "clippings": choices(CLIPPINGS),
        "statistics": table(
            ["name", "definition", "presets", "source"],
            [
                [
                    f"`{name}`",
                    entry.definition,
                    ", ".join(preset for preset, names in PRESETS.items() if name in names),
                    entry.source,
                ]
                for name, entry in STATISTICS.items()
            ],
        ),
        "measurements": table(
            ["name", "rows", "keys", "parameters and defaults", "source"],
            [
                [
                    f"`{name}`",
                    entry.definition,
                    ", ".join(f"`{key}`" for key in entry.keys),
                    listed(PARAMETERS[name]),
                    entry.source,
                ]
                for name, entry in MEASUREMENTS.items()
            ],
        ),
        "alarms": table(
            ["name", "fires where", "statistic"],
            [[f"`{name}`", a.meaning, f"`{a.statistic}`"] for name, a in ALARMS.items()],
        ),
    }


def replaced(text: str, name: str, content: str) -> str:
    """Return the manual with the table between its markers replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    result, count = re.subn(
        pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL
    )
    assert count == 1, f"{MANUAL} has no place for the table {name}"
    return result


@pytest.mark.parametrize("name", tables())
def test_the_table_agrees_with_the_registry(name: str) -> None:
    text = MANUAL.read_text(encoding="utf-8")
    assert text == replaced(text, name, tables()[name]), "run: python tests/test_manual.py"


def test_everything_has_a_source() -> None:
    for registry in (STATISTICS, MEASUREMENTS, INITIALIZERS, DATASETS, ACTIVATIONS):
        assert [name for name, entry in registry.items() if not entry.source] == []


@pytest.mark.parametrize(
    "name", ["README.md", "docs/papers.md", "config/README.md", "config/papers.yaml"]
)
def test_commands_name_one_configuration(name: str) -> None:
    """Snakemake takes all words after --configfile for files, a target too."""
    text = (MANUAL.parents[1] / name).read_text(encoding="utf-8")
    commands = re.findall(r"snakemake ([^`\n]*--configfile [^`\n]*)", text)
    assert commands
    for command in commands:
        arguments = get_argument_parser().parse_args(shlex.split(command, comments=True))
        assert arguments.configfile == [Path("config/papers.yaml")], command


if __name__ == "__main__":
    manual = MANUAL.read_text(encoding="utf-8")
    for name, content in tables().items():
        manual = replaced(manual, name, content)
    MANUAL.write_text(manual, encoding="utf-8")
