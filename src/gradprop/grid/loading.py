"""Studies: from the configuration and their files to their cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from gradprop import errors
from gradprop.components import architecture, datafiles, datasets, initializers
from gradprop.components import network as own_network
from gradprop.components.datasets import DATASETS
from gradprop.components.network import NetworkFile
from gradprop.components.schedules import SCHEDULES
from gradprop.grid import config, folders, kinds, schema
from gradprop.grid.axes import REGISTRIES, axis_values, count_values, expand
from gradprop.grid.figure_checks import check_figure, check_names
from gradprop.grid.kinds import Needs
from gradprop.grid.selection import canonical_names, with_labels
from gradprop.grid.sharding import shard_name
from gradprop.probes import measurements, statistics
from gradprop.spec import Cell, Component, Study, as_text

LONGEST_NAME = 200  # of a shard; file systems allow 255 bytes, endings included
# What every grid block has to set, by itself or through the study's `training`.
REQUIRED = tuple(f.name for f in fields(Cell) if f.default is MISSING and f.name != "seed")
# Axes that cells may differ in and all be right or all be wrong (`_check_cells`).
_UNCHECKED = ("seeds", "learning_rate", "target_loss")


def load_studies(
    document: Mapping[str, Any],
    source: str,
    roots: Sequence[Path],
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Study]:
    """Read and validate the configuration and every study that it names.

    Parameters
    ----------
    document
        Content of ``config.yaml``, overrides included.
    source
        Name of that file, for messages.
    roots
        Where the folders of studies are looked for, in order.
    parts
        What `document` was merged from, by name, the last one first in rank: a mistake is told
        with the name of the part that it stands in.

    Returns
    -------
    dict
        The studies by name, in the order of the configuration.

    Raises
    ------
    gradprop.errors.ConfigError
        If anything is wrong; nothing has been written then.
    """
    config_schema = schema.config_schema()
    for name, part in (parts or {}).items():
        config.validate(part, {**config_schema, "required": []}, name)
        source = name if "studies" in part else source
    config.validate(document, config_schema, source)
    seeds = document.get("seeds", config_schema["properties"]["seeds"]["default"])
    most = read_limits(document)["cells"]
    studies, total = {}, 0
    for name in document["studies"]:
        folder = folders.find(name, roots, source)
        path = folder / folders.STUDY
        content = config.read_yaml(path)
        folders.load_components(folder)
        known = schema.study_schema(
            folders.own_kinds(folder), folder / folders.COMPONENTS, own_network.read(folder)
        )
        config.validate(content, known, str(path))
        cells = count_cells(content, seeds)
        total += cells
        if total > most:
            before = f", {total:,} with the studies before" if total > cells else ""
            raise errors.ConfigError(
                f"{path}: grid: {cells:,} cells{before}; allowed: {most:,} (limits.cells in "
                f"{source})"
            )
        studies[name] = build_study(name, content, seeds, source=str(path), folder=folder)
        check_names(content.get("names", {}), studies[name].cells, str(path))
    _check_files(studies, source)
    return studies


def _check_files(studies: Mapping[str, Study], source: str) -> None:
    """Refuse two data sets whose arrays would lie in one file."""
    labels: dict[str, str] = {}
    for component in (cell.dataset for study in studies.values() for cell in study.cells):
        other = labels.setdefault(component.slug, component.label)
        if other != component.label:
            raise errors.ConfigError(
                f"{source}: data sets {errors.show(other)} and {errors.show(component.label)} "
                f"would share the file {component.slug}.npz; rename a column or a file"
            )


def read_limits(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the limits of a configuration, those that it leaves out at their defaults."""
    limits = schema.config_schema()["properties"]["limits"]["properties"]
    defaults = {key: value["default"] for key, value in limits.items()}
    return {**defaults, **document.get("limits", {})}


def build_study(
    name: str, content: Mapping[str, Any], seeds: int, source: str, folder: Path | None = None
) -> Study:
    """Expand a validated study file.

    Parameters
    ----------
    name
        The study's name.
    content
        Content of its YAML file.
    seeds
        Number of seeds of a grid block that does not set its own.
    source
        Name of the study's file, for messages.
    folder
        Where the study lies, if it is one of the disk.

    Raises
    ------
    gradprop.errors.ConfigError
        If a block of the grid lacks a parameter or has an axis without values.
    """
    folders.load_components(folder)
    network = own_network.read(folder)
    cells: list[Cell] = []
    blocks = _blocks(content, seeds)
    for key, block in blocks.items():
        where = errors.place(source, key)
        _check_block(block, where, network)
        _enter_data(block, folder, where)
        _check_cells(block, where, network)
        cells.extend(expand(block, network))
    if len(blocks) > 1:  # one alone repeats nothing
        cells = list(dict.fromkeys(cells))
    _check_spellings(cells, source)
    recorded = statistics.canonical(content.get("statistics", "standard"))
    names = canonical_names(content.get("names", {}))
    figures = {
        figure: with_labels(options, names, cells)
        for figure, options in content.get("figures", {}).items()
    }
    for figure, options in figures.items():
        where = errors.place(source, "figures", figure)
        check_figure(options, needs_of(options["kind"], folder), recorded, cells, names, where)
    return Study(
        name=name,
        title=content["title"],
        question=content["question"],
        cells=tuple(cells),
        figures=figures,
        names=names,
        definition={"name": name, "content": content, "seeds": seeds},
        folder=folder,
    )


def needs_of(kind: str, folder: Path | None) -> Needs:
    """Return what a kind of figure needs, one of the package or one that the study brings along."""
    if kind in kinds.KINDS:
        return kinds.KINDS[kind]
    needs: Needs = getattr(folders.own_kinds(folder).get(kind), "needs", Needs())
    return needs


