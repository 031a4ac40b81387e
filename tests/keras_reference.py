"""A cell as a plain Keras model: the reference that stacked training must agree with."""

from __future__ import annotations

from gradprop.components import architecture, initializers
from gradprop.components.clipping import CLIPPINGS
from gradprop.components.datasets import Dataset
from gradprop.components.normalization import NORMALIZATIONS
from gradprop.components.optimizers import OPTIMIZERS
from gradprop.spec import Cell, Component
from gradprop.training.backend import keras


class BranchScale(keras.layers.Layer):
    """Multiply by one trained number that starts at 0 (ReZero, SkipInit)."""

    def build(self, input_shape: object) -> None:
        """Create the number."""
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")

    def call(self, inputs: object) -> object:
        """Return the scaled inputs."""
        return self.scale * inputs


class FedDropout(keras.layers.Layer):
    """Dropout by a mask (batch, units) that is fed to it, scaled as keras.layers.Dropout does."""

    def __init__(self, rate: float, **given: object) -> None:
        super().__init__(**given)
        self.rate = rate
        self.mask: object = None

    def call(self, inputs: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Return the inputs that are kept, divided by the share that is kept on average."""
        if not training:
            return inputs
        return keras.ops.where(self.mask, inputs / (1 - self.rate), 0.0)


def build_model(cell: Cell, dataset: Dataset) -> keras.Model:
    """Build the multilayer perceptron of a cell, with the cell's kernels and biases.

    Returns
    -------
    keras.Model
        From inputs (batch, features) to logits or predictions (batch, outputs). Layers
        ``layer_1`` … are Dense, ``normalization_1`` … BatchNormalization or LayerNormalization,
        ``branch_1`` … what residual branches are multiplied with, ``dropout_1`` … masks.
    """
    shapes = initializers.layer_shapes(dataset.x_train.shape[1], cell, dataset.outputs)
    skips = architecture.skips(cell)
    inputs = hidden = keras.Input((shapes[0][0],))
    for number, (fan_in, fan_out) in enumerate(shapes, start=1):
        layer = initializers.Layer(fan_in, fan_out, cell.activation)
        seed = initializers.kernel_seed(cell, number)
        z = keras.layers.Dense(
            fan_out,
            kernel_initializer=initializers.build(
                initializers.initializer_of(cell, number), seed, layer
            ),
            use_bias=cell.use_bias,
            name=f"layer_{number}",
        )(hidden)
        if number > cell.depth:
            hidden = z
            break
        branch = _activation(cell.activation.label)(_normalized(cell, number, z))
        if cell.dropout:
            branch = FedDropout(cell.dropout, name=f"dropout_{number}")(branch)
        if skips[number - 1]:
            branch = keras.layers.add([hidden, _scaled_branch(cell, number, branch, sum(skips))])
        hidden = branch
    model = keras.Model(inputs, hidden)
    if initializers.INITIALIZERS[cell.initializer.name].unit_variance:
        kernels = initializers.draw_kernels([cell], shapes, dataset.x_train)
        for number, kernel in enumerate(kernels, start=1):
            model.get_layer(f"layer_{number}").kernel.assign(kernel[0])
    if cell.use_bias:
        for number, shape in enumerate(shapes, start=1):
            bias = initializers.draw_bias(cell, number, shape)
            model.get_layer(f"layer_{number}").bias.assign(bias)
    return model


def _activation(label: str) -> keras.layers.Layer:
    function = Component.parse(label)
    given = dict(function.parameters)
    if function.name == "leaky_relu" and given:
        return keras.layers.LeakyReLU(negative_slope=given["slope"])
    if function.name == "elu" and given:
        return keras.layers.ELU(alpha=given["alpha"])
    if function.name == "prelu":
        return keras.layers.PReLU(
            alpha_initializer=keras.initializers.Constant(given.get("slope", 0.25))
        )
    if function.name == "sine":
        return keras.layers.Lambda(lambda z: keras.ops.sin(given.get("omega", 1.0) * z))
    return keras.layers.Activation(label)


def _normalized(cell: Cell, number: int, z: keras.KerasTensor) -> keras.KerasTensor:
    classes = {
        "batch": keras.layers.BatchNormalization,
        "layer": keras.layers.LayerNormalization,
    }
    if cell.normalization.name == "none":
        return z
    given = NORMALIZATIONS.parameters_of(cell.normalization)
    return classes[cell.normalization.name](**given, name=f"normalization_{number}")(z)


def _scaled_branch(
    cell: Cell, number: int, branch: keras.KerasTensor, skips: int
) -> keras.KerasTensor:
    if cell.residual == "scaled":
        return keras.layers.Rescaling(skips**-0.5, name=f"branch_{number}")(branch)
    if cell.residual == "rezero":
        return BranchScale(name=f"branch_{number}")(branch)
    return branch


def build_optimizer(cell: Cell) -> keras.Optimizer:
    """Build the Keras optimizer of a cell, with its clipping."""
    names = {"norm": "global_clipnorm", "norm_by_variable": "clipnorm", "value": "clipvalue"}
    clipping = {}
    if cell.clipping.name in names:
        given = CLIPPINGS.parameters_of(cell.clipping)
        clipping[names[cell.clipping.name]] = given["threshold"]
    given = OPTIMIZERS.parameters_of(cell.optimizer)
    config = {"learning_rate": cell.learning_rate, **clipping, **given}
    # Names and parameters are Keras's own.
    return keras.optimizers.get({"class_name": cell.optimizer.name, "config": config})
