"""How figures look, and how they are saved: the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradprop import files

LABELS = {
    "signal_log10_rms": "log$_{10}$ RMS of dC/dz",
    "gradient_log10_rms": "log$_{10}$ RMS of dC/dW",
    "gradient_log10_norm": "log$_{10}$ norm of dC/dW",
    "activation_std": "standard deviation of activations",
    "activation_mean": "mean activation",
    "activation_log10_mean_square": "log$_{10}$ mean square of activations",
    "preactivation_log10_mean_square": "log$_{10}$ mean square of z",
    "saturated_fraction": "saturated fraction",
    "dead_fraction": "dead fraction",
    "log10_update_ratio": "log$_{10}$ update-to-weight ratio",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
    "final_train_accuracy": "final training accuracy",
    "final_test_accuracy": "final test accuracy",
    "final_train_loss": "final training loss",
    "final_test_loss": "final test loss",
    "steps_to_target": "steps to target loss",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
}

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


def palette(values: Sequence[Hashable]) -> dict[Hashable, str]:
    """Return a colour for every value: a sequence for numbers, distinct hues for names."""
    unique = list(dict.fromkeys(values))
    if all(isinstance(value, (int, float)) for value in unique):
        colours = sns.color_palette("viridis", len(unique)).as_hex()
        return dict(zip(unique, colours, strict=True))
    return {value: COLOURS[number % len(COLOURS)] for number, value in enumerate(unique)}


def dashes(values: Sequence[Hashable]) -> dict[Hashable, Any]:
    """Return a line style for every value, so that colour is not the only difference."""
    unique = list(dict.fromkeys(values))
    per_round = len(COLOURS) // 2
    return {v: DASHES[(n // per_round) % len(DASHES)] for n, v in enumerate(unique)}


def grid(
    rows: pd.DataFrame,
    row: str | None,
    column: str | None,
    *,
    height: float = 1.9,
    aspect: float = 1.2,
    sharex: bool | str = True,
    sharey: bool | str = True,
) -> sns.FacetGrid:
    """Return a seaborn grid of small multiples with one panel a value of `row` and `column`."""
    facets = sns.FacetGrid(
        rows,
        row=row,
        col=column,
        height=height,
        aspect=aspect,
        sharex=sharex,  # type: ignore[arg-type]
        sharey=sharey,  # type: ignore[arg-type]
        margin_titles=True,
        despine=True,
    )
    names = {"row_template": "{row_name}", "col_template": "{col_name}"}
    if column is not None and pd.api.types.is_numeric_dtype(rows[column]):
        names["col_template"] = f"{label(column)} {{col_name}}"
    if row is not None and pd.api.types.is_numeric_dtype(rows[row]):
        names["row_template"] = f"{label(row)} {{row_name}}"
    facets.set_titles(**names)
    return facets


def panels(
    count: int, *, width: float, height: float, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels side by side; sizes in inches."""
    figure, axes = plt.subplots(
        1, count, figsize=(width, height), sharey=sharey, squeeze=False, layout="none"
    )
    sns.despine(figure)
    return figure, list(axes[0])


def legend_below(figure: Figure, handles: Sequence[Any], title: str | None = None) -> None:
    """Put one legend under all panels, in as many columns as the width allows."""
    width = figure.get_size_inches()[0]
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    columns = max(1, min(len(handles), int(width / (0.55 + 0.078 * longest))))
    rows = -(-len(handles) // columns) + (1 if title else 0)
    height = figure.get_size_inches()[1]
    extra = 0.12 + 0.2 * rows
    figure.set_size_inches(width, height + extra)
    figure.legend(
        handles=handles,
        title=title,
        loc="lower center",
        ncols=columns,
        frameon=False,
        bbox_to_anchor=(0.5, 0.0),
    )
    figure.tight_layout(rect=(0, extra / (height + extra), 1, 1))


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Save a figure in the formats of `paths` and close it; no date goes into the files."""
    for path in paths:
        metadata = {
            ".svg": {"Date": None, "Creator": "gradprop"},
            ".pdf": {"CreationDate": None, "ModDate": None, "Creator": "gradprop"},
            ".png": {"Software": "gradprop"},
        }[path.suffix]
        with files.replacing(path) as temporary:
            figure.savefig(temporary, metadata=metadata, facecolor="white")
    plt.close(figure)
