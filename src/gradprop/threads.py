"""Outside TensorFlow, too, a process computes with one thread."""

from __future__ import annotations

import pyarrow as pa
from threadpoolctl import threadpool_limits  # scikit-learn requires it


def keep_to_one() -> None:
    """Keep BLAS and OpenMP of NumPy, SciPy and scikit-learn, and pyarrow, to one thread.

    It reaches the libraries that are loaded by now. Those that are loaded later, as SciPy with a
    BLAS of its own, find one thread in the environment (`gradprop.training.environment`).
    """
    threadpool_limits(1)
    pa.set_cpu_count(1)
