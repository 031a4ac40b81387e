"""The steps of the workflow, run by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradprop.cli import main

pytestmark = pytest.mark.usefixtures("shared_process")

CONTENT = {
    "title": "T",
    "question": "Q?",
    "grid": {
        "dataset": {"name": "circles", "examples": 40},
        "depth": 1,
        "width": 3,
        "activation": "tanh",
        "initializer": ["he_normal", "zeros"],
        "learning_rate": 0.1,
        "batch_size": 8,
        "epochs": 1,
    },
    "figures": {
        "loss": {
            "kind": "learning_curves",
            "title": "L",
            "statistic": "train_loss",
            "hue": "initializer",
        }
    },
}


def test_all_steps_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = json.dumps({"name": "small", "content": CONTENT, "seeds": 1})
    study, data = tmp_path / "results/small/study.json", tmp_path / "results/data/circles.npz"
    reports = tmp_path / "reports"
    assert main(["define", definition, str(study)]) == 0
    assert main(["data", "circles(examples=40)", str(data)]) == 0
    shard = "circles_examples_40-width3-depth0to32"
    assert main(["train", str(study), shard, str(data)]) == 0
    assert main(["figures", str(study), "--reports", str(reports)]) == 0
    assert main(["claims", str(study), str(reports / "claims/small.json")]) == 0
    assert main(["report", str(study), "--reports", str(reports), "--title", "By hand"]) == 0
    assert "<h1>By hand</h1>" in (reports / "index.html").read_text(encoding="utf-8")
    assert "2 cells done" in capsys.readouterr().err


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = json.dumps({"name": "small", "content": CONTENT, "seeds": 1})
    study = tmp_path / "results/small/study.json"
    main(["define", definition, str(study)])
    assert main(["report", str(study), "--reports", str(tmp_path / "reports")]) == 1
    assert capsys.readouterr().err.startswith("gradprop: ")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "gradprop" in capsys.readouterr().out or arguments == ["--version"]
