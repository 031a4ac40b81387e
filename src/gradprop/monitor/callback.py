"""The callback that records what happens in the layers of a model while it is trained."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from gradprop.monitor import recording, schedules
from gradprop.monitor.instruments import Instruments, Values, unchanged, values_of
from gradprop.monitor.jax_steps import JaxSteps
from gradprop.monitor.probing import ProbeError, check_model, mean_loss
from gradprop.monitor.recording import Folder, Origin, Rows
from gradprop.monitor.schedules import Moment

#: Backends of Keras whose steps can be looked at: of TensorFlow's all, of JAX's the gradients.
BACKENDS = ("tensorflow", "jax")


class Monitor(keras.callbacks.Callback):
    """Record gradients, signals, activations and updates while ``model.fit`` trains.

    A step of the schedule is rehearsed by a second train function, which computes the same and
    hands out what it computed. All variables are then set back, and the model makes the step on the
    same minibatch by its own train function, as it makes all others: weights after the training are
    the same, bit for bit, as without the monitor. Where the compilers of TensorFlow fuse operations
    of the one program and not of the other, the rehearsed numbers may differ from those of
    the step in their last digits; the column ``exact`` of ``steps`` says whether both led to the
    same weights. Updates are those of the step itself.

    Where Keras computes with JAX, gradients, weights and updates are recorded alone; the table
    `unmeasured` says so of every layer.

    Tables appear in the folder while the training runs, ``layers/``, ``steps/`` and so on, a
    file per probe. A run that is killed keeps what it had recorded.

    Parameters
    ----------
    folder : str or pathlib.Path
        A new folder for the tables; its name is the run's, in the column ``cell``.
    schedule
        At which steps to look: ``"log"`` (the default; 0, 1, 2, 3, ... ten per decade, and the last
        one where the number of steps is known), a number n (every n-th), ``"epochs"`` (the first
        step of each), or a function from the number of steps made before to True or False. With
        ``steps_per_execution`` it is the last step of an execution that is looked at.
    statistics
        A preset (``cheap``, ``standard``, ``full``), or names of statistics and presets.
    resume : bool
        Whether the folder may hold the tables of an earlier part of this training.

    Attributes
    ----------
    steps, layers, network, cells, unmeasured : pandas.DataFrame
        The tables as far as they are recorded.

    Raises
    ------
    GradpropError
        If an argument or the model does not fit; the message is one line.

    Examples
    --------
    >>> import tempfile
    >>> import keras, numpy
    >>> import gradprop
    >>> model = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, (8, 8, 1))])
    >>> model.compile("adam", "mse")
    >>> monitor = gradprop.Monitor(tempfile.mkdtemp() + "/run", schedule=10)
    >>> x, y = numpy.random.default_rng(0).normal(size=(2, 256, 4))
    >>> _ = model.fit(x, y[:, :1], epochs=4, verbose=0, callbacks=[monitor])
    >>> list(monitor.steps["step"])
    [0, 10, 20, 30]
    >>> monitor.layers.groupby("step")["log10_update_ratio"].size().to_dict()
    {0: 3, 10: 3, 20: 3, 30: 3}
    """

    def __init__(
        self,
        folder: str | Path,
        schedule: Any = "log",
        *,
        statistics: str | Sequence[str] = "standard",
        resume: bool = False,
    ) -> None:
        super().__init__()
        self._is_due = schedules.parse(schedule)
        self._names, self._lacking = recording.chosen(statistics)
        self._keeps_start = "log10_distance_from_start" in self._names
        self._folder = Folder(Path(folder), resume)
        self.folder = self._folder.path
        self._instruments: Instruments | JaxSteps | None = None
        self._is_jax = keras.backend.backend() == "jax"
        self._probed: Callable[[Any], Any] | None = None
        self._made_for: Any = None  # the train function that the probed one is the double of
        self._replay = _Replay()
        self._start: dict[int, NDArray[Any]] = {}
        self._made = 0  # optimizer steps
        self._epoch = 0
        self._epoch_start = 0
        self._last: int | None = None
        self._values: Values | None = None
        self._bad_step: int | None = None
        self._origin: Origin | None = None
        self._validation = (math.nan, math.nan)

    @property
    def steps(self) -> pd.DataFrame:
        """One row per probe: losses, accuracies, the norm of all gradients, the learning rate."""
        return self._folder.read("steps")

    @property
    def layers(self) -> pd.DataFrame:
        """One row per probe and layer: its ``name``, ``kind``, ``activation``, the statistics."""
        return self._folder.read("layers")

    @property
    def cells(self) -> pd.DataFrame:
        """One row: the run, its status, and where something became NaN or infinite first."""
        return self._folder.read("cells")

    @property
    def unmeasured(self) -> pd.DataFrame:
        """What is not in the tables: ``layer`` (empty for all layers), ``what`` and ``why``."""
        return self._folder.read("unmeasured")

    @property
    def network(self) -> pd.DataFrame:
        """One row per layer: what it is, ``fan_in`` and ``fan_out``, whether rules judge it."""
        return self._folder.read("network")

    def on_train_begin(self, logs: Any = None) -> None:
        """Prepare the instruments."""
        check_model(self.model, BACKENDS)
        if self._is_jax and self.model.steps_per_execution > 1:
            raise ProbeError(
                f"steps_per_execution: {self.model.steps_per_execution} is not allowed where Keras "
                "computes with 'jax'; allowed: 1"
            )
        if self._instruments is None or self._instruments.model is not self.model:
            self._instruments = (JaxSteps if self._is_jax else Instruments)(self.model)
            self._probed = None
        if self._keeps_start and not self._start:
            self._start = {id(v): np.array(v.numpy()) for v in self.model.trainable_variables}
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._made = self._epoch_start = int(self.model.optimizer.iterations)
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        self._last = None
        if epochs and steps:
            self._last = self._made + epochs * steps - 1
        self._write_cells("running", {})

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note where the epoch begins."""
        if self._last is not None and self._epoch_start == self._made and epoch:
            # The training was resumed: earlier epochs are not made again.
            self._last = self._made + (self.params["epochs"] - epoch) * self.params["steps"] - 1
        self._epoch, self._epoch_start = epoch, self._made

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Exchange the train function where the schedule asks for a probe."""
        end = self._made + self.model.steps_per_execution
        if in_epoch := self.params.get("steps"):
            end = min(end, self._epoch_start + in_epoch)  # the last execution may be shorter
        steps = range(self._made, end)
        if any(self._is_due(self._moment(step)) for step in steps) or self._seeks_origin:
            self._exchange()

    @property
    def _seeks_origin(self) -> bool:
        return self._bad_step is not None and self._origin is None

    def _moment(self, step: int) -> Moment:
        return Moment(step, opens_epoch=step == self._epoch_start, is_last=step == self._last)

    def _exchange(self) -> None:
        """Let the model rehearse its next step with instruments before it makes it."""
        model, instruments = self.model, self._instruments
        assert instruments is not None
        plain = model.train_function
        if "of_monitor" in plain.__dict__:
            raise ProbeError("callbacks: two monitors; allowed: one for a training")
        if isinstance(instruments, JaxSteps):
            self._made_for = plain

            def done(values: Values) -> None:
                model.train_function, self._values = plain, values

            looking = instruments.train_function(plain, done)
            looking.__dict__["of_monitor"] = True
            model.train_function = looking
            return
        if self._probed is None or self._made_for is not plain:
            self._probed = model._make_function(instruments.observed(model.train_step))
            self._made_for = plain
        probed = self._probed

        def train(iterator: Any) -> Any:
            model.train_function = plain
            batches = list(itertools.islice(iterator, model.steps_per_execution))
            if not batches:
                raise StopIteration
            whole = len(batches) == model.steps_per_execution
            with unchanged(model), instruments.attached():
                _, tensors = probed(self._replay.of(batches, iterator, whole))
            logs = plain(self._replay.of(batches, iterator, whole))
            self._values = instruments.with_updates(values_of(tensors))
            return logs

        train.__dict__["of_monitor"] = True
        model.train_function = train

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write the rows of a probe; look at the loss."""
        logs = logs or {}
        steps = self.params.get("steps")
        in_epoch = batch + 1 if steps is None else min(batch + 1, steps)
        self._made = self._epoch_start + in_epoch
        values, self._values = self._values, None
        if values is not None:
            self._record(self._made - 1, values, logs)
        elif self._bad_step is None and not math.isfinite(logs.get("loss", 0.0)):
            self._bad_step = self._made - 1

    def _record(self, step: int, values: Values, logs: dict[str, Any]) -> None:
        assert self._instruments is not None
        if self._is_jax:
            self.model.jax_state_sync()  # as the learning rate, which is in the state
        trace = self._instruments.trace
        mean = mean_loss(self.model)
        rows = recording.layer_rows(trace, values, self._names, self._start, mean)
        origin = recording.origin(trace, values, rows)
        # A loss scale that is too large is halved and the step left out, which harms nothing.
        overflowed = origin is not None and origin.direction == "backward" and self._is_scaled
        self._note_origin(step, None if overflowed else origin)
        cell = {"cell": self.folder.name, "step": step}
        test_loss, test_accuracy = self._validation
        losses: Rows = {
            "epoch": self._epoch,
            "train_loss": logs.get("loss", math.nan),
            "minibatch_loss": values.loss,
            "test_loss": test_loss,
            "train_accuracy": _accuracy(logs, ""),
            "test_accuracy": test_accuracy,
            "gradient_log10_norm": recording.gradient_log10_norm(trace, values),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "loss_scale": values.scale,
            "loss_scale_overflowed": overflowed,
            "exact": values.is_exact,
            **recording.scales(self.model, trace, values),
        }
        name = f"{step:010d}"
        self._folder.write("layers", name, pd.DataFrame([cell | row for row in rows]))
        self._folder.write("steps", name, pd.DataFrame([cell | losses]))
        notes = [*trace.unmeasured, *self._lacking]
        self._folder.write("unmeasured", "run", recording.as_table(notes))
        network = [{"cell": self.folder.name} | row for row in recording.network_rows(trace)]
        self._folder.write("network", "run", pd.DataFrame(network))

    @property
    def _is_scaled(self) -> bool:
        return isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)

    def _note_origin(self, step: int, origin: Origin | None) -> None:
        if origin is None or self._origin is not None:
            return
        if self._bad_step is None:
            self._bad_step, self._origin = step, origin
        else:
            self._origin = Origin(origin.layer, "unknown")
        self._write_cells("running", {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the results of the validation."""
        logs = logs or {}
        self._validation = logs.get("val_loss", math.nan), _accuracy(logs, "val_")

    def on_train_end(self, logs: Any = None) -> None:
        """Write how the training ended."""
        plain = self._made_for
        if plain is not None and "of_monitor" in self.model.train_function.__dict__:
            self.model.train_function = plain
        self._replay = _Replay()  # an iterator over a generator does not outlive the interpreter
        self._write_cells("ok", logs or {})

    def _write_cells(self, status: str, logs: dict[str, Any]) -> None:
        layer = self._origin.layer if self._origin else None
        bad = self._bad_step is not None
        row = {
            "cell": self.folder.name,
            "status": "diverged" if bad else status,
            "first_bad_step": pd.array([self._bad_step], dtype="Int64"),
            "first_bad_layer": pd.array([layer or None], dtype="Int64"),
            "first_bad_direction": self._origin.direction if self._origin else "",
            "steps": self._made,
            "final_train_loss": logs.get("loss", math.nan),
            "final_test_loss": logs.get("val_loss", math.nan),
            "final_train_accuracy": _accuracy(logs, ""),
            "final_test_accuracy": _accuracy(logs, "val_"),
        }
        self._folder.write("cells", "run", pd.DataFrame(row, index=[0]))


class _Replay:
    """Hands minibatches to train functions a second time.

    By an iterator of the type that they come from: the train function takes it without being
    traced anew. Making such an iterator takes a hundred times as long as a small training step, so
    it is kept from probe to probe; it asks for a minibatch when a train function does.
    """

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._signature: Any = None
        self._iterator: Any = None

    def of(self, batches: list[Any], iterator: Any, whole: bool) -> Any:
        """Return an iterator over minibatches.

        Parameters
        ----------
        batches
            The minibatches.
        iterator
            Where they come from.
        whole
            Whether there are as many as a train function takes; otherwise it meets the end.
        """
        if not isinstance(iterator, tf.data.Iterator):
            return iter(batches)
        signature = iterator.element_spec
        self._waiting.clear()
        self._waiting.extend(batches)
        if self._iterator is not None and self._signature == signature:
            made = self._iterator
        else:
            dataset = tf.data.Dataset.from_generator(self._next, output_signature=signature)
            options = tf.data.Options()
            options.autotune.enabled = False  # nothing is asked for ahead of time
            made = iter(dataset.with_options(options))
        self._iterator, self._signature = (made if whole else None), signature
        return made

    def _next(self) -> Iterator[Any]:
        while self._waiting:
            yield self._waiting.popleft()


def _accuracy(logs: dict[str, Any], prefix: str) -> float:
    """Return the accuracy among the results of an epoch, whatever Keras calls it; NaN if none."""
    names = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy")
    for name in (*names, "binary_accuracy"):
        with contextlib.suppress(KeyError):
            return float(logs[f"{prefix}{name}"])
    return math.nan
