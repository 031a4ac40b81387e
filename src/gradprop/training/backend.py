"""TensorFlow and Keras: imported here, quietly and fast, and told how to compute."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gradprop.training import environment

__all__ = ["keras", "tf"]

# Keras imports them where they are installed, for parts of it that nothing here uses.
UNUSED = ("matplotlib", "sklearn")


@contextmanager
def _fast() -> Iterator[None]:
    """Import without garbage collection and without what Keras can do without.

    It takes 40 % less time. What is imported stays: later collections leave it out.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not installed
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the notes about CUDA that TensorFlow's libraries write while they are loaded."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


environment.fix()
with _quiet(), _fast():
    import keras
    import tensorflow as tf

# Grappler folds and reorders constants only below 100 kB: the order of arithmetic of a replica
# would depend on the size of its stack.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
