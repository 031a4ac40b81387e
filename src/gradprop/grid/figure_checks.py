"""Checks that a figure can be drawn from the grid it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from gradprop import errors
from gradprop.grid.axes import PARAMETERS
from gradprop.grid.kinds import Needs
from gradprop.grid.selection import (
    canonical_label,
    canonical_names,
    drawn,
    select,
    wanted_values,
)
from gradprop.probes import measurements, statistics
from gradprop.probes.statistics import STATISTICS
from gradprop.spec import Cell, Component, Names, as_text


def check_names(names: Names, cells: Sequence[Cell], source: str) -> None:
    """Raise a `ConfigError` for a label that no cell has, or a name that can't be drawn."""
    for axis, named in names.items():
        known = dict.fromkeys(str(cell.column(axis)) for cell in cells)
        by_label = canonical_names({axis: named})[axis]
        for label, name in named.items():
            where = errors.place(source, "names", axis, label)
            if canonical_label(axis, label) not in known:
                labels = [known_label or "none" for known_label in known]
                raise errors.ConfigError(f"{where}: {errors.not_allowed(label, labels)}")
            other, problem = canonical_label(axis, name), _formula_problem(name)
            if other in known and by_label.get(other) != name != label:
                problem = "is the label of other networks in this grid"
            if problem:
                raise errors.ConfigError(f"{where}: {errors.show(name)} {problem}")


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


def check_figure(
    options: Mapping[str, Any],
    needs: Needs,
    chosen: str,
    cells: Sequence[Cell],
    names: Names,
    where: str,
) -> None:
    """Raise a `ConfigError` for a figure that this grid can't give.

    Parameters
    ----------
    options, needs
        The figure's, and what its kind needs.
    chosen
        The study's statistics.
    cells, names
        Its grid and its display names.
    where
        File and key, for messages.
    """
    for key, value in options.get("select", {}).items():
        known = dict.fromkeys(cell.column(key) for cell in cells)
        for item, written in wanted_values(key, value).items():
            if item not in known:
                labels = (str(label) or "none" for label in known)
                allowed = dict.fromkeys([*labels, *names.get(key, {}).values()])
                raise errors.unknown(f"select.{key}", str(written), list(allowed), where)
    if not select(cells, options.get("select", {})):
        raise errors.ConfigError(
            f"{where}.select: no cell has all of {errors.show(options['select'])}"
        )
    groups = _divided_by(options)
    if options["kind"] in ("atlas", "divergence", "steps_to_target"):
        groups.append("depth")  # their horizontal axis
    for name in groups:
        if groups.count(name) > 1:
            raise errors.ConfigError(f"{where}: {name} divides the figure twice")
    named = options.get("statistic", [])
    shown = [("statistic", name) for name in (named if isinstance(named, list) else [named])]
    shown += (
        [("band", options["band"])]
        if options["kind"] == "layer_curves" and "band" in options
        else []
    )
    for key, name in shown:
        if name in STATISTICS and name not in statistics.recorded(chosen):
            now = errors.cut(chosen)
            raise errors.ConfigError(
                f"{where}.{key}: {name} is not recorded; add it to `statistics` (now: {now})"
            )
    needed = needs.initializer
    if needed and not any(cell.initializer == needed for cell in cells):
        raise errors.ConfigError(
            f"{where}: kind {options['kind']} needs the initializer {needed.label} in the grid"
        )
    if options["kind"] == "histograms":
        _check_bins(options, named if isinstance(named, list) else [named], cells, where)
    _check_lines(options, needs, cells, names, where)


def _check_lines(
    options: Mapping[str, Any], needs: Needs, cells: Sequence[Cell], names: Names, where: str
) -> None:
    """Raise a `ConfigError` if networks of one line differ in more than their seed.

    They may differ in what the kind shows, and in components that the study gives one name.
    """
    axes = [*_divided_by(options), *needs.shows]
    if needs.architectures and options.get("hue") == "widths":
        axes.append("width")
    fixed = [f.name for f in PARAMETERS if f.name not in (*axes, "seed")]
    others, rest_of = [*fixed, "network"], attrgetter(*fixed)
    firsts: dict[Any, Any] = {}
    differing: dict[str, dict[Any, None]] = {name: {} for name in others}
    for cell in drawn(cells, options, needs):
        line = tuple(
            names.get(axis, {}).get(as_text(axis, value), value)
            for axis, value in ((axis, cell.value(axis)) for axis in axes)
        )
        rest = (*rest_of(cell), _without(cell.network, axes))
        first = firsts.setdefault(line, rest)
        if rest != first:
            for name, *values in zip(others, first, rest, strict=True):
                if values[0] != values[1]:
                    differing[name].update(dict.fromkeys(values))
    for network in differing.pop("network"):  # its arguments are parameters, too
        for name, value in network.parameters:
            differing.setdefault(name, {})[value] = None
    differing = {name: found for name, found in differing.items() if len(found) > 1}
    listed = " and ".join(f"{name} ({_listing(name, found)})" for name, found in differing.items())
    if listed:
        raise errors.ConfigError(
            f"{where}: a line would take networks together that differ in {listed}, as if they "
            "were seeds; give it to rows, columns or hue, or choose one value in select"
        )


def _without(network: Component, axes: Sequence[str]) -> Component:
    """Return what a study's own network is, without the parameters that divide the figure."""
    kept = tuple(pair for pair in network.parameters if pair[0] not in axes)
    return Component(network.name, kept)


def _listing(name: str, values: Iterable[Any]) -> str:
    return errors.cut(", ".join(str(as_text(name, value)) or "none" for value in values))


def _divided_by(options: Mapping[str, Any]) -> list[str]:
    return [options[key] for key in ("rows", "columns", "hue") if key in options]


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
        raise errors.ConfigError(
            f"{where}: kind histograms needs the measurement histograms, made at the {at}, in a "
            "block of the grid"
        )
    for name in quantities:
        bins = {(one["bins"], one[name]) for one in shown}
        if len(bins) > 1 or shown[0][name] == 0:
            raise errors.ConfigError(
                f"{where}: kind histograms needs the same bins in all layers and networks: give "
                f"the measurement histograms one range `{name}` above 0, and one number of `bins`"
            )
