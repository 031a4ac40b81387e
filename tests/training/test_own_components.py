"""The example of the manual: every kind of own component, in networks that are trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradprop.components import datasets, own
from gradprop.grid import axes, schema
from gradprop.grid.config import validate
from gradprop.probes import statistics
from gradprop.spec import Stack
from gradprop.training import independence, loop
from gradprop.training.stopwatch import Stopwatch
from tests.workspace import ROOT

NAMES = {
    "initializer": "sign_weights",
    "activation": "serf",
    "dataset": "stripes",
    "optimizer": "rms_steps",
    "statistic": "weight_log10_largest_singular",
}
BLOCK: dict[str, Any] = {
    **{kind: name for kind, name in NAMES.items() if kind != "statistic"},
    **{"depth": 2, "width": 16, "learning_rate": 0.01, "batch_size": 32, "epochs": 20, "seeds": 3},
}


@pytest.fixture
def manual(tmp_path: Path) -> Iterator[Path]:
    """Load the code under "Own components" in the manual."""
    text = (ROOT / "config/README.md").read_text(encoding="utf-8").partition("## Own components")[2]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    path = tmp_path / "components.py"
    path.write_text(code[1], encoding="utf-8")
    own.load_file(path)
    yield path
    own.forget(path)


def test_the_example_of_the_manual_is_trained(
    manual: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert {(c.kind, c.name) for c in own.registered(manual)} == set(NAMES.items())
    content: dict[str, Any] = {
        **{"title": "a", "question": "b", "grid": BLOCK},
        "statistics": ["standard", NAMES["statistic"]],
    }
    validate(content, schema.study_schema(components=manual), "study.yaml")
    text = statistics.canonical(content["statistics"])
    cells = tuple(axes.expand({**BLOCK, "statistics": text}))
    assert [part.partition("=")[0] for part in cells[0].code.split()] == [
        *("dataset", "initializer", "activation", "optimizer", "statistic")
    ]
    stacks = [Stack(cells)]
    assert independence.separated(stacks) == stacks  # bits do not depend on the stack
    dataset = datasets.generate(cells[0].dataset)
    (result,) = loop.train(stacks, dataset, Stopwatch(), "test")
    assert (result.cells["status"] == "ok").all()
    assert (result.cells["final_train_loss"] < 0.66).all()  # ln 2, of chance, is 0.693
    # A kernel of signs has the norm gain sqrt(fan_out); its largest singular value is no larger.
    start = result.layers[(result.layers["step"] == 0) & (result.layers["layer"] == 2)]
    assert (start[NAMES["statistic"]] <= start["weight_log10_norm"]).all()
    np.testing.assert_allclose(start["weight_log10_norm"], np.log10(4), rtol=1e-6)
    assert "retracing" not in capfd.readouterr().err
