"""How many threads a process computes with, outside TensorFlow."""

from __future__ import annotations

import pyarrow as pa
import scipy.linalg  # noqa: F401 - has a BLAS of its own, which can be limited once it is loaded
from threadpoolctl import threadpool_limits  # scikit-learn requires it


def limit(threads: int) -> None:
    """Keep BLAS and OpenMP of NumPy, SciPy and scikit-learn, and pyarrow, to `threads` threads.

    It reaches the libraries that are loaded by now. Snakemake sets the same in the environment of
    its jobs, but a command may be run by hand, and as several processes.
    """
    threadpool_limits(threads)
    pa.set_cpu_count(threads)
