"""What the documentation says of the registries: tables of the manual, and schemas for editors.

`make docs` runs this module as a program in the checkout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from gradprop.analysis import thresholds
from gradprop.analysis.alarms import ALARMS
from gradprop.components.activations import ACTIVATIONS
from gradprop.components.architecture import RESIDUALS, WIDTHS
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import DATASETS
from gradprop.components.initializers import BIAS_INITIALIZERS, INITIALIZERS
from gradprop.components.loss_scaling import LOSS_SCALES
from gradprop.components.normalization import NORMALIZATIONS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.components.precision import FORMATS
from gradprop.components.registry import Entry, Registry
from gradprop.components.schedules import SCHEDULES
from gradprop.grid import schema
from gradprop.probes.measurements import MEASUREMENTS, Measurement
from gradprop.probes.statistics import PRESETS, STATISTICS

MANUAL = Path("config/README.md")
SCHEMAS = Path("workflow/schemas")
DEFAULTS = thresholds.PRESETS["standard"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _defaults(entry: Entry) -> str:
    items = (yaml.safe_dump({name: default}).strip() for name, default in entry.defaults.items())
    return ", ".join(f"`{item}`" for item in items)


def _interval(low: float, high: float) -> str:
    parts = [
        *([f"z <= {low:.4g}"] if abs(low) < float("inf") else []),
        *([f"z >= {high:.4g}"] if abs(high) < float("inf") else []),
    ]
    return " or ".join(parts) or "never"


def _components(what: str, registry: Registry[Any]) -> str:
    head = ["name", what, "parameters and defaults", "source"]
    rows = (
        [f"`{name}`", entry.definition, _defaults(entry), entry.source]
        for name, entry in registry.items()
    )
    return _table(head, rows)


def tables() -> dict[str, str]:
    """Return the tables of the manual by the name of their place, made from the registries."""
    return {
        "initializers": _components("weights", INITIALIZERS),
        "datasets": _datasets(),
        "activations": _activations(),
        "optimizers": _components("update", OPTIMIZERS),
        "widths": _components("what it does", WIDTHS),
        "normalizations": _components("what it does", NORMALIZATIONS),
        "residuals": _components("what it does", RESIDUALS),
        "clippings": _components("what it does", CLIPPINGS),
        "formats": _components("range", FORMATS),
        "loss_scales": _components("what it does", LOSS_SCALES),
        "bias_initializers": _components("biases", BIAS_INITIALIZERS),
        "schedules": _components("learning rate", SCHEDULES),
        "statistics": _statistics(),
        "measurements": _measurements(),
        "alarms": _alarms(),
        "thresholds": _thresholds(),
    }


def _datasets() -> str:
    return _table(
        ["name", "task", "what it is", "parameters and defaults", "source"],
        (
            [f"`{name}`", entry.task, entry.definition, _defaults(entry), entry.source]
            for name, entry in DATASETS.items()
        ),
    )


def _activations() -> str:
    return _table(
        ["name", "value at z", "parameters and defaults", "saturated where", "source"],
        (
            [
                f"`{name}`",
                entry.definition,
                _defaults(entry),
                _interval(*entry.saturation),
                entry.source,
            ]
            for name, entry in ACTIVATIONS.items()
        ),
    )


def _statistics() -> str:
    return _table(
        ["name", "definition", "presets", "source"],
        (
            [f"`{name}`", entry.definition, _presets(name), entry.source]
            for name, entry in STATISTICS.items()
        ),
    )


def _measurements() -> str:
    return _table(
        ["name", "rows", "keys", "parameters and defaults", "source"],
        (
            [f"`{name}`", entry.definition, _keys(entry), _defaults(entry), entry.source]
            for name, entry in MEASUREMENTS.items()
        ),
    )


def _alarms() -> str:
    return _table(
        ["name", "fires where", "statistic"],
        (
            [f"`{name}`", alarm.text(getattr(DEFAULTS, name)), f"`{alarm.statistic}`"]
            for name, alarm in ALARMS.items()
        ),
    )


def _thresholds() -> str:
    return _table(
        ["key", *(f"`{name}`" for name in thresholds.PRESETS), "what it is", "source"],
        (
            [f"`{key.name}`", *_preset_values(key.name), *key.metadata.values()]
            for key in fields(DEFAULTS)
        ),
    )


def _preset_values(key: str) -> list[str]:
    """Return a threshold in every preset, as a study's YAML has it."""
    values = [getattr(preset, key) for preset in thresholds.PRESETS.values()]
    return [f"`{v}`" if isinstance(v, str) else f"{v:g}" for v in values]


def _presets(statistic: str) -> str:
    return ", ".join(preset for preset, names in PRESETS.items() if statistic in names)


def _keys(measurement: Measurement) -> str:
    return ", ".join(f"`{key}`" for key in measurement.keys)


def contents(root: Path) -> dict[Path, str]:
    """Return what every file that is made from the registries should hold.

    Parameters
    ----------
    root
        The checkout.

    Returns
    -------
    dict
        By path: the manual, and the schemas that are kept for editors.
    """
    manual = (root / MANUAL).read_text(encoding="utf-8")
    for name, content in tables().items():
        manual = _replaced(manual, name, content)
    schemas = {"config": schema.config_schema(), "study": schema.study_schema()}
    texts = {root / SCHEMAS / f"{name}.schema.yaml": _yaml(s) for name, s in schemas.items()}
    return {root / MANUAL: manual, **texts}


def _yaml(document: schema.Schema) -> str:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return f"# Made from the registries and src/gradprop/grid/schemas by `make docs`.\n{text}"


class _Dumper(yaml.SafeDumper):
    """Writes what stands in several places out in each, which is easier to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _replaced(text: str, name: str, content: str) -> str:
    """Return the manual with the table between its markers replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    result, count = re.subn(
        pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise LookupError(f"{MANUAL} has no place for the table {name}")
    return result


if __name__ == "__main__":
    for path, text in contents(Path()).items():
        path.write_text(text, encoding="utf-8")
