"""What to do about a network's signal: what theory recommends, and what measurements say.

* `initializations`: `advise`, which needs no network: the weights that an activation needs;
* `functions`: activation functions given as Python functions;
* `findings`: `diagnose`, the rules that judge one measured network and its layers;
* `remedies`: `causes` and `advice`, what to change in it.
"""

from gradprop.advice.diagnosing import alarms, diagnose
from gradprop.advice.findings import Diagnosis, Finding, Group, Limits
from gradprop.advice.initializations import Initialization, InitializationAdvice, advise
from gradprop.advice.remedies import Remedy, advice, causes

__all__ = [
    "Diagnosis",
    "Finding",
    "Group",
    "Initialization",
    "InitializationAdvice",
    "Limits",
    "Remedy",
    "advice",
    "advise",
    "alarms",
    "causes",
    "diagnose",
]
