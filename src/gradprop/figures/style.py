"""How figures look, and how they are saved: the same numbers give the same bytes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gradprop import files

LABELS = {
    "signal_log10_rms": "log$_{10}$ RMS of dC/dz",
    "gradient_log10_rms": "log$_{10}$ RMS of dC/dW",
    "gradient_log10_norm": "log$_{10}$ norm of dC/dW",
    "gradient_log10_snr": "log$_{10}$ signal-to-noise of dC/dW",
    "gradient_kurtosis": "kurtosis of dC/dW",
    "gradient_cosine": "cosine of dC/dW of two minibatches",
    "activation_correlation": "correlation of activations",
    "preactivation_correlation": "correlation of z",
    "log10_distance_from_start": "log$_{10}$ distance from initialization",
    "activation_std": "std of activations",
    "activation_mean": "mean activation",
    "activation_q98": "98 % quantile of activations",
    "gradient_std": "std of dC/dW",
    "activation_log10_mean_square": "log$_{10}$ mean square of activations",
    "preactivation_log10_mean_square": "log$_{10}$ mean square of z",
    "saturated_fraction": "saturated fraction",
    "dead_fraction": "dead fraction",
    "log10_update_ratio": "log$_{10}$ update-to-weight ratio",
    "train_loss": "training loss",
    "minibatch_loss": "loss of the minibatch",
    "test_loss": "test loss",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
    "train_error": "training error",
    "test_error": "test error",
    "final_train_accuracy": "final training accuracy",
    "final_test_accuracy": "final test accuracy",
    "final_train_loss": "final training loss",
    "final_test_loss": "final test loss",
    "steps_to_target": "steps to target loss",
    "learning_rate": "learning rate",
    "use_bias": "biases",
    "bias_std": "std of biases at initialization",
    "widths": "width profile",
    "residual": "residual connections",
    "batch_size": "batch size",
    "layers": "L =",
}

WIDTH = 10.0  # inches, of every figure
QUANTITY = re.compile(r"= [-+.e\d]+$")

# Okabe and Ito's colours (safe for colour-blind readers), then darker kin for long legends.
COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#4D4D4D",
    "#8C510A",
    "#762A83",
    "#B2182B",
]
DASHES = ["solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]

mpl.rcdefaults()  # whatever a matplotlibrc of the user says
sns.set_theme(
    context="paper",
    style="ticks",
    rc={
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "legend.fontsize": 9.5,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.5,
        "figure.dpi": 100,
        "savefig.dpi": 160,
        "svg.fonttype": "path",
        "svg.hashsalt": "gradprop",
        "pdf.fonttype": 42,
        "path.simplify": True,
    },
)


def label(name: str) -> str:
    """Return the text by which a column is called on an axis."""
    return LABELS.get(name, name.replace("_", " "))


def palette(values: Iterable[Any]) -> dict[Any, str]:
    """Return a colour for every value: a sequence for numbers, distinct hues for names.

    Names that end with the value of a quantity, ``σ_w² = 0.5``, are numbers.
    """
    unique = list(dict.fromkeys(values))
    if all(isinstance(value, (int, float)) or QUANTITY.search(value) for value in unique):
        colours = sns.color_palette("viridis", len(unique)).as_hex()
        return dict(zip(unique, colours, strict=True))
    return {value: COLOURS[number % len(COLOURS)] for number, value in enumerate(unique)}


def dashes(values: Iterable[Any]) -> dict[Any, Any]:
    """Return a line style for every value, so that colour is not the only difference."""
    unique = list(dict.fromkeys(values))
    per_round = len(COLOURS) // 2
    return {v: DASHES[(n // per_round) % len(DASHES)] for n, v in enumerate(unique)}


class _Facets(sns.FacetGrid):
    """Seaborn's grid without a layout of empty panels, which `finish` would make void."""

    def tight_layout(self, *_: Any, **__: Any) -> Self:
        """Do nothing."""
        return self


