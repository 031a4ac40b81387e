"""How networks that a study's ``network.py`` builds are trained: by Keras, one after another.

A cell is the same training as in a stack (`gradprop.training`): the same minibatches, probes, final
evaluations and statuses. Keras computes the steps, and the instruments of `gradprop.monitor` read
off what a probe records.
"""

from gradprop.networks.loop import train

__all__ = ["train"]
