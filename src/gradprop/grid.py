"""From the configuration to cells, and from cells to the stacks and shards that train them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from gradprop import (
    architecture,
    config,
    datasets,
    files,
    initializers,
    measurements,
    optimizers,
    statistics,
)
from gradprop.errors import GradpropError
from gradprop.spec import REPLICA_FIELDS, Cell, Component, Scalar, Shard, Stack, Study, digest
from gradprop.statistics import PRESETS, STATISTICS

# Figures of the mechanism compare with these networks.
NEEDED_INITIALIZERS = {
    "product_output": Component("identity"),
    "product_gradient": Component("identity"),
    "float_limits": Component("identity"),
    "random_products": Component("variance_scaling"),
}
LONGEST_NAME = 200  # of a shard; file systems allow 255 bytes, endings included
_COMPONENTS = {
    "dataset": datasets.create,
    "initializer": initializers.create,
    "optimizer": optimizers.create,
    "widths": architecture.create_widths,
    "normalization": architecture.create_normalization,
    "clipping": architecture.create_clipping,
}
# What every grid block has to set, by itself or through the study's `training`.
REQUIRED = tuple(f.name for f in fields(Cell) if f.default is MISSING and f.name != "seed")

_TYPES = {"int": int, "float": float, "str": str, "bool": bool}
# Axes that cells may differ in and all be right or all be wrong (`_check_cells`).
_UNCHECKED = ("seeds", "learning_rate", "bias_std", "target_loss")


def load_studies(
    document: Mapping[str, Any],
    source: str,
    study_folders: Sequence[Path],
    schemas: Path,
    parts: Mapping[str, Mapping[str, Any]] | None = None,
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
    parts
        What `document` was merged from, by name, the last one first in rank: a mistake is told
        with the name of the part that it stands in.

    Returns
    -------
    dict
        The studies by name, in the order of the configuration.

    Raises
    ------
    gradprop.config.ConfigError
        If anything is wrong; nothing has been written then.
    """
    config_schema = config.read_yaml(schemas / "config.schema.yaml")
    for name, part in (parts or {}).items():
        config.validate(part, {**config_schema, "required": []}, name)
        source = name if "studies" in part else source
    config.validate(document, config_schema, source)
    seeds = document.get("seeds", config_schema["properties"]["seeds"]["default"])
    schema = config.read_yaml(schemas / "study.schema.yaml")
    files = {p.stem: p for folder in reversed(study_folders) for p in folder.glob("*.yaml")}
    most = read_limits(document, schemas)["cells"]
    studies, total = {}, 0
    for name in document["studies"]:
        if name not in files:
            raise config.unknown("studies", name, sorted(files), source)
        content = config.read_yaml(files[name])
        config.validate(content, schema, str(files[name]))
        cells = count_cells(content, seeds)
        total += cells
        if total > most:
            before = f", {total:,} with the studies before" if total > cells else ""
            raise config.ConfigError(
                f"{files[name]}: grid: {cells:,} cells{before}; allowed: {most:,} (limits.cells in "
                f"{source})"
            )
        studies[name] = build_study(name, content, seeds, source=str(files[name]))
        _check_names(content.get("names", {}), studies[name].cells, str(files[name]))
    return studies


def read_limits(document: Mapping[str, Any], schemas: Path) -> dict[str, float]:
    """Return the limits of a configuration, those that it leaves out at their defaults."""
    schema = config.read_yaml(schemas / "config.schema.yaml")["properties"]["limits"]
    defaults = {key: value["default"] for key, value in schema["properties"].items()}
    return {**defaults, **document.get("limits", {})}


def build_study(name: str, content: Mapping[str, Any], seeds: int, source: str) -> Study:
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

    Raises
    ------
    gradprop.config.ConfigError
        If a block of the grid lacks a parameter or has an axis without values.
    """
    cells: list[Cell] = []
    blocks = _blocks(content, seeds)
    for key, block in blocks.items():
        where = config.place(source, key)
        _check_block(block, where)
        _check_cells(block, where)
        cells.extend(expand(block))
    if len(blocks) > 1:  # one alone repeats nothing
        cells = list(dict.fromkeys(cells))
    recorded = statistics.canonical(content.get("statistics", "standard"))
    for figure, options in content.get("figures", {}).items():
        _check_figure(options, recorded, cells, config.place(source, "figures", figure))
    return Study(
        name=name,
        title=content["title"],
        question=content["question"],
        cells=tuple(cells),
        figures=content.get("figures", {}),
        names={canonical_label(key): value for key, value in content.get("names", {}).items()},
        definition={"name": name, "content": content, "seeds": seeds},
    )


def count_cells(content: Mapping[str, Any], seeds: int) -> int:
    """Return the number of cells of a study's grid without making them, repetitions included."""
    return sum(
        math.prod(len(_written_values(key, value)) for key, value in block.items())
        for block in _blocks(content, seeds).values()
    )


