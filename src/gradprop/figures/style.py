"""How figures look, and how they are saved: the same numbers give the same bytes.

What a component looks like stands here; sizes of text, lines and figures are those of
``config/figures.mplstyle``, which is the user's to change.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter

from gradprop import errors, files
from gradprop.errors import ConfigError
from gradprop.grid import folders
from gradprop.results.study_tables import Options
from gradprop.spec import Component

LOG10 = "log$_{10}$"
LABELS = {
    "signal_log10_rms": "log$_{10}$ RMS of dC/dz",
    "gradient_log10_rms": "log$_{10}$ RMS of dC/dW",
    "gradient_log10_norm": "log$_{10}$ norm of dC/dW",
    "gradient_log10_snr": "log$_{10}$ signal-to-noise of dC/dW",
    "bias_gradient_log10_rms": "log$_{10}$ RMS of dC/db",
    "bias_gradient_log10_norm": "log$_{10}$ norm of dC/db",
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
    "weight_log10_largest_singular": "log$_{10}$ largest singular value of W",
    "weight_log10_smallest_singular": "log$_{10}$ smallest singular value of W",
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
    "tied": "shared kernel",
    "bias_std": "std of biases at initialization",
    "widths": "width profile",
    "residual": "residual connections",
    "loss_scale": "loss scale",
    "batch_size": "batch size",
    "layers": "L =",
}

BAR = 0.95  # inches for a scale of colours with its label
NARROW = 6.0  # inches: a single panel of a wider figure gets half of it
COMMENT = re.compile(r"^\s*#.*|#[^\"]*$")  # a colour in quotation marks has this sign, too
QUANTITY = re.compile(r"= [-+.e\d]+$")

# Okabe and Ito's colours, which colour-blind readers tell apart, made darker where they were too
# pale for a line on white: every one has a contrast of at least 3.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#00896A", "#BC6096"
AMBER, SKY, GREY, BROWN, VIOLET, RED = (
    "#9C6B00", "#2C8CC9", "#4D4D4D", "#8C510A", "#762A83", "#B2182B",
)  # fmt: skip
NAVY, RUST, OLIVE = "#00406B", "#8F3A00", "#5C6B00"
KIN = {BLUE: NAVY, VERMILLION: RUST, AMBER: OLIVE}  # darker ones of the same hue
COLOURS = [BLUE, VERMILLION, GREEN, PURPLE, AMBER, SKY, GREY, BROWN, VIOLET, RED]
SOLID, DASHED, DOTTED, DASH_DOT = "solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))
DASHES: list[Any] = [SOLID, DASHED, DOTTED, DASH_DOT]
# None of those of `gradprop.figures.lost`.
CIRCLE, SQUARE, DIAMOND, PENTAGON, STAR, PLUS, ARROW = "o", "s", "D", "p", "*", "P", "<"
SEQUENCE = (0.0, 0.595)  # the part of viridis that is dark enough on white
LONG_SEQUENCE = 5  # from so many on, members with looks of their own are drawn as a sequence, too


@dataclass(frozen=True)
class Look:
    """How the line of one component is drawn, whatever the figure."""

    colour: str
    dash: Any = SOLID
    marker: str = CIRCLE


# By parameter of a cell, the looks of components: of a label, or of all with a name. One colour is
# one size of the weights: a third of 1/n, 1/n, 2/n, too small and too large ones.
LOOKS: dict[str, dict[str, Look]] = {
    "initializer": {
        "zeros": Look(GREY, SOLID, SQUARE),
        "ones": Look(GREY, DASHED, SQUARE),
        "constant": Look(GREY, DOTTED, SQUARE),
        "normal": Look(AMBER, SOLID, DIAMOND),
        "normal(stddev=1.0)": Look(RED, SOLID, DIAMOND),
        "normal(stddev=10.0)": Look(RED, DOTTED, DIAMOND),
        "uniform": Look(AMBER, DASHED, DIAMOND),
        "standard_heuristic": Look(PURPLE, SOLID, PENTAGON),
        "pytorch_default": Look(PURPLE, DASHED, PENTAGON),
        "lecun_normal": Look(VIOLET, SOLID, STAR),
        "lecun_uniform": Look(VIOLET, DASHED, STAR),
        "glorot_normal": Look(VERMILLION),
        "glorot_uniform": Look(RUST, DASHED),
        "variance_scaling": Look(VERMILLION, DASH_DOT),
        "he_normal": Look(BLUE, SOLID, SQUARE),
        "he_uniform": Look(NAVY, DASHED, SQUARE),
        "variance_scaling(scale=2.0)": Look(BLUE, DASH_DOT, SQUARE),
        "variance_scaling(distribution=truncated_normal, scale=1.5482)": Look(NAVY, DOTTED, SQUARE),
        "variance_scaling(scale=1.9230769230769231)": Look(SKY, DASH_DOT, SQUARE),
        "variance_scaling(scale=3.0)": Look(OLIVE, DASHED, PENTAGON),
        "variance_scaling(scale=4.0)": Look(RED, DASHED, DIAMOND),
        "variance_scaling(scale=9.0)": Look(RED, DASH_DOT, DIAMOND),
        "orthogonal": Look(GREEN, DASHED, ARROW),  # over Glorot, with which it often coincides
        "sussillo_abbott": Look(SKY, SOLID, PLUS),
        "lyapunov": Look(SKY, DASHED, PLUS),
        "lsuv": Look(BROWN, SOLID, STAR),
    },
    "activation": {
        "linear": Look(GREY),
        "tanh": Look(BLUE),
        "sigmoid": Look(PURPLE),
        "softsign": Look(SKY, DASHED),
        "relu": Look(VERMILLION, DASHED),
        "leaky_relu": Look(RUST, DOTTED),
        "elu": Look(GREEN),
        "selu": Look(VIOLET, DASHED),
        "gelu": Look(AMBER, DOTTED),
        "swish": Look(BROWN, DASH_DOT),
        "relu6": Look(RED, DASH_DOT),
        "softplus": Look(OLIVE),
        "mish": Look(NAVY, DOTTED),
        "exponential": Look(RED),
        "sine": Look(OLIVE, DASHED),
        "prelu": Look(PURPLE, DOTTED),
    },
    "normalization": {"none": Look(GREY), "batch": Look(BLUE), "layer": Look(VERMILLION, DASHED)},
    "residual": {
        "none": Look(GREY),
        "plain": Look(RED),
        "scaled": Look(BLUE, DASHED),
        "rezero": Look(GREEN, DASH_DOT),
    },
    "clipping": {
        "none": Look(GREY),
        "norm": Look(BLUE),
        "norm_by_variable": Look(GREEN, DASH_DOT),
        "value": Look(VERMILLION, DASHED),
    },
    "precision": {
        "float64": Look(GREY),
        "float32": Look(BLUE),
        "bfloat16": Look(GREEN, DASHED),
        "float16": Look(VERMILLION, DASH_DOT),
    },
    "optimizer": {
        "sgd": Look(BLUE),
        "adam": Look(VERMILLION, DASHED),
        "adamw": Look(RUST, DOTTED),
        "rmsprop": Look(GREEN, DASH_DOT),
    },
}

# Whatever a style says: the same numbers give the same bytes, and text stays text.
FIXED = {"svg.fonttype": "none", "svg.hashsalt": "gradprop", "pdf.fonttype": 42}


def use(settings: Mapping[str, Any]) -> None:
    """Make figures look as these settings of Matplotlib say, whatever a matplotlibrc says."""
    mpl.rcdefaults()
    sns.set_theme(context="paper", style="ticks", rc={**settings, **FIXED})


def read(path: Path) -> dict[str, Any]:
    """Read a style: lines ``setting: value`` as Matplotlib has them, comments after #.

    Raises
    ------
    gradprop.errors.ConfigError
        If a line is none, or Matplotlib has no such setting or does not take the value.
    """
    found: dict[str, Any] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        key, colon, value = (part.strip() for part in COMMENT.sub("", line).partition(":"))
        if not key:
            continue
        place = f"{path}: line {number}: {errors.cut(key)}"
        if not colon:
            raise ConfigError(f"{place}: no setting; allowed: setting: value")
        try:
            checked: Any = mpl.RcParams({key: value.strip('"')})
            found.update(checked)
        except KeyError:
            raise ConfigError(f"{place}: Matplotlib has no such setting") from None
        except ValueError as error:
            reason = errors.cut(str(error).removeprefix(f"Key {key}: ").replace("\n", " "))
            raise ConfigError(f"{place}: {errors.show(value)} ({reason})") from None
    return found


def use_own() -> None:
    """Make figures look as the project's file of settings says, if there is one."""
    use(next((read(path) for path in folders.styles() if path.is_file()), {}))


