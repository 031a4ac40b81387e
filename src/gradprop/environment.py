"""The environment variables that would change numbers, and what they are in every job.

A shell may set variables for other programs that TensorFlow, Keras, oneDNN, NumPy and their
libraries read as well: TF_ENABLE_ONEDNN_OPTS, for one, changes almost all results. A cell's result
is a function of its parameters, so jobs do not inherit them.
"""

from __future__ import annotations

import os

# All variables that begin so are left out: they belong to the libraries that compute.
PREFIXES = (
    "DNNL_",
    "KERAS_",
    "KMP_",
    "MKL_",
    "NPY_",
    "ONEDNN_",
    "SCIPY_",
    "SKLEARN_",
    "TF2_",
    "TF_",
    "XLA_",
)
# Libraries read no file of settings in the user's home, and write none.
_NOWHERE = f"{os.devnull}/keras"
# By itself TensorFlow switches oneDNN's operations on or off by the kind of processor. Without them
# a replica's bits depend on how many others are in its stack.
FIXED = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": _NOWHERE,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",  # unless a job is told otherwise
}


def fix() -> None:
    """Set what decides numbers; call it before TensorFlow is imported, and best before NumPy."""
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        del os.environ[name]
    os.environ.update(FIXED)
