"""One network of a study's own as its training needs it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradprop.components import activations, architecture
from gradprop.components.activations import Activation
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import Dataset
from gradprop.components.initializers import stream_seed
from gradprop.components.network import NetworkCell, NetworkFile
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.components.schedules import rate_factor
from gradprop.errors import show
from gradprop.monitor import recording
from gradprop.monitor.instruments import Instruments, Trace, Values, values_of
from gradprop.monitor.state import unchanged
from gradprop.probes.measurements import total_steps
from gradprop.probes.statistics import recorded
from gradprop.spec import SIZES, Cell
from gradprop.training.backend import keras, tf
from gradprop.training.losses import LOSSES, Tensor, resolve_loss
from gradprop.training.stacking import Step

# Losses that apply a softmax or a sigmoid themselves.
_OF_LOGITS = ("cross_entropy", "binary_cross_entropy")
# Keras's names of what clips.
_CLIPPINGS = {"norm": "global_clipnorm", "norm_by_variable": "clipnorm", "value": "clipvalue"}


class CellLoss(keras.losses.Loss):
    """The loss of a cell, which keeps what it was made of in the step that is computed.

    Attributes
    ----------
    losses, outputs
        Of single examples, (batch,), and of the network, (batch, outputs).
    """

    def __init__(self, name: str, targets: Any) -> None:
        super().__init__(name=name)
        self._function, self._targets = LOSSES[name], tf.as_dtype(targets)
        self.losses: Tensor = None
        self.outputs: Tensor = None

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of every example."""
        self.outputs = y_pred
        self.losses = self._function(tf.cast(y_true, self._targets)[None], y_pred[None])[0]
        return self.losses


class Rehearsal(NamedTuple):
    """A step that the model made with instruments, before everything was set back."""

    trace: Trace
    values: Values
    step: Step


