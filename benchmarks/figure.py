"""The figure of the results: competitors, cost per cell, time of a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.results import Row


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw what is in the table as an SVG file."""
    matplotlib.use("Agg")
    with plt.rc_context({"svg.hashsalt": "gradprop"}):
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
        for panel in axes:
            panel.spines[["top", "right"]].set_visible(False)
        processors: dict[str, None] = {}
        panels = {"competitors": _draw_competitors, "scale": _draw_scale, "step": _draw_steps}
        for panel, (part, draw_part) in zip(axes, panels.items(), strict=True):
            shown = [r for r in rows if r.part == part]
            if shown:  # parts may be measured by themselves
                draw_part(panel, shown)
            else:
                panel.set_axis_off()
            processors |= dict.fromkeys(r.processor for r in shown)
        figure.suptitle("; ".join(processors), fontsize=8)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _draw_competitors(axes: Axes, rows: Sequence[Row]) -> None:
    shown = [r for r in rows if r.case == "all" and r.quantity == "cells per CPU-s"]
    bars = axes.barh([r.subject for r in shown], [r.value for r in shown], color="#0072B2")
    axes.bar_label(bars, [f"{r.value:.3g}" for r in shown], padding=3)
    axes.set(xscale="log", xlabel="cells per CPU second", title="The reference work")
    axes.invert_yaxis()
    axes.margins(x=0.2)


def _draw_scale(axes: Axes, rows: Sequence[Row]) -> None:
    for subject in dict.fromkeys(r.subject for r in rows if r.quantity == "time per cell"):
        shown = [r for r in rows if r.subject == subject]
        cells = [int(r.case.split()[0]) for r in shown]
        axes.plot(cells, [r.value for r in shown], marker="o", label=subject)
    axes.set(xscale="log", yscale="log", xlabel="cells", ylabel="CPU ms per cell")
    axes.set_title("Many small cells")
    axes.legend(fontsize=7, frameon=False)


def _draw_steps(axes: Axes, rows: Sequence[Row]) -> None:
    for subject, name in (("wide", "width, depth 20"), ("deep", "depth, width 64")):
        columns = [
            [r.value for r in rows if r.subject == subject and r.quantity == quantity]
            for quantity in ("FLOP of a step", "time of a step")
        ]
        axes.plot(*columns, marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="GFLOP of a step", ylabel="CPU ms of a step")
    axes.set_title("One step, wide or deep")
    axes.legend(fontsize=7, frameon=False)
