"""What the steps of the workflow load: none waits for a package that it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

DRAWING = {"matplotlib", "seaborn"}
TRAINING = {"tensorflow", "keras"}
STATISTICS = {"scipy.stats"}  # `import scipy` loads a part of it at the first use
# Together they take longer to load than the whole of a small grid takes to plan.
TABLES = {"pandas", "pyarrow", "scipy.special", "scipy.linalg", "sklearn"}


PLANNING = ("grid.plan", "grid.definitions", "results.manifests")
JUDGING = ("claims", "studies", "report.page")
STACKING = ("jobs", "training.loop")
# What SciPy's name alone does not load.
SCIPY = {"scipy.linalg", "scipy.special", "scipy.stats"}


@pytest.mark.parametrize(
    ("modules", "needless"),
    [
        (PLANNING, DRAWING | TRAINING | TABLES),
        (STACKING, DRAWING | SCIPY),
        (JUDGING, DRAWING | TRAINING | STATISTICS),
    ],
)
def test_a_step_loads_only_what_it_needs(modules: tuple[str, ...], needless: set[str]) -> None:
    names = [f"gradprop.{module}" for module in modules]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(names) <= set(loaded)
    assert not needless & set(loaded)
