"""What a cell is made of: data sets, initializers, activations and the rest.

A study's own ``components.py`` begins with ``from gradprop.components import ...`` of these names.
"""

from gradprop.components.initializers import Layer
from gradprop.components.own import activation, dataset, initializer
from gradprop.components.registry import Parameter

__all__ = ["Layer", "Parameter", "activation", "dataset", "initializer"]
