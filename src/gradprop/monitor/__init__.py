"""The gradients of any Keras network, measured in its own training steps.

`probe` looks at one minibatch, `Monitor` at the steps of ``model.fit``. They need Keras's
TensorFlow backend, and use Keras and TensorFlow as the user's program has set them up. With the JAX
backend a `Monitor` records weights, their gradients and their updates alone.
"""

from gradprop.monitor.callback import Monitor
from gradprop.monitor.probing import Probe, probe

__all__ = ["Monitor", "Probe", "probe"]
