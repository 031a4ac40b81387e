"""Two runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from gradprop.errors import GradpropError
from gradprop.inspection import pictures
from gradprop.inspection.page import Report, Section, facts, findings_table, rendered
from gradprop.inspection.runs import Run
from gradprop.report.formatting import DASH, Text, count, sig
from gradprop.report.tables import Table

LETTERS = ("A", "B")


@dataclass(frozen=True)
class Comparison:
    """Two runs and how they differ.

    Attributes
    ----------
    a, b : Run
        The runs.
    """

    a: Run
    b: Run

    @property
    def differences(self) -> dict[str, tuple[str, ...]]:
        """The kinds of findings that only one of the runs has: ``{"A": ..., "B": ...}``."""
        kinds = [dict.fromkeys(f.kind for f in run.diagnosis.findings) for run in (self.a, self.b)]
        only = (tuple(k for k in one if k not in other) for one, other in (kinds, kinds[::-1]))
        return dict(zip(LETTERS, only, strict=True))

    @property
    def sentence(self) -> str:
        """Both diagnoses in one sentence."""
        one, other = self.a.diagnosis.kind, self.b.diagnosis.kind
        if one == other:
            return f"Both runs have the diagnosis “{one}”."
        return f"A has the diagnosis “{one}”, and B “{other}”."

    def __repr__(self) -> str:
        lines = [self.sentence]
        for letter, run in zip(LETTERS, (self.a, self.b), strict=True):
            only = ", ".join(self.differences[letter]) or "nothing"
            lines.append(f"{letter} = {run.name}; only there: {only}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(line)}</p>" for line in repr(self).splitlines())

    def report(self, path: str | Path | None = None) -> Report:
        """Make the page that shows both, one HTML file; a notebook shows what is returned.

        Parameters
        ----------
        path : str or pathlib.Path, optional
            Where to write it; not written by default.

        Returns
        -------
        Report
            The page, in ``html``.
        """
        runs = dict(zip(LETTERS, (self.a, self.b), strict=True))
        drawn = pictures.of_two(runs)
        known = " ".join(f"{letter} is “{run.name}”: {facts(run)}" for letter, run in runs.items())
        found = [
            Section(
                f"findings-{letter.lower()}",
                f"What was found in {letter}, {run.name}",
                (run.diagnosis.sentence, *self._only(letter)),
                tables=[findings_table(run.diagnosis, f"findings-{letter.lower()}-table")]
                if run.diagnosis.findings
                else (),
            )
            for letter, run in runs.items()
        ]
        sections = [
            Section("numbers", "Side by side", tables=[_table(runs)]),
            *found,
            Section("loss-section", "Loss", pictures=[drawn[n] for n in ("loss",) if n in drawn]),
            Section(
                "layers",
                "Signal and gradient by layer",
                pictures=[drawn[n] for n in ("by-layer",) if n in drawn],
            ),
        ]
        shown = [s for s in sections if s.pictures or s.tables or s.text]
        return rendered(f"{self.a.name} and {self.b.name}", self.sentence, known, shown, path)

    def _only(self, letter: str) -> list[str]:
        only = self.differences[letter]
        return [f"Only {letter} has: {', '.join(only)}."] if only else []


def _table(runs: dict[str, Run]) -> Table:
    """Return the numbers of both runs, one row per number."""
    rows: list[list[Text]] = [
        ["Diagnosis", *(run.diagnosis.kind for run in runs.values())],
        ["Layers", *(count(len(run.judged)) for run in runs.values())],
        ["Last step looked at", *(count(run.steps["step"].max()) for run in runs.values())],
    ]
    for name, column in (
        ("Loss", "minibatch_loss"),
        ("log10 norm of dC/dW", "gradient_log10_norm"),
    ):
        for place, which in ((0, "first"), (-1, "last")):
            values = [_value(run, column, place) for run in runs.values()]
            rows.append([f"{name}, {which} probe", *values])
    rates = [run.decades_per_layer for run in runs.values()]
    predicted: list[Text] = [DASH if rate != rate else sig(rate) for rate in rates]
    rows.append(["Decades of dC/dz per layer, predicted", *predicted])
    heads = [
        ("Quantity", False),
        *((f"{letter}: {run.name}", True) for letter, run in runs.items()),
    ]
    return Table("numbers-table", "Both runs in numbers.", heads, rows)


def _value(run: Run, column: str, place: int) -> Text:
    if column not in run.steps:
        return DASH
    return sig(float(run.steps.sort_values("step")[column].iloc[place]))


def compare(a: Any, b: Any) -> Comparison:
    """Put two runs side by side: diagnoses, findings that differ, losses, gradients by layer.

    Parameters
    ----------
    a, b : str, pathlib.Path, Monitor, Probe or Run
        Folders of monitors, or what measured them.

    Returns
    -------
    Comparison
        Its ``repr`` says how they differ; `Comparison.report` makes the page.

    Raises
    ------
    GradpropError
        If one of them is no run.

    Examples
    --------
    >>> import keras, numpy
    >>> import gradprop
    >>> x = numpy.random.default_rng(0).normal(size=(32, 4))
    >>> _ = keras.utils.set_random_seed(0)
    >>> def seen(initializer):
    ...     hidden = keras.layers.Dense(8, "tanh", kernel_initializer=initializer)
    ...     outputs = keras.layers.Dense(1, kernel_initializer=initializer)
    ...     model = keras.Sequential([keras.Input((4,)), hidden, outputs])
    ...     model.compile(loss="mse")
    ...     return gradprop.probe(model, x, x[:, :1])
    >>> gradprop.compare(seen("zeros"), seen("glorot_uniform")).sentence
    'A has the diagnosis “symmetric”, and B “healthy”.'
    """
    return Comparison(_run(a), _run(b))


def _run(given: Any) -> Run:
    if isinstance(given, Run):
        return given
    if isinstance(given, (str, Path)):
        return Run.read(given)
    if isinstance(run := getattr(given, "run", None), Run):
        return run
    raise GradpropError(
        f"compare: {type(given).__name__} is not allowed; allowed: the folder of a "
        "gradprop.Monitor, a Monitor, or what gradprop.probe returns"
    )
