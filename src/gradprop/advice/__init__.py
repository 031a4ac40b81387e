"""What to do about a network's signal: what theory recommends, and what measurements say.

* `initializations`: `advise`, which needs no network: the weights that an activation needs;
* `functions`: activation functions given as Python functions.
"""

from gradprop.advice.initializations import Initialization, InitializationAdvice, advise

__all__ = ["Initialization", "InitializationAdvice", "advise"]
