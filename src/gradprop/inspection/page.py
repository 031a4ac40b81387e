"""The HTML file about one network: self-contained, and the same bytes for the same tables."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from gradprop import files
from gradprop.advice import Diagnosis, Finding, Group, Remedy
from gradprop.inspection import pictures
from gradprop.inspection.pictures import Picture
from gradprop.inspection.runs import Run
from gradprop.report.chapters import TEMPLATES
from gradprop.report.formatting import DASH, Text, count, plural, sig, templates_of
from gradprop.report.tables import Table

_ENDS = {
    "ok": "The training ended in order.",
    "running": "The training had not ended, or was killed.",
    "diverged": "The training diverged.",
    "bad data": "The data that it was trained on are not finite.",
}
NO_FIGURE = "One step was looked at: what changes over steps needs a gradprop.Monitor."


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    id, title
        Anchor and heading.
    text
        Paragraphs.
    pictures, tables, remedies
        What stands below them.
    """

    id: str
    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    remedies: Sequence[Remedy] = ()


@dataclass(frozen=True)
class Report:
    """An HTML file about one network, or about two.

    Attributes
    ----------
    html : str
        The page.
    path : pathlib.Path or None
        Where it was written.
    """

    html: str = field(repr=False)
    path: Path | None

    def _repr_html_(self) -> str:
        """Return a frame with the page, which runs no script and loads nothing."""
        page = html.escape(self.html, quote=True)
        return (
            f'<iframe title="gradprop report" sandbox="" srcdoc="{page}" '
            'style="width: 100%; height: 48rem; border: 1px solid #d9d9d2"></iframe>'
        )


def report(run: Run, path: str | Path | None = None) -> Report:
    """Make the report on a run, and write it if a path is given."""
    return rendered(run.name, run.diagnosis.sentence, facts(run), _sections(run), path)


def rendered(
    title: str, lead: str, known: str, sections: Sequence[Section], path: str | Path | None
) -> Report:
    """Render a page, and write it if a path is given."""
    environment = templates_of(TEMPLATES)
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    page = environment.get_template("inspection.html.j2").render(
        title=title, lead=lead, facts=known, sections=sections, style=style
    )
    if path is not None:
        files.write_text(Path(path), page)
    return Report(page, None if path is None else Path(path))


def facts(run: Run) -> str:
    """Return how large the network is and how much of its training was looked at."""
    judged, steps = run.judged, run.steps["step"]
    functions = ", ".join(dict.fromkeys(filter(None, judged["activation"])))
    text = (
        f"{plural(len(judged), 'layer', 'layers')} with a matrix of weights ({functions}), "
        f"looked at in {plural(len(steps), 'step', 'steps')}, {count(steps.min())} to "
        f"{count(steps.max())}."
    )
    if len(run.cells):
        text += f" {_ENDS[str(run.cells['status'].iloc[0])]}"
    return text


def _sections(run: Run) -> list[Section]:
    drawn = pictures.all_of(run)
    found = run.diagnosis
    over_steps = [drawn[name] for name in ("gradients", "signals") if name in drawn]
    by_layer = [drawn[name] for name in ("by-layer", "factors", "by-time") if name in drawn]
    training = [drawn[name] for name in ("loss", "updates") if name in drawn]
    none = "No rule found anything: see the layers below for what was measured."
    nothing = "Nothing was found, so there is nothing to change."
    sections = [
        Section(
            "findings",
            "What was found",
            () if found.findings else (none,),
            tables=[findings_table(found)] if found.findings else (),
        ),
        Section("advice", "What to change", _advice_text(run, nothing), remedies=run.remedies),
        Section(
            "layers", "Signal and gradient by layer", _theory_text(run), by_layer, _causes(run)
        ),
        Section(
            "steps", "Gradients from step to step", () if over_steps else (NO_FIGURE,), over_steps
        ),
        Section("training", "Loss and updates", () if training else (NO_FIGURE,), training),
        Section("alarms", "Alarms", _alarm_text(run), tables=_alarms(run)),
        Section("all-layers", "The layers", tables=[layers_table(run)]),
        Section("unmeasured", "What was not measured", *_unmeasured(run)),
    ]
    return sections


def findings_table(found: Diagnosis, id_: str = "findings-table") -> Table:
    """Return the findings: each with its number, its bound and where this comes from.

    What is said of several layers is one row, with the number that is farthest beyond the bound.
    """
    names = dict(zip(found.layers["layer"], found.layers["name"], strict=True))
    rows: list[list[Text]] = [
        [
            group.worst.kind,
            group.layers if len(group.findings) > 1 else _place(group.worst, names),
            _first_step(group),
            group.worst.text if group.worst.has_number else group.worst.clause,
            _worst(group),
            sig(group.worst.threshold) if group.worst.has_number else "",
            group.worst.source,
        ]
        for group in found.groups
    ]
    heads = (("Finding", False), ("Layer", False), ("First step", True), ("What", False))
    numbers = (("Value", True), ("Bound", True), ("Source of the bound", False))
    caption = "What rules found, causes before what they lead to."
    return Table(id_, caption, [*heads, *numbers], rows)


def _place(finding: Finding, names: Mapping[int, str]) -> str:
    return "network" if finding.layer is None else f"{finding.layer} ({names[finding.layer]})"


