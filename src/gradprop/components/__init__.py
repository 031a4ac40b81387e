"""What a cell is made of: data sets, initializers, activations and the rest.

A study's own ``components.py`` begins with ``from gradprop.components import ...`` of these names;
the decorator of statistics is in `gradprop.probes`.
"""

from gradprop.components.initializers import Layer
from gradprop.components.optimizers import Weights
from gradprop.components.own import activation, dataset, initializer, optimizer
from gradprop.components.registry import Parameter

__all__ = ["Layer", "Parameter", "Weights", "activation", "dataset", "initializer", "optimizer"]
