"""A plain convolutional network: no normalization, no residual connections."""

from typing import Any

import keras


class WrapAround(keras.layers.Layer):
    """Continue an image across each border with what stands at the opposite one."""

    def __init__(self, border: int, **given: Any) -> None:
        super().__init__(**given)
        self.border = border

    def call(self, x: Any) -> Any:
        """Return (batch, rows + 2 border, columns + 2 border, channels)."""
        n = self.border
        x = keras.ops.concatenate([x[:, -n:], x, x[:, :n]], axis=1)
        return keras.ops.concatenate([x[:, :, -n:], x, x[:, :, :n]], axis=2)


def build(cell: Any, padding: str = "zero") -> Any:
    """Return `depth` convolutions of 3 x 3 with `width` channels on images of 8 x 8."""
    h = inputs = keras.Input((cell.features,))
    h = keras.layers.Reshape((8, 8, 1))(h)
    for n in range(1, cell.depth + 1):
        h = WrapAround(1)(h) if padding == "circular" else h
        h = keras.layers.Conv2D(
            cell.width,
            3,
            padding="valid" if padding == "circular" else "same",
            activation=cell.phi,
            use_bias=cell.use_bias,
            kernel_initializer=cell.kernel(n),
            bias_initializer=cell.bias(n),
        )(h)
    h = keras.layers.Flatten()(h)
    last = cell.depth + 1
    outputs = keras.layers.Dense(
        cell.outputs,
        use_bias=cell.use_bias,
        kernel_initializer=cell.kernel(last),
        bias_initializer=cell.bias(last),
    )(h)
    return keras.Model(inputs, outputs)