def _first_step(group: Group) -> Text:
    if group.worst.after is None:
        return count(group.step)
    return f"{group.worst.after} to {group.worst.step}"


def _worst(group: Group) -> Text:
    if not group.worst.has_number:
        return ""
    value = sig(group.worst.value)
    return value if len(group.findings) == 1 else f"{value} (layer {group.worst.layer})"


def _advice_text(run: Run, nothing: str) -> list[str]:
    if not run.remedies:
        return [nothing] if not run.diagnosis.findings else ["No change of one thing is known."]
    return ["What mends the cause stands first; try one change at a time."]


def _theory_text(run: Run) -> list[str]:
    """Say what theory makes of the weights as they began."""
    rate = run.decades_per_layer
    if math.isnan(rate):
        return [
            "Theory does not speak of this network: its activation functions are not known, or "
            "normalization, skips or pooling stand between its layers. What was measured stands "
            "alone."
        ]
    trend = "grow" if rate > 0 else "shrink"
    text = (
        f"By the variance of its weights as they began, gradients {trend} by {abs(rate):.3g} "
        "decades per layer towards the inputs; they keep their size where the variance times the "
        "fan-in is what the activation function needs (chi_1 = 1)."
    )
    if math.isfinite(run.lost_after):
        text += f" Two decades are reached after {sig(run.lost_after)} layers; this network has "
        text += f"{plural(len(run.judged) - 1, 'hidden layer', 'hidden layers')}."
    return [text]


def _causes(run: Run) -> list[Table]:
    table = run.causes
    if table.empty:
        return []
    names = run.judged.set_index("layer")["name"]
    columns = ["sigma_w2", "needed", "chi_1", "measured"]
    rows: list[list[Text]] = [
        [f"{row['layer']} ({names[row['layer']]})", *(sig(row[column]) for column in columns)]
        for row in table.astype({"layer": int}).to_dict("records")
    ]
    heads = ("Variance × fan-in", "Needed", "Factor, predicted", "Factor, measured")
    caption = (
        "For every layer: the variance of the weights behind it times their fan-in, what its "
        "activation function needs at the measured length, and the factor of the sum of squares of "
        "dC/dz that follows from both."
    )
    named = [("Layer", False), *((head, True) for head in heads)]
    return [Table("causes", caption, named, rows)]


def _alarm_text(run: Run) -> list[str]:
    return [] if len(run.alarms) else ["No rule of thumb was broken."]


def _alarms(run: Run) -> list[Table]:
    rows: list[list[Text]] = [
        [
            row["meaning"],
            count(row["step"]),
            count(row["layer"]),
            sig(row["value"]),
            count(row["layers"]),
            count(row["probes"]),
        ]
        for row in run.alarms.to_dict("records")
    ]
    heads = ("First step", "First layer", "Value there", "Layers", "Probes")
    caption = (
        "Rules of thumb that were broken, where first, in how many layers and at how many probes. "
        "The value is a log10 of a ratio of updates, a fraction, decades of variance or a ratio of "
        "losses. An alarm alone is no finding."
    )
    columns = [("Alarm", False), *((head, True) for head in heads)]
    return [Table("alarms-table", caption, columns, rows)] if rows else []


def layers_table(run: Run) -> Table:
    """Return every layer with its diagnosis and what was measured at the first probe."""
    shown = {
        "log10 RMS dC/dz": "signal_log10_rms",
        "log10 RMS dC/dW": "gradient_log10_rms",
        "log10 mean z²": "preactivation_log10_mean_square",
        "Dead": "dead_fraction",
        "Saturated": "saturated_fraction",
    }
    shown = {head: column for head, column in shown.items() if column in run.layers}
    step = run.layers["step"].min()
    first = run.layers[run.layers["step"] == step].set_index("layer")
    of_layer = run.diagnosis.layers.set_index("layer")["diagnosis"]
    rows: list[list[Text]] = [
        [
            f"{layer} ({row['name']})",
            row["kind"],
            row["activation"] or DASH,
            of_layer.get(layer, "not judged"),
            *(_number(first.at[layer, column]) for column in shown.values()),
        ]
        for layer, row in run.network.set_index("layer").iterrows()
        if layer in first.index
    ]
    heads = (("Layer", False), ("Kind", False), ("Activation", False), ("Diagnosis", False))
    columns = [*heads, *((head, True) for head in shown)]
    caption = (
        f"Every layer with weights, as it was at step {step}. Not judged are factors of "
        "normalizations, projections inside an attention, and embeddings beside other layers."
    )
    return Table("layers-table", caption, columns, rows)


def _number(value: float) -> Text:
    return DASH if math.isnan(value) else sig(value)


def _unmeasured(run: Run) -> tuple[list[str], list[Picture], list[Table]]:
    notes: pd.DataFrame = run.unmeasured
    if notes.empty:
        return ["Everything was measured."], [], []
    rows: list[list[Text]] = [
        [str(note.layer) or "all layers", str(note.what), str(note.why)]
        for note in notes.itertuples()
    ]
    columns = [("Layer", False), ("What", False), ("Why", False)]
    caption = "What is not in the tables, layer by layer."
    return [], [], [Table("unmeasured-table", caption, columns, rows)]