def grid(
    rows: pd.DataFrame,
    row: str | None,
    column: str | None,
    *,
    height: float | None = None,
    sharex: bool | str = True,
    sharey: bool | str = True,
    heights: Sequence[float] = (1.0,),
) -> sns.FacetGrid:
    """Return a seaborn grid of small multiples with one panel a value of `row` and `column`.

    All grids have the same total width, so that text has one size throughout the report; a
    single panel gets half of it. Panels are lower in several rows than in one. `heights` are those
    of successive rows in units of `height`, and are repeated.
    """
    if height is None:
        height = 1.9 if row is not None else 2.4
    height = max(height, 1.4)  # a panel needs room for its labels
    count = rows[row].nunique() if row is not None else 1
    ratios = [part for part, _ in zip(itertools.cycle(heights), range(count), strict=False)]
    height *= sum(ratios) / count
    columns = rows[column].nunique() if column is not None else 1
    width = WIDTH / max(columns, 2)
    facets = _Facets(
        rows,
        row=row,
        col=column,
        height=height,
        aspect=width / height,
        sharex=sharex,
        sharey=sharey,
        gridspec_kws={"height_ratios": ratios},
        margin_titles=True,
        despine=True,
    )
    facets.set_titles(
        row_template=_title(rows, row, "{row_name}"),
        col_template=_title(rows, column, "{col_name}"),
    )
    facets.set_axis_labels("", "")
    return facets


def _title(rows: pd.DataFrame, name: str | None, template: str) -> str:
    """Return the template of panel titles: numbers need their parameter's name before them."""
    if name is not None and pd.api.types.is_numeric_dtype(rows[name]):
        return f"{label(name)} {template}"
    return template


def title_of_numbers(values: pd.Series[Any], name: str) -> str | None:
    """Return the title of a legend of a parameter's values: its name if they are numbers."""
    if not pd.api.types.is_numeric_dtype(values):
        values = pd.to_numeric(values, errors="coerce")
    return label(name) if values.notna().all() else None


def panels(count: int, *, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels of `height` inches side by side."""
    figure, axes = plt.subplots(1, count, figsize=(WIDTH, height), sharey=sharey, squeeze=False)
    sns.despine(figure)
    return figure, list(axes[0])


def finish(
    figure: Figure,
    handles: Sequence[Any],
    *,
    xlabel: str,
    ylabel: str,
    legend_title: str | None = None,
    right: float = 1.0,
) -> Figure:
    """Put axis labels around all panels and one legend below them.

    Parameters
    ----------
    figure
        With its panels drawn.
    handles
        Entries of the legend; none for no legend.
    xlabel, ylabel
        Labels that all panels share.
    legend_title
        Heading of the legend.
    right
        Right edge of the panels, as a fraction of the width.
    """
    width, height = figure.get_size_inches()
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    columns = max(1, min(len(handles), int(width / (0.65 + 0.075 * longest))))
    rows = -(-len(handles) // columns) + (1 if legend_title else 0)
    below = 0.1 + 0.2 * rows if handles else 0.0
    total = height + below + 0.2
    figure.set_size_inches(width, total)
    if handles:
        figure.legend(
            handles=handles,
            title=legend_title,
            loc="lower center",
            ncols=columns,
            frameon=False,
            bbox_to_anchor=(0.5, 0.0),
        )
    left = 0.28 / width if ylabel else 0.0
    figure.tight_layout(
        rect=(left, (below + (0.14 if xlabel else 0.0)) / total, right, 1), h_pad=0.9
    )
    panels = [axes.get_position() for axes in figure.axes]
    across = (min(p.x0 for p in panels) + max(p.x1 for p in panels)) / 2
    upwards = (min(p.y0 for p in panels) + max(p.y1 for p in panels)) / 2
    figure.supxlabel(xlabel, fontsize=10, x=across, y=(below + 0.02) / total, va="bottom")
    figure.supylabel(ylabel, fontsize=10, x=0.004, y=upwards, ha="left")
    return figure


def plain_ticks(axis: Axis, subs: Sequence[int] = (1, 2, 5)) -> None:
    """Label a logarithmic axis of few decades with numbers, not with powers of ten."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def note(text: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    figure, axes = panels(1, height=1.4)
    axes[0].axis("off")
    axes[0].text(0.5, 0.5, text, ha="center", va="center")
    return figure


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Save a figure in the formats of `paths` and close it; no date goes into the files."""
    figure.set_layout_engine(None)  # the layout is done; every format would draw it twice
    for path in paths:
        metadata = {
            ".svg": {"Date": None, "Creator": "gradprop"},
            ".pdf": {"CreationDate": None, "ModDate": None, "Creator": "gradprop"},
            ".png": {"Software": "gradprop"},
        }[path.suffix]
        with files.replacing(path) as temporary:
            figure.savefig(temporary, metadata=metadata, facecolor="white")
    plt.close(figure)