def _blocks(content: Mapping[str, Any], seeds: int) -> dict[str, dict[str, Any]]:
    """Return the blocks of a grid with what they share, by the key at which each stands."""
    shared = {**content.get("training", {}), "probes": content.get("probes", 10)}
    shared["statistics"] = statistics.canonical(content.get("statistics", "standard"))
    shared["measurements"] = content.get("measurements", [])
    grid = content["grid"]
    blocks = {"grid": grid}
    if isinstance(grid, list):
        blocks = {f"grid[{number}]": block for number, block in enumerate(grid)}
    return {key: {"seeds": seeds, **shared, **block} for key, block in blocks.items()}


def cell_definition(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's definition without what its cells do not depend on."""
    content = {k: v for k, v in definition["content"].items() if k not in ("figures", "names")}
    return {**definition, "content": {**content, "title": "", "question": ""}}


def definition_path(folder: Path, study: Study, part: str) -> Path:
    """Return the file in a study's results that holds its definition.

    Parameters
    ----------
    folder
        Results of the study.
    study
        The study.
    part
        ``study`` for all of it, ``grid`` for what its cells depend on.
    """
    definition = study.definition if part == "study" else cell_definition(study.definition)
    return folder / f"{part}.{digest(definition)}.json"


def write_definition(source: Path, seeds: int, path: Path) -> None:
    """Write the definition of a study, from which its jobs build it again.

    Parameters
    ----------
    source
        The study's YAML file.
    seeds
        Number of seeds of a grid block that does not set its own.
    path
        ``study.json`` or ``grid.json`` in the study's results; with the digest of the definition
        before the ending it replaces those with another.

    Raises
    ------
    gradprop.config.ConfigError
        If the file has another definition than the name says.
    """
    definition = {"name": source.stem, "content": config.read_mapping(source), "seeds": seeds}
    part, *stated = path.name.split(".")[:-1]
    if part == "grid":
        definition = cell_definition(definition)
    if stated and stated != [digest(definition)]:
        raise config.ConfigError(f"{source}: changed since the workflow was started; start again")
    for older in path.parent.glob(f"{part}.*.json") if stated else ():
        older.unlink()
    files.write_text(path, json.dumps(definition, indent=1) + "\n")


def discard_damaged(path: Path) -> str:
    """Remove a study's definition unless it is as it was written; return why, or nothing."""
    if not path.exists():
        return ""
    try:
        read_definition(path)
    except GradpropError:
        path.unlink()
        return f"{path}: damaged or edited, and removed"
    return ""


def read_study(path: Path) -> Study:
    """Read a study back from the JSON file that holds its `Study.definition`.

    Raises
    ------
    gradprop.config.ConfigError
        If the file holds something else, or something else than the digest in its name says.
    gradprop.files.FileError
        If it cannot be read.
    """
    definition = read_definition(path)
    try:
        return build_study(**definition, source=str(path))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {config.cut(str(error))}"
        raise config.ConfigError(f"{path}: not the definition of a study ({problem})") from error


def read_definition(path: Path) -> dict[str, Any]:
    """Read what `write_definition` wrote; `read_study` builds the study that it defines."""
    definition = files.read_json(path, dict)
    if definition.keys() != {"name", "content", "seeds"}:
        raise config.ConfigError(f"{path}: not the definition of a study")
    stated = path.name.split(".")[1:-1]
    if stated and stated != [digest(definition)]:
        raise config.ConfigError(
            f"{path}: damaged or edited; delete it, and it is made again: snakemake --cores 4"
        )
    return definition


def select(cells: Sequence[Cell], wanted: Mapping[str, Any]) -> list[Cell]:
    """Return the cells whose parameters are among those wanted.

    Parameters
    ----------
    cells
        Cells of one study.
    wanted
        For cell parameters a value or a list of values; components by their label.
    """
    allowed = {key: _wanted_values(key, value) for key, value in wanted.items()}
    return [
        cell for cell in cells if all(cell.column(key) in values for key, values in allowed.items())
    ]


def deepest(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of the largest depth among them: layers then mean the same in all."""
    depth = max((cell.depth for cell in cells), default=0)
    return [cell for cell in cells if cell.depth == depth]


def _wanted_values(key: str, value: Any) -> dict[Scalar, Scalar]:
    """Return the values of a parameter that a figure selects, and how they are written there."""
    values = value if isinstance(value, list) else [value]
    return {canonical_label(v) if key in _COMPONENTS else v: v for v in values}


def canonical_label(label: str) -> str:
    """Return a component's label without parameters at their default: normal(stddev=0.01)."""
    try:
        component = Component.parse(label)
    except ValueError:
        return label
    for create in _COMPONENTS.values():
        try:
            return create(component.document()).label
        except (KeyError, ValueError, OverflowError):
            continue
    return label


def _check_names(names: Mapping[str, str], cells: Sequence[Cell], source: str) -> None:
    """Raise a `ConfigError` for a label that no cell has, or a name that can't be drawn."""
    known = dict.fromkeys(str(cell.column(key)) for cell in cells for key in _COMPONENTS)
    for label, name in names.items():
        where = config.place(source, "names", label)
        if canonical_label(label) not in known:
            raise config.ConfigError(f"{where}: {config.not_allowed(label, list(known))}")
        if problem := _formula_problem(name):
            raise config.ConfigError(f"{where}: {config.show(name)} {problem}")


def _formula_problem(text: str) -> str | None:
    """Return why matplotlib can't draw a text with formulas in it, None if it can."""
    dollars = text.count("$") - text.count(r"\$")
    if not dollars:
        return None
    if dollars % 2:
        return r"has a formula without end; write \$ for a dollar sign"
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError as error:
        reason = str(error).strip().splitlines()[-1].partition(", found")[0]
        return f"has a formula that can't be drawn: {reason}"
    return None


def _check_figure(
    options: Mapping[str, Any], chosen: str, cells: Sequence[Cell], where: str
) -> None:
    """Raise a `ConfigError` for a figure that this grid can't give."""
    for key, value in options.get("select", {}).items():
        known = dict.fromkeys(cell.column(key) for cell in cells)
        for item, written in _wanted_values(key, value).items():
            if item not in known:
                raise config.unknown(f"select.{key}", str(written), list(map(str, known)), where)
    if not select(cells, options.get("select", {})):
        raise config.ConfigError(
            f"{where}.select: no cell has all of {config.show(options['select'])}"
        )
    groups = [options[key] for key in ("rows", "columns", "hue") if key in options]
    if options["kind"] in ("atlas", "divergence", "steps_to_target"):
        groups.append("depth")  # their horizontal axis
    for name in groups:
        if groups.count(name) > 1:
            raise config.ConfigError(f"{where}: {name} divides the figure twice")
    named = options.get("statistic", [])
    drawn = [("statistic", name) for name in (named if isinstance(named, list) else [named])]
    drawn += (
        [("band", options["band"])]
        if options["kind"] == "layer_curves" and "band" in options
        else []
    )
    for key, name in drawn:
        recorded = statistics.recorded(chosen)
        if name in STATISTICS and name not in recorded:
            source = chosen if chosen in PRESETS else "the study's list"
            raise config.unknown(key, name, recorded, f"{where} ({source})")
    needed = NEEDED_INITIALIZERS.get(options["kind"])
    if needed and not any(cell.initializer == needed for cell in cells):
        raise config.ConfigError(
            f"{where}: kind {options['kind']} needs the initializer {needed.label} in the grid"
        )
    if options["kind"] == "histograms":
        _check_bins(options, named if isinstance(named, list) else [named], cells, where)


def _check_bins(
    options: Mapping[str, Any], quantities: Sequence[str], cells: Sequence[Cell], where: str
) -> None:
    """Raise a `ConfigError` unless all networks of a figure of histograms have the same bins."""
    at = options.get("at", "start")
    chosen = select(cells, options.get("select", {}))
    measured = dict.fromkeys(cell.measurements for cell in chosen)
    found = [measurements.measured(choice).get("histograms") for choice in measured]
    shown = [one for one in found if one and one["at"] in (at, "both", "probes")]
    if not shown:
        raise config.ConfigError(
            f"{where}: kind histograms needs the measurement histograms, made at the {at}, in a "
            "block of the grid"
        )
    for name in quantities:
        bins = {(one["bins"], one[name]) for one in shown}
        if len(bins) > 1 or shown[0][name] == 0:
            raise config.ConfigError(
                f"{where}: kind histograms needs the same bins in all layers and networks: give "
                f"the measurement histograms one range `{name}` above 0, and one number of `bins`"
            )


def _check_block(block: Mapping[str, Any], where: str) -> None:
    missing = [name for name in REQUIRED if name not in block]
    if missing:
        raise config.ConfigError(
            f"{where}: missing key: {', '.join(missing)}; every block needs it, in the block or "
            "in training"
        )
    for key, value in block.items():
        if isinstance(value, Mapping) and "from" in value and value["to"] < value["from"]:
            shown = config.show(dict(value))
            raise config.ConfigError(f"{where}.{key}: {shown} is empty: to is less than from")
        if isinstance(value, list) and key != "measurements":
            seen: set[Any] = set()
            for item in axis_values(key, value):
                if item in seen:
                    shown = config.show(item.label if isinstance(item, Component) else item)
                    raise config.ConfigError(f"{where}.{key}: {shown} stands twice in the list")
                seen.add(item)
    try:
        measurements.canonical(block["measurements"])
    except measurements.MeasurementError as error:
        raise config.ConfigError(f"{where}.measurements: {error}") from None


def _check_cells(block: Mapping[str, Any], where: str) -> None:
    """Check the cells of a block, one for all that differ in nothing that is checked."""
    alike = {key: axis_values(key, block[key])[:1] for key in _UNCHECKED if key in block}
    for cell in expand({**block, **alike}):
        problem = _conflict_with_data(cell) or architecture.conflict(cell)
        problem = problem or measurements.conflict(cell)
        if problem:
            raise config.ConfigError(f"{where}.{problem}")


def _conflict_with_data(cell: Cell) -> str | None:
    """Return what is wrong with a cell's data set or how it is trained on it."""
    if len(shard_name(cell)) > LONGEST_NAME:
        return (
            f"dataset: {config.show(cell.dataset.label)} names files, and is too long for it: "
            f"{len(shard_name(cell))} characters with what follows; allowed: {LONGEST_NAME}"
        )
    problem = datasets.conflict(cell.dataset)
    if problem:
        return f"dataset: {config.show(cell.dataset.label)} can't be made: {problem}"
    examples = datasets.sizes(cell.dataset).training
    if cell.batch_size > examples:
        return (
            f"batch_size: {cell.batch_size} is larger than the training set of "
            f"{config.show(cell.dataset.label)}; allowed: 1 to {examples}"
        )
    return None


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
    if key == "measurements":
        return [measurements.canonical(value)]
    convert = _COMPONENTS.get(key) or _TYPES[_field_type("seed" if key == "seeds" else key)]
    return [convert(item) for item in _written_values(key, value)]


def _written_values(key: str, value: Any) -> Sequence[Any]:
    """Return the values of an axis as they are written; a range takes no memory."""
    if key == "measurements":  # a list of what is measured together, not an axis
        return [value]
    if key == "seeds" and not isinstance(value, (list, Mapping)):
        return range(int(value))
    if isinstance(value, Mapping) and "from" in value:
        first, last, step = (int(value.get(name, 1)) for name in ("from", "to", "step"))
        return range(first, last + 1, step)
    return value if isinstance(value, list) else [value]


def _field_type(name: str) -> str:
    return next(str(f.type) for f in fields(Cell) if f.name == name)


def stacks(cells: Sequence[Cell]) -> list[Stack]:
    """Group cells that differ in nothing but what may differ between replicas."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    shared = attrgetter(*(f.name for f in fields(Cell) if f.name not in REPLICA_FIELDS))
    for cell in cells:
        groups.setdefault(shared(cell), []).append(cell)
    return [Stack(tuple(group)) for group in groups.values()]


def shard_name(cell: Cell) -> str:
    """Return the name of the shard that a cell belongs to.

    Depths share a shard up to 32, from 33 to 64, from 65 to 128 and so on: deep networks, which
    take long, are trained in parallel, and shallow ones do not pay the import of TensorFlow for
    every depth. Networks that are only measured at initialization share one shard. At the end
    stand the tables of its measurements, if there are any (`measured_tables`).
    """
    span = "start"
    if cell.epochs:
        most = max(32, 1 << (cell.depth - 1).bit_length())
        span = f"depth{most // 2 + 1 if most > 32 else 0}to{most}"
    parts = [cell.dataset.slug, f"width{cell.width}", span]
    return "-".join([*parts, *measurements.measured(cell.measurements)])


def measured_tables(shard: str) -> list[str]:
    """Return the tables of measurements of a shard, by its name (`shard_name`)."""
    return shard.split("-")[3:]


def shards(cells: Sequence[Cell]) -> dict[str, Shard]:
    """Group cells into shards: one job and one file per table each."""
    groups: dict[str, list[Stack]] = {}
    for stack in stacks(cells):
        groups.setdefault(shard_name(stack.program), []).append(stack)
    return {name: Shard(name, tuple(group)) for name, group in groups.items()}


def shard_digest(shard: Shard) -> str:
    """Return a digest of the cells of a shard."""
    return digest(
        [
            [stack.program.id, [[c.column(name) for name in REPLICA_FIELDS] for c in stack.cells]]
            for stack in shard.stacks
        ]
    )
