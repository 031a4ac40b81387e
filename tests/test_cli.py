"""The steps of the workflow, run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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


LISTED = str(Path(__file__).parents[1] / "reports/reference/claims.json")


def write_source(folder: Path) -> str:
    """Write the study's file; return its name."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return str(path)


def test_all_steps_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path)
    study, data = tmp_path / "results/small/study.json", tmp_path / "results/data/circles.npz"
    reports = tmp_path / "reports"
    assert main(["define", source, str(study), "--seeds", "1"]) == 0
    assert main(["data", "circles(examples=40)", str(data)]) == 0
    assert main(["train", str(study), SHARD, str(data)]) == 0
    assert main(["figures", str(study), "--reports", str(reports)]) == 0
    assert main(["claims", str(study), "--reports", str(reports)]) == 0
    assert main(["verify", str(reports / "claims/small.json"), "--listed", LISTED]) == 0
    assert main(["report", str(study), "--reports", str(reports), "--title", "By hand"]) == 0
    assert "<h1>By hand</h1>" in (reports / "index.html").read_text(encoding="utf-8")
    assert "2 cells done" in capsys.readouterr().err


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "results/small/study.json"
    main(["define", write_source(tmp_path), str(study)])
    assert main(["report", str(study), "--reports", str(tmp_path / "reports")]) == 1
    assert capsys.readouterr().err.startswith("gradprop: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["define", "nosuch.yaml", "out.json"], "nosuch.yaml: no such file"),
        (["define", "list.json", "out.json"], "list.json: [] is not a mapping (key: value)"),
        (["define", "small.yaml", "out.0123456789ab.json"], "small.yaml: changed since"),
        (["data", "nosuch", "out.npz"], "'nosuch' is not allowed; allowed: digits"),
        (["data", "circles(", "out.npz"], "not a component's label"),
        (["data", "circles(nois=0.1)", "out.npz"], "Did you mean 'noise'?"),
        (["data", "circles(examples=abc)", "out.npz"], "circles: examples: 'abc' is"),
        (["data", "circles(examples=2.5)", "out.npz"], "circles: examples: 2.5 is"),
        (["data", "circles(noise=-1.0)", "out.npz"], "circles(noise=-1.0): The 'noise' parameter"),
        (["claims", "none.json"], "none.json: no such file"),
        (["claims", "list.json"], "list.json: not an object"),
        (["claims", "empty.json"], "empty.json: not the definition of a study"),
        (["claims", "study.0123456789ab.json"], "study.0123456789ab.json: damaged or edited"),
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
    main(["define", write_source(tmp_path), "study.json", "--seeds", "1"])
    Path("study.0123456789ab.json").write_text(Path("study.json").read_text())
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
