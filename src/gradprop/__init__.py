"""Signal propagation in deep networks, measured: the package behind the gradprop workflow."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gradprop")
except PackageNotFoundError:  # the source tree on sys.path, not installed
    __version__ = "0+unknown"
