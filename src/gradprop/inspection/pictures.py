"""The figures of a report on one network, or on two, in the project's style.

A figure has one or two runs, by the letters that stand for them in legends (empty for a single
one). Its alternative text says what can be seen. Exact zeros and what was not measured leave gaps.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from gradprop.advice import Limits
from gradprop.inspection.runs import Run
from gradprop.report.pictures import data_uri, svg_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGNAL, GRADIENT, RATIO = "signal_log10_rms", "gradient_log10_rms", "log10_update_ratio"
LENGTH = "preactivation_log10_mean_square"
Runs = Mapping[str, Run]


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Attributes
    ----------
    id, title, caption, alt
        Anchor, heading, explanation and alternative text.
    source
        Data URI of the SVG.
    width, height
        Size in CSS pixels.
    """

    id: str
    title: str
    caption: str
    alt: str
    source: str
    width: int
    height: int


@contextmanager
def own_style() -> Iterator[None]:
    """Draw in the project's style, and leave the user's settings and backend as they were."""
    backend = mpl.get_backend()
    with mpl.rc_context():
        from gradprop.figures import style

        mpl.use("Agg")
        style.use_own()
        try:
            yield
        finally:
            mpl.use(backend)


def _picture(figure: Any, name: str, title: str, caption: str, alt: str) -> Picture:
    from gradprop.figures import style

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figure.svg")
        style.save(figure, [path])
        content = path.read_bytes()
    width, height = svg_size(content.decode("utf-8"), name)
    return Picture(name, title, caption, alt, data_uri(content, "svg"), width, height)


def all_of(run: Run) -> dict[str, Picture]:
    """Return the figures of a run, by name; those that there is nothing to draw of are left out."""
    runs = {"": run}
    with own_style():
        drawn = [
            _heat_map(run, GRADIENT, "gradients", "RMS of dC/dW"),
            _heat_map(run, SIGNAL, "signals", "RMS of dC/dz"),
            by_layer(runs),
            _factors(run),
            _by_time(run),
            losses(runs),
            _updates(run),
        ]
    return {picture.id: picture for picture in drawn if picture}


def of_two(runs: Runs) -> dict[str, Picture]:
    """Return the figures that compare runs, by name."""
    with own_style():
        drawn = [losses(runs), by_layer(runs)]
    return {picture.id: picture for picture in drawn if picture}


def _heat_map(run: Run, column: str, name: str, quantity: str) -> Picture | None:
    """Draw layers by steps; nothing of a single step."""
    from gradprop.figures import style

    rows = run.layers[run.layers["layer"].isin(run.judged["layer"])]
    table = rows.pivot(index="layer", columns="step", values=column).astype(float)
    values = table.where(np.isfinite(table))
    if len(values.columns) < 2 or not values.notna().any(axis=None):
        return None
    figure, (axes,) = style.panels(1, height=max(2.2, min(5.0, 0.16 * len(values))))
    colours = mpl.colormaps["viridis"].with_extremes(bad="#d9d9d9")
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap=colours)
    axes.grid(visible=False)
    for axis, labels in ((axes.xaxis, table.columns), (axes.yaxis, table.index)):
        places = _spread(len(labels), 12)
        axis.set_ticks(places, [str(labels[place]) for place in places])
    style.finish(figure, [], xlabel="step (as probed)", ylabel="layer", right=style.BAR)
    style.colour_bar(figure, image, f"log$_{{10}}$ {quantity}")
    layer_of, step_of = list(values.index), list(values.columns)
    numbers = values.to_numpy(np.float64)
    low, low_step = np.unravel_index(np.nanargmin(numbers), numbers.shape)
    high, high_step = np.unravel_index(np.nanargmax(numbers), numbers.shape)
    alt = (
        f"Heat map of log10 {quantity}, {len(values)} layers by {len(values.columns)} probed "
        f"steps. The smallest is {np.nanmin(numbers):.2f} in layer {layer_of[low]} at step "
        f"{step_of[low_step]}, the largest {np.nanmax(numbers):.2f} in layer {layer_of[high]} at "
        f"step {step_of[high_step]}; {_gaps(table)} are exactly zero, not finite or not measured."
    )
    caption = (
        "Layers from the inputs (top) to the outputs; grey: zero, not finite, or not measured."
    )
    return _picture(figure, name, f"{quantity} of every layer at every probe", caption, alt)