def count_cells(content: Mapping[str, Any], seeds: int) -> int:
    """Return the number of cells of a study's grid without making them, repetitions included."""
    return sum(
        math.prod(count_values(key, value) for key, value in block.items())
        for block in _blocks(content, seeds).values()
    )


def takes_seeds(content: Mapping[str, Any]) -> bool:
    """Tell whether a block of a study's grid has the seeds of the configuration, not its own."""
    return any(block["seeds"] is None for block in _blocks(content, None).values())


def _blocks(content: Mapping[str, Any], seeds: int | None) -> dict[str, dict[str, Any]]:
    """Return the blocks of a grid with what they share, by the key at which each stands."""
    shared = {**content.get("training", {}), "probes": content.get("probes", 10)}
    shared["statistics"] = statistics.canonical(content.get("statistics", "standard"))
    shared["measurements"] = content.get("measurements", [])
    grid = content["grid"]
    blocks = {"grid": grid}
    if isinstance(grid, list):
        blocks = {f"grid[{number}]": block for number, block in enumerate(grid)}
    return {key: {"seeds": seeds, **shared, **block} for key, block in blocks.items()}


def _check_block(block: Mapping[str, Any], where: str, network: NetworkFile | None) -> None:
    own = network.arguments if network else {}
    needed = [*REQUIRED, *(name for name, one in own.items() if one.default is None)]
    missing = [name for name in needed if name not in block]
    if missing:
        raise errors.ConfigError(
            f"{where}: missing key: {', '.join(missing)}; every block needs it, in the block or "
            "in training"
        )
    for key, value in block.items():
        if isinstance(value, Mapping) and "from" in value and value["to"] < value["from"]:
            shown = errors.show(dict(value))
            raise errors.ConfigError(f"{where}.{key}: {shown} is empty: to is less than from")
        several = isinstance(value, Mapping) and (key in REGISTRIES or key == "layer_initializers")
        if (isinstance(value, list) or several) and key != "measurements":
            seen: set[Any] = set()
            for item in axis_values(key, value, network):
                if item in seen:
                    shown = errors.show(as_text(key, item))
                    raise errors.ConfigError(f"{where}.{key}: {shown} stands twice in the list")
                seen.add(item)
    try:
        measurements.canonical(block["measurements"])
    except measurements.MeasurementError as error:
        raise errors.ConfigError(f"{where}.measurements: {error}") from None


def _enter_data(block: Mapping[str, Any], folder: Path | None, where: str) -> None:
    """Let the process know the files that data sets are made from."""
    for component in axis_values("dataset", block["dataset"]):
        if DATASETS.create(Component.parse(component.label).document()) != component:
            shown = errors.show(component.label)
            raise errors.ConfigError(f"{where}.dataset: {shown} has no unique name; rename columns")
        try:
            datasets.enter(component, folder)
        except datafiles.DataFileError as error:
            raise errors.ConfigError(f"{where}.dataset: {error}") from None


def _check_cells(block: Mapping[str, Any], where: str, network: NetworkFile | None) -> None:
    """Check the cells of a block, one for all that differ in nothing that is checked."""
    alike = {key: axis_values(key, block[key])[:1] for key in _UNCHECKED if key in block}
    for cell in expand({**block, **alike}, network):
        problem = _conflict_with_data(cell) or architecture.conflict(cell)
        problem = problem or own_network.conflict(cell) or statistics.conflict(cell)
        problem = problem or initializers.conflict(cell) or measurements.conflict(cell)
        if problem:
            raise errors.ConfigError(f"{where}.{problem}")


def _check_spellings(cells: Sequence[Cell], source: str) -> None:
    """Refuse one network under two ids, which would be trained and counted twice."""
    known: dict[Cell, Cell] = {}
    if any(cell.layer_initializers or cell.bias_initializer.name == "constant" for cell in cells):
        for cell in cells:
            other = known.setdefault(initializers.in_one_spelling(cell), cell)
            if other == cell:
                continue
            for key in ("layer_initializers", "bias_initializer"):
                one, two = (str(c.column(key)) or "none" for c in (other, cell))
                if one != two:
                    raise errors.ConfigError(
                        f"{errors.place(source, 'grid')}: {key} {errors.show(one)} and "
                        f"{errors.show(two)} are the same network (depth {cell.depth}, initializer "
                        f"{cell.initializer.label}); leave one of them out"
                    )


def _conflict_with_data(cell: Cell) -> str | None:
    """Return what is wrong with a cell's data set or how it is trained on it."""
    if len(shard_name(cell)) > LONGEST_NAME:
        return (
            f"dataset: {errors.show(cell.dataset.label)} names files, and is too long for it: "
            f"{len(shard_name(cell))} characters with what follows; allowed: {LONGEST_NAME}"
        )
    problem = datasets.conflict(cell.dataset)
    if problem:
        return f"dataset: {errors.show(cell.dataset.label)} can't be made: {problem}"
    examples, _, _, classes = datasets.sizes(cell.dataset)
    if cell.loss == "binary_cross_entropy" and classes != 2:
        has = f"has {classes} classes" if classes else "is one of regression"
        return f"loss: {cell.loss} needs two classes; {errors.show(cell.dataset.label)} {has}"
    if cell.batch_size > examples:
        return (
            f"batch_size: {cell.batch_size} is larger than the training set of "
            f"{errors.show(cell.dataset.label)}; allowed: 1 to {examples}"
        )
    steps = measurements.total_steps(cell, examples)
    warm_up = SCHEDULES.parameters_of(cell.schedule)["warm_up"]
    if 0 < steps <= warm_up:
        return (
            f"schedule.warm_up: {warm_up} steps, but training ends after {steps}; allowed: 0 to "
            f"{steps - 1}"
        )
    return None
