"""The callback that records what happens in the layers of a model while it is trained."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from gradprop.monitor import recording, schedules
from gradprop.monitor.instruments import Instruments, Trace, Values, values_of
from gradprop.monitor.jax_steps import JaxSteps
from gradprop.monitor.layers import Unmeasured, has_own_step, is_of_keras, optimizers
from gradprop.monitor.probing import (
    ProbeError,
    check_labels,
    check_model,
    explain_labels,
    mean_loss,
)
from gradprop.monitor.recording import Folder, Origin, Rows
from gradprop.monitor.schedules import Moment
from gradprop.monitor.state import State, read, set_back, unchanged

#: Backends of Keras whose steps can be looked at: of TensorFlow's all, of JAX's the gradients.
BACKENDS = ("tensorflow", "jax")
_Weights = dict[int, NDArray[Any]]  # by `id` of the Keras variable


class Monitor(keras.callbacks.Callback):
    """Record gradients, signals, activations and updates while ``model.fit`` trains.

    A step of the schedule is rehearsed by a second train function, which computes the same and
    hands out what it computed. All variables are then set back, and the model makes the step on the
    same minibatch by its own train function, as it makes all others: weights after the training are
    the same, bit for bit, as without the monitor. (Numbers that a layer draws in Python while its
    step is traced, and that a compiled step has from then on, may be others.)

    Where the compilers of TensorFlow fuse operations of the one program and not of the other, the
    rehearsed numbers may differ from those of the step in their last digits; the column ``exact``
    of ``steps`` says whether both led to the same weights. A rehearsal of Keras's own compiled
    ``train_step`` leaves the optimizer out, and that of the first probe answers for all. Updates
    are those of the step itself.

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
    steps, layers, times, network, cells, unmeasured : pandas.DataFrame
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
        self._folder = Folder(folder, resume)
        self.folder = self._folder.path
        self._instruments: Instruments | JaxSteps | None = None
        self._is_jax = keras.backend.backend() == "jax"
        self._rehearsal: _Rehearsal | None = None
        self._replay = _Replay()
        self._start: dict[int, NDArray[Any]] = {}
        self._made = 0  # optimizer steps
        self._epoch = 0
        self._epoch_start = 0
        self._last: int | None = None
        self._values: Values | None = None
        self._described: Trace | None = None  # what the tables of the network are of
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
    def times(self) -> pd.DataFrame:
        """One row per probe, recurrent layer and time step: the size of dC/dx_t; else empty."""
        found = self._folder.read("times")
        return pd.DataFrame(columns=["cell", "step", *recording.TIMES]) if found.empty else found

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
        _take_off(self.model)
        if self._is_jax and getattr(self._instruments, "model", None) is not self.model:
            self._instruments = JaxSteps(self.model)
        if self._keeps_start and not self._start:
            self._start = {id(v): np.array(v.numpy()) for v in self.model.trainable_variables}
        if not self._is_jax and self.model._distribute_strategy is not None:
            raise ProbeError(
                f"model {self.model.name!r}: made in the scope of a strategy that distributes its "
                "training; allowed: one that is trained on one device"
            )
        if not has_own_step(self.model) and not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._made = self._epoch_start = self._steps_made() or self._made
        epochs, steps = self.params.get("epochs"), self.params.get("steps")
        self._last = None
        if epochs and steps:
            self._last = self._made + epochs * steps - 1
        self._write_cells("running", {})

    def _steps_made(self) -> int:
        """Return how many steps the optimizers have made; 0 of new ones, and if none makes any.

        One that is not the model's own may make all. Those that gather the gradients of several
        steps count these, and not what they apply.
        """
        made = [getattr(one, "inner_optimizer", one)._iterations for one in optimizers(self.model)]
        return max(map(int, made), default=0)

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
        model, plain = self.model, self.model.train_function
        if "of_monitor" in plain.__dict__:
            raise ProbeError("callbacks: two monitors; allowed: one for a training")
        if isinstance(self._instruments, JaxSteps):

            def done(values: Values) -> None:
                model.train_function, self._values = plain, values

            looking = self._instruments.train_function(plain, done)
            looking.__dict__["of_monitor"] = plain
            model.train_function = looking
            return
        if self._rehearsal is None or self._rehearsal.plain is not plain:
            # Compiled anew, the model may have another optimizer, and other layers that learn.
            self._instruments = Instruments(model)
            self._rehearsal = _Rehearsal(self._instruments, plain)
        instruments, rehearsal = self._rehearsal.instruments, self._rehearsal

        def train(iterator: Any) -> Any:
            model.train_function = plain
            batches = list(itertools.islice(iterator, model.steps_per_execution))
            if not batches:
                raise StopIteration
            for batch in batches:
                if isinstance(batch, tuple | list) and len(batch) > 1:
                    check_labels(model, batch[1])
            whole = len(batches) == model.steps_per_execution
            try:
                values, rehearsed = rehearsal.of(batches, iterator)
            except tf.errors.InvalidArgumentError as error:
                explain_labels(error)
                raise
            logs = plain(self._replay.of(batches, iterator, whole))
            made, trace = instruments.weights(), instruments.trace
            is_exact = rehearsal.is_exact(rehearsed, made)
            if model.run_eagerly and not is_exact:  # no compiler is to blame
                why = "the step keeps something that is no variable: with a monitor it is another"
                note = Unmeasured("", "the training without a monitor", why)
                self._lacking = list(dict.fromkeys([*self._lacking, note]))
            after = {} if trace.no_update else made
            self._values = replace(values, after=after, is_exact=is_exact)
            return logs

        train.__dict__["of_monitor"] = plain
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
            "learning_rate": _learning_rate(trace.optimizers or optimizers(self.model)),
            "optimizers": len(trace.optimizers) or int(self._is_jax),
            "loss_scale": values.scale,
            "loss_scale_overflowed": overflowed,
            "exact": values.is_exact,
            **recording.scales(self.model, trace, values),
        }
        name = f"{step:010d}"
        if rows:
            self._folder.write("layers", name, [cell | row for row in rows])
        if times := recording.time_rows(trace, values, mean):
            self._folder.write("times", name, [cell | row for row in times])
        self._folder.write("steps", name, [cell | losses])
        if trace is not self._described:
            self._describe(trace)

    def _describe(self, trace: Trace) -> None:
        """Write what the network is and what of it is not measured, once per compiled program."""
        notes = [*trace.unmeasured, *self._lacking]
        self._folder.write("unmeasured", "run", recording.as_table(notes))
        network = [{"cell": self.folder.name} | row for row in recording.network_rows(trace)]
        self._folder.write("network", "run", pd.DataFrame(network))
        self._described = trace

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
        _take_off(self.model)
        self._replay = _Replay()  # an iterator over a generator does not outlive the interpreter
        self._write_cells("ok", logs or {})

    def _write_cells(self, status: str, logs: dict[str, Any]) -> None:
        layer = self._origin.layer if self._origin else None
        if self._bad_step is not None:
            in_data = self._origin is not None and self._origin.is_in_data
            status = "bad data" if in_data else "diverged"
        row = {
            "cell": self.folder.name,
            "status": status,
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


class _Rehearsal:
    """Makes steps of a model with instruments and undoes them.

    Minibatch by minibatch, also where the train function takes several, and without the iterator
    and the optional results that Keras's own train function has: to trace and to call those for
    hundreds of tensors takes longer than the step. The optimizer takes up to two thirds of the time
    of tracing, and nothing of the step depends on what it does, unless the model has a training
    step of its own or several are made: so the program leaves it out. After the very first step
    its gradients are applied all the same, to compare the weights with those of the step itself.

    Parameters
    ----------
    instruments
        Those on the model.
    plain
        The train function whose double this is.
    """

    def __init__(self, instruments: Instruments, plain: Any) -> None:
        self.plain = plain
        self.instruments = instruments
        self._model = model = instruments.model
        compiled = not (model.run_eagerly or model.jit_compile) and is_of_keras(model.optimizer)
        self._applies = has_own_step(model) or not compiled or model.steps_per_execution > 1
        self._was_exact: bool | None = None
        self._first: tuple[State, list[Any]] = [], []
        # Tensors inside of a function that is compiled by itself could not be handed out.
        train_step = getattr(model.train_step, "python_function", model.train_step)
        step = instruments.observed(train_step, self._applies)

        def strategic(data: Any) -> Any:
            return model.distribute_strategy.run(step, args=(data,))

        self._step: Any = strategic
        self._program: Any = None  # compiled
        if not model.run_eagerly:
            self._step = tf.function(
                strategic, autograph=False, reduce_retracing=True, jit_compile=model.jit_compile
            )

    def of(self, batches: list[Any], iterator: Any) -> tuple[Values, _Weights | None]:
        """Rehearse a step for every minibatch.

        Returns
        -------
        tuple
            What the last of them computed, and the weights that they led to, if they were applied.
        """
        weights = self.instruments.weights
        is_first = self._was_exact is None
        self._compile(iterator, batches[0])
        with self._unchanged(self._applies or is_first) as state:
            for number, batch in enumerate(batches):
                if number == len(batches) - 1:
                    before = weights()
                tensors = self._made(batch)
            if is_first and not self._applies:
                # Some layers change their weights when they are called.
                self._first = [(v, read(v)) for v, _ in state], tensors["given"]
            return values_of(tensors, before), weights() if self._applies else None

    def is_exact(self, rehearsed: _Weights | None, made: _Weights) -> bool:
        """Tell whether the step itself led to the same weights; the very first, if only that can.

        Compilers compute the updates of some optimizers otherwise than operations one by one.
        """
        if rehearsed is not None:
            return _same(rehearsed, made)
        if self._was_exact is None:
            compiled = (False, True)
            self._was_exact = any(_same(self._applied(way), made) for way in compiled)
            self._first = [], []
        return self._was_exact

    def _applied(self, compiled: bool) -> _Weights:
        """Return what the optimizer makes of the weights and gradients of the first step."""
        state, gradients = self._first
        variables = self._model.trainable_variables

        def apply(given: Any) -> None:
            self._model.optimizer.apply(given, variables)

        with self._unchanged():
            set_back(state)
            (tf.function(apply, autograph=False) if compiled else apply)(gradients)
            return self.instruments.weights()

    def _unchanged(self, optimizer: bool = True) -> AbstractContextManager[State]:
        """Set back what a step changes, and whatever variable the compiled one uses."""
        further = self._program.variables if self._program is not None else ()
        return unchanged(self.instruments, optimizer, further)

    def _compile(self, iterator: Any, batch: Any) -> None:
        """Compile the step, if need be and if it can be.

        Of the shapes that all minibatches have in common, as Keras's own, to the same bits.
        """
        can_be = isinstance(iterator, tf.data.Iterator) and not self._model.run_eagerly
        if self._program is None and can_be:
            specification = _without_optionals(iterator.element_spec)
            self._build_metrics(batch)
            with self.instruments.attached():
                self._program = self._step.get_concrete_function(specification)

    def _build_metrics(self, batch: Any) -> None:
        """Let the metrics make their variables: a function that makes some is traced twice."""
        model = self._model
        own = getattr(model.compute_metrics, "__func__", None) is not keras.Model.compute_metrics
        are_built = all(getattr(metric, "built", True) for metric in model.metrics)
        if own or has_own_step(model) or are_built:
            return
        x, y, weights = keras.utils.unpack_x_y_sample_weight(_without_optionals(batch))
        training = {"training": False} if model._call_has_training_arg else {}
        with self._unchanged():
            model.compute_metrics(x, y, model(x, **training), weights)
        model.reset_metrics()  # all are as new as those that had no variables

    def _made(self, batch: Any) -> Any:
        data = _without_optionals(batch)
        if self._program is not None:
            return self._program(data)
        with self.instruments.attached():
            return self._step(data)


def _take_off(model: Any) -> None:
    """Take off what a training that was interrupted has left in place of its train function."""
    model.train_function = getattr(model.train_function, "of_monitor", model.train_function)


def _same(one: _Weights, other: _Weights) -> bool:
    return all(np.array_equal(value, other[key], equal_nan=True) for key, value in one.items())


def _without_optionals(data: Any) -> Any:
    """Return a minibatch, or its specification, with None where Keras hands on an empty one."""
    empty = (tf.experimental.Optional, tf.OptionalSpec)
    return keras.tree.map_structure(lambda v: None if isinstance(v, empty) else v, data)


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


def _learning_rate(applied: Sequence[Any]) -> float:
    """Return the learning rate of all optimizers; NaN if they have several."""
    rates = {float(optimizer.learning_rate) for optimizer in applied}
    return rates.pop() if len(rates) == 1 else math.nan


def _accuracy(logs: dict[str, Any], prefix: str) -> float:
    """Return the accuracy among the results of an epoch, whatever Keras calls it; NaN if none."""
    names = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy")
    for name in (*names, "binary_accuracy"):
        with contextlib.suppress(KeyError):
            return float(logs[f"{prefix}{name}"])
    return math.nan
