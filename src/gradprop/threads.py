"""Outside TensorFlow, too, a process computes with one thread."""

from __future__ import annotations

import pyarrow as pa
import scipy.linalg  # noqa: F401 - has a BLAS of its own, which can be limited once it is loaded
from threadpoolctl import threadpool_limits  # scikit-learn requires it


def keep_to_one() -> None:
    """Keep BLAS and OpenMP of NumPy, SciPy and scikit-learn, and pyarrow, to one thread.

    It reaches the libraries that are loaded by now. Snakemake sets the same in the environment of
    its jobs, but a command may be run by hand.
    """
    threadpool_limits(1)
    pa.set_cpu_count(1)
