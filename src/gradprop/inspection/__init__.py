"""What a user reads of a Keras network of their own: its diagnosis, a report, a comparison.

* `runs`: the tables of one network, and what rules and theory say of them;
* `pictures`, `page`: figures and the HTML file;
* `comparison`: two runs side by side;
* `watching`: `Monitor` and `probe`, which measure and say what they found;
* `saved`: a model in a file.

Nothing but `watching` and `saved` loads Keras: a recorded run can be read without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradprop.inspection.comparison import Comparison, compare
from gradprop.inspection.page import Report
from gradprop.inspection.runs import Run

if TYPE_CHECKING:
    from gradprop.inspection.watching import Monitor, Probe, probe

__all__ = ["Comparison", "Monitor", "Probe", "Report", "Run", "compare", "probe"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gradprop.inspection.watching"), name)