def _gaps(table: pd.DataFrame) -> str:
    gaps = int((~np.isfinite(table.to_numpy(np.float64))).sum())
    return "no fields" if gaps == 0 else "1 field" if gaps == 1 else f"{gaps} fields"


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` places among `count`, evenly spread, both ends among them."""
    return sorted({round(x) for x in np.linspace(0, count - 1, min(count, most))})


def _ends(run: Run) -> list[int]:
    """Return the first and the last probed step, once if they are one."""
    steps = run.layers["step"]
    return list(dict.fromkeys((int(steps.min()), int(steps.max()))))


def _looks(run: Run) -> dict[int, dict[str, Any]]:
    """Return how lines of the first and of the last probed step are drawn."""
    from gradprop.figures import style

    looks = ((style.SOLID, style.CIRCLE), (style.DASHED, "x"))
    return {
        step: {"linestyle": dash, "marker": marker, "markersize": 3}
        for step, (dash, marker) in zip(_ends(run), looks, strict=False)
    }


def _powers_by_count(axes: Any, title: str) -> None:
    """Label a panel of powers of ten over whole numbers."""
    from gradprop.figures import style

    axes.set_title(title)
    style.powers_of_ten(axes.yaxis)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))


def _profile(run: Run, column: str, step: int) -> pd.Series[float]:
    """Return a column by layer at a step, NaN where it is not finite."""
    rows = run.layers[(run.layers["step"] == step) & run.layers["layer"].isin(run.judged["layer"])]
    values = rows.set_index("layer")[column].astype(float)
    return values.where(np.isfinite(values))


def predicted(run: Run) -> pd.Series[float]:
    """Return log10 RMS dC/dz by layer as theory has it, from the last hidden layer towards inputs.

    ``s_l = s_(l+1) + log10(chi_1 n_(l+1) / n_l) / 2`` with the number n of units, from the measured
    signal of the layer behind the last of `Run.causes`; it ends where theory does not speak.
    """
    chi_1: dict[int, float] = dict(zip(run.causes["layer"], run.causes["chi_1"], strict=True))
    units: dict[int, int] = dict(zip(run.judged["layer"], run.judged["fan_out"], strict=True))
    measured: dict[int, float] = {}
    if SIGNAL in run.layers:
        profile = _profile(run, SIGNAL, _ends(run)[0])
        measured = dict(zip(profile.index, profile, strict=True))
    found: dict[int, float] = {}
    for here, after in reversed(list(itertools.pairwise(units))):
        if here not in chi_1:
            if found:
                break
            continue
        found.setdefault(after, measured.get(after, math.nan))
        factor = chi_1[here] * units[after] / units[here]
        found[here] = found[after] + 0.5 * math.log10(factor) if factor > 0 else math.nan
    return pd.Series(found, dtype=float).sort_index()


def by_layer(runs: Runs) -> Picture | None:
    """Draw signal, gradient and length by layer: at the first and last probe, and as predicted."""
    from matplotlib.lines import Line2D

    from gradprop.figures import style

    panels = {SIGNAL: "RMS of dC/dz", GRADIENT: "RMS of dC/dW", LENGTH: "mean square of z"}
    panels = {
        name: text for name, text in panels.items() if all(name in r.layers for r in runs.values())
    }
    if not panels:
        return None
    figure, axes = style.panels(len(panels), height=2.5)
    handles, sentences = [], []
    drawn: dict[str, Any]
    for number, (letter, run) in enumerate(runs.items()):
        colour = style.COLOURS[number]
        for step, look in _looks(run).items():
            drawn = {"color": colour, **look}
            for axis, column in zip(axes, panels, strict=True):
                values = _profile(run, column, step)
                axis.plot(values.index, values, **drawn)
            label = f"{letter}: step {step}" if letter else f"step {step}"
            handles.append(Line2D([], [], label=label, **drawn))
            sentences.append(_trend(run, letter, step))
        line = predicted(run)
        if SIGNAL in panels and line.notna().sum() > 1:
            drawn = {"color": style.KIN.get(colour, style.GREY), "linestyle": style.DOTTED}
            axes[0].plot(line.index, line, **drawn)
            name = f"{letter}: predicted" if letter else "predicted from the weights"
            handles.append(Line2D([], [], label=name, **drawn))
            sentences.append(_forecast(line, letter))
    for axis, text in zip(axes, panels.values(), strict=True):
        _powers_by_count(axis, text)
    style.finish(figure, handles, xlabel="layer", ylabel="")
    caption = (
        "Layers are counted from the inputs. The prediction is that of chi_1, from the measured "
        "variance of the weights as they began; there is none where theory does not speak."
    )
    title = "Signal, gradient and length by layer"
    return _picture(figure, "by-layer", title, caption, " ".join(filter(None, sentences)))


def _trend(run: Run, letter: str, step: int) -> str:
    """Say how the signal of the hidden layers changes from the last to the first."""
    if SIGNAL not in run.layers:
        return ""
    values = _profile(run, SIGNAL, step).iloc[:-1].dropna()
    of = f"In {letter}, " if letter else ""
    if len(values) < 2:
        return f"{of}at step {step} fewer than two hidden layers have a signal."
    first, last = values.index[0], values.index[-1]
    return (
        f"{of}at step {step} log10 RMS dC/dz is {values.iloc[-1]:.2f} in hidden layer {last} and "
        f"{values.iloc[0]:.2f} in layer {first}."
    )


def _forecast(line: pd.Series[float], letter: str) -> str:
    known = line.dropna()
    of = f"In {letter} theory" if letter else "Theory"
    return f"{of} predicts {known.iloc[0]:.2f} in layer {known.index[0]}."


def _factors(run: Run) -> Picture | None:
    """Draw the factor per layer of the sum of squares of dC/dz, predicted and measured."""
    from gradprop.figures import style

    table = run.causes.astype({"chi_1": float, "measured": float})  # objects where all is missing
    table = table[(table["chi_1"] > 0) & (table["measured"] > 0)]
    table = table[np.isfinite(table["measured"])]
    if table.empty:
        return None
    figure, (axes,) = style.panels(1, height=2.4)
    looks = {
        "chi_1": (
            "predicted: variance of the weights × fan-in over what the activation needs",
            "s",
        ),
        "measured": ("measured", "o"),
    }
    handles = [
        axes.plot(
            table["layer"], table[column], marker=marker, markersize=4, color=colour, label=name
        )[0]
        for (column, (name, marker)), colour in zip(looks.items(), style.COLOURS, strict=False)
    ]
    axes.axhline(1.0, color=style.GREY, linewidth=0.8)
    axes.set_yscale("log")
    _numbers_where_few(axes, [*table["chi_1"], *table["measured"]])
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    style.finish(figure, handles, xlabel="layer", ylabel="factor per layer")
    alt = (
        f"Factors per layer of the sum of squares of dC/dz in {len(table)} layers: predicted from "
        f"{table['chi_1'].min():.3g} to {table['chi_1'].max():.3g}, median "
        f"{table['chi_1'].median():.3g}; measured from {table['measured'].min():.3g} to "
        f"{table['measured'].max():.3g}, median {table['measured'].median():.3g}. "
        "Gradients keep their size where it is 1."
    )
    caption = "Below 1 gradients shrink towards the inputs, above 1 they grow."
    return _picture(figure, "factors", "Factor per layer, predicted and measured", caption, alt)


def _numbers_where_few(axes: Axes, values: Sequence[float]) -> None:
    """Label a logarithmic axis of less than two decades with numbers."""
    from gradprop.figures import style

    low, high = min(*values, 1.0) / 1.15, max(*values, 1.0) * 1.15
    axes.set_ylim(low, high)
    if high < 100 * low:
        style.plain_ticks(axes.yaxis)


def losses(runs: Runs) -> Picture | None:
    """Draw losses by step, and the loss of guessing."""
    from matplotlib.lines import Line2D

    from gradprop.figures import style

    if max(len(run.steps) for run in runs.values()) < 2:
        return None
    figure, (axes,) = style.panels(1, height=2.4)
    handles, sentences = [], []
    seen: list[float] = []
    drawn: dict[str, Any]
    for number, (letter, run) in enumerate(runs.items()):
        steps = run.steps.sort_values("step")
        of = f"{letter}: " if letter else ""
        kinds = {
            "minibatch_loss": ("minibatch", style.SOLID),
            "test_loss": ("validation", style.DASHED),
        }
        for column, (name, dash) in kinds.items():
            values = steps[column].astype(float) if column in steps else pd.Series(dtype=float)
            if not np.isfinite(values).any():
                continue
            drawn = {
                "color": style.COLOURS[number],
                "linestyle": dash,
                "marker": ".",
                "markersize": 4,
            }
            axes.plot(steps["step"], values.where(np.isfinite(values)), **drawn)
            handles.append(Line2D([], [], label=f"{of}{name}", **drawn))
            seen.extend(values[np.isfinite(values)])
        sentences.append(_course(steps, letter))
        guess = float(steps["guessing_loss"].iloc[0])
        if guess > 0:
            drawn = {"color": style.COLOURS[number], "linestyle": style.DOTTED}
            axes.axhline(guess, **drawn)
            handles.append(Line2D([], [], label=f"{of}guessing", **drawn))
            sentences.append(f"Guessing has {guess:.3g}.")
    if seen and min(seen) > 0 and max(seen) > 20 * min(seen):
        axes.set_yscale("log")
    _steps(axes)
    style.finish(figure, handles, xlabel="step", ylabel="loss")
    caption = "Losses of the minibatches that were probed; steps are drawn to a logarithmic scale."
    return _picture(figure, "loss", "Loss", caption, " ".join(sentences))


def _steps(axes: Axes) -> None:
    """Draw steps to a logarithmic scale that has room for step 0."""
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.2)


def _course(steps: pd.DataFrame, letter: str) -> str:
    of = f" of {letter}" if letter else ""
    first, last = steps.iloc[0], steps.iloc[-1]
    return (
        f"The minibatch loss{of} goes from {first['minibatch_loss']:.3g} at step "
        f"{int(first['step'])} to {last['minibatch_loss']:.3g} at step {int(last['step'])}."
    )


def _by_time(run: Run) -> Picture | None:
    """Draw dC/dx by time step of every recurrent layer, at the first and the last probe."""
    from matplotlib.lines import Line2D

    from gradprop.figures import style

    rows = run.times
    if rows.empty or not np.isfinite(rows["input_signal_log10_rms"].astype(float)).any():
        return None
    figure, (axes,) = style.panels(1, height=2.5)
    handles, sentences = [], []
    names = rows.drop_duplicates("layer").set_index("layer")["name"]
    for colour, (layer, name) in zip(itertools.cycle(style.COLOURS), names.items()):
        for step, look in _looks(run).items():
            chosen = rows[(rows["layer"] == layer) & (rows["step"] == step)].set_index("time")
            values = chosen["input_signal_log10_rms"].astype(float)
            values = values.where(np.isfinite(values))
            drawn = {"color": colour, **look}
            axes.plot(values.index, values, **drawn)
            label = f"{name}, step {step}" if len(names) > 1 else f"step {step}"
            handles.append(Line2D([], [], label=label, **drawn))
            known = values.dropna()
            if len(known) > 1:
                sentences.append(
                    f"At step {step} log10 RMS of dC/dx of {name} is {known.iloc[0]:.2f} at time "
                    f"step {known.index[0]} and {known.iloc[-1]:.2f} at {known.index[-1]}."
                )
    _powers_by_count(axes, "RMS of dC/dx")
    style.finish(figure, handles, xlabel="time step", ylabel="")
    caption = (
        "Derivatives by the inputs x of recurrent layers, in the order in which a layer takes the "
        "time steps; what is exactly zero, and steps that all examples mask, are left out."
    )
    title = "Signal from time step to time step"
    return _picture(figure, "by-time", title, caption, " ".join(sentences))


def _updates(run: Run) -> Picture | None:
    """Draw the update-to-weight ratio by step: smallest, median and largest over the layers."""
    from gradprop.figures import style

    if RATIO not in run.layers:
        return None
    rows = run.layers[run.layers["layer"].isin(run.judged["layer"])]
    rows = rows[np.isfinite(rows[RATIO].astype(float))]
    if rows.empty:
        return None
    spread = rows.groupby("step")[RATIO].agg(["min", "median", "max"])
    figure, (axes,) = style.panels(1, height=2.4)
    names = {"max": "largest layer", "median": "median", "min": "smallest layer"}
    handles = [
        axes.plot(spread.index, spread[key], marker=".", markersize=4, color=colour, label=name)[0]
        for (key, name), colour in zip(names.items(), style.COLOURS, strict=False)
    ]
    limits = Limits()
    for bound in (limits.small_updates, limits.large_updates):
        axes.axhline(math.log10(bound), color=style.GREY, linewidth=0.8, linestyle=style.DOTTED)
    _steps(axes)
    style.powers_of_ten(axes.yaxis)
    style.finish(figure, handles, xlabel="step", ylabel="update-to-weight ratio")
    first, last = spread.iloc[0], spread.iloc[-1]
    alt = (
        f"log10 of the update-to-weight ratio: median over layers {first['median']:.2f} at step "
        f"{spread.index[0]} and {last['median']:.2f} at step {spread.index[-1]}, where layers lie "
        f"between {last['min']:.2f} and {last['max']:.2f}."
    )
    caption = (
        f"Dotted: the usual bounds, {limits.small_updates:g} and {limits.large_updates:g} "
        "(Karpathy, CS231n)."
    )
    return _picture(figure, "updates", "Update-to-weight ratio", caption, alt)