use_own()


def width() -> float:
    """Return the width of figures in inches."""
    return float(mpl.rcParams["figure.figsize"][0])


def quantity(text: str) -> str:
    """Return the label of a logarithm without its log: that of an axis in powers of ten."""
    return text.removeprefix(LOG10).strip()


def powers_of_ten(axis: Axis) -> None:
    """Label an axis along which logarithms to the base 10 are drawn with what they are logs of."""
    axis.set_major_locator(_Decades("auto", steps=[1, 2, 5, 10]))
    axis.set_major_formatter(_Powers())


class _Decades(MaxNLocator):
    """Ticks at whole decades, or at round numbers between them where there are not two."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return where ticks stand, as logarithms to the base 10."""
        if vmax - vmin >= 2:
            self.set_params(integer=True)
            return super().tick_values(vmin, vmax)
        base = np.floor(vmin)  # no power of ten leaves the range of float64
        if vmax - vmin >= 0.7:
            numbers = np.outer(10.0 ** np.arange(4), [1, 2, 5]).ravel()
        else:
            between = 10.0 ** (vmin - base), 10.0 ** (vmax - base)
            numbers = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*between))
        ticks = base + np.log10(numbers[numbers > 0])
        return ticks[(ticks >= vmin) & (ticks <= vmax)]


