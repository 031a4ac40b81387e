"""From the configuration to cells, and from cells to the stacks and shards that train them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from gradprop import config, datasets, initializers, optimizers
from gradprop.spec import REPLICA_FIELDS, Cell, Component, Shard, Stack, Study

_COMPONENTS = {
    "dataset": datasets.create,
    "initializer": initializers.create,
    "optimizer": optimizers.create,
}
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}


def load_studies(
    document: Mapping[str, Any], source: str, study_folders: Sequence[Path], schemas: Path
) -> dict[str, Study]:
    """Read and validate the configuration and every study that it names.

    Parameters
    ----------
    document
        Content of ``config.yaml``, overrides included.
    source
        Name of that file, for messages.
    study_folders
        Where ``<study>.yaml`` is looked for, in order.
    schemas
        Folder of the JSON Schemas.

    Returns
    -------
    dict
        The studies by name, in the order of the configuration.

    Raises
    ------
    gradprop.config.ConfigError
        If anything is wrong; nothing has been written then.
    """
    config.validate(document, config.read_yaml(schemas / "config.schema.yaml"), source)
    schema = config.read_yaml(schemas / "study.schema.yaml")
    available = sorted({p.stem for folder in study_folders for p in folder.glob("*.yaml")})
    studies = {}
    for name in document["studies"]:
        if name not in available:
            raise config.unknown("studies", name, available, source)
        path = next(p for folder in study_folders if (p := folder / f"{name}.yaml").exists())
        content = config.read_yaml(path)
        config.validate(content, schema, str(path))
        studies[name] = build_study(name, content, document["seeds"])
    return studies


def build_study(name: str, content: Mapping[str, Any], seeds: int) -> Study:
    """Expand a validated study file.

    Parameters
    ----------
    name
        The study's name.
    content
        Content of its YAML file.
    seeds
        Number of seeds of a grid block that does not set its own.
    """
    shared = {**content.get("training", {}), "probes": content.get("probes", 10)}
    shared["statistics"] = content.get("statistics", "standard")
    blocks = content["grid"] if isinstance(content["grid"], list) else [content["grid"]]
    cells = [cell for block in blocks for cell in expand({"seeds": seeds, **shared, **block})]
    return Study(
        name=name,
        title=content["title"],
        question=content["question"],
        cells=tuple(dict.fromkeys(cells)),
        figures=content.get("figures", {}),
    )


def expand(block: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield the cells of one grid block: the product of its axes, the last key fastest."""
    axes = {key: axis_values(key, value) for key, value in block.items()}
    axes["seed"] = axes.pop("seeds")
    for values in itertools.product(*axes.values()):
        yield Cell(**dict(zip(axes, values, strict=True)))


def axis_values(key: str, value: Any) -> list[Any]:
    """Return the values of an axis, typed: a list is an axis, a scalar is fixed.

    ``{from: 1, to: 9, step: 2}`` is the list 1, 3, 5, 7, 9; ``seeds: 3`` is the list 0, 1, 2.
    """
    if key == "seeds" and not isinstance(value, (list, Mapping)):
        value = list(range(int(value)))
    if isinstance(value, Mapping) and "from" in value:
        value = list(range(value["from"], value["to"] + 1, value.get("step", 1)))
    convert = _COMPONENTS.get(key) or _TYPES[_field_type("seed" if key == "seeds" else key)]
    return [convert(item) for item in (value if isinstance(value, list) else [value])]


def _field_type(name: str) -> str:
    return next(str(f.type) for f in fields(Cell) if f.name == name)


def stacks(cells: Sequence[Cell]) -> list[Stack]:
    """Group cells that differ in nothing but what may differ between replicas."""
    groups: dict[Cell, list[Cell]] = {}
    common = {
        "initializer": Component(""),
        "learning_rate": 0.0,
        "seed": 0,
        "bias_std": 0.0,
        "target_loss": 0.0,
    }
    assert set(common) == set(REPLICA_FIELDS)
    for cell in cells:
        groups.setdefault(replace(cell, **common), []).append(cell)
    return [Stack(tuple(group)) for group in groups.values()]


def shard_name(cell: Cell) -> str:
    """Return the name of the shard that a cell belongs to.

    Training deep networks takes long: they get a shard for every depth. Networks that are only
    measured at initialization share one.
    """
    depth = f"depth{cell.depth}" if cell.epochs else "start"
    return f"{cell.dataset.slug}-width{cell.width}-{depth}"


def shards(cells: Sequence[Cell]) -> dict[str, Shard]:
    """Group cells into shards: one job and one file per table each."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(shard_name(cell), []).append(cell)
    return {name: Shard(name, tuple(stacks(group))) for name, group in groups.items()}