class Model:
    """A network, built and compiled, as `gradprop.training.recording.Recorder` needs it.

    Parameters
    ----------
    cell
        Its cell.
    file
        What builds it.
    dataset
        What it is trained on.

    Raises
    ------
    gradprop.errors.ConfigError
        If it can't be built, or is not what the cell asks for.
    """

    def __init__(self, cell: Cell, file: NetworkFile, dataset: Dataset) -> None:
        keras.utils.clear_session()
        # All that Keras draws by itself: of the weights, in dropout, in augmentation.
        keras.utils.set_random_seed(stream_seed("network", cell.seed))
        self.cell, self.file, self.dataset = cell, file, dataset
        features = dataset.x_train.shape[1]
        outputs = architecture.output_units(cell, dataset.outputs)
        self.given = NetworkCell(cell, features, outputs)
        self.keras = file.build(self.given)
        self._check(features, outputs)
        self._loss = CellLoss(resolve_loss(cell, dataset), dataset.y_train.dtype)
        self.keras.compile(_optimizer(cell), self._loss)
        self.keras.optimizer.build(self.keras.trainable_variables)
        self._instruments = Instruments(self.keras)
        self._steps = 0, total_steps(cell, len(dataset.x_train))  # made, and to be made
        self.rate_factor = 1.0  # of the last step
        self._start = {id(v): np.array(v.numpy()) for v in self.keras.trainable_variables}
        self._step, self._predict, self._kept = self._run_step, self._run_predict, self._run_kept
        if cell.epochs:  # tracing would not pay for the one step of a start
            inputs = tf.TensorSpec((None, features), tf.float32)
            self._step = tf.function(self._run_step, autograph=False)
            self._predict = tf.function(self._run_predict, [inputs], autograph=False)
            self._kept = tf.function(self._run_kept, autograph=False)

    def _check(self, features: int, outputs: int) -> None:
        """Raise an error unless the model is built, and takes and gives what it should."""
        made = self.keras
        if not isinstance(made, keras.Model):
            raise self.file.error(f"returned {show(made)}; allowed: a keras.Model")
        if made.compiled:
            raise self.file.error(
                "the model is compiled; leave that out: the study's grid has optimizer and loss"
            )
        example = np.zeros((2, features), dtype=np.float32)
        found = self.file.guarded(lambda: made(example, training=False))
        shape = tuple(getattr(found, "shape", ()))
        if shape != (2, outputs):
            raise self.file.error(
                f"the model makes {shape or show(found)} of two examples with "
                f"{features} features; allowed: (2, {outputs})"
            )
        if not made.trainable_variables:
            raise self.file.error("the model has no trained weights")

    def advance(self) -> None:
        """Set the learning rate for the next step."""
        made, steps = self._steps
        self._steps = made + 1, steps
        self.rate_factor = rate_factor(self.cell.schedule, made, steps)
        if self.cell.schedule.name != "constant" or self.cell.schedule.parameters:
            self.keras.optimizer.learning_rate.assign(self.cell.learning_rate * self.rate_factor)

    def step(self, examples: NDArray[np.int32]) -> Step:
        """Make one step of gradient descent on training examples, (1, batch).

        Of a layer that went bad nothing is known; `rehearse` finds it.
        """
        return _as_step(*self.file.guarded(lambda: self._step(*self._minibatch(examples))))

    def rehearse(self, examples: NDArray[np.int32]) -> Rehearsal:
        """Make a step with instruments, and set everything back to what it was before."""
        instruments = self._instruments
        observed, before = instruments.observed(self.keras.train_step), instruments.weights()
        with unchanged(instruments), instruments.attached():
            tensors = self.file.guarded(lambda: observed(self._minibatch(examples)))
            after = instruments.weights()
        step = _as_step(self._loss.losses, self._loss.outputs)
        values = replace(values_of(tensors, before), after=after)
        return Rehearsal(instruments.trace, values, step)

    def rows(
        self, found: Rehearsal, is_made: bool
    ) -> tuple[list[dict[str, NDArray[np.float64]]], float]:
        """Return the statistics of every layer of a rehearsed step.

        Updates are those of the step itself if it has been made by now.

        Layers are those on the way from the inputs to the outputs, as the monitor judges them.

        Returns
        -------
        tuple
            Of every layer the statistics, each (1,), with `fan_in` and `units` of its kernel; and
            log10 of the norm of all gradients.
        """
        names = recorded(self.cell.statistics)
        values = found.values
        if is_made:
            values = replace(values, after=self._instruments.weights())
        all_rows = recording.layer_rows(found.trace, values, names, self._start, mean_loss=True)
        layers = recording.network_rows(found.trace)
        self._check_output(layers)
        rows = [
            {
                **{name: np.array([row[name]], dtype=np.float64) for name in names},
                **{
                    name: np.array([float(layer[column])])
                    for name, column in zip(SIZES, ("fan_in", "fan_out"), strict=True)
                },
            }
            for row, layer in zip(all_rows, layers, strict=True)
            if layer["judged"]
        ]
        if len(rows) != self.cell.depth + 1:
            raise self.file.error(
                f"the network has {len(rows)} layers with weights on the way from the inputs to "
                f"the outputs; allowed with depth {self.cell.depth}: {self.cell.depth + 1}, hidden "
                "layers and the output layer"
            )
        return rows, recording.gradient_log10_norm(found.trace, values)

    def _check_output(self, layers: list[dict[str, Any]]) -> None:
        """Raise an error if the outputs are probabilities and the loss makes some of them."""
        last = [layer for layer in layers if layer["judged"]][-1:]
        for layer in last:
            if self._loss.name in _OF_LOGITS and layer["activation"] in ("softmax", "sigmoid"):
                raise self.file.error(
                    f"layer {layer['name']!r} ends in a {layer['activation']}, but the loss "
                    f"{self._loss.name} takes logits; allowed: an output layer without it"
                )

    def first_bad_layer(self, found: Rehearsal) -> int:
        """Return the first layer with something not finite in a step, the output if it is none."""
        names = recorded(self.cell.statistics)
        rows = recording.layer_rows(found.trace, found.values, names, self._start, mean_loss=True)
        origin = recording.origin(found.trace, found.values, rows)
        judged = [row["layer"] for row in recording.network_rows(found.trace) if row["judged"]]
        if origin is None or origin.direction == "backward":
            return self.cell.depth + 1
        return min(sum(layer < origin.layer for layer in judged) + 1, self.cell.depth + 1)

    def kept(self) -> list[Tensor]:
        """Return the values of all variables of the model."""
        return self._kept()

    def put_back(self, values: list[Tensor]) -> None:
        """Give all variables of the model the values that `kept` returned."""
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)

    def _variables(self) -> list[Any]:
        return [*self.keras.variables, *self.keras.optimizer.variables]

    def _minibatch(self, examples: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
        data, chosen = self.dataset, examples[0]
        return tf.constant(data.x_train[chosen]), tf.constant(data.y_train[chosen])

    def _run_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.keras.train_step((x, y))
        return self._loss.losses, self._loss.outputs

    def _run_predict(self, x: Tensor) -> Tensor:
        return self.keras(x, training=False)

    def _run_kept(self) -> list[Tensor]:
        return [tf.identity(variable.value) for variable in self._variables()]

    # ------------------------------------------------------- what a recorder asks of a network

    @property
    def kernels(self) -> list[Any]:
        """None: a recorder gets the statistics as they are."""
        return []

    def functions(self, replica: int) -> list[Activation]:
        """Return the activation functions of the hidden layers, as far as the cell names them."""
        return [activations.get(self.cell.activation)] * self.cell.depth

    def loss_scales(self) -> NDArray[np.float64]:
        """Return the factor of the loss, (1,)."""
        return np.ones(1)

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return outputs (1, examples, outputs) of inputs (examples, features)."""
        return np.asarray(self._predict(tf.constant(inputs)))[None]

    def losses(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> NDArray[np.float32]:
        """Return the loss of every example, (1, examples), given its targets."""
        return np.asarray(self._loss.call(tf.constant(targets[0]), tf.constant(outputs[0])))[None]


def _as_step(losses: Tensor, outputs: Tensor) -> Step:
    return Step(losses[None], outputs[None], tf.zeros(1, tf.int32), None)


def _optimizer(cell: Cell) -> Any:
    """Return Keras's optimizer of a cell, whose parameters have Keras's names."""
    clipping = {}
    if cell.clipping.name in _CLIPPINGS:
        threshold = CLIPPINGS.parameters_of(cell.clipping)["threshold"]
        clipping[_CLIPPINGS[cell.clipping.name]] = threshold
    given = OPTIMIZERS.parameters_of(cell.optimizer)
    config = {"learning_rate": cell.learning_rate, **clipping, **given}
    made = keras.optimizers.get({"class_name": cell.optimizer.name, "config": config})
    made.weight_decay = made.weight_decay or None  # 0 would be computed, for every variable
    return made
