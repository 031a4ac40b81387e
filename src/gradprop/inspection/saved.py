"""A saved Keras model and arrays in a file, looked at from the command line."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradprop import errors
from gradprop.errors import GradpropError
from gradprop.inspection.runs import RunError
from gradprop.training.backend import keras

if TYPE_CHECKING:
    from gradprop.inspection.watching import Probe

# What Keras says of a class or function that it cannot find, in its own format and in HDF5.
_LACKING = re.compile(r"(?:Could not locate|Unknown) (\w+):? '([^']+)'")
Arrays = dict[str, NDArray[Any]]


def probe_files(model: Path, data: Path, x: str, y: str, batch: int) -> Probe:
    """Load a model and arrays, and look at the first examples.

    The model is loaded in Keras's safe mode, which runs no code of the file.

    Parameters
    ----------
    model
        A file of ``model.save``: ``.keras``, or HDF5.
    data
        A file of ``numpy.savez``.
    x, y
        Names of its arrays of inputs and targets.
    batch
        How many examples to take.

    Raises
    ------
    GradpropError
        If a file is missing or holds something else, or the arrays do not fit the model.
    """
    from gradprop.inspection.watching import probe  # imports Keras, which the backend does first

    arrays = _arrays(data, {"--x": x, "--y": y})
    loaded = _model(model)
    sizes = {name: len(values) for name, values in arrays.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise RunError(f"{data}: {shown} examples; allowed: one number for all")
    return probe(loaded, arrays[x][:batch], arrays[y][:batch])


def _model(path: Path) -> Any:
    if not path.is_file():
        raise RunError(f"{path}: no such file; allowed: a file of model.save")
    try:
        return keras.models.load_model(path, safe_mode=True)
    except Exception as error:  # whatever a file may hold, and of any library that reads it
        text = errors.one_line(str(error))
        if lacking := _LACKING.search(text):
            raise RunError(
                f"{path}: {lacking[1]} {lacking[2]!r} of the model is none of Keras, and this "
                "command imports no code of yours; allowed: gradprop.probe(model, x, y) in Python, "
                "where it is defined"
            ) from None
        # Keras repeats the whole configuration in front of what went wrong.
        reason = errors.cut(text.rpartition("Exception encountered: ")[2], 200)
        raise RunError(f"{path}: no Keras model that can be loaded: {reason}") from None


def _arrays(path: Path, names: dict[str, str]) -> Arrays:
    if not path.is_file():
        raise RunError(f"{path}: no such file; allowed: a file of numpy.savez")
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise RunError(f"{path}: a single array; allowed: a file of numpy.savez")
        with loaded as file:
            found = {name: file[name] for name in file.files if name in names.values()}
            known = file.files
    except GradpropError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        reason = errors.cut(errors.one_line(str(error)), 120)
        raise RunError(f"{path}: no arrays of numpy.savez: {reason}") from None
    for option, name in names.items():
        if name not in found:
            raise RunError(f"{path}: {option}: {errors.not_allowed(name, known)}")
        if found[name].ndim == 0:
            raise RunError(f"{path}: {option}: {name} is a single number; allowed: an array")
    return found
