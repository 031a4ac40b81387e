"""Signal propagation in deep networks, measured: the package behind the gradprop workflow."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("gradprop")
except PackageNotFoundError:  # the source tree on sys.path, not installed
    __version__ = "0+unknown"

# What users import from here, and where it is: found when it is first asked for, so that `import
# gradprop` loads neither NumPy nor TensorFlow.
_LAZY = {
    "Monitor": "gradprop.inspection",
    "Probe": "gradprop.inspection",
    "advise": "gradprop.advice",
    "compare": "gradprop.inspection",
    "probe": "gradprop.inspection",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
