"""N replicas of one Keras network as one TensorFlow program.

Every variable of the network gets a leading replica axis; a layer is one batched matrix
product. All operations act on each replica alone, in an order of arithmetic that does not depend
on how many replicas there are: a replica's bits are the same in any stack. The one reduction
that would break this, the sum over the minibatch in a bias gradient, is written as a matrix
product with a row of ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradprop.components import activations, architecture, initializers, normalization
from gradprop.components.clipping import create_clip
from gradprop.components.datasets import Dataset
from gradprop.components.loss_scaling import create_loss_scaling
from gradprop.components.optimizers import Update, create_update
from gradprop.components.precision import accumulator, matmul
from gradprop.components.schedules import rate_factor
from gradprop.probes.measurements import total_steps
from gradprop.spec import Cell, Component, Stack
from gradprop.training.backend import keras, tf
from gradprop.training.dropout import Masks
from gradprop.training.losses import LOSSES, Tensor, in_whole_packets, resolve_loss


class LayerTensors(NamedTuple):
    """What a training step computed: lists with one entry per layer, 1 … depth + 1.

    Values of 16-bit formats are in float32, and derivatives are those of the loss without its
    scale (`gradprop.components.loss_scaling`).
    """

    preactivations: list[Tensor]  # (replicas, batch, units), normalized
    activations: list[Tensor]  # (replicas, batch, units), residual connections included
    signals: list[Tensor]  # (replicas, batch, units), of the loss averaged over the minibatch
    gradients: list[Tensor]  # (replicas, fan_in, fan_out), not clipped
    weights: list[Tensor]  # (replicas, fan_in, fan_out), before the update
    updates: list[Tensor]  # (replicas, fan_in, fan_out), what was subtracted from the weights
    bias_gradients: list[Tensor]  # (replicas, 1, units), not clipped; empty without biases


class _Forward(NamedTuple):
    """One pass forward; lists have one entry per layer."""

    sums: list[Tensor]  # W h + b: the pre-activations before normalization
    preactivations: list[Tensor]
    activations: list[Tensor]
    moments: list[normalization.Moments | None]  # of hidden layers with normalization


class _Backward(NamedTuple):
    """One pass forward and backward; lists have one entry per layer."""

    losses: Tensor
    forward: _Forward
    signals: list[Tensor]
    sum_signals: list[Tensor]  # derivatives by `_Forward.sums`
    gradients: list[Tensor]
    structure_gradients: list[Tensor]  # derivatives by `StackedNetwork.structure`


class Step(NamedTuple):
    """One training step as TensorFlow tensors."""

    losses: Tensor  # (replicas, batch), of single examples
    outputs: Tensor  # (replicas, batch, outputs)
    first_bad_layer: Tensor  # (replicas,); 0 where all losses are finite
    layers: LayerTensors | None  # of probed steps only: memory that is not kept is reused at once


def _first_bad_layer(losses: Tensor, preactivations: list[Tensor]) -> Tensor:
    """Return the first layer of a replica with a NaN or infinite pre-activation.

    If there is none but a loss is not finite, the loss itself overflowed: the output layer is
    returned. 0 where all is well.
    """
    well = tf.reduce_all(tf.math.is_finite(losses), axis=1)

    def search() -> Tensor:
        finite = [tf.reduce_all(tf.math.is_finite(z), axis=(1, 2)) for z in preactivations[:-1]]
        before = tf.math.cumprod(
            [tf.ones_like(losses[:, 0]), *(tf.cast(f, losses.dtype) for f in finite)]
        )
        return tf.where(well, 0, tf.cast(tf.reduce_sum(before, axis=0), tf.int32))

    return tf.cond(tf.reduce_all(well), lambda: tf.zeros_like(losses[:, 0], tf.int32), search)


class StackedNetwork:
    """The replicas of a stack as one program.

    Parameters
    ----------
    stack
        The cells; replica r is ``stack.cells[r]``.
    dataset
        Its training set is what minibatches are taken from.

    Attributes
    ----------
    kernels
        The variable of every layer, (replicas, fan_in, fan_out); tied layers have the same.
    biases
        One variable per layer, (replicas, 1, fan_out); empty for networks without biases.
    structure
        The other trained variables: scales and shifts of normalization, (replicas, 1, fan_out),
        the factors of residual branches, (replicas, 1, 1), and the slopes of PReLU, (replicas, 1,
        fan_out); empty in a plain network.
    """

    def __init__(self, stack: Stack, dataset: Dataset) -> None:
        program = stack.first
        self.depth = program.depth
        self.replicas = len(stack.cells)
        self.batch_size = program.batch_size
        activation = activations.get(program.activation)
        self._function = activation
        self._activation = activation.tensors or keras.activations.get(activation.name)
        self._loss = LOSSES[resolve_loss(program, dataset)]
        self._dtype = tf.as_dtype(program.precision)
        self._wide = accumulator(self._dtype)
        self._inputs = self._rounded(dataset.x_train)
        targets = tf.constant(dataset.y_train)
        self._targets = tf.cast(targets, self._wide) if targets.dtype.is_floating else targets
        # A matrix product with this row is the sum over a minibatch, in one order of summation.
        self._ones = tf.ones((self.replicas, 1, self.batch_size), self._dtype)
        self._create_weights(stack, dataset)
        self._create_structure(program)
        widths = architecture.hidden_widths(program)
        self._masks = Masks(stack.cells, widths, "dropout")
        self._other_masks = Masks(stack.cells, widths, "dropout of other minibatches")
        self._kept_factor = 1 / (1 - program.dropout)
        self._create_update(stack, len(dataset.x_train))
        self._probed_step: Callable[..., Step] = self._run_step
        self._plain_step: Callable[..., Step] = self._run_plain_step
        self._predict: Callable[[Tensor], Tensor] = self._run_outputs
        self._gradients: Callable[..., list[Tensor]] = self._run_gradients
        if program.epochs:  # tracing would not pay for the one step of a start
            self._probed_step = tf.function(self._run_step, autograph=False)
            self._plain_step = tf.function(self._run_plain_step, autograph=False)
            self._predict = tf.function(self._run_outputs, autograph=False)
            self._gradients = tf.function(self._run_gradients, autograph=False)

    def _create_weights(self, stack: Stack, dataset: Dataset) -> None:
        """Draw kernels and biases."""
        program, cells = stack.first, stack.cells
        shapes = initializers.layer_shapes(dataset.x_train.shape[1], program, dataset.outputs)
        drawn = initializers.draw_kernels(cells, shapes, dataset.x_train)
        self._places = architecture.kernel_places(program)
        firsts = [self._places.index(place) for place in range(self._places[-1] + 1)]
        self._weights = [tf.Variable(self._rounded(drawn[layer])) for layer in firsts]
        self.kernels = [self._weights[place] for place in self._places]
        self.biases = [
            tf.Variable(
                self._rounded(np.stack([initializers.draw_bias(c, n, shape)[None] for c in cells]))
            )
            for n, shape in enumerate(shapes, start=1)
            if program.use_bias
        ]

    def _create_structure(self, program: Cell) -> None:
        """Make what normalization, residual branches and trained slopes add to the network."""
        widths = architecture.hidden_widths(program)
        self._normalizations = normalization.create_layers(
            program.normalization, self.replicas, widths, program.precision
        )
        self._skips = architecture.skips(program)
        residual = architecture.RESIDUALS[program.residual]
        self._branch_factor = 1 / math.sqrt(residual.divisor(sum(self._skips) or 1))
        self.branch_scales = [
            tf.Variable(tf.zeros((self.replicas, 1, 1), self._dtype)) if skip else None
            for skip in self._skips
            if residual.trained
        ]
        self._slopes = []
        if self._function.with_slopes:
            slope = float(self._function.derivative(-1.0))
            rows = [np.full((self.replicas, 1, units), slope, "f") for units in widths]
            self._slopes = [tf.Variable(self._rounded(row)) for row in rows]
        self.structure = [
            *(part for layer in self._normalizations for part in (layer.scale, layer.shift)),
            *(scale for scale in self.branch_scales if scale is not None),
            *self._slopes,
        ]

    def _create_update(self, stack: Stack, examples: int) -> None:
        """Make optimizer, schedule, clipping and the scale of the loss."""
        program = stack.first
        rates = np.array(
            [cell.learning_rate for cell in stack.cells], dtype=self._wide.as_numpy_dtype
        )
        if (rates == rates[0]).all():  # to multiply by one number takes half as long
            rates = rates[:1]
        self._schedule = program.schedule
        self._steps = 0, total_steps(program, examples)  # made, and to be made
        self._full_rates = rates[:, None, None]
        constant = self._schedule == Component("constant")
        self._rates: Any = self._rounded(self._full_rates)
        if not constant:
            self._rates = tf.Variable(self._rates)
        self.rate_factor = 1.0  # of the last step
        trained = self._weights + self.biases + self.structure
        self._update, state = _with_state(
            lambda: create_update(program.optimizer, trained, self._rates)
        )
        self._scaling = create_loss_scaling(program.loss_scale, self.replicas, trained + state)
        self._clip = create_clip(program.clipping)

    def step(self, examples: NDArray[np.int32], probed: bool = False) -> Step:
        """Make one step of gradient descent on the training examples (replicas, batch)."""
        made, steps = self._steps
        self.rate_factor = rate_factor(self._schedule, made, steps)
        self._steps = made + 1, steps
        if isinstance(self._rates, tf.Variable):
            factor = self._full_rates.dtype.type(self.rate_factor)
            self._rates.assign(self._rounded(self._full_rates * factor))
        run = self._probed_step if probed else self._plain_step
        return run(tf.constant(examples), self._masks.draw())

    def gradients(self, examples: NDArray[np.int32]) -> list[Tensor]:
        """Return dC/dW of every layer on the training examples (replicas, batch), with no step."""
        return self._gradients(tf.constant(examples), self._other_masks.draw())

    def loss_scales(self) -> NDArray[np.float64]:
        """Return the factor of the loss of every replica, (replicas,)."""
        return self._scaling.factors(self.replicas)

    def _rounded(self, values: NDArray[Any]) -> Tensor:
        return tf.cast(tf.constant(values), self._dtype)

    def _widened(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tf.cast(tensor, self._wide) for tensor in tensors]

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs of every replica on `inputs` (examples, features).

        Batch normalization uses its running means, as Keras does outside training: at
        initialization these are 0 and 1, and it changes almost nothing.

        Returns
        -------
        ndarray
            Shape (replicas, examples, outputs).
        """
        shared = self._rounded(np.broadcast_to(inputs, (self.replicas, *inputs.shape)))
        return as_numpy(self._widened([self._predict(shared)]))[0]

    def layers(
        self, inputs: NDArray[np.float32]
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return pre-activations and outputs of all layers on `inputs` (examples, features).

        Returns
        -------
        tuple of two lists of ndarray
            Shape (replicas, examples, units), one entry per layer.
        """
        shared = self._rounded(np.broadcast_to(inputs, (self.replicas, *inputs.shape)))
        forward = self._run_forward(shared, training=False)
        found = (forward.preactivations, forward.activations)
        return as_numpy(self._widened(found[0])), as_numpy(self._widened(found[1]))

    def functions(self, replica: int) -> list[activations.Activation]:
        """Return the activation functions of the hidden layers, with the slopes they have now."""
        renewed = self._function.with_slopes
        if renewed is None:
            return [self._function] * self.depth
        return [renewed(slopes.numpy()[replica, 0].astype(np.float64)) for slopes in self._slopes]

    def losses(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> NDArray[np.float32]:
        """Return the loss of every example, (replicas, examples), given its targets."""
        wanted = tf.constant(targets)
        if wanted.dtype.is_floating:
            wanted = tf.cast(wanted, self._wide)
        return self._loss(wanted, tf.constant(outputs)).numpy()

    def _run_outputs(self, inputs: Tensor) -> Tensor:
        return self._run_forward(inputs, training=False).activations[-1]

    def _run_forward(
        self,
        inputs: Tensor,
        training: bool,
        masks: tuple[Tensor, ...] = (),
        kernels: Sequence[Tensor] | None = None,
    ) -> _Forward:
        forward = _Forward([], [], [], [])
        hidden = inputs
        for index, kernel in enumerate(kernels or self.kernels):
            z = matmul(hidden, kernel)
            if self.biases:
                z = z + self.biases[index]
            forward.sums.append(z)
            if self._normalizations and index < self.depth:
                z, moments = self._normalizations[index](z, training)
                forward.moments.append(moments)
            forward.preactivations.append(z)
            if index < self.depth:
                branch = self._activate(index, z)
                if masks:
                    branch = tf.where(
                        masks[index], branch * self._kept_factor, tf.zeros_like(branch)
                    )
                hidden = self._connect(index, hidden, branch)
            else:
                hidden = z
            forward.activations.append(hidden)
        return forward

    def _activate(self, index: int, z: Tensor) -> Tensor:
        if not self._slopes:
            return tf.cast(in_whole_packets(self._activation, tf.cast(z, self._wide)), z.dtype)
        return tf.nn.relu(z) - normalization.spread(self._slopes[index], z) * tf.nn.relu(-z)

    def _connect(self, index: int, before: Tensor, branch: Tensor) -> Tensor:
        """Add what the hidden layer computed to what went in, if the layer has a skip."""
        if not self._skips[index]:
            return branch
        if self._branch_factor != 1:
            branch = branch * self._branch_factor
        if self.branch_scales:
            row = matmul(self.branch_scales[index], tf.ones_like(branch[:, :1, :]))
            branch = branch * normalization.spread(row, branch)
        return before + branch

    def _run_gradients(self, examples: Tensor, masks: tuple[Tensor, ...]) -> list[Tensor]:
        return self._scaling.unscale(self._run_backward(examples, masks).gradients)

    def _run_backward(self, examples: Tensor, masks: tuple[Tensor, ...]) -> _Backward:
        inputs = tf.gather(self._inputs, examples)
        targets = tf.gather(self._targets, examples)
        # Biases are left out: their gradients are made from the signals.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            # A tied kernel is read once per layer, so that every use has a derivative of its own.
            tied = len(self._weights) < len(self.kernels)
            kernels = [tf.identity(k) for k in self.kernels] if tied else self.kernels
            tape.watch([*kernels, *self.structure])
            forward = self._run_forward(inputs, training=True, masks=masks, kernels=kernels)
            losses = self._loss(targets, tf.cast(forward.activations[-1], self._wide))
            # The sum over replicas keeps every replica's own mean loss: only its gradient,
            # 1 / batch for every example, is used.
            objective = tf.reduce_sum(self._scaling.scale(losses)) / self.batch_size
        sums = forward.sums if self._normalizations else []
        signals, sum_signals, gradients, structure_gradients = tape.gradient(
            objective, [forward.preactivations, sums, kernels, self.structure]
        )
        return _Backward(
            losses, forward, signals, sum_signals or signals, gradients, structure_gradients
        )

    def _summed(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return the derivative by every kernel: the sum over the layers that use it, in order."""
        sums: list[Tensor] = [None] * len(self._weights)
        for place, gradient in zip(self._places, gradients, strict=True):
            sums[place] = gradient if sums[place] is None else sums[place] + gradient
        return sums

    def _run_plain_step(self, examples: Tensor, masks: tuple[Tensor, ...]) -> Step:
        # To trace a call takes half as long as the step; TensorFlow drops what nobody reads.
        return self._probed_step(examples, masks)._replace(layers=None)

    def _run_step(self, examples: Tensor, masks: tuple[Tensor, ...]) -> Step:
        losses, forward, signals, sum_signals, gradients, structure = self._run_backward(
            examples, masks
        )
        bad_layer = _first_bad_layer(losses, forward.preactivations)
        bias_gradients = [matmul(self._ones, signal) for signal in sum_signals if self.biases]
        weights = [kernel.read_value() for kernel in self.kernels]
        unscale = self._scaling.unscale  # by the scale of this step, which the update may change
        seen = [unscale(group) for group in (signals, gradients, bias_gradients)]
        updates = self._scaling.update(
            lambda unscaled: self._update(self._clip(unscaled)),
            self._summed(gradients) + bias_gradients + structure,
        )
        outputs = tf.cast(forward.activations[-1], self._wide)
        for layer, moments in zip(self._normalizations, forward.moments, strict=True):
            layer.follow(moments)
        layers = LayerTensors(
            self._widened(forward.preactivations),
            self._widened(forward.activations),
            seen[0],
            seen[1],
            self._widened(weights),
            self._widened([updates[place] for place in self._places]),
            seen[2],
        )
        return Step(losses, outputs, bad_layer, layers)


def _with_state(create: Callable[[], Update]) -> tuple[Update, list[Tensor]]:
    """Return the update of an optimizer, and the variables that it keeps of every weight."""
    state: list[Tensor] = []

    def note(make: Callable[..., Tensor], **given: Any) -> Tensor:
        state.append(make(**given))
        return state[-1]

    with tf.variable_creator_scope(note):
        update = create()
    return update, [variable for variable in state if variable.shape.rank]


def as_numpy(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """Return read-only arrays on the memory of eager tensors, without copying."""
    return [np.asarray(memoryview(tensor)) for tensor in tensors]
