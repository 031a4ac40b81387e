"""A monitor and a probe that say what they found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from gradprop import monitor
from gradprop.advice import Diagnosis
from gradprop.inspection.page import Report, report
from gradprop.inspection.runs import Run
from gradprop.inspection.settings import settings


class Monitor(monitor.Monitor):
    """Record what happens in a network's layers while ``model.fit`` trains, and say what is wrong.

    A callback of Keras. `gradprop.monitor.Monitor` says what it records, and that it changes
    nothing: weights after the training are the same with and without it.

    Parameters
    ----------
    folder : str or pathlib.Path
        A new folder for the tables; its name is the run's.
    schedule
        At which steps to look: ``"log"`` (the default: ten per decade), a number n (every n-th),
        ``"epochs"`` (the first step of each), or a function from the number of steps made before to
        True or False.
    statistics
        A preset (``cheap``, ``standard``, ``full``), or names of statistics and presets.
    resume : bool
        Whether the folder may hold the tables of an earlier part of this training.

    Attributes
    ----------
    steps, layers, times, network, cells, unmeasured : pandas.DataFrame
        The tables as far as they are recorded.
    run : Run
        All of them, with what rules and theory say.

    Raises
    ------
    GradpropError
        At once if an argument is not allowed, such as a folder that holds something or the name of
        a file; and when the training begins, if the model does not fit. The message is one line.

    Examples
    --------
    >>> import tempfile
    >>> import keras, numpy
    >>> import gradprop
    >>> x = numpy.random.default_rng(0).normal(size=(64, 4))
    >>> layers = [keras.layers.Dense(16, "sigmoid") for _ in range(9)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> monitor = gradprop.Monitor(tempfile.mkdtemp() + "/run")
    >>> _ = model.fit(x, x[:, :1], verbose=0, callbacks=[monitor])
    >>> monitor.diagnose().kind
    'vanishing'
    """

    @property
    def run(self) -> Run:
        """The tables as far as they are recorded."""
        return Run.read(self.folder)

    def on_train_begin(self, logs: Any = None) -> None:
        """Prepare the instruments; note how the model was defined."""
        super().on_train_begin(logs)
        self._folder.write("settings", "run", settings(self.model))

    def diagnose(self) -> Diagnosis:
        """Judge the network by what was recorded so far.

        Returns
        -------
        Diagnosis
            Its ``repr`` lists what was found; a notebook shows it as a table.

        Raises
        ------
        GradpropError
            If no step was recorded.
        """
        return self.run.diagnosis

    def report(self, path: str | Path | None = None) -> Report:
        """Make the report, one HTML file; a notebook shows what is returned.

        Parameters
        ----------
        path : str or pathlib.Path, optional
            Where to write it; not written by default.

        Returns
        -------
        Report
            The page, in ``html``.
        """
        return report(self.run, path)


@dataclass(frozen=True, repr=False)
class Probe(monitor.Probe):
    """What one minibatch shows of a model, and what is wrong with it.

    Attributes are those of `gradprop.monitor.Probe`, and ``settings``, how the model was defined
    (`gradprop.inspection.settings`).
    """

    settings: pd.DataFrame

    @property
    def run(self) -> Run:
        """The tables, as those of a run of one step."""
        name = str(self.steps["cell"].iloc[0])
        tables = self.layers, self.steps, self.network, self.unmeasured
        return Run(name, *tables, pd.DataFrame(), self.settings, self.times)

    def diagnose(self) -> Diagnosis:
        """Judge the network by this minibatch.

        Returns
        -------
        Diagnosis
            Its ``repr`` lists what was found; a notebook shows it as a table.
        """
        return self.run.diagnosis

    def report(self, path: str | Path | None = None) -> Report:
        """Make the report, one HTML file; a notebook shows what is returned.

        Parameters
        ----------
        path : str or pathlib.Path, optional
            Where to write it; not written by default.

        Returns
        -------
        Report
            The page, in ``html``.
        """
        return report(self.run, path)

    def _repr_html_(self) -> str:
        return self.diagnose()._repr_html_()


def probe(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    statistics: str | Sequence[str] = "standard",
) -> Probe:
    """Look at the gradients of a model on one minibatch, without a step, and judge them.

    Layers compute as in training (dropout drops units, batch normalization uses the minibatch).
    Afterwards all variables are as before.

    Parameters
    ----------
    model : keras.Model
        Built and compiled.
    x, y, sample_weight
        One minibatch, as ``model.train_on_batch`` takes it; or only `x`, a ``tf.data.Dataset`` or
        a generator of minibatches, whose first one is taken.
    statistics
        A preset (``cheap``, ``standard``, ``full``), or names of statistics and presets.

    Returns
    -------
    Probe
        Its tables, its `Probe.diagnose` and its `Probe.report`.

    Raises
    ------
    GradpropError
        If the model is not built or not compiled, the data do not fit it, a class label is not one
        of its outputs, or a generator is empty. The message is one line.

    Examples
    --------
    >>> import keras, numpy
    >>> import gradprop
    >>> zeros = [keras.layers.Dense(16, "tanh", kernel_initializer="zeros") for _ in range(3)]
    >>> model = keras.Sequential([keras.Input((4,)), *zeros, keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> x = numpy.random.default_rng(0).normal(size=(32, 4))
    >>> gradprop.probe(model, x, x[:, :1]).diagnose().kind
    'symmetric'
    """
    found = monitor.probe(model, x, y, sample_weight, statistics=statistics)
    measured = {field.name: getattr(found, field.name) for field in fields(found)}
    return Probe(**measured, settings=settings(model))
