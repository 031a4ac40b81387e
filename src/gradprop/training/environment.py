"""The environment variables that would change numbers, and what they are in every job.

A shell may set variables for other programs that TensorFlow, Keras, oneDNN, NumPy and their
libraries read as well: TF_ENABLE_ONEDNN_OPTS, for one, changes almost all results. A cell's result
is a function of its parameters, so jobs do not inherit them.

TensorFlow computes with one thread of the CPU. With more, oneDNN divides a product among them in
another way on some processors, and a convolution its sums on all, so that bits would depend on
their number; a workflow uses the cores by running one job on each.
"""

from __future__ import annotations

import os
import resource

# All variables that begin so are left out: they belong to the libraries that compute.
PREFIXES = (
    "BLIS_",
    "DNNL_",
    "GOTO_",
    "KERAS_",
    "KMP_",
    "MKL_",
    "NPY_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "SCIPY_",
    "SKLEARN_",
    "TF2_",
    "TF_",
    "VECLIB_",
    "XLA_",
)
# Libraries read no file of settings in the user's home, and write none.
_NOWHERE = f"{os.devnull}/keras"
THREADS = 1
# By itself TensorFlow switches oneDNN's operations on or off by the kind of processor. Without them
# a training step takes up to 1.7 times as long. oneDNN's own cache takes a product of vectors for
# that of their transposes, and without AVX-512 the bits depend on which of both came first in the
# process; TensorFlow has a cache that tells them apart.
FIXED = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": _NOWHERE,
    "OMP_NUM_THREADS": str(THREADS),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
    "OPENBLAS_NUM_THREADS": str(THREADS),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_NUM_INTEROP_THREADS": str(THREADS),
    "TF_NUM_INTRAOP_THREADS": str(THREADS),
}

# Bytes. TensorFlow maps 2 to 3 GB before it computes anything.
LEAST_ADDRESS_SPACE = 3 << 30


def obstacle() -> str:
    """Return what no program can undo once it runs, in words; "" if there is nothing.

    glibc reads GLIBC_TUNABLES when a program starts, and takes other implementations of exp, log
    and the like for other instruction sets.
    """
    value = os.environ.get("GLIBC_TUNABLES", "")
    return "GLIBC_TUNABLES: glibc.cpu changes numbers; unset it" if "glibc.cpu" in value else ""


def memory_limit() -> str:
    """Return in words that the shell leaves a process too little address space; "" if it does not.

    OpenBLAS, for one, tries again without end where it gets no memory.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= LEAST_ADDRESS_SPACE:
        return ""
    return (
        f"ulimit -v {limit // 1024}: too little memory for TensorFlow; allowed: "
        f"{LEAST_ADDRESS_SPACE // 1024} and more, or unlimited"
    )


def fix() -> None:
    """Set what decides numbers; call it before TensorFlow is imported, and best before NumPy."""
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        del os.environ[name]
    os.environ.update(FIXED)