class _Powers(Formatter):
    """Writes ticks at logarithms to the base 10: as powers if all are whole, else as numbers."""

    def __call__(self, value: float, position: int | None = None) -> str:
        """Return the text of one tick."""
        return self.format_ticks([value])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the texts of all ticks of an axis."""
        if all(value == round(value) for value in values):
            return [f"$10^{{{value:g}}}$" for value in values]
        return [self._number(float(value)) for value in values]

    @staticmethod
    def _number(exponent: float) -> str:
        decade = int(np.floor(exponent))
        factor = float(f"{10.0 ** (exponent - decade):.6g}")
        if -3 <= decade <= 3:
            return f"{factor * 10.0**decade:.6g}"
        power = f"10^{{{decade}}}"
        return f"${power}$" if factor == 1 else rf"${factor:g} \times {power}$"


def own_scales(panels: Any, direction: str = "y") -> list[Line2D]:
    """Return the entry of a legend that says which of the panels are not drawn to one scale.

    Parameters
    ----------
    panels
        Axes in rows and columns, with their final limits.
    direction
        Of the scale, x or y.
    """
    limits = [{getattr(axes, f"get_{direction}lim")() for axes in row} for row in panels]
    if any(len(row) > 1 for row in limits):
        which = "Panels"
    elif len(set().union(*limits)) > 1:
        which = "Rows"
    else:
        return []
    return [Line2D([], [], linestyle="none", label=f"{which} have scales of their own")]


def label(name: str) -> str:
    """Return the text by which a column is called on an axis: its name, if it has no label.

    A name with ``log10`` in it says that the column is a logarithm.
    """
    words = name.split("_")
    if "log10" in words:
        words = [LOG10, *(word for word in words if word != "log10")]
    return LABELS.get(name, " ".join(words))


def looks(
    values: Iterable[Any], parameter: str = "", options: Options | None = None, dashed: bool = True
) -> dict[Any, Look]:
    """Return how the line of every value is drawn.

    Parameters
    ----------
    values
        What the lines stand for, in the order of the legend.
    parameter
        The parameter of a cell whose values they are, if they are.
    options
        Of the figure, with ``components`` by name (`gradprop.figures.draw_figure`).
    dashed
        Whether the dash may be the only difference. If not, all lines are solid, and their colours
        differ as long as there are any.

    Returns
    -------
    dict
        A sequence of colours for numbers, and for components that differ in one number alone. Other
        components have their look of `LOOKS`, wherever they are drawn. What is not listed there has
        a colour by its label. No two lines have the same colour and dash.
    """
    unique = list(dict.fromkeys(values))
    listed = LOOKS.get(parameter, {})
    components = (options or {}).get("components", {}).get(parameter, {})
    meant = {value: components.get(value, value) for value in unique}
    of_value = {value: str(getattr(one, "label", one)) for value, one in meant.items()}
    known = any(label in listed for label in of_value.values())
    if _are_numbers(unique) or (
        _differ_in_a_number(meant.values()) and (not known or len(unique) >= LONG_SEQUENCE)
    ):
        return dict(zip(unique, map(Look, sequence(len(unique))), strict=True))
    found: dict[Any, Look] = {}
    for value in sorted(unique, key=lambda value: of_value[value] not in listed):
        label = of_value[value]
        look = listed.get(label) or listed.get(label.partition("(")[0])
        if look is None:
            place = zlib.crc32(label.encode()) if value in components else unique.index(value)
            look = Look(COLOURS[place % len(COLOURS)])
        found[value] = _free(look, list(found.values()), dashed)
    return {value: found[value] for value in unique}


def colours(numbers: Iterable[float]) -> dict[Any, str]:
    """Return a colour for every number, from dark for the smallest to light for the largest."""
    unique = sorted(set(numbers))
    return dict(zip(unique, sequence(len(unique)), strict=True))


def sequence(count: int) -> list[str]:
    """Return colours from dark to light, every one of them dark enough for a line on white."""
    return [mpl.colors.to_hex(mpl.colormaps["viridis"](x)) for x in np.linspace(*SEQUENCE, count)]


def _are_numbers(values: Sequence[Any]) -> bool:
    """Tell whether all are numbers, or end with the value of a quantity: ``σ_w² = 0.5``."""
    return all(isinstance(value, (int, float)) or QUANTITY.search(value) for value in values)


def _differ_in_a_number(values: Collection[Any]) -> bool:
    """Tell whether all are one component that differs in one number."""
    found = [value for value in values if isinstance(value, Component)]
    given = [dict(component.parameters) for component in found]
    varying = {key for one in given for key in one if len({other.get(key) for other in given}) > 1}
    numbers = [one[key] for one in given for key in varying & one.keys()]
    return (
        len(found) == len(values)
        and len({component.name for component in found}) == 1
        and len(varying) == 1
        and not any(isinstance(number, (str, bool)) for number in numbers)
    )


def _free(wanted: Look, taken: Sequence[Look], dashed: bool) -> Look:
    """Return the first look that is not taken: as wanted, else with another dash or colour."""
    kin = KIN.get(wanted.colour, wanted.colour)
    colours = dict.fromkeys([wanted.colour, kin, *COLOURS])
    if dashed:
        pairs = list(itertools.product(colours, dict.fromkeys([wanted.dash, *DASHES])))
    else:
        pairs = [(colour, dash) for dash in DASHES for colour in colours]
    used = {(look.colour, look.dash) for look in taken}
    colour, dash = next((pair for pair in pairs if pair not in used), pairs[0])
    return replace(wanted, colour=colour, dash=dash)


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
    total = width()
    if height is None:
        height = 1.9 if row is not None else 2.4
    height = max(height, 1.4)  # a panel needs room for its labels
    count = rows[row].nunique() if row is not None else 1
    ratios = [part for part, _ in zip(itertools.cycle(heights), range(count), strict=False)]
    height *= sum(ratios) / count
    columns = rows[column].nunique() if column is not None else 1
    across = total / max(columns, 1 if total < NARROW else 2)
    facets = _Facets(
        rows,
        row=row,
        col=column,
        height=height,
        aspect=across / height,
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
        values = pd.to_numeric(values.astype(str).str.replace(",", ""), errors="coerce")
    return label(name) if values.notna().all() else None


def panels(count: int, *, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels of `height` inches side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width(), height), sharey=sharey, squeeze=False)
    sns.despine(figure)
    return figure, list(axes[0])


def finish(
    figure: Figure,
    handles: Sequence[Any],
    *,
    xlabel: str,
    ylabel: str,
    legend_title: str | None = None,
    right: float = 0.0,
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
        Inches that are left free at the right.
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
        rect=(left, (below + (0.14 if xlabel else 0.0)) / total, 1 - right / width, 1), h_pad=0.9
    )
    panels = [axes.get_position() for axes in figure.axes]
    across = (min(p.x0 for p in panels) + max(p.x1 for p in panels)) / 2
    upwards = (min(p.y0 for p in panels) + max(p.y1 for p in panels)) / 2
    figure.supxlabel(xlabel, fontsize=10, x=across, y=(below + 0.02) / total, va="bottom")
    figure.supylabel(ylabel, fontsize=10, x=0.004, y=upwards, ha="left")
    return figure


def colour_bar(figure: Figure, mappable: Any, text: str, extend: str = "neither") -> Axes:
    """Draw the scale of colours in the `BAR` inches that `finish` left free at the right."""
    width = figure.get_size_inches()[0]
    places = [axes.get_position() for axes in figure.axes]
    bottom, top = min(p.y0 for p in places), max(p.y1 for p in places)
    axes = figure.add_axes(
        (
            1 - (BAR - 0.15) / width,
            bottom + 0.1 * (top - bottom),
            0.15 / width,
            0.8 * (top - bottom),
        )
    )
    figure.colorbar(mappable, cax=axes, extend=extend).set_label(text)
    return axes


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
