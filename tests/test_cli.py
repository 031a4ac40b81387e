"""The steps of the workflow, run by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradprop.cli import main

pytestmark = pytest.mark.usefixtures("shared_process")

SHARD = "circles_examples_40-width3-depth0to32"
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
    assert main(["train", str(study), SHARD, str(data)]) == 0
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["define", "{", "out.json"], "define: the definition is not valid JSON"),
        (["data", "nosuch", "out.npz"], "'nosuch' is not allowed; allowed: digits"),
        (["data", "circles(", "out.npz"], "not a component's label"),
        (["data", "circles(nois=0.1)", "out.npz"], "Did you mean 'noise'?"),
        (["data", "circles(examples=abc)", "out.npz"], "circles: examples: 'abc' is"),
        (["data", "circles(examples=2.5)", "out.npz"], "circles: examples: 2.5 is"),
        (["data", "circles(noise=-1.0)", "out.npz"], "circles(noise=-1.0): The 'noise' parameter"),
        (["claims", "none.json", "out.json"], "none.json: no such file"),
        (["claims", "list.json", "out.json"], "list.json: not an object"),
        (["claims", "empty.json", "out.json"], "empty.json: not the definition of a study"),
        (["train", "study.json", "circles", "none.npz"], "shard: 'circles' is not allowed"),
        (["train", "study.json", SHARD, "none.npz"], "none.npz: No such file or directory"),
    ],
)
def test_mistakes_are_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["define", json.dumps({"name": "small", "content": CONTENT, "seeds": 1}), "study.json"])
    Path("list.json").write_text("[]")
    Path("empty.json").write_text("{}")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "gradprop" in capsys.readouterr().out or arguments == ["--version"]
